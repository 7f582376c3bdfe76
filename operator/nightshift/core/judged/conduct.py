"""A judged rollout as a whole: its next state, and the replicas and requests that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.judged.advance import Advance, Pace, Situation, advance
from nightshift.core.judged.steps import Fleet, counts, needed, percent, shares
from nightshift.core.judged.telling import Names
from nightshift.core.rollout import RevisionState

NOBODY = RevisionState("", 0, 0, 0)
"""In the place of a stable revision where there is none."""
_REASON = 64


@dataclass(frozen=True)
class View:
    """What a rollout is decided from."""

    state: RolloutState
    situation: Situation
    fleet: Fleet
    settled: bool = True
    """Every ReplicaSet has followed what was asked of it last; before that, ready pods may be on their way out."""


@dataclass(frozen=True)
class Conduct:
    """What follows."""

    step: Advance
    counts: Mapping[str, int]
    """Replicas by revision."""
    shares: Mapping[str, int]
    """Percent of the requests by revision; empty: they wait for a replica."""

    @property
    def state(self) -> RolloutState:
        """Where the rollout stands once it is written."""
        return self.step.state


def conduct(view: View, pace: Pace, names: Names, now: datetime) -> Conduct:
    """The next step of a rollout.

    The state comes first: it is written before the counts and shares that follow from it. A candidate that failed
    loses its requests at once, and its replicas once the route says so.
    """
    fleet = view.fleet
    step = advance(
        view.state,
        view.situation,
        pace,
        names,
        now,
        lambda state: routed(state, fleet, _planned(view, state)).get(fleet.candidate.hash, 0),
    )
    planned = _planned(view, step.state)
    return Conduct(step, planned, routed(step.state, fleet, planned))


def _planned(view: View, state: RolloutState) -> dict[str, int]:
    """Replicas by revision in a state."""
    fleet, it = view.fleet, view.situation
    if view.settled:
        planned = counts(state, fleet, turn=it.turn or it.placed, drained=it.drained)
    else:
        planned = {item.hash: item.replicas for item in (fleet.candidate, fleet.stable, *fleet.others)}
    planned.pop(NOBODY.hash, None)
    return planned


def routed(state: RolloutState, fleet: Fleet, planned: Mapping[str, int]) -> dict[str, int]:
    """Percent of the requests by revision, among the replicas that stay."""
    everybody = (fleet.candidate, fleet.stable, *fleet.others)
    staying = {item.hash: min(item.ready, item.replicas, planned.get(item.hash, 0)) for item in everybody}
    return shares(state, fleet, staying)


def has_weight(state: RolloutState, fleet: Fleet, route: Mapping[str, int] | None) -> bool:
    """Whether the candidate has the step's part of the requests, and the replicas for it.

    While the deployment is idle there are no requests: a replica that is ready is asked by the golden set alone.

    Args:
        state: Where the rollout stands.
        fleet: What runs.
        route: The weights as the gateway was told them; None: it was told nothing yet.
    """
    candidate = fleet.candidate
    if not fleet.wanted:
        return candidate.ready > 0
    if route is None or candidate.ready < needed(fleet.wanted, percent(state)):
        return False
    return route.get(candidate.hash, 0) >= percent(state)


def nothing_to_compare(state: RolloutState, fleet: Fleet, *, proven: bool, failed: bool) -> bool:
    """Whether a candidate that is ready takes over without being judged.

    It does where it has proven itself before, in an outage, and where the stable revision has failed and no replica
    left when the candidate has its first: then it is what heals. A stable revision that is only starting is waited
    for: the candidate serves meanwhile, and is judged then. Replicas on nodes that do not report are not counted as
    gone.

    Args:
        state: Where the rollout stands.
        fleet: What runs.
        proven: Whether the candidate has served in full before.
        failed: Whether the stable revision's replicas will not serve by waiting.
    """
    outage = fleet.missing >= fleet.wanted > 0
    broken = fleet.wanted > 0 and not fleet.stable.ready and not fleet.stable.lost and failed
    return proven or outage or (state.phase is Phase.LOADING and broken)


def healing(state: RolloutState, fleet: Fleet, failed: str, *, short: bool) -> RolloutState:
    """The state with why the stable revision serves no more: once its replicas gave way nobody can see that any more.

    Args:
        state: Where the rollout stands.
        fleet: What runs.
        failed: Reason why the stable revision's replicas will not serve by waiting; empty where they may.
        short: Whether a replica of the candidate finds no room.
    """
    heals = state.heals
    if fleet.stable.ready or not fleet.wanted:
        heals = ""
    elif failed and short and not fleet.stable.lost:
        heals = failed[:_REASON]
    return state if heals == state.heals else state.model_copy(update={"heals": heals})


def gave_up(fleet: Fleet, route: Mapping[str, int] | None, *, idle: bool) -> bool:
    """Whether a candidate has no request left: the route gives it none, and it works on none.

    Args:
        fleet: What runs.
        route: The weights as the gateway was told them; None: it was told nothing, so nobody is sent there.
        idle: Whether its engines are known to work on nothing, or have had the time to end what they had.
    """
    return not (route or {}).get(fleet.candidate.hash, 0) and idle
