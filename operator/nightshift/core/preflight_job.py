"""What a new revision's own image says of it, before it replaces what serves: the Job that asks, and its answer.

The Job runs in the candidate's image on a node of its pool, without an accelerator, so the image lies there when the
engine comes. Where nothing serves that could be lost, the engine itself is the quickest answer, and nobody asks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, TypeAlias

from nightshift.api import names
from nightshift.api.preflight import StoredPreflight
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.canonical import short_hash
from nightshift.core.cause import Cause
from nightshift.core.causes import job_cause
from nightshift.core.engine import CACHE_DIRECTORY
from nightshift.core.fetch_jobs import retry_job
from nightshift.core.model_uri import ClaimModel, parse_model_uri
from nightshift.core.observed import JobFacts, Observed, PodFacts
from nightshift.core.planning import Apply, Delete
from nightshift.core.pod import RESTRICTED_CONTAINER, image_reference, model_path
from nightshift.core.preflight_verdict import redacted, refusal
from nightshift.core.revisions import Revision
from nightshift.core.times import moment
from nightshift.core.verdict import last_good

PROGRAM = (files("nightshift.probe") / "program.py").read_text(encoding="utf-8")
"""A constant in a file of its own, so that it is checked, typed and tested as the program that it is."""

RUN_SECONDS = 300
"""The program gives vLLM so long: its imports take up to a minute where files are read for the first time."""

GIVEN_UP_SECONDS = RUN_SECONDS + 120.0
"""After so long a container that runs is waited for no more, such as one whose node is lost."""

PULL_SECONDS = 3600.0
"""A pod that has a node and says nothing is waited for so long: images of 10 GB and more are pulled."""

SCHEDULING_SECONDS = 30.0
"""The least time for a pod to be made and placed, where nothing speaks against it."""

RETRIES = 1

_CARRIED = ("configMap", "persistentVolumeClaim")
"""Volumes of podTemplate that arguments may name files of, and that hold no secrets."""

_AS_IN_THE_ENGINE = frozenset({"cache", "shm", "tmp"})
"""Volumes of the engine that are empty when it starts."""

_NO_DEVICE = (
    {"name": "CUDA_VISIBLE_DEVICES", "value": ""},
    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
)
"""Images of CUDA ask for all devices of the node, which the runtime would hand to a pod that requests none."""


@dataclass(frozen=True)
class Judged:
    """Nothing that is sure speaks against the revision."""

    stored: StoredPreflight | None
    """What its image said; None where it was not asked, or did not answer."""


@dataclass(frozen=True)
class Refused:
    """The image itself says that the revision would not serve."""

    cause: Cause
    job: str


@dataclass(frozen=True)
class Pending:
    """The image is being asked."""

    job: str
    note: str
    requeue_after: float | None
    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    blocker: Cause | None = None


Asked: TypeAlias = Judged | Refused | Pending

NOT_ASKED = Judged(None)


def ask(deployment: LLMDeployment, revision: Revision, observed: Observed, now: datetime) -> Asked:
    """Ask a revision's image about it, where another revision serves that it is to replace.

    While the deployment is paused nothing is made, and nobody is asked.

    Args:
        deployment: The deployment.
        revision: That is to be made; it is not stored yet.
        observed: Jobs, their pods, and the revisions that there are.
        now: The present moment.
    """
    if not deployment.preflight or deployment.spec.paused:
        return NOT_ASKED
    if last_good(observed.revisions, revision, observed) is None:
        return NOT_ASKED
    manifest = preflight_job(deployment, revision)
    request, name = request_of(manifest), manifest["metadata"]["name"]
    if (known := _known(revision, request, observed)) is not None:
        return Judged(known)
    job = next((item for item in observed.jobs if item.name == name), None)
    version = revision.resolved.engine_version
    note = f"Asking the image of vLLM {version} what it says of the arguments and the model, before anything changes."
    if job is None:
        return Pending(name, note, SCHEDULING_SECONDS, (Apply(manifest, note, create=True),))
    pods = tuple(pod for pod in observed.pods if pod.job == name)
    told = next((pod.preflight for pod in pods if pod.preflight is not None), None)
    if told is not None:
        cause = refusal(told, revision.resolved)
        stored = StoredPreflight(request=request, outcome=redacted(told))
        return Refused(cause, name) if cause is not None else Judged(stored)
    if job.failed or (job.succeeded and any(pod.phase in ("Succeeded", "Failed") for pod in pods)):
        return NOT_ASKED
    if job.succeeded and not pods:
        again = retry_job(observed, name, job.finished_at, now)
        return Pending(name, f"{note} Its answer is lost; it is asked again.", SCHEDULING_SECONDS, delete=again)
    return _awaited(deployment, job, pods, observed, note, now)


def _known(revision: Revision, request: str, observed: Observed) -> StoredPreflight | None:
    """What the image said when another revision asked the same; a tag or a claim may hold something else by now."""
    if revision.resolved.image_digest is None or _on_claim(revision):
        return None
    stored = (item.record.preflight for item in observed.revisions)
    return next((item for item in stored if item is not None and item.request == request), None)


def _on_claim(revision: Revision) -> bool:
    return isinstance(parse_model_uri(revision.spec.model.uri), ClaimModel)


def _awaited(
    deployment: LLMDeployment, job: JobFacts, pods: tuple[PodFacts, ...], observed: Observed, note: str, now: datetime
) -> Asked:
    """Whether an answer is still waited for.

    A pod that finds no place, or is kept from starting, is waited for as long as a replica would be
    (rollout.placementTimeoutSeconds); the engine tries then. An image that cannot be pulled would fail there as well.
    """
    running = [since for pod in pods for item in pod.containers if (since := moment(item.running_since)) is not None]
    if running:
        left = GIVEN_UP_SECONDS - (now - max(running)).total_seconds()
        return Pending(job.name, note, max(1.0, left)) if left > 0 else NOT_ASKED
    waiting = tuple(pod for pod in pods if pod.phase == "Pending")
    ended = bool(pods) and not waiting
    cause = job_cause(replace(observed, pods=waiting), job.name) if not ended else None
    if cause is not None and cause.reason == "ImagePullFailed":
        return Pending(job.name, note, None, blocker=cause)
    placed = any(pod.node is not None for pod in waiting)
    timeout = float(deployment.spec.rollout.placement_timeout_seconds)
    if cause is None:
        timeout = PULL_SECONDS if placed else max(timeout, SCHEDULING_SECONDS)
    metadata = observed.live.get(("Job", job.name), {}).get("metadata", {})
    until = (moment(metadata.get("creationTimestamp")) or now) + timedelta(seconds=timeout)
    left = (until - now).total_seconds()
    if left <= 0:
        return NOT_ASKED
    return Pending(job.name, note, max(1.0, left), blocker=_patient(cause, until) if cause is not None else None)


def _patient(cause: Cause, until: datetime) -> Cause:
    """Nobody is called for what passes by itself."""
    follows = (
        f"The pod only looks at a new revision beforehand, and what serves goes on serving. From {until:%H:%M:%S} UTC "
        "on (rollout.placementTimeoutSeconds) the engine is started without it."
    )
    return Cause(cause.reason, f"{cause.message} {follows}", definite=False)


def request_of(manifest: Mapping[str, Any]) -> str:
    """A hash of what is asked, wherever it is asked: image, arguments, variables, and what is known of the model."""
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return short_hash([container["image"], container["args"], container["env"]], 16)


def preflight_job(owner: LLMDeployment, revision: Revision) -> children.Manifest:
    """The Job that asks: the engine's image, arguments and plain variables, where its nodes are, and no accelerator.

    It is named by all that its pod is, so that a corrected one does not wait behind one that waits for ever. What it
    found stays for as long as it counts: nothing deletes it but the plan.
    """
    pod = revision.record.pod_template["spec"]
    engine = next(item for item in pod["containers"] if item["name"] == names.ENGINE_CONTAINER)
    carried = _carried_volumes(revision, pod)
    kept = {volume["name"] for volume in carried}
    mounts = [{**item, "readOnly": True} for item in engine["volumeMounts"] if item["name"] in kept]
    hidden = [item["mountPath"] for item in engine["volumeMounts"] if item["name"] not in kept | _AS_IN_THE_ENGINE]
    plain = {item["name"]: item for item in engine["env"] if "valueFrom" not in item}
    plain |= {item["name"]: item for item in _NO_DEVICE}
    container = {
        "name": names.PREFLIGHT_CONTAINER,
        "image": image_reference(revision.resolved),
        "command": ["python3", "-c", PROGRAM],
        "args": [json.dumps(_about(revision, hidden), sort_keys=True).replace("$(", "$$("), *engine["args"]],
        "env": list(plain.values()),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *mounts,
        ],
    }
    affinity = (pod.get("affinity") or {}).get("nodeAffinity")
    placement = {key: pod[key] for key in ("nodeSelector", "tolerations", "imagePullSecrets") if key in pod}
    placement |= {"affinity": {"nodeAffinity": affinity}} if affinity else {}
    volumes = [{"name": "cache", "emptyDir": {}}, *carried]
    job = children.plain_job(owner, names.COMPONENT_PREFLIGHT, container, volumes, {}, placement)
    del job["spec"]["ttlSecondsAfterFinished"]
    job["spec"]["backoffLimit"] = RETRIES
    job["metadata"]["name"] = names.preflight_job_name(owner.name, short_hash(job["spec"]["template"]["spec"], 8))
    return job


def _carried_volumes(revision: Revision, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The user's claims and ConfigMaps: the model, where it lies on a claim of theirs, and what they mount besides."""
    overlay = revision.spec.pod_template
    theirs = {volume["name"] for volume in overlay.volumes} if overlay is not None else set()
    theirs |= {"models"} if _on_claim(revision) else set()
    return [item for item in pod["volumes"] if item["name"] in theirs and any(kind in item for kind in _CARRIED)]


def _about(revision: Revision, hidden: list[str]) -> dict[str, Any]:
    """What the program is told besides the arguments."""
    facts, model = revision.record.facts, revision.spec.model
    return {
        "report": "/dev/termination-log",
        "seconds": RUN_SECONDS,
        "hidden": hidden,
        "model": model_path(revision.spec, revision.resolved) if _on_claim(revision) else None,
        "architecture": facts.architecture if facts is not None else None,
        "quantization": facts.quantization.method if facts is not None and facts.quantization is not None else None,
        "chat": model.task in (None, "Chat"),
    }
