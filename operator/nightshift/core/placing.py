"""What to do about a revision whose replicas find no room.

The scheduler's verdict on the waiting pod is the fact about spare accelerators, in a whole cluster and in one namespace
alike: it needs no right to read nodes, and it knows more than a count of devices would (taints, other pods in the
queue, nodes that are about to come). Time is counted from what the API server stores, never from memory.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from nightshift.api.resource import LLMDeployment
from nightshift.core.cause import Cause
from nightshift.core.marks import Order
from nightshift.core.observed import Observed
from nightshift.core.placement import lacks_room, over_quota, pods_refused, unschedulable
from nightshift.core.revisions import Revision, candidates, revision_spec

LEAVING_SECONDS = 30
"""Of a pod's grace period, beyond the time to drain."""


class Move(Enum):
    """How a revision gets on."""

    GO_ON = auto()
    """Nothing is short."""
    WAIT = auto()
    """A node may come."""
    IN_PLACE = auto()
    """An old replica goes first, one at a time."""
    OUTAGE = auto()
    """The only one that serves goes first."""
    FALL_BACK = auto()
    """The next hardware candidate is tried."""
    REFUSE = auto()
    """What serves goes on serving; a person or a free accelerator is needed."""


@dataclass(frozen=True)
class Situation:
    """What the move is decided from."""

    wanted: int
    waited: float
    """Seconds for which a replica found no room."""
    timeout: float
    ready: int
    """Ready replicas of the revision that waits."""
    ready_beside: int
    """Ready replicas of others."""
    makes_room: int
    """Of these, the ones whose accelerators the waiting revision could use."""
    leaving: bool
    """Whether pods are on their way out, whose accelerators become free."""
    allow_outage: bool
    others_listed: bool
    """Whether there is another hardware candidate."""
    order: Order | None


@dataclass(frozen=True)
class Placing:
    """The move, and what is told of it."""

    move: Move
    cause: Cause | None = None
    """What is short, and what follows; None where nothing is."""
    due: float | None = None
    """Seconds until another move may follow."""


GOING_ON = Placing(Move.GO_ON)


def next_move(now: Situation) -> Move:
    """The move of a revision of which a replica finds no room.

    In place comes before another candidate: the first choice of hardware stays the first. An outage comes before
    another candidate too, since it is asked for by name. A revision that serves already is not abandoned.

    Worked example: two wanted and ready, waited 900 s of 900: in place. One wanted and ready: outage if that is
    allowed, else the next candidate, else it is refused.
    """
    if now.waited < now.timeout or now.leaving:
        return Move.WAIT
    serving = now.ready + now.ready_beside
    if now.makes_room and serving > 1 and now.wanted > 1 and now.order is None:
        return Move.IN_PLACE
    if now.makes_room and serving == 1 and now.allow_outage and now.order is not Order.OUTAGE:
        return Move.OUTAGE
    if now.ready == 0 and now.others_listed:
        return Move.FALL_BACK
    return Move.REFUSE


def placing(deployment: LLMDeployment, revision: Revision, observed: Observed, now: datetime) -> Placing:
    """Decide how a revision gets on, from the scheduler's verdict on its pods."""
    short = shortage(observed, revision.hash)
    if short is None:
        return GOING_ON
    cause, since = short
    if revision.marks.ordered is not None:
        patience = revision.spec.drain_seconds + LEAVING_SECONDS
        since = max(since, revision.marks.ordered.since + timedelta(seconds=patience))
    timeout = float(deployment.spec.rollout.placement_timeout_seconds)
    situation = _situation(deployment, revision, observed, (now - since).total_seconds(), timeout)
    move = next_move(situation)
    due = max(1.0, timeout - situation.waited) if move is Move.WAIT else None
    told = Cause(cause.reason, f"{cause.message} {_outlook(move, situation, since)}".strip(), cause.definite)
    return Placing(move, told, due)


def shortage(observed: Observed, revision: str) -> tuple[Cause, datetime] | None:
    """What a revision's replicas lack that other pods use, and since when; None where they have their place."""
    waiting = [
        pod
        for pod in observed.engine_pods(revision)
        if pod.unschedulable is not None and lacks_room(pod.unschedulable) and pod.unplaced_since is not None
    ]
    if waiting:
        first = min(waiting, key=lambda pod: (pod.unplaced_since, pod.name))
        if first.unschedulable is not None and first.unplaced_since is not None:
            return unschedulable(first.name, first.unschedulable), first.unplaced_since
    owner = observed.replica_set(revision)
    if owner is None or owner.failure is None or owner.failing_since is None or not over_quota(owner.failure):
        return None
    return pods_refused(owner.failure), owner.failing_since


def _situation(
    deployment: LLMDeployment, revision: Revision, observed: Observed, waited: float, timeout: float
) -> Situation:
    place, by_hash = revision.place, {item.hash: item for item in observed.revisions}
    beside = [pod for pod in observed.engine_pods() if pod.ready and pod.revision != revision.hash]
    alike = [pod for pod in beside if pod.revision in by_hash and frees(by_hash[pod.revision], revision)]
    return Situation(
        wanted=deployment.spec.replicas,
        waited=waited,
        timeout=timeout,
        ready=observed.ready(revision.hash),
        ready_beside=len(beside),
        makes_room=len(alike),
        leaving=any(pod.terminating and pod.component == "engine" for pod in observed.pods),
        allow_outage=deployment.spec.rollout.allow_outage,
        others_listed=any(other != place for other in candidates(revision_spec(deployment.spec))),
        order=revision.marks.order,
    )


def frees(old: Revision, new: Revision) -> bool:
    """Whether a replica that goes leaves room for one that waits."""
    return (
        old.place.accelerator == new.place.accelerator
        and old.resolved.accelerator_count >= new.resolved.accelerator_count
    )


def _outlook(move: Move, now: Situation, since: datetime) -> str:
    """What follows, as a sentence."""
    if move is not Move.WAIT:
        return _FOLLOWS.get(move, "") or _refusal(now)
    if now.waited >= now.timeout:
        return "Replicas that are being stopped will make room."
    until = (since + timedelta(seconds=now.timeout)).strftime("%H:%M:%S UTC")
    wait = f"A node may come until {until} (rollout.placementTimeoutSeconds)."
    later = next_move(replace(now, waited=now.timeout, leaving=False))
    follows = _FOLLOWS.get(later, "")
    return f"{wait} Then: {follows}" if follows else f"{wait} {_refusal(now)}".strip()


_FOLLOWS = {
    Move.IN_PLACE: "Replicas are replaced in place, an old one first, one at a time.",
    Move.OUTAGE: "The only replica that serves is stopped first, as rollout.allowOutage permits.",
    Move.FALL_BACK: "The next of hardware.candidates is tried.",
}


def _refusal(now: Situation) -> str:
    """Why nothing is stopped to make room, and what a person can do."""
    if not now.ready_beside:
        return ""
    if not now.makes_room:
        return (
            "What serves goes on serving: stopping it would not make room, since it runs on other or fewer "
            "accelerators. Add an accelerator, or another entry to hardware.candidates."
        )
    if now.ready + now.ready_beside > 1:
        return ""
    return (
        "The only replica that serves goes on serving. Add an accelerator, add another entry to hardware.candidates, "
        "or set rollout.allowOutage to true, which stops it before the new one starts."
    )
