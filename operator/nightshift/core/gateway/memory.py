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
    left: tuple[_Slot, ...] = ()
    pools: tuple[_Pool, ...] = ()


def write_memory(assignment: Assignment) -> str:
    """The file's content."""
    slots = tuple(_slot(name, key) for key, name in sorted(assignment.slots.items()))
    left = tuple(_slot(name, key) for name, key in sorted(assignment.left.items()))
    pools = tuple(
        _Pool(hashed=kind.hashed, queue_seconds=kind.queue_seconds, size=size)
        for kind, size in sorted(assignment.pools.items())
    )
    return json.dumps(_Memory(slots=slots, left=left, pools=pools).to_json()) + "\n"


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
    owners: dict[str, SlotKey] = {}
    for entry in (*memory.slots, *memory.left):
        parsed = parse_slot(entry.slot)
        if parsed and parsed[1] < pools.get(parsed[0], 0):
            owners.setdefault(entry.slot, SlotKey(entry.route, entry.revision, entry.adapter))
    left = {entry.slot for entry in memory.left} - {entry.slot for entry in memory.slots}
    return Assignment(
        {key: name for name, key in owners.items() if name not in left},
        pools,
        {name: key for name, key in owners.items() if name in left},
    )


def _slot(name: str, key: SlotKey) -> _Slot:
    return _Slot(route=key.route, revision=key.revision, adapter=key.adapter, slot=name)
