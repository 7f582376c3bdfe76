"""Pods that bear our labels and are nobody's replicas.

Whoever takes a pod out of its ReplicaSet by changing a label, to look at it in quiet, leaves the labels by which the
Service finds it. It is left alone: somebody may be looking at it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nightshift.api import names

Raw = Mapping[str, Any]


def strays(pods: Sequence[Raw], replica_sets: Sequence[Raw], newest: str | None) -> frozenset[str]:
    """Names of engine pods that no ReplicaSet of ours has or would take.

    A pod without owner that a ReplicaSet selects is taken up by it, as after a restore. That of the newest revision
    may have yet to be made again.

    Args:
        pods: The pods with the deployment's label.
        replica_sets: Its ReplicaSets.
        newest: Hash of its newest revision, if there is one.
    """
    uids = {raw["metadata"].get("uid") for raw in replica_sets}
    revisions = {_labels(raw).get(names.LABEL_REVISION) for raw in replica_sets} | {newest}
    return frozenset(
        raw["metadata"]["name"]
        for raw in pods
        if _labels(raw).get(names.LABEL_COMPONENT) == names.COMPONENT_ENGINE and not _has_place(raw, uids, revisions)
    )


def _has_place(raw: Raw, uids: set[Any], revisions: set[str | None]) -> bool:
    labels = _labels(raw)
    deployment, revision = labels.get(names.LABEL_DEPLOYMENT, ""), labels.get(names.LABEL_REVISION)
    owner = next((item for item in raw["metadata"].get("ownerReferences") or () if item.get("controller")), None)
    if owner is None:
        return revision in revisions and names.engine_labels(deployment, revision or "").items() <= labels.items()
    # Of a ReplicaSet that was deleted: the garbage collector has yet to take it.
    leaving = owner.get("name") == names.revision_name(deployment, revision or "")
    return owner.get("uid") in uids or leaving


def _labels(raw: Raw) -> Mapping[str, str]:
    return raw["metadata"].get("labels") or {}


def stray_message(pods: Iterable[str]) -> str | None:
    """What is told of strays, by their names; None where there are none."""
    found = sorted(pods)
    if not found:
        return None
    if len(found) == 1:
        who, them = f"Pod {found[0]} bears the deployment's labels and belongs to no ReplicaSet of it, so it", "it"
    else:
        who = f"Pods {', '.join(found)} bear the deployment's labels and belong to no ReplicaSet of it, so each of them"
        them = "them"
    return f"{who} still gets requests: delete {them}, or remove label {names.LABEL_DEPLOYMENT} from {them}."
