"""Judged rollouts in a plan: whether the target is a candidate, what is known of it, and what is noted on revisions."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.access import traffic_mode
from nightshift.core.changed import changed_pods
from nightshift.core.golden.jobs import Asking, Pairing, ask, over, rounds_begun
from nightshift.core.judged.advance import NOT_JUDGED, Advance, Pace, Situation, advance, begin
from nightshift.core.judged.comparing import Asked, Compared, compare, is_comparing, pairing_of
from nightshift.core.judged.conduct import NOBODY, Conduct, View, conduct, gave_up, has_weight, nothing_to_compare
from nightshift.core.judged.orders import last_seen, read_order
from nightshift.core.judged.phases import ACTIVE, ENDED
from nightshift.core.judged.pools import Contender, claim
from nightshift.core.judged.steps import UNDONE, Fleet, holds
from nightshift.core.judged.telling import Names, Seen, called, rolled_back
from nightshift.core.marks import Marks, Order
from nightshift.core.observed import Observed
from nightshift.core.placing import Move, Placing
from nightshift.core.planning import Plan, sooner
from nightshift.core.revisions import Revision, candidates, revision_spec, same_but_place
from nightshift.core.rollout import RevisionState
from nightshift.core.routes import live_route, model_task
from nightshift.core.verdict import failing, held_up, last_good

BACKING = frozenset({Phase.PREFLIGHT, Phase.PAUSED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABANDONED})
"""Phases in which the stable revision is what is to serve."""
QUIET_SECONDS = 15.0
"""After it lost its requests, a candidate is looked at again so often."""
_MESSAGE = 2000


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
    """Seconds until a window of the comparison ends, or golden questions are looked at again."""
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
    is nothing to judge by.
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
    return begun if stable is not None or ordered else None


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
    stable = stable_revision(target, state, observed)
    who = _names(target, stable)
    compared, asking = _evidence(deployment, target, stable, state, observed, config, who, now)
    fleet = _fleet(deployment, target, stable, observed, room)
    route = live_route(deployment, observed)
    weights = {item.hash: item.weight for item in route.revisions} if route is not None else None
    pods = observed.engine_pods(target.hash)
    placed = any(pod.node is not None or pod.ready or pod.containers for pod in pods)
    proven = target.marks.proven is not None and target.marks.verdict is None
    refused = room.cause if room.move is Move.REFUSE else None
    situation = Situation(
        wanted=fleet.wanted,
        ready=fleet.candidate.ready,
        ready_stable=fleet.stable.ready,
        cleared=cleared,
        turn=observed.turn,
        placed=placed,
        reached=has_weight(state, fleet, weights),
        complete=_complete(deployment, target, observed),
        drained=gave_up(fleet, weights, idle=_idle(deployment, target, state, observed, now)),
        stable_there=stable is not None,
        unjudged=stable is None or nothing_to_compare(state, fleet, proven=proven),
        judgement=observed.comparison or (compared.judgement if compared is not None else NOT_JUDGED),
        read_at=_read_at(compared),
        failure=failing(deployment, target, observed, now) if state.phase in ACTIVE else None,
        held_up=refused or held_up(deployment, target, observed, now),
        superseded=superseded,
        elsewhere=elsewhere,
        order=None if superseded else read_order(deployment.order, last_seen([*_states(observed), state])),
    )
    view = View(state, situation, fleet, settled=all(item.settled for item in observed.replica_sets))
    decided = conduct(view, _pace(deployment), who, now)
    wants = claim(decided.state, placed=placed)
    contender = Contender(
        (deployment.namespace, deployment.name),
        target.place.accelerator,
        target.place.count,
        wants,
        decided.state.since,
        emergency=fleet.wanted > 0 and not fleet.stable.ready and not any(item.ready for item in fleet.others),
    )
    marks = _with_comparison(_marks(deployment, target, state, decided, who, now), state, compared)
    if asking is not None and asking.note is not None:
        marks = replace(marks, golden=asking.note)
    questions = asking.plan if asking is not None and is_comparing(decided.state) else over(observed)
    return Rolling(
        decided,
        who,
        stable,
        marks,
        contender,
        due=sooner(compared.due if compared is not None else None, questions.requeue_after),
        questions=questions,
        seen=compared.seen if compared is not None else None,
    )


def _evidence(
    deployment: LLMDeployment,
    target: Revision,
    stable: Revision | None,
    state: RolloutState,
    observed: Observed,
    config: OperatorConfig,
    who: Names,
    now: datetime,
) -> tuple[Compared | None, Asking | None]:
    """What the comparison comes to, and which golden questions are asked for it; None while nobody is compared.

    They are asked once at the begin, and again where clients ask too little; none of a model that writes no text.
    """
    if stable is None or observed.comparison is not None or not is_comparing(state):
        return None, None
    spec = deployment.spec
    reference = spec.evaluation.golden_set_ref if spec.evaluation is not None else None
    pairing = pairing_of(target, stable, reference)
    rounds, wordless = rounds_begun(deployment.name, pairing, observed), _wordless(pairing)
    asking = Asking(over(observed), done=True)
    if not wordless:
        asking = ask(deployment, pairing, observed, config, now, rounds=rounds)
    hindered = asking.plan.blocker.message if asking.plan.blocker is not None else wordless
    # A pause for want of evidence ends when answers are there, not whenever another Job is tried.
    under_way = not asking.done and asking.plan.blocker is None and not holds(state)
    pace = float(spec.rollout.step_seconds)
    asked = Asked(reference, under_way, idle=not spec.replicas, step_seconds=pace, hindered=hindered)
    route = f"{deployment.namespace}/{deployment.name}"
    compared = compare(route, target, stable, state, observed, now, stable_name=who.stable, asked=asked)
    if asking.done and compared.short and not wordless:
        asking = ask(deployment, pairing, observed, config, now, rounds=rounds + 1)
    return compared, asking


def _wordless(pairing: Pairing) -> str:
    """Why golden questions are not put to these two; empty where both answer by text."""
    tasks = (model_task(pairing.candidate), model_task(pairing.stable))
    task = next((task for task in tasks if task not in ("Chat", "Completion")), None)
    remedy = "; remove spec.evaluation" if pairing.reference is not None else ""
    return f"a model for {task} writes no text{remedy}" if task is not None else ""


def _read_at(compared: Compared | None) -> datetime | None:
    """When gateway and engines were last read in full, where they cannot be read now."""
    if compared is None or compared.noted is None or (compared.seen is not None and compared.seen.readable):
        return None
    return compared.noted.since


def _with_comparison(marks: Marks, before: RolloutState, compared: Compared | None) -> Marks:
    """The marks with what is noted of the comparison: nothing once it is over, a closed window before other weights."""
    after = marks.rollout
    if after is None or after.phase in ENDED:
        return replace(marks, comparison=None)
    if compared is None:
        return marks
    same = (before.phase, before.step, before.step_since) == (after.phase, after.step, after.step_since)
    return replace(marks, comparison=compared.noted if same else compared.at_change)


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
            marks = _failed(deployment, marks, step.state, who, now)
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
    who: Names,
    now: datetime,
) -> Marks:
    """What is noted on the candidate."""
    state, marks = decided.state, replace(target.marks, rollout=decided.state)
    if before.phase is state.phase:
        return marks
    if state.phase is Phase.PROMOTED and before.phase is not Phase.ROLLING_BACK:
        return replace(marks, proven=now, started=None, ordered=None, verdict=None)
    if state.phase is Phase.ROLLED_BACK:
        return _failed(deployment, marks, state, who, now)
    if state.phase is Phase.ABANDONED:
        return replace(marks, started=None, ordered=None)
    if before.phase is Phase.ROLLED_BACK:
        return replace(marks, started=now, ordered=None, verdict=None)
    return marks


def _failed(deployment: LLMDeployment, marks: Marks, state: RolloutState, who: Names, now: datetime) -> Marks:
    """One that failed has to prove itself again; one that a person took back has not."""
    says = rolled_back(state, who)[:_MESSAGE].rstrip(".") + "."
    verdict = FailedTry(
        reason=state.reason or "RolledBack", message=says, at=now, returned_to=state.stable, retry=deployment.retry
    )
    return replace(marks, verdict=verdict, proven=marks.proven if state.reason == UNDONE else None)
