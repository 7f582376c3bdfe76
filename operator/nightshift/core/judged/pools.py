"""Whose candidate may ask for an accelerator now, where several deployments share those of one kind.

A candidate that waits for room holds nothing, so the pool's order decides who asks first, and how many ask at a time:
as many as there is room for, and one at least, since what is asked for is what brings a node.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.facts import Fact, Known
from nightshift.core.judged.steps import waits_for_room

Key = tuple[str, str]
"""Namespace and name of an LLMDeployment."""


class Claim(IntEnum):
    """What a rollout wants of its pool; the smaller, the earlier."""

    ASKING = 0
    """A replica of its candidate looks for a place."""
    WAITING = 1
    """It waits for its turn to ask for one."""
    AGAIN = 2
    """It found none for as long as it may wait, and would take one if nobody else does."""
    NOTHING = 3
    """It has its place, cannot use one yet, or is paused or over and wants none."""


@dataclass(frozen=True)
class Contender:
    """A rollout in a pool."""

    key: Key
    pool: str
    """Name of the accelerator profile."""
    accelerators: int
    """Of one replica."""
    claim: Claim
    since: datetime
    """When its rollout, or its present phase, began."""
    emergency: bool = False
    """It closes a hole that is being used; it goes before all others."""


def claim(state: RolloutState, *, placed: bool, cleared: bool = True) -> Claim:
    """What a rollout wants of its pool.

    Worked example: one in phase Placing asks until a replica has its node. One that a person paused wants nothing, and
    one whose model is not downloaded yet neither: it would keep others waiting for as long as that takes.

    Args:
        state: Where it stands.
        placed: Whether a replica of the candidate has its node.
        cleared: Whether everything is known and fetched that a replica needs before it is made.
    """
    if placed or (state.phase is Phase.PREFLIGHT and not cleared):
        return Claim.NOTHING
    if waits_for_room(state):
        return Claim.AGAIN
    wants = {Phase.PREFLIGHT: Claim.WAITING, Phase.PLACING: Claim.ASKING, Phase.LOADING: Claim.ASKING}
    return wants.get(state.phase, Claim.NOTHING)


def turns(contenders: Collection[Contender], spare: Mapping[str, Fact[int]]) -> frozenset[Key]:
    """Who may ask for a place now.

    In every pool the first may always: only the scheduler knows for certain, a node may come for it, and it may have
    to be refused before it replaces in place. Those after it may while all together find room; nobody overtakes. Where
    the room is not known, one asks at a time. One whose replica looks for a place already goes on beside the first,
    as where a new process hears of it last; only an emergency takes it away. Where nobody else is left, all wait on
    that found none: one of them may be refused for good, and would keep the others from the next free place.

    Worked example: two spare accelerators, candidates of 1, 1 and 1: the first two. None spare: the first. Not known:
    the first. An emergency that came last is the first.

    Args:
        contenders: All rollouts of all deployments.
        spare: Free accelerators by pool.
    """
    pools: dict[str, list[Contender]] = {}
    for one in contenders:
        if one.claim is not Claim.NOTHING:
            pools.setdefault(one.pool, []).append(one)
    found: set[Key] = set()
    for pool, asking in pools.items():
        known = spare.get(pool)
        left = known.value if isinstance(known, Known) else 0
        urgent = any(one.emergency and one.claim is not Claim.AGAIN for one in asking)
        for index, one in enumerate(sorted(asking, key=_order)):
            again = all(other.claim is Claim.AGAIN for other in asking)
            goes_on = again or (one.claim is Claim.ASKING and (one.emergency or not urgent))
            if index and one.accelerators > left and not goes_on:
                break
            found.add(one.key)
            left -= one.accelerators
    return frozenset(found)


def has_turn(own: Contender, others: Collection[Contender]) -> bool:
    """Whether a rollout may ask for a place beside those that others told of; one that wants none is in nobody's way.

    It speaks for itself, so that it is not taken for a new one before it has told of itself: a process that begins
    would take the replica away that looks for a place.
    """
    beside = [one for one in others if one.key != own.key]
    return own.claim is Claim.NOTHING or own.key in turns([own, *beside], {})


def _order(one: Contender) -> tuple[bool, bool, int, datetime, Key]:
    """One that found no place in its time lets the others try, also in an emergency."""
    return one.claim is Claim.AGAIN, not one.emergency, int(one.claim), one.since, one.key
