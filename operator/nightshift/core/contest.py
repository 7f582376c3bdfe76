"""When somebody else sets fields that Nightshift sets: who it was, which fields, and when to set them back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nightshift.core.canonical import difference
from nightshift.core.cause import Cause
from nightshift.core.events import EventNote
from nightshift.core.kept import is_rival
from nightshift.core.observed import Observed
from nightshift.core.planning import Apply, Plan

FREE_CORRECTIONS = 3
"""So often an object is set back at once; whoever changes it once more does so again and again."""

FIRST_HOLD_SECONDS = 10.0
LAST_HOLD_SECONDS = 600.0
FORGET_SECONDS = 3600.0
"""After so long without a correction the quarrel is over."""

_NAMED_FIELDS = 5
_SERVING = frozenset({"ConfigMap", "ReplicaSet", "Service"})
"""Kinds without which nothing serves, or nobody finds what serves."""


@dataclass(frozen=True)
class Taken:
    """Fields of one object of ours that others hold with values of their own."""

    kind: str
    name: str
    managers: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Quarrel:
    """How often an object was set back, and when last. Losing it costs a few writes, nothing else."""

    corrections: int = 0
    last: float = 0.0
    """Local monotonic seconds."""


def taken_fields(desired: Mapping[str, Any], live: Mapping[str, Any]) -> Taken | None:
    """Which managers hold fields that are desired otherwise, from the object's managedFields; None: nobody.

    Managers of the status are no rivals. A field that somebody removed has no manager, so nobody is named.
    Format: sigs.k8s.io/structured-merge-diff, fieldpath (``f:`` a field, ``k:`` an item of a list by its keys).
    """
    managers: list[str] = []
    fields: list[str] = []
    for entry in live["metadata"].get("managedFields") or ():
        if not is_rival(entry):
            continue
        found = [path for path in _differing(entry.get("fieldsV1") or {}, desired, live, "") if path not in fields]
        if found:
            managers.append(str(entry.get("manager")))
            fields += found
    if not fields:
        return None
    return Taken(desired["kind"], desired["metadata"]["name"], tuple(dict.fromkeys(managers)), tuple(fields))


def _differing(held: Mapping[str, Any], desired: Any, live: Any, path: str) -> Iterator[str]:
    """Paths that a manager holds and whose live value is not the desired one."""
    for key, below in held.items():
        wanted, found, where = _below(key, desired, live, path)
        if where is None or difference(wanted, found) is None:
            continue
        inner = list(_differing(below, wanted, found, where)) if below else []
        yield from inner or ([] if set(below) - {"."} else [where])


def _below(key: str, desired: Any, live: Any, path: str) -> tuple[Any, Any, str | None]:
    """Desired and live value under a key of fieldsV1, and the path; no path where nothing of ours lies there."""
    sort, _, text = key.partition(":")
    if sort == "f" and isinstance(desired, Mapping) and text in desired:
        return desired[text], live.get(text) if isinstance(live, Mapping) else None, f"{path}.{text}"
    if sort == "k" and isinstance(desired, list | tuple):
        keys = json.loads(text)
        label = ",".join(f"{name}={value}" for name, value in keys.items())
        wanted, found = _item(desired, keys), _item(live, keys)
        return wanted, found, f"{path}[{label}]"
    return None, None, None


def _item(items: Any, keys: Mapping[str, Any]) -> Any:
    known = items if isinstance(items, list | tuple) else ()
    return next((item for item in known if all(item.get(name) == value for name, value in keys.items())), None)


def hold_seconds(quarrel: Quarrel, now: float) -> float:
    """For how long a correction has to wait, so that two managers do not write against each other without end.

    Worked example: three corrections come at once, the fourth 10 s after the third, the fifth 20 s after the
    fourth, the tenth and later ones 600 s after the one before.
    """
    if quarrel.corrections < FREE_CORRECTIONS or now - quarrel.last >= FORGET_SECONDS:
        return 0.0
    doublings = min(quarrel.corrections - FREE_CORRECTIONS, 16)
    return max(0.0, quarrel.last + min(LAST_HOLD_SECONDS, FIRST_HOLD_SECONDS * 2.0**doublings) - now)


def corrected(quarrel: Quarrel, now: float) -> Quarrel:
    """What is remembered after one more correction."""
    begun = quarrel if now - quarrel.last < FORGET_SECONDS else Quarrel()
    return Quarrel(begun.corrections + 1, now)


def settle(
    plan: Plan, observed: Observed, quarrels: Mapping[tuple[str, str], Quarrel], now: float
) -> tuple[Plan, tuple[Taken, ...]]:
    """The plan without corrections that have to wait, and the fields that the others take back.

    While a correction waits that decides whether something serves, the plan is blocked: Ready must not be True of
    a Service that leads elsewhere.

    Args:
        plan: What was decided.
        observed: What it was decided from.
        quarrels: By kind and name of the object.
        now: Local monotonic seconds.
    """
    kept, taken, held, waits = [], [], [], [] if plan.requeue_after is None else [plan.requeue_after]
    for item in plan.apply:
        kind, name = item.manifest["kind"], item.manifest["metadata"]["name"]
        live = observed.live.get((kind, name))
        found = None if item.create or live is None else _taken(item, live)
        wait = hold_seconds(quarrels.get((kind, name), Quarrel()), now) if found else 0.0
        if found and wait > 0:
            waits.append(wait)
            held.append(found)
            continue
        kept.append(item)
        if found:
            taken.append(found)
    if len(kept) == len(plan.apply):
        return plan, tuple(taken)
    blocker = plan.blocker or next((_contested(item) for item in held if item.kind in _SERVING), None)
    return replace(plan, apply=tuple(kept), requeue_after=min(waits), blocker=blocker), tuple(taken)


def _taken(item: Apply, live: Mapping[str, Any]) -> Taken | None:
    """What others changed in an object, and what they added to it."""
    changed, added = taken_fields(item.manifest, live), item.additions
    if changed is None or added is None:
        found = changed or added
        name = item.manifest["metadata"]["name"]
        return Taken(item.manifest["kind"], name, found.managers, found.fields) if found is not None else None
    managers = tuple(dict.fromkeys((*changed.managers, *added.managers)))
    return replace(changed, managers=managers, fields=(*changed.fields, *added.fields))


def _contested(taken: Taken) -> Cause:
    managers = ", ".join(taken.managers)
    return Cause(
        f"{taken.kind}Contested",
        f"{managers} changes {', '.join(taken.fields[:_NAMED_FIELDS])} of {taken.kind} {taken.name} again and again, "
        f"so it is not as it should be; Nightshift sets it back at least every {LAST_HOLD_SECONDS:.0f} s. Keep "
        f"{managers} away from it. To keep a change, make it in the LLMDeployment.",
        definite=False,
    )


def taken_note(taken: Taken, quarrel: Quarrel) -> EventNote:
    """What is recorded after fields were set back; `quarrel` counts this correction too."""
    managers = ", ".join(taken.managers)
    more = f" and {len(taken.fields) - _NAMED_FIELDS} more" if len(taken.fields) > _NAMED_FIELDS else ""
    what = f"{managers} changed {', '.join(taken.fields[:_NAMED_FIELDS])}{more} of {taken.kind} {taken.name}"
    remedy = "To keep a change, make it in the LLMDeployment."
    if quarrel.corrections < FREE_CORRECTIONS:
        return EventNote("Warning", "FieldsTakenBack", f"{what}; Nightshift set it back. {remedy}")
    return EventNote(
        "Warning",
        "FieldsContested",
        f"{what} again and again ({quarrel.corrections} times); Nightshift sets it back less and less often, at last "
        f"every {LAST_HOLD_SECONDS:.0f} s. Keep {managers} away from it. {remedy}",
    )
