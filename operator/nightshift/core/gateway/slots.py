"""Backend slots: HAProxy's backends are fixed until a reload, so there is a pool of them, handed out to revisions."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from nightshift.api.route import Route
from nightshift.api.traffic import MAX_QUEUE_SECONDS
from nightshift.core.gateway.settings import Settings


@dataclass(frozen=True, order=True)
class Kind:
    """What of a backend cannot be changed without a reload: how it balances, and for how long requests wait in it."""

    hashed: bool
    queue_seconds: int

    @property
    def code(self) -> str:
        """Short form in a backend's name: l600 balances by least connections, h600 by a hash."""
        return f"{'h' if self.hashed else 'l'}{self.queue_seconds}"


QUEUE_STEPS = (5, 15, 30, 60, 120, 300, 600, 1200, 3600, 14_400, MAX_QUEUE_SECONDS)
"""For so many seconds requests may wait. There are few, since each asks for a reload when it is first needed."""


def kind_of(route: Route) -> Kind:
    """What a route needs: its requests wait for at least as long as it says, up to the next step.

    Worked example: for 45 s they wait in a slot that gives up after 60.
    """
    return Kind(route.affinity != "None", next(step for step in QUEUE_STEPS if step >= route.queue.timeout_seconds))


FIRST_KIND = Kind(hashed=False, queue_seconds=600)
"""What a route with defaults needs."""

_NAME = re.compile(r"be_([hl])([0-9]+)_([0-9]+)")


def slot_name(kind: Kind, index: int) -> str:
    """The name of a slot's backend."""
    return f"be_{kind.code}_{index}"


@lru_cache(maxsize=4096)
def parse_slot(name: str) -> tuple[Kind, int] | None:
    """Kind and number of a slot by its name, or None for another backend."""
    found = _NAME.fullmatch(name)
    return (Kind(found[1] == "h", int(found[2])), int(found[3])) if found else None


@dataclass(frozen=True, order=True)
class SlotKey:
    """What a slot is for: a revision of a route, or the replicas of it that have an adapter."""

    route: str
    revision: str
    adapter: str = ""


@dataclass(frozen=True)
class Assignment:
    """Which slot is whose, and how many there are. Kept in a file, so that it outlives the agent."""

    slots: Mapping[SlotKey, str] = field(default_factory=dict)
    pools: Mapping[Kind, int] = field(default_factory=dict)
    left: Mapping[str, SlotKey] = field(default_factory=dict)
    """Slots that are needed no more, and whose they were: they stay so until nothing of that is left in them."""

    @property
    def owners(self) -> dict[str, SlotKey]:
        """Whose requests are in a slot, those included that are only left in it."""
        return {**self.left, **{name: key for key, name in self.slots.items()}}


def assign(
    settings: Settings, before: Assignment, wanted: Mapping[SlotKey, Kind], busy: Collection[str], *, sure: bool
) -> Assignment:
    """Hand out slots: what has one keeps it; what needs one gets the first that is free; pools double when none is.

    Args:
        settings: How large pools are to begin with.
        before: What is handed out at present.
        wanted: What needs a slot, and of which kind.
        busy: Slots that have servers, connections or waiting requests. One that is free but busy is not handed out:
            requests that wait in it would go to another model's replicas.
        sure: Whether no other slot is busy. Otherwise all that were in use stay whose they were.
    """
    kept = {
        key: name
        for name, key in before.owners.items()
        if key in wanted and (parsed := parse_slot(name)) is not None and parsed[0] == wanted[key]
    }
    held = set(kept.values())
    left = {name: key for name, key in before.owners.items() if name not in held and (name in busy or not sure)}
    pools = {FIRST_KIND: settings.first_pool, **before.pools}
    taken = held | set(left) | set(busy)
    for key in sorted(set(wanted) - set(kept)):
        kind = wanted[key]
        pools.setdefault(kind, settings.other_pool)
        name = _first_free(kind, pools[kind], taken)
        while name is None:
            pools[kind] *= 2
            name = _first_free(kind, pools[kind], taken)
        kept[key] = name
        taken.add(name)
    return Assignment(dict(sorted(kept.items())), pools, left)


def _first_free(kind: Kind, size: int, taken: Collection[str]) -> str | None:
    return next((name for index in range(size) if (name := slot_name(kind, index)) not in taken), None)


def recovered(names: Iterable[str]) -> dict[Kind, int]:
    """The pools that there are, by the names of all backends, where no file tells of them."""
    pools: dict[Kind, int] = {}
    for name in names:
        if parsed := parse_slot(name):
            kind, index = parsed
            pools[kind] = max(pools.get(kind, 0), index + 1)
    return pools
