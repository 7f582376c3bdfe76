"""Judged rollouts in a plan: whether the target is a candidate, what is known of it, and what is noted on revisions."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.access import traffic_mode
from nightshift.core.changed import changed_pods
from nightshift.core.golden.jobs import over
from nightshift.core.judged.absence import looked_at_again
from nightshift.core.judged.advance import NOT_JUDGED, Advance, Pace, Situation, advance, begin
from nightshift.core.judged.beside import alone, held, is_unread
from nightshift.core.judged.comparing import is_comparing
from nightshift.core.judged.conduct import (
    NOBODY,
    Conduct,
    View,
    conduct,
    gave_up,
    has_weight,
    healing,
    nothing_to_compare,
)
from nightshift.core.judged.gathering import gathered, read_at, with_comparison
from nightshift.core.judged.orders import last_seen, read_order
from nightshift.core.judged.phases import ACTIVE
from nightshift.core.judged.pools import Contender, claim, has_turn
from nightshift.core.judged.steps import UNDONE, Fleet
from nightshift.core.judged.telling import Names, Seen, called
from nightshift.core.marks import Marks, Order
from nightshift.core.observed import Observed
from nightshift.core.placing import Move, Placing, shortage
from nightshift.core.planning import Plan, sooner
from nightshift.core.revisions import Revision, candidates, revision_spec, same_but_place
from nightshift.core.rollout import RevisionState
from nightshift.core.routes import live_route
from nightshift.core.verdict import failing, fails, held_up, kept_out_until, last_good

BACKING = frozenset({Phase.PREFLIGHT, Phase.PAUSED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABANDONED})
"""Phases in which the stable revision is what is to serve."""
QUIET_SECONDS = 15.0
"""After it lost its requests, a candidate is looked at again so often."""


@dataclass(frozen=True)
class Rolling:
    """A judged rollout under way, or over."""

    conduct: Conduct
    names: Names
    stable: Revision | None
    marks: Marks
    """The candidate's, as they are to be noted."""
    contender: Contender | None
    due: float | None = None
    """Seconds until a window of the comparison ends, golden questions are looked at again, or a candidate that comes to
    no node has had its time."""
    questions: Plan = field(default_factory=Plan)
    """What is done so that golden questions are asked, or once nobody needs them any more."""
    seen: Seen | None = None
    """What was compared so far."""

    @property
    def state(self) -> RolloutState:
        """Where it stands once this is noted."""
        return self.conduct.state


def is_compared(deployment: LLMDeployment, config: OperatorConfig) -> bool:
    """Whether candidates are judged: the spec wants them compared, and the gateway deals out the requests.

    What spec.replicas turned off is not started to be judged; what is idle at zero is.
    """
    off = deployment.spec.scaling.mode != "Auto" and deployment.spec.replicas == 0
    auto = deployment.spec.rollout.strategy == "Auto"
    return auto and traffic_mode(deployment, config) == "Gateway" and not off


def stable_revision(target: Revision, state: RolloutState | None, observed: Observed) -> Revision | None:
    """The revision that the target is compared with: that of the begin as long as it can be, else the last good one."""
    kept = [item for item in observed.revisions if state is not None and item.hash == state.stable]
    if kept and kept[0].hash != target.hash and kept[0].marks.verdict is None:
        return kept[0]
    return last_good(observed.revisions, target, observed)


def opened(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> RolloutState | None:
    """The state of the target's rollout, begun where it has just come; None where readiness alone decides.

    What has served in full has a rollout only where a person orders something. Where no other revision serves there
    is nothing to judge by, nor where none has a replica, as after spec.replicas was 0: what is asked for is what is
    started then. While it is idle at zero both are.
    """
    state, last = target.marks.rollout, last_seen(_states(observed))
    ordered = read_order(deployment.order, last) is not None
    if state is not None and (state.phase not in (Phase.PROMOTED, Phase.ABANDONED) or ordered):
        return state
    stable = stable_revision(target, None, observed)
    steps = deployment.spec.rollout.steps
    begun = begin(stable.hash if stable is not None else "", steps, now, last)
    if not target.marks.under_way or (state is not None and state.phase is Phase.PROMOTED):
        return begun.model_copy(update={"phase": Phase.PROMOTED}) if ordered else None
    stands = deployment.spec.scaling.mode == "Auto" or any(
        item.replicas for item in observed.replica_sets if item.revision != target.hash
    )
    return begun if (stable is not None and stands) or ordered else None


def rolling(
    deployment: LLMDeployment,
    target: Revision,
    state: RolloutState,
    observed: Observed,
    config: OperatorConfig,
    room: Placing,
    now: datetime,
    *,
    cleared: bool,
    superseded: bool = False,
    elsewhere: bool = False,
) -> Rolling:
    """The next step of the target's rollout.

    Args:
        deployment: The resource.
        target: The candidate, with its marks until now.
        state: Where its rollout stands.
        observed: What exists, and what gateway and engines told.
        config: The image of golden Jobs.
        room: How the revision gets on that looks for room.
        now: The present moment (UTC).
        cleared: Everything is known and fetched that a replica needs.
        superseded: Another revision is asked for, which cannot be named yet.
        elsewhere: It is the same on other accelerators, for want of room.
    """
    before, unasked = state, observed.gateway is None and observed.comparison is None
    if unasked and deployment.spec.replicas:
        state = looked_at_again(state, target.marks.comparison, _pace(deployment), now)
    stable = stable_revision(target, state, observed)
    who = _names(target, stable)
    ordered = None if superseded else read_order(deployment.order, last_seen([*_states(observed), state]))
    if is_unread(state, observed) and ordered is None and not superseded:
        stays, questions = held(deployment, target, state, observed)
        return Rolling(stays, who, None, target.marks, None, questions=questions)
    compared, asking = gathered(deployment, target, stable, state, observed, config, who, now)
    fleet = _fleet(deployment, target, stable, observed, room)
    failure = fails(observed, stable.hash) if stable is not None else None
    failed = failure.reason if failure is not None else ""
    short = shortage(observed, target.hash) is not None
    state = healing(state, fleet, failed, short=short)
    fleet = replace(fleet, gives_up=bool(state.heals) or (bool(failed) and short))
    route = live_route(deployment, observed)
    told = {item.hash: item.weight for item in route.revisions} if route is not None else None
    pods = observed.engine_pods(target.hash)
    placed = any(pod.node is not None or pod.ready or pod.containers for pod in pods)
    proven = target.marks.proven is not None and target.marks.verdict is None
    gone = bool(failed or state.heals)
    lonely = alone(target, stable, observed, room) if stable is not None else None
    over_it = lonely is not None and deployment.spec.rollout.allow_outage
    returns_not = failure if state.phase is Phase.ROLLING_BACK else None
    # What a placed candidate has is no other's: only a revision that comes back may find it taken.
    taken = not placed or state.phase is Phase.ROLLING_BACK
    refused = room.cause if room.move is Move.REFUSE and taken else None
    place = target.place
    contender = Contender(
        (deployment.namespace, deployment.name),
        place.accelerator,
        place.count,
        claim(state, placed=placed, cleared=cleared),
        state.since,
        emergency=fleet.wanted > 0 and not fleet.stable.ready and not any(item.ready for item in fleet.others),
    )
    situation = Situation(
        wanted=fleet.wanted,
        ready=fleet.candidate.ready,
        ready_stable=fleet.stable.ready,
        cleared=cleared,
        turn=has_turn(contender, observed.contenders),
        placed=placed,
        reached=has_weight(state, fleet, told),
        complete=_complete(deployment, target, observed),
        drained=gave_up(fleet, told, idle=_idle(deployment, target, state, observed, now)),
        stable_there=stable is not None,
        unjudged=stable is None or over_it or nothing_to_compare(state, fleet, proven=proven, failed=gone),
        judgement=observed.comparison or (compared.judgement if compared is not None else NOT_JUDGED),
        read_at=now if unasked else read_at(compared),
        failure=failing(deployment, target, observed, now) if state.phase in ACTIVE else None,
        held_up=refused or held_up(deployment, target, observed, now) or returns_not,
        alone=lonely,
        superseded=superseded,
        order=ordered,
        elsewhere=elsewhere,
    )
    view = View(state, situation, fleet, settled=all(item.settled for item in observed.replica_sets))
    decided = conduct(view, _pace(deployment), who, now)
    wants = claim(decided.state, placed=placed, cleared=cleared)
    contender = replace(contender, claim=wants, since=decided.state.since)
    marks = with_comparison(_marks(deployment, target, before, decided, now), before, compared)
    if asking is not None and asking.note is not None:
        marks = replace(marks, golden=asking.note)
    questions = asking.plan if asking is not None and is_comparing(decided.state) else over(observed)
    return Rolling(
        decided,
        who,
        stable,
        marks,
        contender,
        due=sooner(
            compared.due if compared is not None else _kept_out(deployment, target, observed, now),
            questions.requeue_after,
        ),
        questions=questions,
        seen=compared.seen if compared is not None else None,
    )


def _kept_out(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> float | None:
    """Seconds until a candidate that comes to no node has had its time."""
    until = kept_out_until(deployment, target, observed)
    return max(1.0, (until - now).total_seconds()) if until is not None and until > now else None


def abandoned(
    deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime
) -> tuple[tuple[Revision, Marks, Advance], ...]:
    """Rollouts of other revisions that the spec asks for no more, with the marks that they get."""
    found = []
    for item in observed.revisions:
        state = item.marks.rollout
        if item.hash == target.hash or state is None or state.phase not in (*ACTIVE, Phase.ROLLING_BACK):
            continue
        stable = next((one for one in observed.revisions if one.hash == state.stable), None)
        who = _names(item, stable)
        elsewhere = same_but_place(item, target) and item.place in candidates(revision_spec(deployment.spec))
        situation = Situation(0, 0, 0, superseded=True, elsewhere=elsewhere)
        step = advance(state, situation, _pace(deployment), who, now)
        marks = replace(item.marks, rollout=step.state, ordered=None, started=None)
        if step.state.phase is Phase.ROLLED_BACK:
            marks = _failed(deployment, marks, step.state, now)
        found.append((item, marks, step))
    return tuple(found)


def _states(observed: Observed) -> list[RolloutState]:
    return [item.marks.rollout for item in observed.revisions if item.marks.rollout is not None]


def _pace(deployment: LLMDeployment) -> Pace:
    asked = deployment.spec.rollout
    return Pace(float(asked.step_seconds), float(asked.deadline_seconds), asked.on_inconclusive)


def _names(candidate: Revision, stable: Revision | None) -> Names:
    if stable is None:
        return Names(f"revision {candidate.hash}", "")
    return called((candidate.resolved.engine_version, candidate.hash), (stable.resolved.engine_version, stable.hash))


def _fleet(
    deployment: LLMDeployment, target: Revision, stable: Revision | None, observed: Observed, room: Placing
) -> Fleet:
    either = {target.hash, stable.hash if stable is not None else ""}
    short = room.move is not Move.GO_ON or target.marks.order is not None
    others = tuple(
        _runs(item, observed, gives_way=short or item.marks.rollout is not None or same_but_place(item, target))
        for item in observed.revisions
        if item.hash not in either and observed.replica_set(item.hash) is not None
    )
    return Fleet(
        wanted=deployment.spec.replicas,
        missing=missing(deployment, target),
        candidate=_runs(target, observed),
        stable=_runs(stable, observed, gives_way=short) if stable is not None else NOBODY,
        others=others,
    )


def _runs(revision: Revision, observed: Observed, *, gives_way: bool = False) -> RevisionState:
    """What runs of a revision. Replicas of one that failed before are trusted with nothing."""
    owner, pods = observed.replica_set(revision.hash), observed.engine_pods(revision.hash)
    failed = gives_way and revision.marks.verdict is not None
    ready = min(observed.ready(revision.hash), owner.replicas, owner.ready) if owner is not None and not failed else 0
    lost = sum(pod.containers_ready and not pod.ready for pod in pods)
    return RevisionState(
        revision.hash, revision.number, owner.replicas if owner else 0, ready, gives_way=gives_way, lost=lost
    )


def missing(deployment: LLMDeployment, target: Revision) -> int:
    """Ready replicas that may be missing: one in place, all in an outage and on the way back from it."""
    wanted, marks = deployment.spec.replicas, target.marks
    if marks.order is Order.OUTAGE:
        returning = marks.rollout is not None and marks.rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        return wanted if returning or deployment.spec.rollout.allow_outage else 0
    return 1 if marks.order is not None and wanted > 1 else 0


def _complete(deployment: LLMDeployment, target: Revision, observed: Observed) -> bool:
    wanted, owner = deployment.spec.replicas, observed.replica_set(target.hash)
    if not wanted:
        return True
    if owner is None or owner.replicas != wanted or changed_pods(deployment, target, observed):
        return False
    return min(owner.ready, observed.ready(target.hash)) >= wanted


def _idle(deployment: LLMDeployment, target: Revision, state: RolloutState, observed: Observed, now: datetime) -> bool:
    """Whether a candidate's engines say that they work on nothing, since it lost its requests; or had time to end."""
    if state.phase not in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return False
    if now >= state.since + timedelta(seconds=target.spec.drain_seconds):
        return True
    since = state.since + timedelta(seconds=QUIET_SECONDS)
    sights = [observed.engines.get(pod.name) for pod in observed.engine_pods(target.hash) if pod.ready]
    return all(
        sight is not None and sight.last is not None and sight.last.at >= since and not sight.last.value.busy
        for sight in sights
    )


def _marks(
    deployment: LLMDeployment,
    target: Revision,
    before: RolloutState,
    decided: Conduct,
    now: datetime,
) -> Marks:
    """What is noted on the candidate."""
    state, marks = decided.state, replace(target.marks, rollout=decided.state)
    if before.phase is state.phase:
        return marks
    if state.phase is Phase.PROMOTED and before.phase is not Phase.ROLLING_BACK:
        return replace(marks, proven=now, started=None, ordered=None, verdict=None)
    if state.phase is Phase.ROLLED_BACK:
        return _failed(deployment, marks, state, now)
    if state.phase is Phase.ABANDONED:
        return replace(marks, started=None, ordered=None)
    if before.phase is Phase.ROLLED_BACK:
        return replace(marks, started=now, ordered=None, verdict=None, proven=None)
    return marks


def _failed(deployment: LLMDeployment, marks: Marks, state: RolloutState, now: datetime) -> Marks:
    """One that failed has to prove itself again; one that a person took back only where it is to be tried again."""
    says = state.says.rstrip(".") + "."
    verdict = FailedTry(
        reason=state.reason or "RolledBack", message=says, at=now, returned_to=state.stable, retry=deployment.retry
    )
    return replace(marks, verdict=verdict, proven=marks.proven if state.reason == UNDONE else None)
