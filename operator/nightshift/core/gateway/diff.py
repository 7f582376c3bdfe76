"""From the state that HAProxy has to the one it should have: commands for the runtime socket.

Their order never leaves requests without a replica. First what is added, so that it is there when maps lead to it; then
maps; then what is taken away.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from nightshift.core.gateway.state import Desired, Live, LiveServer, LiveSlot, Server

_SLOT = re.compile(r"be_[hl][0-9]+_[0-9]+")


class Options(Protocol):
    """Gives what follows a server's address in `add server`."""

    def __call__(self, server: Server) -> str:
        """The options."""


@dataclass(frozen=True)
class Command:
    """A command for the runtime socket."""

    text: str
    good: str = ""
    """What the answer contains if it was carried out; empty: the answer is empty."""
    optional: bool = False
    """It may be refused for now, and is given again: a server that still has connections cannot be deleted."""


@dataclass(frozen=True)
class Diff:
    """The way from one state to another."""

    reload: bool
    """The configuration must be read anew, and then the difference taken again. The commands are for the case that it
    cannot be: they concern only slots that are there already."""
    commands: tuple[Command, ...]


def diff(live: Live, desired: Desired, paths: Mapping[str, str], options: Options) -> Diff:
    """What to do so that the process is as desired.

    Args:
        live: As it is.
        desired: As it should be.
        paths: By a map's name, the file by which the process knows it.
        options: Of servers that are added.
    """
    adding: list[Command] = []
    leaving: list[Command] = []
    for name, slot in sorted(live.slots.items()):
        wanted = desired.servers.get(name, {})
        for server in sorted(wanted.values()):
            adding += _appear(name, slot.servers.get(server.name), server, options)
        leaving += _drains(name, slot, wanted)
        for other in sorted(slot.servers):
            if other not in wanted:
                leaving += _disappear(name, slot.servers[other])
    return Diff(live.fingerprint != desired.fingerprint, (*adding, *_maps(live, desired, paths), *leaving))


def _appear(slot: str, live: LiveServer | None, wanted: Server, options: Options) -> Iterator[Command]:
    """Add a server, or make one that is there what it should be; all but taking its weight."""
    where = f"{slot}/{wanted.name}"
    if live is None:
        address = f"[{wanted.address}]" if ":" in wanted.address else wanted.address
        yield Command(f"add server {where} {address}:{wanted.port} {options(wanted)}", "New server registered")
        yield Command(f"enable health {where}")
        yield Command(f"enable server {where}")
        return
    if (live.address, live.port) != (wanted.address, wanted.port):
        yield Command(f"set server {where} addr {wanted.address} port {wanted.port}", "changed")
    if live.cap != wanted.cap:
        yield Command(f"set maxconn server {where} {wanted.cap}")
    if live.weight < wanted.weight:
        yield Command(f"set server {where} weight {wanted.weight}")
    if live.maintenance:
        yield Command(f"set server {where} state ready")


def _drains(slot: str, live: LiveSlot, wanted: Mapping[str, Server]) -> Iterator[Command]:
    for server in sorted(wanted.values()):
        found = live.servers.get(server.name)
        if found is not None and found.weight > server.weight:
            yield Command(f"set server {slot}/{server.name} weight {server.weight}")


def _disappear(slot: str, live: LiveServer) -> Iterator[Command]:
    """Out of service at once, and deleted when its last request has ended; until then every round asks again."""
    where = f"{slot}/{live.name}"
    if not live.maintenance:
        yield Command(f"set server {where} state maint")
    if not live.connections:
        yield Command(f"del server {where}", "Server deleted", optional=True)


def _maps(live: Live, desired: Desired, paths: Mapping[str, str]) -> Iterator[Command]:
    """Entries that change or are new, then those that go."""
    going = []
    for name, wanted in sorted(desired.maps.items()):
        found = live.maps.get(name)
        if found is None:
            continue
        for key, value in sorted(wanted.items()):
            if any(slot not in live.slots for slot in _SLOT.findall(value)):
                continue
            if key not in found:
                yield Command(f"add map {paths[name]} {key} {value}")
            elif found[key] != value:
                yield Command(f"set map {paths[name]} {key} {value}")
        going += [Command(f"del map {paths[name]} {key}") for key in sorted(found) if key not in wanted]
    yield from going


def nudges(slots: Mapping[str, LiveSlot]) -> tuple[Command, ...]:
    """Make servers that have room look into the queue of their slot, and those that drain let go of their own.

    HAProxy lets a waiting request go when another one ends, or when a server comes up; not when a server's slow start
    allows it more, nor when its weight returns. Setting its cap to what it is makes it look (2.6.12 and 2.8.25). What
    waits for one server stays with it, though it takes nothing new; only maintenance leads it to others.
    """
    found: list[Command] = []
    for name, slot in sorted(slots.items()):
        usable = [server for server in slot.servers.values() if server.usable]
        draining = [server for server in slot.servers.values() if not server.weight and not server.maintenance]
        for server in draining if usable else ():
            if server.waiting:
                where = f"set server {name}/{server.name} state"
                found += [Command(f"{where} maint"), Command(f"{where} ready")]
        for server in usable if slot.waiting else ():
            if server.cap and server.connections - server.waiting < server.cap:
                found.append(Command(f"set maxconn server {name}/{server.name} {server.cap}"))
    return tuple(found)
