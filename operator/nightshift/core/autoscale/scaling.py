"""Scaling in a plan: the number that was decided until now, the one that is decided now, and how both are kept.

The number stands on the ReplicaSets, as an annotation that is written with them: it costs no write of its own, a new
process finds it there, and it goes when the mode is Auto no more. Everything else in the plan knows spec.replicas only,
which is replaced by the number before planning begins.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import AwareDatetime, Field, ValidationError

from nightshift.api import names
from nightshift.api.base import StoredModel
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.rollout import Phase
from nightshift.api.scaling import DEFAULT_IDLE_SECONDS, DEFAULT_MIN_REPLICAS
from nightshift.core import hang
from nightshift.core.access import traffic_mode
from nightshift.core.autoscale.decide import Bounds, Decision, Fleet, decide
from nightshift.core.autoscale.demand import Demand, Load
from nightshift.core.autoscale.victims import given_up
from nightshift.core.cause import Cause
from nightshift.core.causes import revision_cause
from nightshift.core.observed import Observed
from nightshift.core.placing import frees, shortage
from nightshift.core.planning import EventNote, Plan, Scaling, WatchDemand, sooner
from nightshift.core.revisions import Revision, newest
from nightshift.core.times import moment

_UNSEEN = Demand(Load(0, None, "Requests: not read yet", "Gateway and engines were not asked yet."))


class Note(StoredModel):
    """What was decided, as it stands on ReplicaSets."""

    replicas: int = Field(ge=0, le=1000)
    at: AwareDatetime
    reason: str = Field(default="", max_length=512)

    def text(self) -> str:
        """As it is written."""
        return self.model_dump_json(by_alias=True)


@dataclass(frozen=True)
class Scaled:
    """A deployment with the number that was decided in the place of spec.replicas."""

    deployment: LLMDeployment
    view: Scaling | None = None
    """None where the number is not ours to decide."""


def bounds(deployment: LLMDeployment, config: OperatorConfig) -> Bounds | None:
    """What the spec says of scaling; None where spec.replicas decides."""
    scaling = deployment.spec.scaling
    if scaling.mode != "Auto" or scaling.max_replicas is None or scaling.target is None:
        return None
    least = DEFAULT_MIN_REPLICAS if scaling.min_replicas is None else scaling.min_replicas
    idle = DEFAULT_IDLE_SECONDS if scaling.idle_seconds is None else scaling.idle_seconds
    most = max(scaling.max_replicas, least)
    zero = traffic_mode(deployment, config) == "Gateway"
    return Bounds(least, most, scaling.target.concurrent_requests, idle, zero=zero)


def scale(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Scaled:
    """Decide on the number of replicas, where that is ours, and put it into a copy of the deployment."""
    limits = bounds(deployment, config)
    if limits is None:
        return Scaled(deployment)
    before = noted(observed)
    known = before or Note(replicas=_first(deployment, observed, limits), at=now, reason="Scaling begins here.")
    demand = observed.demand or _UNSEEN
    if deployment.spec.paused:
        decided = Decision(known.replicas, "spec.paused is true.")
    else:
        decided = decide(limits, demand, _fleet(deployment, known.replicas, observed), now)
    note = known
    if decided.replicas != known.replicas:
        note = Note(replicas=decided.replicas, at=now, reason=decided.reason[:512])
    view = Scaling(
        replicas=decided.replicas,
        before=known.replicas,
        reason=note.reason,
        needed=max(1, min(limits.minimum, decided.replicas)) if decided.replicas else 0,
        limited=decided.limited,
        start_failure=_start_failure(observed, decided),
        due=decided.due,
        demand=demand,
        watch=WatchDemand(limits, decided.replicas, limits.zero, hang.looks(observed)),
    )
    return Scaled(_with(deployment, decided.replicas, note.text()), view)


def as_decided(deployment: LLMDeployment, scaling: Scaling | None) -> LLMDeployment:
    """The deployment as the plan saw it, for whoever tells of it."""
    return deployment if scaling is None else _with(deployment, scaling.replicas, None)


def _with(deployment: LLMDeployment, replicas: int, note: str | None) -> LLMDeployment:
    spec = deployment.spec.model_copy(update={"replicas": replicas})
    return deployment.model_copy(update={"spec": spec, "scaling_note": note})


def _first(deployment: LLMDeployment, observed: Observed, limits: Bounds) -> int:
    """Where scaling begins: with what spec.replicas said until now, or what runs if that is more, within the bounds.

    More runs where the decision that stood on the ReplicaSets was lost: not knowing it takes no replica away.
    """
    running = sum(item.replicas for item in observed.replica_sets)
    return min(max(deployment.spec.replicas, running, limits.minimum, 1), limits.maximum)


def noted(observed: Observed) -> Note | None:
    """The latest decision that stands on a ReplicaSet; None where none does, or none can be read."""
    found = []
    for item in observed.replica_sets:
        annotations = observed.live[("ReplicaSet", item.name)]["metadata"].get("annotations") or {}
        try:
            found.append(Note.model_validate_json(annotations.get(names.ANNOTATION_SCALING, "")))
        except ValidationError:
            continue
    return max(found, key=lambda note: (note.at, note.replicas), default=None)


def _fleet(deployment: LLMDeployment, replicas: int, observed: Observed) -> Fleet:
    revision, pods = newest(observed.revisions), observed.engine_pods()
    created = [at for pod in pods if (at := moment(pod.created)) is not None]
    ready = [pod for pod in pods if pod.ready]
    cause = revision_cause(observed, revision.hash) if revision is not None else None
    return Fleet(
        replicas=replicas,
        proven=revision is not None and (revision.marks.verdict is not None or not _has_to_serve(revision)),
        ready=len(ready),
        created=max(created, default=None),
        first_ready=min((pod.advanced for pod in ready if pod.advanced is not None), default=None),
        short=short_of(revision, observed) if revision is not None else None,
        patience=float(deployment.spec.rollout.deadline_seconds) if cause is None else 0.0,
    )


def short_of(revision: Revision, observed: Observed) -> Cause | None:
    """What further replicas would lack too; None where nothing says that they would find no room.

    While a candidate is judged the stable revision is what grows: a candidate that waits for other accelerators, or for
    more at a time, says nothing of that.

    Args:
        revision: The newest.
        observed: What waits for room.
    """
    state = revision.marks.rollout
    judged = state is not None and state.phase not in (Phase.PROMOTING, Phase.PROMOTED)
    stable = [item for item in observed.revisions if judged and state is not None and item.hash == state.stable]
    waiting = [shortage(observed, item.hash) for item in stable]
    if all(frees(item, revision) for item in stable):
        waiting.append(shortage(observed, revision.hash))
    return next((found[0] for found in waiting if found is not None), None)


def _has_to_serve(revision: Revision) -> bool:
    """Whether a revision has yet to show that it serves in full; one that is judged shows it to golden questions."""
    state = revision.marks.rollout
    return revision.marks.under_way and (state is None or not state.stable)


def _start_failure(observed: Observed, decided: Decision) -> Cause | None:
    """Why those who wait for a replica wait in vain for now: none serves, and none that comes finds room."""
    limited = decided.limited
    if limited is None or limited.reason in ("MaxReplicas", "NoGateway", "DemandUnknown") or observed.ready():
        return None
    leaving = any(pod.terminating and pod.component == names.COMPONENT_ENGINE for pod in observed.pods)
    return None if leaving else limited


def with_scaling(plan: Plan, scaled: Scaled, observed: Observed) -> Plan:
    """The plan, and what scaling adds: which replicas go first; in mode Auto what is told, and when to look again."""
    view = scaled.view
    plan = replace(plan, apply=given_up(plan.apply, scaled.deployment, observed))
    if view is None:
        return plan
    changed = view.replicas != view.before and any(
        item.manifest["kind"] == "ReplicaSet" and not item.create for item in plan.apply
    )
    return replace(
        plan,
        scaling=view,
        requeue_after=sooner(plan.requeue_after, None if view.due is None else max(1.0, view.due)),
        announcements=(*plan.announcements, *([_event(view)] if changed else [])),
    )


def _event(view: Scaling) -> EventNote:
    reason = "ScaledUp" if view.replicas > view.before else "ScaledDown"
    if view.replicas == 0:
        reason = "ScaledToZero"
    elif view.before == 0:
        reason = "Woken"
    return EventNote("Normal", reason, f"{view.before} -> {view.replicas} replicas. {view.reason}")
