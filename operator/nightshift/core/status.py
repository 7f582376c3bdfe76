"""From spec, observation and plan to the status: what people and tools such as Helm and Flux read."""

from datetime import datetime

from nightshift.api import names
from nightshift.api.conditions import Condition, Verdict, merge
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.status import EffectiveStatus, ImageStatus, ModelStatus, Status
from nightshift.core import access, adapter_views, children
from nightshift.core.adapters import takes_adapters
from nightshift.core.autoscale import telling
from nightshift.core.autoscale.scaling import as_decided
from nightshift.core.capacity import fit_status
from nightshift.core.causes import Cause, revision_cause
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.planning import Plan
from nightshift.core.pod import image_reference, image_tag
from nightshift.core.preflight_verdict import summary
from nightshift.core.progress import progress_sentence
from nightshift.core.revisions import Revision
from nightshift.core.stray import stray_message


def status(deployment: LLMDeployment, observed: Observed, plan: Plan, config: OperatorConfig, now: datetime) -> Status:
    """The status of a deployment after a plan was carried out."""
    previous, deployment = deployment.status, as_decided(deployment, plan.scaling)
    serving = _serving(observed, plan)
    verdicts = _verdicts(deployment, observed, plan, gateway=access.traffic_mode(deployment, config) == "Gateway")
    conditions = merge(previous.conditions, verdicts, deployment.generation, now)
    target = plan.target
    return Status(
        observed_generation=deployment.generation,
        conditions=conditions,
        replicas=len(observed.engine_pods()),
        ready_replicas=observed.ready(),
        selector=children.selector_text(deployment.name),
        url=access.url(deployment, config),
        version=serving.resolved.engine_version if serving else None,
        revision=serving.hash if serving else None,
        target_revision=target.hash if target else None,
        model=_model(target) if target else previous.model,
        image=_image(target) if target else previous.image,
        effective=_effective(target) if target else previous.effective,
        fit=fit_status(target, observed, previous) if target else previous.fit,
        adapters=adapter_views.status_of(plan.adapters),
    )


def refused_status(
    generation: int, previous: Status, observed: Observed, reason: str, message: str, now: datetime
) -> Status:
    """The status of a deployment whose spec cannot be followed: what serves goes on serving, and is counted."""
    old = {condition.type: condition for condition in previous.conditions}
    unserved = Verdict(type="Available", status="False", reason=reason, message=message)
    verdicts = [
        Verdict(type="Ready", status="False", reason=reason, message=message),
        _available(observed, Plan()) if "Available" in old or observed.ready() else unserved,
        Verdict(type="Progressing", status="False", reason=reason, message=message),
        Verdict(type="Reconciling", status="False", reason=reason, message="Waits for a correction."),
        Verdict(type="Stalled", status="True", reason=reason, message=message),
        Verdict(type="Paused", status="False", reason="NotPaused", message="Changes are carried out."),
    ]
    if (adapters := old.get(adapter_views.CONDITION)) is not None:
        kept = {"type": adapters.type, "status": adapters.status}
        verdicts.append(Verdict(**kept, reason=adapters.reason, message=adapters.message))
    conditions: tuple[Condition, ...] = merge(previous.conditions, verdicts, generation, now)
    counted = {"replicas": len(observed.engine_pods()), "ready_replicas": observed.ready()}
    return previous.model_copy(update={"observed_generation": generation, "conditions": conditions, **counted})


def _serving(observed: Observed, plan: Plan) -> Revision | None:
    """The revision with most ready replicas; the target where they are even."""
    ready = [revision for revision in observed.revisions if observed.ready(revision.hash) > 0]
    return max(
        ready,
        key=lambda item: (
            observed.ready(item.hash),
            plan.target is not None and item.hash == plan.target.hash,
        ),
        default=None,
    )


def _model(revision: Revision) -> ModelStatus:
    return ModelStatus(uri=revision.spec.model.uri, revision=revision.resolved.model_revision)


def _image(revision: Revision) -> ImageStatus:
    resolved = revision.resolved
    reference = f"{resolved.engine_image}:{image_tag(resolved.engine_version)}"
    told = revision.record.preflight
    preflight = summary(told.outcome) if told is not None else None
    return ImageStatus(reference=reference, digest=revision.digest, preflight=preflight)


def _effective(revision: Revision) -> EffectiveStatus:
    resolved = revision.resolved
    return EffectiveStatus(
        engine_version=resolved.engine_version,
        engine_image=resolved.engine_image,
        accelerator=resolved.accelerator,
        accelerator_count=resolved.accelerator_count,
    )


def _verdicts(deployment: LLMDeployment, observed: Observed, plan: Plan, *, gateway: bool) -> list[Verdict]:
    serving = _complete(deployment, observed, plan)
    wanting = adapter_views.outstanding(plan.adapters) if serving else None
    cause = _cause(observed, plan) or (wanting if wanting is not None and wanting.definite else None)
    complete = serving and wanting is None
    ready = _ready(deployment, observed, plan, cause, complete)
    stalled = not complete and cause is not None and cause.definite
    paused = deployment.spec.paused
    reconciling = not complete and not stalled and not paused
    adapters = adapter_views.condition(plan.adapters, takes_adapters=takes_adapters(observed), gateway=gateway)
    scaling = telling.condition(plan.scaling, deployment.status.conditions)
    return [
        ready,
        _available(observed, plan) if ready.reason != telling.IDLE else ready.model_copy(update={"type": "Available"}),
        _progressing(plan, ready, cause, observed, complete, paused),
        Verdict(
            type="Reconciling",
            status="True" if reconciling else "False",
            reason=ready.reason if reconciling else _at_rest(complete, paused, ready),
            message=ready.message if reconciling else "Nothing is being changed.",
        ),
        Verdict(
            type="Stalled",
            status="True" if stalled else "False",
            reason=cause.reason if stalled and cause else "NotStalled",
            message=cause.message if stalled and cause else "Nothing waits for a person.",
        ),
        Verdict(
            type="Paused",
            status="True" if paused else "False",
            reason="Paused" if paused else "NotPaused",
            message="spec.paused is true: nothing is changed; set it to false to go on."
            if paused
            else "Changes are carried out.",
        ),
        *(verdict for verdict in (adapters, scaling) if verdict is not None),
    ]


def _cause(observed: Observed, plan: Plan) -> Cause | None:
    """What people are told of first: what waits for them, then engines that hang, then what may pass by itself."""
    if plan.blocker is not None or plan.target is None:
        return plan.blocker or plan.hanging
    found = revision_cause(observed, plan.target.hash)
    return found if found is not None and found.definite else plan.hanging or found


def _at_rest(complete: bool, paused: bool, ready: Verdict) -> str:
    if complete:
        return "Complete"
    return "Paused" if paused else ready.reason


def _complete(deployment: LLMDeployment, observed: Observed, plan: Plan) -> bool:
    """Whether the model is served as the present spec says, with all replicas and nothing of other revisions.

    The autoscaler's own steps are no change of the spec: the fewest replicas are enough, while others start or go.
    """
    target, wanted, scaling = plan.target, deployment.spec.replicas, plan.scaling
    owner = observed.replica_set(target.hash) if target else None
    if target is None or owner is None:
        return False
    steps = scaling is not None and not target.marks.under_way
    enough = scaling.needed if scaling is not None and steps else wanted
    short = scaling.limited.reason if scaling is not None and scaling.limited is not None and steps else None
    if plan.blocker is not None and plan.blocker.reason != short:
        return False
    if plan.hanging is not None or plan.changed is not None or plan.rollout is not None:
        return False
    if ("Service", deployment.name) not in observed.live or plan.unrouted is not None:
        return False
    serving = observed.ready(target.hash) >= enough
    others = [pod for pod in observed.engine_pods() if pod.revision != target.hash]
    surplus = owner.replicas != wanted or len(observed.engine_pods(target.hash)) > wanted
    return serving and not others and (steps or not surplus)


def _ready(deployment: LLMDeployment, observed: Observed, plan: Plan, cause: Cause | None, complete: bool) -> Verdict:
    wanted = deployment.spec.replicas
    if complete and wanted == 0 and plan.scaling is not None and plan.target is not None:
        return Verdict(type="Ready", status="True", reason=telling.IDLE, message=telling.idle(plan.target))
    if complete and wanted == 0:
        return Verdict(
            type="Ready", status="True", reason="Off", message="spec.replicas is 0: nothing serves, as asked."
        )
    if complete and plan.target:
        version = plan.target.resolved.engine_version
        ready = min(wanted, observed.ready(plan.target.hash))
        message = f"{ready} of {wanted} replicas of revision {plan.target.hash} serve with vLLM {version}."
        return Verdict(type="Ready", status="True", reason="Serving", message=message)
    if cause is not None:
        return Verdict(type="Ready", status="False", reason=cause.reason, message=cause.message)
    reason, message = _under_way(deployment, observed, plan)
    return Verdict(type="Ready", status="False", reason=reason, message=message)


def _under_way(deployment: LLMDeployment, observed: Observed, plan: Plan) -> tuple[str, str]:
    """What the deployment waits for while nothing speaks against it."""
    target, wanted = plan.target, deployment.spec.replicas
    if plan.changed is not None:
        return "PodChanged", plan.changed
    if deployment.spec.paused:
        return "Paused", "spec.paused is true: nothing is changed; set it to false to go on."
    adapters = adapter_views.outstanding(plan.adapters)
    if adapters is not None and _complete(deployment, observed, plan):
        return adapters.reason, adapters.message
    if target is None or (observed.replica_set(target.hash) is None and plan.rollout is None):
        note = plan.notes[0] if plan.notes else "Preparing the revision."
        return plan.preparing, note
    if plan.rollout is not None:
        return plan.rollout
    count = f"{observed.ready(target.hash)} of {wanted} replicas of revision {target.hash} are ready"
    waiting = [pod for pod in observed.engine_pods(target.hash) if not pod.ready]
    if waiting:
        reason, doing = _starting(waiting[0], observed)
        return reason, f"{count}. {doing}"
    others = [pod for pod in observed.engine_pods() if pod.revision != target.hash]
    if others:
        return "ReplacingRevision", f"{count}; {len(others)} of other revisions are still there."
    if plan.unrouted is not None and observed.ready(target.hash) == wanted:
        return "Routing", f"{count}. {plan.unrouted}"
    return "Scaling", f"{count}."


def _starting(pod: PodFacts, observed: Observed) -> tuple[str, str]:
    download = pod.container(names.DOWNLOAD_CONTAINER)
    if download is not None and download.running_since is not None:
        return "DownloadingModel", progress_sentence(pod, observed)
    engine = pod.container(names.ENGINE_CONTAINER)
    if engine is not None and engine.running_since is not None:
        return "EngineStarting", f"The engine of pod {pod.name} is loading the model."
    return "PodStarting", f"Pod {pod.name} is being started (scheduling, pulling the image)."


def _available(observed: Observed, plan: Plan) -> Verdict:
    ready = observed.ready() - plan.hung
    if plan.hanging is not None and ready <= 0:
        cause = plan.hanging
        return Verdict(type="Available", status="False", reason=cause.reason, message=cause.message)
    if ready:
        plural = "replica serves" if ready == 1 else "replicas serve"
        return Verdict(type="Available", status="True", reason="Serving", message=f"{ready} {plural}.")
    return Verdict(type="Available", status="False", reason="NoReadyReplicas", message="No replica is ready to serve.")


def _progressing(
    plan: Plan, ready: Verdict, cause: Cause | None, observed: Observed, complete: bool, paused: bool
) -> Verdict:
    astray = stray_message(pod.name for pod in observed.pods if pod.stray and not pod.terminating)
    if complete and astray is not None:
        return Verdict(type="Progressing", status="False", reason="StrayPod", message=astray)
    if complete:
        message = "The present spec is what serves."
        return Verdict(type="Progressing", status="False", reason="Complete", message=message)
    if cause is not None:
        return Verdict(type="Progressing", status="False", reason=cause.reason, message=cause.message)
    moving = "; ".join(plan.notes) or ready.message
    status = "False" if paused else "True"
    return Verdict(type="Progressing", status=status, reason=ready.reason, message=moving)


def description(revision: Revision) -> str:
    """One line about a revision, for Events."""
    model, told = revision.resolved.model_revision, revision.record.preflight
    commit = f" at commit {model[:12]}" if model else ""
    preflight = f". {summary(told.outcome).rstrip('.')}" if told is not None else ""
    reference = image_reference(revision.resolved, revision.digest)
    return f"{reference} serving {revision.spec.model.uri}{commit}{preflight}"
