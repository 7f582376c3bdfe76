"""From what pods, Jobs and ReplicaSets report to one named reason and one sentence with the remedy."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from nightshift.api import names
from nightshift.api.fetch import Failed
from nightshift.core.observed import ContainerFacts, Observed, PodFacts


@dataclass(frozen=True)
class Cause:
    """Why something does not go on."""

    reason: str
    """CamelCase, used as the reason of conditions."""
    message: str
    definite: bool
    """True where waiting does not help and a person must change something."""


_PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_REJECTED = re.compile(r"error: (unrecognized arguments: .+|argument .+)|unrecognized arguments: .+")
_NO_ACCELERATOR = re.compile(r"Insufficient [a-z0-9.-]+/[a-z0-9._-]+", re.IGNORECASE)
"""Only extended resources, which is what accelerators are asked for by, have a domain before a slash."""

_CRASHES_UNTIL_STALLED = 3


def _excerpt(text: str, limit: int = 300) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:limit] if lines else ""


def _fetch_failed(pod: PodFacts) -> Cause | None:
    if not isinstance(pod.outcome, Failed):
        return None
    definite = pod.outcome.reason.value not in ("HubUnreachable", "ModelDownloadStalled")
    return Cause(pod.outcome.reason.value, pod.outcome.message, definite)


def _waiting(pod: PodFacts) -> Cause | None:
    for container in pod.containers:
        if container.waiting_reason in _PULL_REASONS:
            return Cause(
                "ImagePullFailed",
                f"The node cannot pull the image of container {container.name} of pod {pod.name}: "
                f"{container.waiting_message or container.waiting_reason}. Check engine.image and engine.version, "
                "that the registry is reachable from the node, and podTemplate.imagePullSecrets.",
                definite=False,
            )
        if container.waiting_reason in _CONFIG_REASONS:
            return Cause(
                "PodConfigInvalid",
                f"Container {container.name} of pod {pod.name} cannot be created: "
                f"{container.waiting_message or container.waiting_reason}. Create what is missing or correct "
                "model.tokenSecretRef, engine.env or podTemplate; Nightshift goes on by itself then.",
                definite=True,
            )
    return None


def _ended(container: ContainerFacts, pod: PodFacts) -> Cause | None:
    if container.exit_code in (None, 0) or (container.running_since and container.ready):
        return None
    rejected = _REJECTED.search(container.termination_message)
    if container.name == names.ENGINE_CONTAINER and rejected:
        return Cause(
            "EngineArgsRejected",
            f"vLLM refuses its arguments: {rejected.group(0)[:300]}. Correct engine.args for this engine.version.",
            definite=True,
        )
    if container.termination_reason == "OOMKilled":
        return Cause(
            "OutOfMemory",
            f"Container {container.name} of pod {pod.name} used more memory than its limit. "
            "Raise podTemplate.resources.limits.memory.",
            definite=container.restarts >= _CRASHES_UNTIL_STALLED,
        )
    reason = "EngineCrashed" if container.name == names.ENGINE_CONTAINER else "ContainerCrashed"
    said = _excerpt(container.termination_message)
    return Cause(
        reason,
        f"Container {container.name} of pod {pod.name} ended with code {container.exit_code} "
        f"({container.restarts} restarts){': ' + said if said else ''}. "
        f"See kubectl logs {pod.name} -c {container.name} --previous.",
        definite=container.restarts >= _CRASHES_UNTIL_STALLED,
    )


def _crashed(pod: PodFacts) -> Cause | None:
    return next((cause for item in pod.containers if (cause := _ended(item, pod)) is not None), None)


def _unschedulable(pod: PodFacts) -> Cause | None:
    if pod.unschedulable is None:
        return None
    if "persistentvolumeclaim" in pod.unschedulable and "not found" in pod.unschedulable:
        return Cause(
            "ModelClaimNotFound",
            f"Pod {pod.name} waits for a claim: {pod.unschedulable} Create it, or correct model.uri.",
            definite=True,
        )
    if _NO_ACCELERATOR.search(pod.unschedulable):
        return Cause(
            "NoGpuCapacity",
            f"No node has a free accelerator for pod {pod.name}: {pod.unschedulable} "
            "Add a node, free accelerators, or choose another hardware candidate.",
            definite=False,
        )
    return Cause(
        "Unschedulable",
        f"No node takes pod {pod.name}: {pod.unschedulable} "
        "Compare hardware, podTemplate.nodeSelector and tolerations with the nodes.",
        definite=False,
    )


CHECKS: tuple[Callable[[PodFacts], Cause | None], ...] = (_fetch_failed, _waiting, _crashed, _unschedulable)
"""In order of precedence: the first that finds something names the cause."""


def pod_cause(pod: PodFacts) -> Cause | None:
    """Why a pod does not become ready, or None while nothing speaks against it."""
    if pod.ready:
        return None
    return next((cause for check in CHECKS if (cause := check(pod)) is not None), None)


def revision_cause(observed: Observed, revision: str) -> Cause | None:
    """Why a revision does not get its replicas: its worst pod, or what refuses its pods."""
    pods = observed.engine_pods(revision)
    causes = [cause for pod in pods if (cause := pod_cause(pod)) is not None]
    if causes:
        return sorted(causes, key=lambda cause: not cause.definite)[0]
    owner = observed.replica_set(revision)
    if owner is None or owner.failure is None:
        return None
    quota = "exceeded quota" in owner.failure
    return Cause(
        "QuotaExceeded" if quota else "PodsRefused",
        f"The API server refuses the engine pods: {owner.failure}. "
        + ("Raise the quota or ask for less." if quota else "Correct podTemplate or the namespace's policies."),
        definite=not quota,
    )


def job_cause(observed: Observed, job: str) -> Cause | None:
    """Why a Job that fetches a model failed."""
    pods = sorted((pod for pod in observed.pods if pod.job == job), key=lambda pod: pod.created, reverse=True)
    causes = [cause for pod in pods if (cause := pod_cause(pod)) is not None]
    return causes[0] if causes else None


def name_taken(kind: str, name: str) -> Cause:
    """An object that Nightshift would make exists and belongs to someone else."""
    message = (
        f"{kind} {name} exists already and is not Nightshift's; it is left alone. "
        f"Delete or rename it, or give the LLMDeployment another name."
    )
    return Cause("NameTaken", message, definite=True)


def still_leaving(kind: str, name: str) -> Cause:
    """An object of an earlier LLMDeployment of the same name, which the garbage collector has yet to delete."""
    message = f"{kind} {name} of an earlier LLMDeployment of this name is still being deleted; Nightshift waits for it."
    return Cause("WaitingForDeletion", message, definite=False)


def refused_object(kind: str, name: str, message: str) -> Cause:
    """The API server refuses an object for good, as it says."""
    remedy = "Correct podTemplate, engine.env or the namespace's policies and quotas."
    return Cause("ObjectRefused", f"The API server refuses {kind} {name}: {message} {remedy}", definite=True)
