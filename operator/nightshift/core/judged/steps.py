"""What a rollout's phase means for replicas and requests: how many of which revision, and whose share is how large."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.rollout import RevisionState, replica_counts

UNDONE = "Undone"
"""Reason of a rollout that a person took back: nothing is wrong with its replicas."""
NO_EVIDENCE = "EvidenceUnavailable"
"""Reason of a pause that ends by itself when the evidence can be read again; the candidate keeps what it has."""

BY_ORDER = "PausedByOrder"
"""Reason of a pause that a person ordered."""


@dataclass(frozen=True)
class Fleet:
    """What runs of a deployment in which a candidate is to follow a stable revision."""

    wanted: int
    """Replicas that are asked for; 0 while it is idle."""
    missing: int
    """Ready replicas that may be missing: 0 where a new one comes first, 1 in place, all in an outage."""
    candidate: RevisionState
    stable: RevisionState
    others: tuple[RevisionState, ...] = ()
    """Revisions that are neither, and still have a ReplicaSet."""
    gives_up: bool = False
    """The stable revision's replicas that do not serve have failed, and hold what the candidate waits for."""

    @property
    def together(self) -> int:
        """Replicas that may be asked for at a time: one more than wanted, or in place no more.

        While the deployment is idle one of each revision: a candidate is compared with a replica of the other.
        """
        if not self.wanted:
            return 2
        return self.wanted if self.missing else self.wanted + 1


def needed(wanted: int, percent: int) -> int:
    """Replicas that a candidate needs for its share of the requests.

    Worked example: of 4 replicas 1 for 5 % and for 25 %, 2 for 50 %. While the deployment is idle, 1.
    """
    return max(1, -(-wanted * percent // 100))


def percent(state: RolloutState) -> int:
    """The candidate's part of the requests at the present step."""
    return state.steps[min(state.step, len(state.steps) - 1)] if state.steps else 100


def holds(state: RolloutState) -> bool:
    """Whether a pause leaves the candidate its replicas and its part of the requests."""
    return state.phase is Phase.PAUSED and state.reason == NO_EVIDENCE


def waits_for_room(state: RolloutState) -> bool:
    """Whether a pause ends by itself when the cluster can run the candidate: one replica of it goes on waiting."""
    paused = state.phase is Phase.PAUSED and state.before_pause in (Phase.PLACING, Phase.LOADING, Phase.PROMOTING)
    return paused and state.reason not in (BY_ORDER, NO_EVIDENCE)


def is_bad(state: RolloutState) -> bool:
    """Whether the candidate is not to be trusted with a request."""
    return state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) and state.reason != UNDONE


def counts(state: RolloutState, fleet: Fleet, *, turn: bool, drained: bool) -> dict[str, int]:
    """Replicas per revision for the next step.

    Worked example: 4 wanted and ready, one spare accelerator. At 5 % the candidate has 1 and the stable revision
    keeps 4; at 50 % they have 2 and 3. In place, with no spare one: 1 and 3, then 2 and 2. None wanted: 1 and 1.

    Args:
        state: Where the rollout stands.
        fleet: What runs.
        turn: Whether the candidate may ask for an accelerator now.
        drained: Whether a candidate that was judged failed has no request left.
    """
    if state.phase in (Phase.PROMOTING, Phase.PROMOTED):
        return replica_counts(fleet.wanted, fleet.candidate, (fleet.stable, *fleet.others), fleet.missing)
    if state.phase is Phase.JUDGING or holds(state):
        return _shared(fleet, needed(fleet.wanted, percent(state))) if fleet.wanted else _both(fleet)
    asking = state.phase is Phase.PLACING or (waits_for_room(state) and not fleet.candidate.ready)
    if state.phase is Phase.LOADING or (asking and turn):
        return _shared(fleet, 1)
    if is_bad(state):
        return _without(fleet, drained=drained)
    leaving = replace(fleet.candidate, gives_way=True)
    return replica_counts(fleet.wanted, fleet.stable, (leaving, *fleet.others), fleet.missing)


def _shared(fleet: Fleet, goal: int) -> dict[str, int]:
    """The candidate comes up beside the stable revision, which gives up no more than the candidate makes good.

    What serves is counted first, then the stable revision's other replicas, then the candidate's. Those that failed
    come after it where there is no room for both.
    """
    wanted, candidate, stable = fleet.wanted, fleet.candidate, fleet.stable
    good = min(candidate.ready, candidate.replicas, goal)
    aim = max(0, min(wanted, max(wanted - fleet.missing - good, fleet.together - goal)))
    serving = min(stable.ready, stable.replicas, aim)
    lacking = wanted - fleet.missing - good - serving
    good += max(0, min(lacking, min(candidate.ready, candidate.replicas) - good))
    kept = _kept(fleet.others, wanted - fleet.missing - good - serving)
    room = max(0, fleet.together - serving - sum(kept.values()) - good)
    worth = replace(stable, gives_way=True).worth_keeping if fleet.gives_up else aim
    grown = max(0, min(room, aim - serving, worth - serving))
    comes = max(0, min(room - grown, goal - good))
    return {candidate.hash: good + comes, stable.hash: serving + grown, **kept}


def _both(fleet: Fleet) -> dict[str, int]:
    """One replica of each while the deployment is idle, so that golden questions can be put to both."""
    return {fleet.candidate.hash: 1, fleet.stable.hash: 1, **{item.hash: 0 for item in fleet.others}}


def _kept(others: Sequence[RevisionState], lacking: int) -> dict[str, int]:
    """Replicas of further revisions that serve and are still needed, the newest first."""
    kept = {}
    for other in sorted(others, key=lambda item: item.number, reverse=True):
        kept[other.hash] = max(0, min(other.ready, other.replicas, lacking))
        lacking -= kept[other.hash]
    return kept


def _without(fleet: Fleet, *, drained: bool) -> dict[str, int]:
    """The candidate goes once nothing is asked of it any more; the stable revision has all that was its own again.

    A candidate that alone serves stays until another replica is ready, except in an outage: a bad answer may be
    better than none, and nobody chose to have none.
    """
    candidate, stable = fleet.candidate, fleet.stable
    beside = stable.ready + sum(item.ready for item in fleet.others)
    outage = fleet.missing >= fleet.wanted
    stays = not drained if beside else not outage
    left = min(candidate.ready, candidate.replicas) if stays else 0
    serving = min(stable.ready, stable.replicas, fleet.wanted)
    kept = _kept(fleet.others, min(fleet.wanted - fleet.missing, fleet.together - left) - serving)
    room = max(0, fleet.together - serving - left - sum(kept.values()))
    return {candidate.hash: left, stable.hash: serving + min(room, fleet.wanted - serving), **kept}


def share(wanted: int, candidate: int, stable: int, asked: int) -> int:
    """The candidate's part of the requests in percent, by capacity where replicas are few.

    No replica is to carry more than it would with all that are wanted: where stable replicas gave way to the
    candidate it takes over their part, and it takes no more than its own replicas carry. Where some are missing, all
    are loaded alike.

    Worked example: 4 wanted, 4 stable and 1 candidate ready, 5 % asked: 5. In place, 3 and 1 ready: 25. Of 2 wanted in
    place, 1 and 1 ready: 50. 4 wanted, 50 % asked, and only 1 candidate ready: 25. 2 stable of 4 ready and 1
    candidate: 33.

    Args:
        wanted: Replicas that are asked for.
        candidate: Its ready replicas.
        stable: Those of the stable revision, and of others that still serve.
        asked: The step's percent.
    """
    if not candidate:
        return 0
    if not stable:
        return 100
    if candidate + stable < wanted:
        return max(1, min(99, 100 * candidate // (candidate + stable)))
    least = 100 - min(100, 100 * stable // max(1, wanted))
    most = min(100, 100 * candidate // max(1, wanted))
    return max(1, min(max(asked, least), max(1, most), 100))


def shares(state: RolloutState, fleet: Fleet, ready: Mapping[str, int]) -> dict[str, int]:
    """Percent of the requests by revision, together 100, and only for revisions with ready replicas.

    Empty where there is none, and while the deployment is idle: requests then wait for the stable revision.

    Args:
        state: Where the rollout stands.
        fleet: Which revision is which.
        ready: Ready replicas that stay, by revision.
    """
    if not fleet.wanted:
        return {}
    candidate = ready.get(fleet.candidate.hash, 0)
    old = {item.hash: ready[item.hash] for item in (fleet.stable, *fleet.others) if ready.get(item.hash, 0) > 0}
    serving = sum(old.values())
    part = _part(state, fleet, candidate, serving)
    if not serving or part >= 100:
        return {fleet.candidate.hash: 100} if candidate else {}
    return {**({fleet.candidate.hash: part} if part else {}), **_divided(100 - part, old)}


def _part(state: RolloutState, fleet: Fleet, candidate: int, serving: int) -> int:
    """The candidate's percent."""
    if state.phase is Phase.JUDGING or holds(state):
        return share(fleet.wanted, candidate, serving, _asked(state, fleet, candidate))
    if state.phase in (Phase.PROMOTING, Phase.PROMOTED):
        if candidate >= max(1, fleet.wanted):
            return 100
        even = 100 * candidate // max(1, candidate + serving)
        return max(even, share(fleet.wanted, candidate, serving, percent(state))) if candidate else 0
    if not serving:
        return 100
    if is_bad(state):
        return 0
    lacking = max(0, fleet.wanted - serving)
    return share(fleet.wanted, min(candidate, lacking), serving, 0) if lacking else 0


def _asked(state: RolloutState, fleet: Fleet, candidate: int) -> int:
    """The step's percent; while its replicas are not all ready, what the step before had."""
    if candidate >= needed(fleet.wanted, percent(state)) or state.step == 0:
        return percent(state)
    return state.steps[state.step - 1]


def _divided(part: int, ready: Mapping[str, int]) -> dict[str, int]:
    """A part of the requests by ready replicas, at least 1 each, rounded so that the sum is kept."""
    by_size: Sequence[tuple[str, int]] = sorted(ready.items(), key=lambda item: (-item[1], item[0]))
    total = sum(ready.values())
    found = {name: max(1, part * count // total) for name, count in by_size}
    found[by_size[0][0]] += part - sum(found.values())
    return found
