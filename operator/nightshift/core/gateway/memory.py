"""What the agent keeps in a file: which slot is whose. Everything else is read from the cluster and from HAProxy."""

import json

from pydantic import Field, ValidationError

from nightshift.api.base import StoredModel
from nightshift.core.gateway.slots import Assignment, Kind, SlotKey, parse_slot


class _Slot(StoredModel):
    route: str
    revision: str
    adapter: str = ""
    slot: str


class _Pool(StoredModel):
    hashed: bool
    queue_seconds: int = Field(ge=1)
    size: int = Field(ge=1, le=65536)


class _Memory(StoredModel):
    slots: tuple[_Slot, ...] = ()
    pools: tuple[_Pool, ...] = ()


def write_memory(assignment: Assignment) -> str:
    """The file's content."""
    slots = tuple(
        _Slot(route=key.route, revision=key.revision, adapter=key.adapter, slot=name)
        for key, name in sorted(assignment.slots.items())
    )
    pools = tuple(
        _Pool(hashed=kind.hashed, queue_seconds=kind.queue_seconds, size=size)
        for kind, size in sorted(assignment.pools.items())
    )
    return json.dumps(_Memory(slots=slots, pools=pools).to_json(), indent=1) + "\n"


def read_memory(text: str) -> Assignment:
    """What the file says. Entries that contradict each other, or lie outside their pool, are left out.

    Raises:
        ValueError: It is no such file.
    """
    try:
        memory = _Memory.model_validate(json.loads(text))
    except (ValidationError, RecursionError) as error:
        raise ValueError(f"it is not what the agent writes: {error}") from error
    pools = {Kind(pool.hashed, pool.queue_seconds): pool.size for pool in memory.pools}
    slots: dict[SlotKey, str] = {}
    taken: set[str] = set()
    for entry in memory.slots:
        parsed = parse_slot(entry.slot)
        if parsed and parsed[1] < pools.get(parsed[0], 0) and entry.slot not in taken:
            slots[SlotKey(entry.route, entry.revision, entry.adapter)] = entry.slot
            taken.add(entry.slot)
    return Assignment(slots, pools)
