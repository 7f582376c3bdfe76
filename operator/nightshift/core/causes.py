"""From what pods, Jobs and ReplicaSets report to one named reason and one sentence with the remedy."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from nightshift.api import names
from nightshift.api.fetch import Failed
from nightshift.core import placement
from nightshift.core.cause import Cause as Cause
from nightshift.core.engine_failures import failure_cause
from nightshift.core.engine_log import EngineFailure, FailureKind, engine_failure, redact
from nightshift.core.object_events import ObjectEvent, held_up, known_events, missing_pull_secrets, pod_refused
from nightshift.core.observed import ContainerFacts, Observed, PodFacts

_PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|name unknown|invalid reference|InvalidImageName", re.IGNORECASE
)
_NO_PERMISSION = re.compile(
    r"unauthorized|authentication required|access (?:to the resource is )?denied|forbidden|no basic auth", re.IGNORECASE
)
_MISSING = re.compile(r'(secret|configmap) "([^"]+)" not found|couldn\'t find key (\S+) in (Secret|ConfigMap) (\S+)')

_CREATING = frozenset({"ContainerCreating", "PodInitializing"})
_CRASHES_UNTIL_STALLED = 3
_STOPPED_FROM_OUTSIDE = frozenset({0, 137, 143})
"""Exit codes of an engine that was told to end, or killed."""


@dataclass(frozen=True)
class Said:
    """What is known of a pod besides its status."""

    failure: EngineFailure | None = None
    """What its engine's log told."""
    version: str | None = None
    """The vLLM version that it runs."""
    events: tuple[ObjectEvent, ...] = ()
    """What Events told of it."""


Check = Callable[[PodFacts, Said], Cause | None]


def _excerpt(text: str, limit: int = 300) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return redact(lines[-1])[:limit] if lines else ""


def _fetch_failed(pod: PodFacts, said: Said) -> Cause | None:
    if not isinstance(pod.outcome, Failed):
        return None
    definite = pod.outcome.reason.value not in ("HubUnreachable", "ModelDownloadStalled")
    return Cause(pod.outcome.reason.value, pod.outcome.message, definite)


def _waiting(pod: PodFacts, said: Said) -> Cause | None:
    for container in pod.containers:
        if container.waiting_reason in _PULL_REASONS:
            return _not_pulled(container, pod, said)
        if container.waiting_reason in _CONFIG_REASONS:
            return _not_created(container, pod, said)
    return None


def _not_pulled(container: ContainerFacts, pod: PodFacts, said: Said) -> Cause:
    """A definite answer of the registry waits for a person; the kubelet tries again all the same."""
    told = redact(container.waiting_message or container.waiting_reason or "").rstrip(".")
    what = f"The node cannot pull the image of container {container.name} of pod {pod.name}: {told}."
    denied = bool(_NO_PERMISSION.search(told)) and container.waiting_reason != "InvalidImageName"
    absent = bool(_NO_SUCH_IMAGE.search(f"{container.waiting_reason} {told}"))
    secrets = missing_pull_secrets(said.events) if denied or absent else ""
    if secrets:
        remedy = (
            f"podTemplate.imagePullSecrets names what is not in this namespace: {secrets}. Create that Secret (type "
            "kubernetes.io/dockerconfigjson), or correct the name; Nightshift goes on by itself then."
        )
    elif denied:
        remedy = (
            "The registry asks for a login: name a Secret of type kubernetes.io/dockerconfigjson of this namespace in "
            "podTemplate.imagePullSecrets, or correct the one that is named."
        )
    elif absent:
        remedy = "Check engine.image and engine.version, or the image of the sidecar: the registry has no such image."
    else:
        remedy = (
            "Check engine.image and engine.version, that the registry is reachable from the node, and "
            "podTemplate.imagePullSecrets."
        )
    return Cause("ImagePullFailed", f"{what} {remedy}", definite=denied or absent)


def _not_created(container: ContainerFacts, pod: PodFacts, said: Said) -> Cause:
    told = redact(container.waiting_message or container.waiting_reason or "")
    failure = engine_failure(told)
    if failure is not None and failure.kind in (FailureKind.DRIVER, FailureKind.IMAGE):
        cause = failure_cause(failure, said.version)
        if cause is not None:
            return cause
    what = f"Container {container.name} of pod {pod.name} cannot be created: {told.rstrip('.')}."
    missing = _MISSING.search(told)
    if missing is None:
        remedy = "Correct model.tokenSecretRef, engine.env or podTemplate; Nightshift goes on by itself then."
    elif missing[2]:
        remedy = f"Create the {missing[1]} {missing[2]} in this namespace, or correct who names it"
    else:
        remedy = f"Add the key {missing[3]} to the {missing[4]} {missing[5]}, or correct who names it"
    if missing is not None:
        remedy += " (model.tokenSecretRef, engine.env, podTemplate); Nightshift goes on by itself then."
    return Cause("PodConfigInvalid", f"{what} {remedy}", definite=True)


def told_by_status(container: ContainerFacts) -> EngineFailure | None:
    """What stopped an engine, where its termination message alone tells."""
    failure = engine_failure(container.termination_message)
    return None if failure is None or failure.kind is FailureKind.OTHER else failure


def has_crashed(container: ContainerFacts) -> bool:
    """Whether a container ended badly and has not recovered since.

    An end with code 0 counts where the kubelet waits before it starts the container again: an engine never ends
    by itself.
    """
    if container.running_since is not None and container.ready:
        return False
    if container.exit_code == 0:
        return container.name == names.ENGINE_CONTAINER and container.waiting_reason == "CrashLoopBackOff"
    return container.exit_code is not None


def _again_and_again(container: ContainerFacts) -> bool:
    """Whether it is down now after several restarts: restarts over a pod's lifetime alone say nothing."""
    down = container.running_since is None and container.waiting_reason in (None, "CrashLoopBackOff")
    return down and container.restarts >= _CRASHES_UNTIL_STALLED


def _ended(container: ContainerFacts, pod: PodFacts, said: Said) -> Cause | None:
    if not has_crashed(container):
        return None
    definite = _again_and_again(container)
    if container.name == names.ENGINE_CONTAINER:
        failure = told_by_status(container) or said.failure
        named = failure_cause(failure, said.version) if failure is not None else None
        if named is not None:
            return named
    if container.termination_reason == "OOMKilled":
        return Cause(
            "OutOfMemory",
            f"Container {container.name} of pod {pod.name} used more memory than its limit and was killed. "
            "Raise podTemplate.resources.limits.memory, or the accelerator profile's.",
            definite,
        )
    if container.termination_reason in ("StartError", "ContainerCannotRun"):
        return Cause(
            "PodConfigInvalid",
            f"Container {container.name} of pod {pod.name} cannot be started: "
            f"{_excerpt(container.termination_message)}. Correct podTemplate or the image.",
            definite=True,
        )
    if _too_slow(container):
        return Cause(
            "EngineStartTooSlow",
            f"The engine of pod {pod.name} gave no healthy answer within engine.startDeadlineSeconds "
            f"({container.start_deadline_seconds:.0f} s) and was stopped ({container.restarts} restarts). Raise "
            f"engine.startDeadlineSeconds, or see where it stands: kubectl logs {pod.name} -c {container.name} "
            "--previous.",
            definite,
        )
    return _crash(container, pod, said, definite)


def _too_slow(container: ContainerFacts) -> bool:
    """Whether the kubelet stopped an engine because its startup probe failed until the deadline."""
    deadline, ran = container.start_deadline_seconds, container.ran_seconds
    if deadline is None or ran is None or container.exit_code not in _STOPPED_FROM_OUTSIDE:
        return False
    return container.waiting_reason is not None and deadline <= ran + 1


def _crash(container: ContainerFacts, pod: PodFacts, said: Said, definite: bool) -> Cause:
    is_engine = container.name == names.ENGINE_CONTAINER
    told = said.failure.excerpt if is_engine and said.failure else _excerpt(container.termination_message)
    again = " It was started again." if container.running_since is not None else ""
    if container.exit_code == 0 and is_engine:
        told = "an engine serves until it is told to stop; remove arguments such as --help or --version"
    where = f"kubectl logs {pod.name} -c {container.name} --previous"
    return Cause(
        "EngineCrashed" if is_engine else "ContainerCrashed",
        f"Container {container.name} of pod {pod.name} ended with code {container.exit_code} "
        f"({container.restarts} restarts){': ' + told.rstrip('.') if told else ''}.{again} See {where}.",
        definite,
    )


def _crashed(pod: PodFacts, said: Said) -> Cause | None:
    return next((cause for item in pod.containers if (cause := _ended(item, pod, said)) is not None), None)


def _unschedulable(pod: PodFacts, said: Said) -> Cause | None:
    return placement.unschedulable(pod.name, pod.unschedulable) if pod.unschedulable is not None else None


def _node_lost(pod: PodFacts, said: Said) -> Cause | None:
    return placement.node_lost(pod.name, pod.node) if pod.containers_ready else None


def _rejected(pod: PodFacts, said: Said) -> Cause | None:
    if pod.phase != "Failed" or pod.job is not None or not pod.failure_reason:
        return None
    return placement.rejected(pod.name, pod.failure_reason, pod.failure_message)


def is_unbegun(pod: PodFacts) -> bool:
    """Whether a pod has a node and no container yet, or none any more: its status does not say what it waits for."""
    if pod.node is None or pod.terminating or pod.phase != "Pending":
        return False
    return all(
        container.running_since is None and (container.waiting_reason in _CREATING or container.exit_code == 0)
        for container in pod.containers
    )


def pulls_in_vain(pod: PodFacts) -> bool:
    """Whether an image of a pod cannot be pulled."""
    return not pod.terminating and any(item.waiting_reason in _PULL_REASONS for item in pod.containers)


def _unbegun(pod: PodFacts, said: Said) -> Cause | None:
    return held_up(pod.name, said.events) if is_unbegun(pod) else None


CHECKS: tuple[Check, ...] = (_fetch_failed, _rejected, _node_lost, _waiting, _unbegun, _crashed, _unschedulable)
"""In order of precedence: the first that finds something names the cause."""


def pod_cause(pod: PodFacts, said: Said | None = None) -> Cause | None:
    """Why a pod does not become ready, or None while nothing speaks against it."""
    if pod.ready:
        return None
    return next((cause for check in CHECKS if (cause := check(pod, said or Said())) is not None), None)


def said_of(pod: PodFacts, observed: Observed) -> Said:
    """What was observed of a pod besides its status."""
    version = next((item.resolved.engine_version for item in observed.revisions if item.hash == pod.revision), None)
    log = observed.engine_logs.get(pod.name)
    return Said(log.failure if log else None, version, known_events(observed.events.get(pod.uid)))


def revision_cause(observed: Observed, revision: str) -> Cause | None:
    """Why a revision does not get its replicas: its worst pod, or what refuses its pods."""
    refused = [pod for pod in observed.pods if pod.revision == revision and pod.phase == "Failed"]
    pods = observed.engine_pods(revision) or (() if observed.ready(revision) else refused[-1:])
    causes = [cause for pod in pods if (cause := pod_cause(pod, said_of(pod, observed))) is not None]
    if causes:
        return sorted(causes, key=lambda cause: not cause.definite)[0]
    owner = observed.replica_set(revision)
    return placement.pods_refused(owner.failure) if owner is not None and owner.failure is not None else None


def job_cause(observed: Observed, job: str) -> Cause | None:
    """Why a Job that fetches a model failed, or has no pod."""
    pods = sorted((pod for pod in observed.pods if pod.job == job), key=lambda pod: pod.created, reverse=True)
    if not pods:
        metadata = observed.live.get(("Job", job), {}).get("metadata", {})
        return pod_refused(job, known_events(observed.events.get(str(metadata.get("uid")))))
    causes = [cause for pod in pods if (cause := pod_cause(pod, said_of(pod, observed))) is not None]
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
    said = message.rstrip(".")
    return Cause("ObjectRefused", f"The API server refuses {kind} {name}: {said}. {remedy}", definite=True)


def refused_route(name: str, namespace: str, message: str) -> Cause:
    """The API server does not let the gateway be told of a deployment, as it says."""
    return Cause(
        "RouteRefused",
        f"The gateway cannot be told of this deployment: the API server refuses route {name} in namespace {namespace}: "
        f"{message.rstrip('.')}. What the gateway knows already goes on. An administrator has to see that the "
        "namespace exists and that the operator may write ConfigMaps there, as the chart sets it up.",
        definite=True,
    )


def refused_enlargement(name: str, message: str) -> Cause:
    """The API server refuses to change a cache claim that exists, as it says."""
    return Cause(
        "ModelCacheNotEnlarged",
        f"The API server refuses to change claim {name}: {message.rstrip('.')}. It can be enlarged where its storage "
        "class allows volume expansion and the quota has room. For a larger one of another class set model.cache.type "
        "to Pod, delete the claim once no pod of it is left, and ask for the new one.",
        definite=True,
    )
