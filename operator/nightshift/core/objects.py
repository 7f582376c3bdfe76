"""Whole objects: which of them are to be written, and with which mark."""

from collections.abc import Iterable

from nightshift.api import names
from nightshift.core import children
from nightshift.core.additions import additions
from nightshift.core.canonical import difference, short_hash
from nightshift.core.cause import Cause
from nightshift.core.causes import refused_enlargement, refused_object, refused_route
from nightshift.core.observed import Observed
from nightshift.core.ownership import is_orphan
from nightshift.core.planning import Apply, Delete

_MADE_ONCE = frozenset({"Job", "PersistentVolumeClaim"})
"""Kinds whose spec cannot be changed: they are created when missing and left alone otherwise."""


def changes(manifests: Iterable[children.Manifest], observed: Observed) -> tuple[Apply, ...]:
    """Of whole objects, those that are missing or not as they should be."""
    found = []
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        live = observed.live.get((kind, name))
        marked = stamped(manifest)
        if live is None:
            found.append(Apply(marked, f"Creating {kind} {name}.", create=True))
        elif kind not in _MADE_ONCE or is_orphan(live):
            added = additions(manifest, live) if kind not in _MADE_ONCE else None
            where = difference(manifest, live) or difference(marked, live) or (added.fields[0] if added else None)
            if where:
                found.append(Apply(marked, f"Correcting {kind} {name} at {where}.", create=False, additions=added))
    return tuple(found)


def stamped(manifest: children.Manifest) -> children.Manifest:
    """The manifest with the hash of itself, by which a field that is no longer desired is noticed."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_APPLIED: short_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def deletion(observed: Observed, kind: str, name: str, api_version: str, reason: str) -> Delete:
    """The deletion of exactly the object that was observed."""
    metadata = observed.live[(kind, name)]["metadata"]
    return Delete(api_version, kind, name, metadata["uid"], metadata["resourceVersion"], reason)


def refused(item: Apply, message: str) -> Cause:
    """What the API server's refusal of a write means, as it says."""
    kind, name = item.manifest["kind"], item.manifest["metadata"]["name"]
    if kind == "PersistentVolumeClaim" and not item.create:
        return refused_enlargement(name, message)
    if kind == "ConfigMap":
        return refused_route(name, item.manifest["metadata"]["namespace"], message)
    return refused_object(kind, name, message)
