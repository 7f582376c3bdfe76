"""Whether a new revision has failed, so that the last good one serves again."""

from datetime import datetime, timedelta

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import Phase
from nightshift.core.cause import Cause
from nightshift.core.causes import pod_cause, revision_cause, said_of
from nightshift.core.hang import hung
from nightshift.core.marks import Marks
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.placing import shortage
from nightshift.core.revisions import Revision
from nightshift.core.times import moment

_NO_VERDICT = frozenset(
    {
        "NoGpuCapacity",
        "Unschedulable",
        "QuotaExceeded",
        "NodeNotReady",
        "PodEvicted",
        "PodRejected",
        "ModelClaimNotFound",
    }
)
"""Of the cluster and not of the revision: another revision would fare no better, and waiting may help."""

_OF_THE_SPEC = frozenset(
    {
        "AcceleratorCountUnsuitable",
        "AcceleratorUnsuitable",
        "ContainerCrashed",
        "DoesNotFit",
        "EngineArgsRejected",
        "EngineCrashed",
        "EngineStartTooSlow",
        "ImageUnsuitable",
        "ModelNeedsRemoteCode",
        "ModelNotSupported",
        "OutOfGpuMemory",
        "OutOfMemory",
        "PortTaken",
        "QuantizationUnsupported",
    }
)
"""Definite causes that only another spec cures.

Others, such as a Secret that is missing, a gated model or a driver, are cured outside, and Nightshift promises to go on
by itself then: they have time until the deadline.
"""


def last_good(revisions: tuple[Revision, ...], target: Revision, observed: Observed) -> Revision | None:
    """The revision to return to: the latest that once served in full, or else the latest that serves now.

    A candidate that was given up while it was judged is none, though its replicas may still serve. One that was tried
    again, and given up before it served in full again, comes last: its number is new, and what serves is another.
    """
    others = [item for item in revisions if item.hash != target.hash and item.marks.verdict is None]
    good = [
        item
        for item in others
        if item.marks.proven is not None or (item.marks.rollout is None and observed.ready(item.hash))
    ]
    return max(good, key=lambda item: (_standing(item.marks), item.number), default=None)


def _standing(marks: Marks) -> int:
    """How much a revision is trusted: 2 if nothing came after it served in full, 1 if it serves, 0 if it did once."""
    if marks.proven is None:
        return 1
    tried = marks.rollout is not None and marks.rollout.phase is not Phase.PROMOTED
    return 0 if tried or marks.under_way else 2


def judge(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> FailedTry | None:
    """The verdict on the target revision; None while there is none.

    A revision that served in full since its rollout began is not judged any more, and none is without an earlier one
    to return to. A definite cause decides at once where only another spec cures it, or where replicas are missing
    because of the rollout; everything else has until the deadline.
    """
    good = last_good(observed.revisions, target, observed)
    if good is None or not target.marks.under_way or deployment.spec.replicas == 0:
        return None
    cause = revision_cause(observed, target.hash)
    if cause is not None and _at_once(cause, target):
        return _failed(deployment, good, cause, now)
    late = _late(deployment, target, observed, cause, now)
    return _failed(deployment, good, late, now) if late is not None else None


def failing(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> Cause | None:
    """Why a candidate has failed for certain, whatever a comparison says; None while nothing shows it.

    An engine that loads has engine.startDeadlineSeconds; everything before, such as an image that is pulled,
    rollout.deadlineSeconds; a download under way tells its own stalls. Where an engine of another revision hangs too,
    the cause is something that both share, such as a driver.
    """
    still = hung(observed)
    hanging = next((pod for pod in still if pod.revision == target.hash), None)
    if hanging is not None and all(pod.revision == target.hash for pod in still):
        message = f"The engine of pod {hanging.name} makes no step and leaves questions unanswered while it is healthy."
        return Cause("EngineHung", message, definite=True)
    cause = revision_cause(observed, target.hash)
    if cause is not None and _at_once(cause, target):
        return cause
    slow = _too_slow(target, observed, now)
    return slow or _late(deployment, target, observed, cause, now)


def held_up(deployment: LLMDeployment, target: Revision, observed: Observed, now: datetime) -> Cause | None:
    """Why the cluster cannot run a candidate, where it has not been able to for rollout.deadlineSeconds.

    A replica that the API server refuses, or that no node takes whatever is free, has rollout.placementTimeoutSeconds.
    What is short is decided in `core.placing`.
    """
    cause, due = revision_cause(observed, target.hash), deadline(deployment, target, observed)
    if cause is None:
        return None
    if due is not None and now >= due and cause.reason in _NO_VERDICT:
        return cause
    until = kept_out_until(deployment, target, observed)
    return cause if until is not None and now >= until else None


def kept_out_until(deployment: LLMDeployment, target: Revision, observed: Observed) -> datetime | None:
    """Until when it is waited for a candidate that comes to no node for another reason than want of room.

    None where nothing keeps it out.
    """
    pods, owner = observed.engine_pods(target.hash), observed.replica_set(target.hash)
    if shortage(observed, target.hash) is not None or any(pod.node is not None for pod in pods):
        return None
    since = [pod.unplaced_since for pod in pods if pod.unschedulable is not None]
    if not pods and owner is not None and owner.failure is not None:
        since = [owner.failing_since]
    first = min((time for time in since if time is not None), default=None)
    return first + timedelta(seconds=deployment.spec.rollout.placement_timeout_seconds) if first is not None else None


def fails(observed: Observed, revision: str) -> Cause | None:
    """Why replicas of a revision will not serve by waiting, whose fault it may be; None where they may.

    One that is only starting, or that the cluster has no place for, has not failed.
    """
    cause = revision_cause(observed, revision)
    return cause if cause is not None and cause.definite and cause.reason not in _NO_VERDICT else None


def _too_slow(target: Revision, observed: Observed, now: datetime) -> Cause | None:
    """An engine that has been loading for longer than it may; the kubelet starts it anew then, which helps nobody.

    One that has started before and is not ready now, as under load, loads no more.
    """
    limit = target.spec.engine.start_deadline_seconds
    for pod in observed.engine_pods(target.hash):
        engine = pod.container(names.ENGINE_CONTAINER)
        begun = moment(engine.running_since) if engine is not None and not pod.containers_ready else None
        if begun is None or engine is None or engine.ready or engine.started:
            continue
        if now > begun + timedelta(seconds=limit):
            message = (
                f"The engine of pod {pod.name} gave no healthy answer within engine.startDeadlineSeconds ({limit} s). "
                "Raise it if the model needs longer to load."
            )
            return Cause("EngineStartTooSlow", message, definite=True)
    return None


def _at_once(cause: Cause, target: Revision) -> bool:
    if not cause.definite or cause.reason in _NO_VERDICT:
        return False
    return cause.reason in _OF_THE_SPEC or target.marks.order is not None


def _late(
    deployment: LLMDeployment, target: Revision, observed: Observed, cause: Cause | None, now: datetime
) -> Cause | None:
    """Why a revision without progress has failed; None where the deadline has not passed or does not count."""
    due = deadline(deployment, target, observed)
    if due is None or now < due or (cause is not None and cause.reason in _NO_VERDICT):
        return None
    seconds = deployment.spec.rollout.deadline_seconds
    count = f"{observed.ready(target.hash)} of {deployment.spec.replicas} replicas of revision {target.hash} are ready"
    what = f"{count}, and there was no progress for rollout.deadlineSeconds ({seconds} s)."
    if cause is None:
        return Cause("RolloutDeadlineExceeded", f"{what} Raise it if the model needs longer to load.", definite=True)
    return Cause(cause.reason, f"{what} {cause.message}", definite=True)


def deadline(deployment: LLMDeployment, target: Revision, observed: Observed) -> datetime | None:
    """When a revision is judged unless it comes further; None while that cannot be said.

    It cannot without pods, nor while one downloads its model, whose own progress tells a stall. A replica that was
    ready and is no more has as long again from then on.

    Worked example: begun at 12:00, the last replica placed at 12:10 and initialized at 12:25, deadline 7200 s: 14:25.
    """
    pods = observed.engine_pods(target.hash)
    starting = [pod for pod in pods if not pod.ready]
    if not starting or not target.marks.under_way:
        return None
    if any(_downloads(pod, observed) for pod in starting):
        return None
    begun = target.marks.started or moment(target.manifest["metadata"].get("creationTimestamp"))
    times = [begun, *(pod.advanced for pod in pods), *(pod.lapsed for pod in pods)]
    latest = max((time for time in times if time is not None), default=None)
    return latest + timedelta(seconds=deployment.spec.rollout.deadline_seconds) if latest is not None else None


def _downloads(pod: PodFacts, observed: Observed) -> bool:
    return pod.node is not None and not pod.initialized and pod_cause(pod, said_of(pod, observed)) is None


def _failed(deployment: LLMDeployment, good: Revision, cause: Cause, now: datetime) -> FailedTry:
    return FailedTry(reason=cause.reason, message=cause.message, at=now, returned_to=good.hash, retry=deployment.retry)


def told(verdict: FailedTry) -> Cause:
    """What a verdict says for as long as it stands."""
    return Cause(
        verdict.reason,
        f"Rolled back to revision {verdict.returned_to}: {verdict.message} Change the spec, which is tried at once; or "
        "have the same spec tried again by another value of the annotation nightshift.dev/retry.",
        definite=True,
    )
