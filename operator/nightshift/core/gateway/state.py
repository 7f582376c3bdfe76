"""HAProxy's state as it should be and as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

FULL_WEIGHT = 100
DRAIN_WEIGHT = 0
"""A server of this weight gets nothing new and ends what it has. Unlike `set server state drain` it can be written
into the configuration too, so that a process that starts from the file is in the same state."""


@dataclass(frozen=True, order=True)
class Server:
    """A replica in a slot."""

    name: str
    address: str
    port: int
    weight: int
    cap: int
    """Requests that this gateway sends to it at a time; further ones wait in the slot."""


@dataclass(frozen=True)
class LiveServer:
    """A server as the process has it."""

    name: str
    address: str
    port: int
    weight: int
    cap: int
    maintenance: bool
    """Out of service until it is deleted or wanted again."""
    up: bool
    """As its health checks say."""
    connections: int = 0
    """Requests that it works on, and that wait for it."""
    waiting: int = 0
    """Those of them that wait for it, where requests that belong together go to the same server."""

    @property
    def usable(self) -> bool:
        """Whether it takes new requests."""
        return self.up and not self.maintenance and self.weight > 0


@dataclass(frozen=True)
class LiveSlot:
    """A slot as the process has it."""

    servers: Mapping[str, LiveServer] = field(default_factory=dict)
    connections: int = 0
    """Requests in it, those that wait included."""
    waiting: int = 0
    """Those of them that wait, be it for any server or for one."""
    total: int = field(default=0, compare=False)
    """Requests that ever came into it, since the process began. This and the next one tell of the past, and are no part
    of the state."""
    since_last: int | None = field(default=None, compare=False)
    """Seconds since one was last given to a replica; None: never since the process began."""

    @property
    def busy(self) -> bool:
        """Whether something of a former owner is left in it."""
        return bool(self.servers or self.connections or self.waiting)


@dataclass(frozen=True)
class Live:
    """The state of the running process."""

    fingerprint: str
    """Of the configuration that it has read."""
    slots: Mapping[str, LiveSlot]
    """All slots that it has."""
    maps: Mapping[str, Mapping[str, str]]
    """By file."""
    process: int = 0

    @property
    def busy(self) -> frozenset[str]:
        """Slots that are in use, be it by nobody who is known."""
        return frozenset(name for name, slot in self.slots.items() if slot.busy)


@dataclass(frozen=True)
class Desired:
    """The state that the process should have."""

    servers: Mapping[str, Mapping[str, Server]]
    """By slot and name; slots that are not in it have none."""
    maps: Mapping[str, Mapping[str, str]]
    fingerprint: str
