"""Replicas that are not as their revision stores them.

Somebody set another image on a pod, or edited the ReplicaSet's template, of which a pod was made before it was set
back. Admission changes pods too, in its own right: only what somebody is known to have edited counts, or else a
webhook would have pods replaced without end.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.additions import additions
from nightshift.core.canonical import difference
from nightshift.core.kept import is_edit
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.revisions import Revision
from nightshift.core.times import moment, written

Raw = Mapping[str, Any]

LAG_SECONDS = 30
"""A pod that was made so long after its template was set back may still be made of the edited one: clocks differ, and
the ReplicaSet controller is told of changes as others are."""

_POD_FIELDS = ("hostNetwork", "hostPID", "serviceAccountName")
_CONTAINER_FIELDS = ("command", "args")


def template_dated(manifest: dict[str, Any], revision: Revision, observed: Observed, now: datetime) -> dict[str, Any]:
    """The manifest of a ReplicaSet with the time at which its template was set back last, if it ever was.

    A new process finds there which pods may be made of an edited template. That the image is pinned to the digest
    that its first pod runs is no edit.
    """
    live = observed.live.get(("ReplicaSet", manifest["metadata"]["name"]))
    if live is None:
        return manifest
    before = (live["metadata"].get("annotations") or {}).get(names.ANNOTATION_CORRECTED)
    noted = written(now) if is_edited(manifest, revision, live) else before
    if noted is None:
        return manifest
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_CORRECTED: noted}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def is_edited(manifest: Raw, revision: Revision, live: Raw) -> bool:
    """Whether the template of a ReplicaSet is not the stored one, with its image pinned or not."""
    template = (live.get("spec") or {}).get("template")
    found = additions(manifest, live)
    if found is not None and any(path.startswith(".spec.template") for path in found.fields):
        return True
    return all(difference(item, template) for item in (manifest["spec"]["template"], revision.record.pod_template))


def changed_pods(deployment: LLMDeployment, revision: Revision, observed: Observed) -> tuple[tuple[PodFacts, str], ...]:
    """Replicas of a revision that somebody changed, with the first field that differs; those that serve come last."""
    name = names.revision_name(deployment.name, revision.hash)
    owner = observed.live.get(("ReplicaSet", name))
    if owner is None:
        return ()
    corrected = moment((owner["metadata"].get("annotations") or {}).get(names.ANNOTATION_CORRECTED))
    raws = [(pod, observed.live.get(("Pod", pod.name))) for pod in observed.engine_pods(revision.hash)]
    edited = [(pod, raw) for pod, raw in raws if raw is not None and _was_edited(raw, corrected)]
    if not edited:
        return ()
    wanted = children.replica_set(deployment, revision, 0)["spec"]["template"]["spec"]
    found = [(pod, where) for pod, raw in edited if (where := next(_differing(wanted, raw), None)) is not None]
    return tuple(sorted(found, key=lambda item: (item[0].ready, item[0].name)))


def _was_edited(raw: Raw, corrected: datetime | None) -> bool:
    """Whether somebody edited the pod, or the template before the pod was made or at that time."""
    if any(is_edit(entry) for entry in raw["metadata"].get("managedFields") or ()):
        return True
    made = moment(raw["metadata"].get("creationTimestamp"))
    return corrected is not None and made is not None and made <= corrected + timedelta(seconds=LAG_SECONDS)


def _differing(wanted: Raw, raw: Raw) -> Iterator[str]:
    """Fields of a pod that are not as stored: of our containers, and what decides whose network and account it has.

    Lists are not compared as wholes: admission adds sidecars, volumes, tolerations and environment.
    """
    spec, images = raw.get("spec") or {}, _running(raw)
    for field in _POD_FIELDS:
        if (wanted.get(field) or None) != (spec.get(field) or None):
            yield f".spec.{field}"
    for kind in ("containers", "initContainers"):
        there = {item["name"]: item for item in spec.get(kind) or ()}
        for container in wanted.get(kind) or ():
            name, live = container["name"], there.get(container["name"])
            where = f".spec.{kind}[name={name}]"
            if live is None:
                yield where
                continue
            if not same_image(container["image"], live.get("image") or "", images.get(name, "")):
                yield f"{where}.image"
            yield from (
                f"{where}.{field}" for field in _CONTAINER_FIELDS if _lines(container, field) != _lines(live, field)
            )
            yield from (f"{where}.env[name={entry}]" for entry in _other_environment(container, live))


def _lines(container: Raw, field: str) -> list[str]:
    return list(container.get(field) or ())


def _other_environment(container: Raw, live: Raw) -> Iterator[str]:
    there = {entry["name"]: entry for entry in live.get("env") or ()}
    for entry in container.get("env") or ():
        if difference(entry, there.get(entry["name"])) is not None:
            yield entry["name"]


def _running(raw: Raw) -> dict[str, str]:
    """Digests that containers run, as far as their kubelet says."""
    status = raw.get("status") or {}
    reported = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    found = {item.get("name", ""): str(item.get("imageID") or "").partition("@")[2] for item in reported}
    return {name: digest for name, digest in found.items() if digest}


def same_image(wanted: str, live: str, running: str) -> bool:
    """Whether two references mean one image.

    A digest decides, wherever it comes from: mirrors keep it. The first pod of a revision that no registry could
    name a digest for has none in its reference, and runs the one that was pinned.

    Worked example: ``a/vllm:v1@sha256:1f`` and ``mirror/a/vllm@sha256:1f`` are one image. ``a/vllm:v1`` is the same
    where it runs ``sha256:1f``, or where that is not told yet; ``a/vllm:v2`` is another.

    Args:
        wanted: As it is stored.
        live: As the pod has it.
        running: The digest that the container runs; empty where that is not known.
    """
    if wanted == live:
        return True
    (name, _, pinned), (other, _, digest) = wanted.partition("@"), live.partition("@")
    if pinned and digest:
        return pinned == digest
    return name == other and (not pinned or running in ("", pinned))
