"""What is done about engines that hang: one pod is deleted at a time, by a budget, and never the fleet.

A hung engine serves nobody and cannot be drained: what it holds is lost already. The pod leaves the Service as soon as
it is deleted; its ReplicaSet makes another.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.core import children, hang
from nightshift.core.cause import Cause
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Known
from nightshift.core.objects import deletion
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.planning import Apply, Delete, Plan
from nightshift.core.pod import PRE_STOP_SECONDS
from nightshift.core.revisions import Revision

BUDGET_SECONDS = 600.0
"""From one deletion of a hung engine to the next of the same deployment: longer than most models take to load, so
that the first is seen to serve or to hang again before another goes."""

GRACE_SECONDS = PRE_STOP_SECONDS + 15
"""Given to a hung engine to end. Routers get the preStop time to stop sending; `traffic.drainSeconds` would be waited
in vain, since nothing that it holds ever ends, and the replacement would wait for its accelerator so long."""

FRESH_SECONDS = 3 * hang.LOOK_SECONDS
"""An engine is deleted on a reading that is not older."""


@dataclass(frozen=True)
class Replacement:
    """The latest deletion of a hung engine of a deployment, as its revision's ControllerRevision tells it."""

    at: datetime
    uid: str
    """Of the pod: a deletion that was begun is carried out, also by a new process."""

    def __str__(self) -> str:
        return f"{_time(self.at)} {self.uid}"


@dataclass(frozen=True)
class _Step:
    """Whom to delete, or why nobody, and when that may change."""

    says: str
    victim: PodFacts | None = None
    wait: float | None = None


def with_engines(plan: Plan, deployment: LLMDeployment, observed: Observed, now: datetime) -> Plan:
    """The plan, and what follows from what the engines say of themselves.

    Args:
        plan: What was decided without them.
        deployment: The resource.
        observed: What exists, and what the engines told.
        now: The present moment (UTC).
    """
    served = {item.hash: item.spec.model.served_name or deployment.name for item in observed.revisions}
    questions, wait = hang.questions(observed, served, now)
    watched = replace(
        plan,
        looks=hang.looks(observed),
        requests=(*plan.requests, *questions),
        requeue_after=_sooner(plan.requeue_after, wait),
    )
    hung = hang.hung(observed)
    return _with_hung(watched, deployment, observed, hung, now) if hung else watched


def _with_hung(
    plan: Plan, deployment: LLMDeployment, observed: Observed, hung: tuple[PodFacts, ...], now: datetime
) -> Plan:
    step = _step(plan, deployment, observed, hung, now)
    cause = hung_cause(observed, hung, step.says)
    told = replace(plan, hanging=cause, hung=len(hung), requeue_after=_sooner(plan.requeue_after, step.wait))
    if step.victim is None:
        return told
    mark, gone = _removal(deployment, observed, step.victim, now)
    return replace(told, apply=(*plan.apply, *mark), delete=(*plan.delete, gone))


def _step(
    plan: Plan, deployment: LLMDeployment, observed: Observed, hung: tuple[PodFacts, ...], now: datetime
) -> _Step:
    """Who goes now.

    Worked example: of 3 replicas one hangs and two serve: it goes at once. A second hangs 4 minutes later: it goes
    6 minutes after that, when the budget allows another. The only replica goes at once, and again after 10 minutes.
    """
    if deployment.spec.paused:
        return _Step("Nothing is done about it while spec.paused is true.")
    known = {item.hash for item in observed.revisions}
    sure = [pod for pod in hung if _is_sure(observed.engines[pod.name], now) and pod.revision in known]
    if not sure:
        return _Step("It is left alone until its metrics and its ControllerRevision can be read.")
    if any(item.manifest["kind"] == "ControllerRevision" for item in plan.apply):
        return _Step("It is replaced next.", wait=1.0)
    if any(item.kind == "Pod" for item in plan.delete):
        return _Step("It is replaced after another pod, which is replaced now.", wait=1.0)
    last = max(filter(None, map(replacement, observed.revisions)), key=lambda item: item.at, default=None)
    if last is not None and now < last.at + timedelta(seconds=BUDGET_SECONDS):
        begun = next((pod for pod in sure if pod.uid == last.uid), None)
        return _Step(_GOES, begun) if begun else _later(last.at, "One was replaced already, the next is", now)
    victim = sure[0]
    others = observed.ready() - len(hung)
    missing = deployment.spec.replicas - others - len(hung)
    since = observed.engines[victim.name].asked_at
    if others > 0 and missing > 0 and since is not None and now < since + timedelta(seconds=BUDGET_SECONDS):
        return _later(since, "It is replaced once the other replicas are ready, or", now)
    return _Step(_GOES, victim)


_GOES = f"It is deleted now, with {GRACE_SECONDS} s to end, and its ReplicaSet starts another."


def _later(since: datetime, what: str, now: datetime) -> _Step:
    due = since + timedelta(seconds=BUDGET_SECONDS)
    return _Step(f"{what} at {_time(due)}.", wait=max(1.0, (due - now).total_seconds()))


def _is_sure(sight: EngineSight, now: datetime) -> bool:
    """Whether it was seen to stand still just now: what is unknown deletes nothing."""
    return isinstance(sight.metrics, Known) and now - sight.metrics.at <= timedelta(seconds=FRESH_SECONDS)


def hung_cause(observed: Observed, hung: tuple[PodFacts, ...], says: str) -> Cause:
    """What is told of engines that hang.

    When several hang and they are more than half of the ready ones, the fault is rather in what they have in common,
    and a person has to look.
    """
    ready = observed.ready()
    if len(hung) > 1 and 2 * len(hung) > ready:
        told = (
            f"{len(hung)} of {ready} ready engines hang at once, so the fault lies rather in the model, engine.args or "
            f"the accelerators than in one pod: read kubectl logs {hung[0].name} -c {names.ENGINE_CONTAINER} and "
            f"correct the LLMDeployment. They are not restarted together, only one every {BUDGET_SECONDS / 60:.0f} "
            f"minutes. {_seen(hung[0], observed)} {says}"
        )
        return Cause("EngineHung", told, definite=True)
    return Cause("EngineHung", f"{_seen(hung[0], observed)} {says}", definite=False)


def _seen(pod: PodFacts, observed: Observed) -> str:
    sight = observed.engines[pod.name]
    last = sight.last.value if sight.last else None
    since = _time(sight.still_since) if sight.still_since else "its start"
    counted = f"by its own last count {last.running} requests run and {last.waiting} wait, " if last else ""
    return (
        f"The engine of pod {pod.name} hangs: {counted}it made no step and no token since {since}, and "
        f"{hang.QUESTIONS_UNTIL_HUNG} questions for one token got no answer within {hang.ANSWER_SECONDS:.0f} s each, "
        "while /health answers."
    )


def _removal(
    deployment: LLMDeployment, observed: Observed, pod: PodFacts, now: datetime
) -> tuple[tuple[Apply, ...], Delete]:
    """Note the deletion where a new process finds it, then delete. A note without a deletion costs time only."""
    revision = next(item for item in observed.revisions if item.hash == pod.revision)
    reason = f"Pod {pod.name} is deleted: its engine hangs, and what it holds is lost."
    gone = replace(
        deletion(observed, "Pod", pod.name, "v1", reason), grace_seconds=GRACE_SECONDS, event="HungEngineDeleted"
    )
    before = replacement(revision)
    if before is not None and before.uid == pod.uid and now < before.at + timedelta(seconds=BUDGET_SECONDS):
        return (), gone
    manifest = children.restated_revision(
        deployment,
        revision,
        revision.number,
        revision.marks,
        {names.ANNOTATION_HUNG: str(Replacement(now, pod.uid))},
    )
    return (Apply(manifest, f"Noting that hung pod {pod.name} is deleted.", create=False),), gone


def replacement(revision: Revision) -> Replacement | None:
    """The latest deletion of a hung engine of a revision; None where there was none, or nothing can be read."""
    text = (revision.manifest["metadata"].get("annotations") or {}).get(names.ANNOTATION_HUNG, "")
    moment, _, uid = text.partition(" ")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return Replacement(at, uid) if at.tzinfo is not None else None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _sooner(first: float | None, second: float | None) -> float | None:
    return min((item for item in (first, second) if item is not None), default=None)
