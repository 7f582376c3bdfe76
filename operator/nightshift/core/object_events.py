"""What Events tell of pods and Jobs whose own status is silent: volumes, sandboxes, pull secrets, pods never made.

Before a pod has a container its status says ContainerCreating and no more; why a volume is not mounted, or the sandbox
not made, stands in Events alone. Reasons and texts are those of Kubernetes 1.34 (pkg/kubelet/events/event.go,
pkg/kubelet/kubelet_pods.go, pkg/volume, pkg/controller/controller_utils.go) and of containerd's CRI server.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nightshift.core.cause import Cause
from nightshift.core.engine_log import redact
from nightshift.core.facts import Fact, Known
from nightshift.core.placement import job_refused
from nightshift.core.times import moment

_ATTACH = "FailedAttachVolume"
_VOLUME = frozenset({"FailedMount", "FailedMapVolume", _ATTACH})
_SANDBOX = frozenset({"FailedCreatePodSandBox", "NetworkNotReady"})
_ATTACHED = "SuccessfulAttachVolume"
_UNDER_WAY = frozenset({"Pulling", "Pulled", "Created", "Started"})
"""Of containers: the pod's volumes are mounted and its sandbox is made."""
_PULL_SECRET = "FailedToRetrieveImagePullSecret"  # noqa: S105 - a reason
_NOT_MADE, _MADE = "FailedCreate", "SuccessfulCreate"
_READ = _VOLUME | _SANDBOX | _UNDER_WAY | {_ATTACHED, _PULL_SECRET, _NOT_MADE, _MADE}

_COMBINED = "(combined from similar events): "
_GENERAL = "Unable to attach or mount volumes"
"""What the kubelet says of the whole pod after it said of the one volume what is wrong."""
_EXCERPT_LIMIT = 500
_PULL_SECONDS = 15
"""Between the look at the pull secrets and the pull: one step of the kubelet."""

_ID = re.compile(r"\b(?:[0-9a-f]{32,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
"""Sandboxes and network namespaces, which have another name at each try."""
_NOT_FOUND = re.compile(r'\b(secret|configmap)s? "([^"]+)" not found')
_NO_KEY = re.compile(r"references non-existent (?:config|secret) key: (\S+)")
_NO_RUNTIME = re.compile(r'no runtime for \\*"([^"\\]*)\\*" is configured')
_NETWORK = re.compile(r"network|\bcni\b|plugin type=", re.IGNORECASE)
_SECRETS_NAMED = re.compile(r"image pull secrets \(([^)]*)\)")


@dataclass(frozen=True)
class ObjectEvent:
    """One Event, or the last of a series of the same words."""

    reason: str
    message: str
    at: datetime


@dataclass(frozen=True)
class EventsAnswer:
    """What came of asking for the Events about one object."""

    asked: datetime
    events: Fact[tuple[ObjectEvent, ...]]


def object_events(items: Iterable[Mapping[str, Any]]) -> tuple[ObjectEvent, ...]:
    """Read Events as the API server lists them: those that mean something here, the oldest first."""
    found = []
    for raw in items:
        at = _last(raw)
        if raw.get("reason") in _READ and at is not None:
            message = str(raw.get("message") or "").removeprefix(_COMBINED)
            found.append(ObjectEvent(str(raw["reason"]), _ID.sub("…", redact(message))[:_EXCERPT_LIMIT], at))
    return tuple(sorted(found, key=lambda event: event.at))


def _last(raw: Mapping[str, Any]) -> datetime | None:
    """When it happened last: recorders of core/v1 and of events.k8s.io write it to different fields."""
    series, metadata = raw.get("series") or {}, raw.get("metadata") or {}
    for text in (series.get("lastObservedTime"), raw.get("lastTimestamp"), raw.get("eventTime")):
        if (found := moment(text)) is not None:
            return found
    return moment(metadata.get("creationTimestamp"))


def known_events(answer: EventsAnswer | None) -> tuple[ObjectEvent, ...]:
    """The Events of an answer; none where there is none: what is unknown means nothing."""
    return answer.events.value if answer is not None and isinstance(answer.events, Known) else ()


def held_up(pod: str, events: tuple[ObjectEvent, ...]) -> Cause | None:
    """What keeps a pod from having containers; None where nothing does, or did and was overcome.

    Worked example: FailedMount at 12:00:05 and Pulling at 12:00:09 give None; another FailedMount at 12:01:00 counts.

    Args:
        pod: Its name.
        events: About it, the oldest first.
    """
    failed = [
        event
        for event in events
        if event.reason in _VOLUME | _SANDBOX
        and not _overcome(event, events, _UNDER_WAY | ({_ATTACHED} if event.reason == _ATTACH else set()))
    ]
    if not failed:
        return None
    if failed[-1].reason in _SANDBOX:
        return _no_sandbox(pod, failed[-1].message.rstrip("."))
    volumes = [event for event in failed if event.reason in _VOLUME]
    exact = [event for event in volumes if not event.message.startswith(_GENERAL)]
    return _no_volume(pod, (exact or volumes)[-1].message.rstrip("."))


def _overcome(event: ObjectEvent, events: tuple[ObjectEvent, ...], by: frozenset[str] | set[str]) -> bool:
    """Times are whole seconds: within the same one the success counts, since a failure that lasts is told again."""
    return any(later.reason in by and later.at >= event.at for later in events)


def _no_volume(pod: str, told: str) -> Cause:
    what = f"A volume of pod {pod} cannot be mounted: {told}."
    missing, key = _NOT_FOUND.search(told), _NO_KEY.search(told)
    if missing is not None:
        remedy = f"Create the {missing[1]} {missing[2]} in this namespace, or correct podTemplate.volumes"
    elif key is not None:
        remedy = f"Add the key {key[1]} to what the volume is made from, or correct podTemplate.volumes"
    elif "Multi-Attach" in told:
        return Cause(
            "VolumeNotMounted",
            f"{what} Its claim can be used on one node at a time: wait until the other pod is gone, use a claim of "
            "access mode ReadWriteMany or ReadOnlyMany, or keep the pods on one node.",
            definite=False,
        )
    else:
        return Cause(
            "VolumeNotMounted",
            f"{what} Check podTemplate.volumes, the claim with its storage class, and the storage driver on the node: "
            f"kubectl describe pod {pod}.",
            definite=False,
        )
    return Cause("VolumeNotMounted", f"{what} {remedy}; Nightshift goes on by itself then.", definite=True)


def _no_sandbox(pod: str, told: str) -> Cause:
    what = f"The node cannot make the sandbox of pod {pod}: {told}."
    handler = _NO_RUNTIME.search(told)
    if handler is not None:
        return Cause(
            "PodSandboxFailed",
            f"{what} Its container runtime has no handler {handler[1]}, which podTemplate.runtimeClassName asks for: "
            "correct or remove that, choose nodes that have the handler by podTemplate.nodeSelector, or set it up on "
            "the node (nvidia comes with NVIDIA's container toolkit).",
            definite=True,
        )
    if _NETWORK.search(told):
        remedy = "Look after the network plugin (CNI) of the node: its pods and their logs."
    else:
        remedy = "See kubectl describe node and the log of the node's container runtime."
    return Cause("PodSandboxFailed", f"{what} {remedy}", definite=False)


def missing_pull_secrets(events: tuple[ObjectEvent, ...]) -> str:
    """Names of the pull secrets that the kubelet did not find, as it lists them; empty where it found them all.

    It looks for them right before each pull, so a pull that began well after is one with all of them.
    """
    told = [event for event in events if event.reason == _PULL_SECRET]
    if not told or _overcome_pull(told[-1], events):
        return ""
    named = _SECRETS_NAMED.search(told[-1].message)
    return named[1] if named is not None else ""


def _overcome_pull(event: ObjectEvent, events: tuple[ObjectEvent, ...]) -> bool:
    since = event.at + timedelta(seconds=_PULL_SECONDS)
    return any(later.reason == "Pulling" and later.at > since for later in events)


def pod_refused(job: str, events: tuple[ObjectEvent, ...]) -> Cause | None:
    """Why the API server refuses a Job its pod; None where it does not. A Job's status tells nothing of it."""
    failed = [event for event in events if event.reason == _NOT_MADE and not _overcome(event, events, {_MADE})]
    return job_refused(job, failed[-1].message.removeprefix("Error creating: ")) if failed else None
