"""The decision: how many replicas a deployment is to have now."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift.core.autoscale.demand import Demand
from nightshift.core.autoscale.history import WINDOW_SECONDS, complete_in, peak
from nightshift.core.cause import Cause
from nightshift.core.facts import Unknown


@dataclass(frozen=True)
class Bounds:
    """What the spec says of scaling."""

    minimum: int
    maximum: int
    target: int
    """Requests per replica."""
    idle_seconds: float
    zero: bool = True
    """Whether there is a gateway, which would hold the request that starts a replica."""


@dataclass(frozen=True)
class Fleet:
    """What there is."""

    replicas: int
    """Decided until now; those that start are part of it."""
    proven: bool
    """Whether the present revision has served in full. Until then one replica has to show that it does."""
    ready: int = 0
    created: datetime | None = None
    """When the latest replica was made."""
    first_ready: datetime | None = None
    """Since when the first of the ready ones has been ready."""
    short: Cause | None = None
    """What a replica that waits for a node lacks."""
    patience: float = 0.0
    """For how long a start under way is let go on, in seconds, while no replica serves yet and nobody has learned how
    long starts take; 0 where it has failed."""


@dataclass(frozen=True)
class Decision:
    """How many replicas, and why."""

    replicas: int
    reason: str
    """Why it is another number than before, or the same, as a sentence."""
    limited: Cause | None = None
    """What keeps the number from following the demand."""
    due: float | None = None
    """Seconds until time alone may change the decision."""


def needed(requests: int, target: int) -> int:
    """Replicas that a number of requests needs.

    ``ceil(requests / target)``. Source: Kubernetes' HorizontalPodAutoscaler with an average value per replica
    (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details).

    Worked example: 48 requests at 16 per replica need 3 replicas, 49 need 4, none need none.
    """
    return -(-requests // target)


def decide(bounds: Bounds, demand: Demand, fleet: Fleet, now: datetime) -> Decision:
    """Decide on the number of replicas.

    It rises at once, from what is seen, even if that is a part. It falls to what the highest load of the last five
    minutes needs, and only while everything is known. It falls to none when nobody has asked for long enough. While a
    replica finds no room, more are not asked for.

    Worked example: of 1 to 8 replicas at 16 requests each two run, and 12 requests are in flight, 6 queued, 30 held:
    48 need 3, at once. The load falls to 10 at 12:00:00: at 12:05:00 they become 1. With 200 requests they are 8, and
    the maximum limits them.

    Args:
        bounds: What the spec says.
        demand: What is asked of the deployment.
        fleet: What there is of it.
        now: The present moment (UTC).
    """
    floor = bounds.minimum if bounds.zero and fleet.proven else max(1, bounds.minimum)
    floor = min(floor, bounds.maximum)
    present = min(max(fleet.replicas, floor), bounds.maximum)
    if present != fleet.replicas:
        return Decision(present, _bounded(bounds, fleet, present), due=0.0)
    asked = max(needed(demand.load.at_least, bounds.target), int(demand.woken))
    wish = min(max(asked, floor), bounds.maximum)
    limited = _limit(bounds, demand, fleet, asked, present, floor)
    if wish > present:
        if fleet.short is not None:
            return Decision(present, "A replica waits for room already, so no more are asked for.", limited)
        return Decision(wish, _rise(bounds, demand, wish), limited)
    if present <= floor or (demand.woken and present <= 1):
        return Decision(present, "The demand needs no other number.", limited)
    return _fall(bounds, demand, fleet, present, floor, limited, now)


def _fall(
    bounds: Bounds, demand: Demand, fleet: Fleet, present: int, floor: int, limited: Cause | None, now: datetime
) -> Decision:
    """Fewer replicas, where it is certain that they are not needed."""
    if demand.load.at_most is None:
        return Decision(present, f"Replicas stay, since the demand is not known: {demand.load.unknown}", limited)
    rest = rests_in(bounds, demand, fleet, now) if floor == 0 else None
    if rest is not None and rest <= 0:
        return Decision(0, _idle(bounds, demand), limited)
    highest = peak(demand.history, demand.load, now)
    if highest is None:
        due = complete_in(demand.history, now)
        text = f"Replicas stay until the demand was known for {WINDOW_SECONDS:.0f} s."
        return Decision(present, text, limited, due if rest is None else min(due, rest))
    lower = max(needed(highest, bounds.target), floor, 1)
    if lower >= present:
        return Decision(present, "The demand of the last minutes needs no other number.", limited, rest)
    text = (
        f"At most {_requests(highest)} in the last {WINDOW_SECONDS / 60:.0f} minutes, at {bounds.target} per replica "
        f"(scaling.target): {_replicas(lower)}."
    )
    return Decision(lower, text, limited, rest)


def rests_in(bounds: Bounds, demand: Demand, fleet: Fleet, now: datetime) -> float | None:
    """Seconds until no replica need run any more; None where that cannot be said.

    Counted from the latest of the newest replica's creation, the first one's readiness and the last request, for
    scaling.idleSeconds or as long as a start takes, whichever is more. It is requests that count, never a metric that
    happens to be 0.

    Worked example: idleSeconds 900, a start takes 1200 s, the first replica became ready at 12:00, the last request
    came at 12:10: none need run from 12:30 on.
    """
    if demand.woken or demand.load.at_most != 0 or isinstance(demand.last_request, Unknown) or fleet.created is None:
        return None
    start = demand.typical_start_seconds
    if start is None:
        start = fleet.patience if fleet.ready == 0 else 0.0
    begin = max(item for item in (fleet.created, fleet.first_ready, demand.last_request.value) if item is not None)
    end = begin + timedelta(seconds=max(bounds.idle_seconds, start))
    return (end - now).total_seconds()


def _limit(bounds: Bounds, demand: Demand, fleet: Fleet, asked: int, present: int, floor: int) -> Cause | None:
    """What keeps the number from following the demand, the most urgent first."""
    if fleet.short is not None:
        return fleet.short
    if asked > bounds.maximum:
        message = (
            f"The demand needs more than scaling.maxReplicas ({bounds.maximum}) replicas, so requests wait. "
            "Raise maxReplicas, or scaling.target.concurrentRequests if a replica can do more."
        )
        return Cause("MaxReplicas", message, definite=False)
    if not bounds.zero and bounds.minimum == 0:
        message = (
            "scaling.minReplicas is 0, but no gateway holds requests for this deployment, so one replica stays. Have "
            "the administrator install the gateway, or set minReplicas to 1."
        )
        return Cause("NoGateway", message, definite=False)
    if demand.blind and present > floor:
        message = f"No replica is given up, since the demand is not known: {demand.load.unknown}"
        return Cause("DemandUnknown", message, definite=False)
    return None


def _bounded(bounds: Bounds, fleet: Fleet, present: int) -> str:
    """Why the number moves whatever the demand is."""
    if fleet.replicas > present:
        return f"scaling.maxReplicas is {bounds.maximum}."
    if present > bounds.minimum:
        return (
            "The present revision has not served in full yet, so one replica shows that it does."
            if not fleet.proven
            else "No gateway holds requests for this deployment, so one replica stays."
        )
    return f"scaling.minReplicas is {bounds.minimum}."


def _rise(bounds: Bounds, demand: Demand, wish: int) -> str:
    if demand.load.at_least == 0:
        return f"Requests waited for a deployment without a replica: {_replicas(wish)}."
    return f"{demand.load.says}, at {bounds.target} per replica (scaling.target): {_replicas(wish)}."


def _idle(bounds: Bounds, demand: Demand) -> str:
    start = demand.typical_start_seconds
    if start is not None and start > bounds.idle_seconds:
        return f"No request came for {start:.0f} s, which is how long a start takes: no replica."
    return f"No request came for {bounds.idle_seconds:.0f} s (scaling.idleSeconds): no replica."


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
