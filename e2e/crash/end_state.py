"""What came of a story, without what differs from one telling to the next."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from e2e.support.client import Object
from nightshift.api import names

_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ASSIGNED = frozenset({"clusterIP", "clusterIPs", "volumeName", "nodeName", "healthCheckNodePort"})
"""Fields of a spec that the cluster chooses."""

_OF_OTHERS = re.compile(r"pv\.kubernetes\.io/|volume\.|kubectl\.|deployment\.kubernetes\.io/")
"""Annotations that the cluster writes."""

_STATUS = {
    "ReplicaSet": ("replicas", "readyReplicas"),
    "Job": ("succeeded",),
    "PersistentVolumeClaim": ("phase",),
    "Pod": ("phase",),
}
"""What counts of a status that is not ours. How often a Job failed counts clouds on the network, not writes."""


def end_state(objects: Iterable[Object], namespace: str) -> list[str]:
    """Every object of a deployment as text, in a fixed order: names, owners, specs, conditions; nothing by chance.

    Two tellings ended in the same when these lists are equal: an object too many makes them differ.

    Args:
        objects: LLMDeployments and everything made for them. Left out are pods of Jobs, as their Jobs tell, and
            finished Jobs that the cluster deletes by itself: a Job that nobody needs any more is deleted by the
            operator where it still runs, and left to the cluster where it just finished.
        namespace: Of the story; its name counts for nothing.
    """
    chosen = (raw for raw in objects if _counts(raw))
    return sorted(_plain(json.dumps(_essence(raw), indent=1, sort_keys=True), namespace) for raw in chosen)


def differences(expected: list[str], found: list[str]) -> list[str]:
    """Lines that only one of two end states has, as diff writes them, with some around them."""
    before, after = "\n".join(expected).splitlines(), "\n".join(found).splitlines()
    return list(difflib.unified_diff(before, after, "undisturbed", "with a crash", lineterm=""))


def _counts(raw: Object) -> bool:
    if raw["kind"] == "Pod":
        labels = raw["metadata"].get("labels") or {}
        return bool(labels.get(names.LABEL_COMPONENT) == names.COMPONENT_ENGINE)
    if raw["kind"] == "Job":
        ended = (raw.get("status") or {}).get("completionTime") is not None
        return not (ended and "ttlSecondsAfterFinished" in raw["spec"])
    return True


def _plain(text: str, namespace: str) -> str:
    return _TIME.sub("a time", _UID.sub("a uid", text)).replace(namespace, "the namespace")


def _essence(raw: Object) -> dict[str, Any]:
    metadata, kind = raw["metadata"], raw["kind"]
    notes = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != names.ANNOTATION_APPLIED and not _OF_OTHERS.match(key)
    }
    return {
        "kind": kind,
        "name": "any" if kind == "Pod" else metadata["name"],
        "labels": metadata.get("labels") or {},
        "annotations": notes,
        "owners": [(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or ()],
        "leaving": "deletionTimestamp" in metadata,
        "spec": _spec(raw),
        "data": raw.get("data"),
        "status": _status(kind, raw.get("status") or {}),
    }


def _spec(raw: Object) -> dict[str, Any]:
    return {key: value for key, value in (raw.get("spec") or {}).items() if key not in _ASSIGNED}


def _status(kind: str, status: Mapping[str, Any]) -> dict[str, Any]:
    if kind != names.KIND:
        return {key: status.get(key) for key in _STATUS.get(kind, ())}
    conditions = [(item["type"], item["status"], item["reason"]) for item in status.get("conditions") or ()]
    return {**status, "conditions": sorted(conditions)}
