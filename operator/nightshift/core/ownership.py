"""Whose an object is: this LLMDeployment's, nobody's any more, or somebody else's."""

from collections.abc import Mapping
from typing import Any

from nightshift.api import names
from nightshift.api.route import LABEL_ROUTE
from nightshift.core.pins import parse_pin
from nightshift.core.revisions import parse_revision


def is_owned(raw: Mapping[str, Any], uid: str) -> bool:
    """Whether the LLMDeployment with this uid controls the object."""
    owners = raw["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid and owner.get("controller") for owner in owners)


def is_route(raw: Mapping[str, Any]) -> bool:
    """Whether an object is a route of our making. It lies in the gateway's namespace, so it can have no owner."""
    labels = raw["metadata"].get("labels") or {}
    marks = {LABEL_ROUTE: "true", names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return raw.get("kind") == "ConfigMap" and marks.items() <= labels.items()


def route_key(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """Namespace and name of the deployment that a route object is of, by its labels."""
    labels = raw["metadata"].get("labels") or {}
    namespace, name = labels.get(names.LABEL_NAMESPACE), labels.get(names.LABEL_DEPLOYMENT)
    return (namespace, name) if namespace and name else None


_ADOPTABLE = frozenset(
    {
        "ControllerRevision",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "ReplicaSet",
        "Service",
        "ServiceAccount",
    }
)


def is_orphan(raw: Mapping[str, Any] | None) -> bool:
    """Whether an object is of our making and has no owner any more.

    Our marks are the label of what manages it and the hash of what was applied; a ControllerRevision, which has
    no such hash, is known by its data and by its name, which is made of the deployment's and its own hash.
    """
    if raw is None or raw.get("kind") not in _ADOPTABLE:
        return False
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    if metadata.get("ownerReferences") or "deletionTimestamp" in metadata:
        return False
    if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
        return False
    if raw["kind"] != "ControllerRevision":
        return names.ANNOTATION_APPLIED in (metadata.get("annotations") or {})
    deployment = labels.get(names.LABEL_DEPLOYMENT, "")
    pin = parse_pin(raw)
    if pin is not None:
        return bool(metadata["name"] == pin.name_for(deployment))
    own = names.revision_name(deployment, labels.get(names.LABEL_REVISION, ""))
    return bool(metadata["name"] == own and parse_revision(dict(raw)) is not None)


def is_left_over(raw: Mapping[str, Any], deployment: str) -> bool:
    """Whether an object that belongs to somebody else is on its way out.

    An LLMDeployment that is made anew under its old name meets the objects of the one before.
    """
    owners = raw["metadata"].get("ownerReferences") or ()
    namesake = any((owner.get("kind"), owner.get("name")) == (names.KIND, deployment) for owner in owners)
    return namesake or "deletionTimestamp" in raw["metadata"]
