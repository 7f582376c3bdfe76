"""Objects as the cache keeps them: without what no decision reads, and with every key held once.

With a thousand deployments the cache holds eight thousand objects. As they are parsed, each has its own copy of every
key, and half of it are lists of who manages which field.
"""

from collections.abc import Mapping
from sys import intern
from typing import Any

from nightshift.api import names

_INTERNED_LENGTH = 64


def kept(kind: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is remembered of an object: all but the entries of managers that `core.contest` passes over."""
    found = {key: value for key, value in raw.items() if key != "metadata"}
    metadata = dict(raw["metadata"])
    entries = metadata.pop("managedFields", None) or ()
    rivals = [entry for entry in entries if _counts(kind, entry)]
    if rivals:
        metadata["managedFields"] = rivals
    small: dict[str, Any] = _small({**found, "metadata": metadata})
    return small


def is_rival(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of managedFields is of somebody else, and not about the status, which is others' to write."""
    return entry.get("manager") != names.FIELD_MANAGER and entry.get("subresource") != "status"


def is_edit(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a pod's managedFields tells of an edit of its spec after it was made.

    Whoever made the pod, and what admission changed then, holds its owner references too. Which name that manager
    has differs from distribution to distribution.
    """
    fields = entry.get("fieldsV1") or {}
    made = "f:ownerReferences" in (fields.get("f:metadata") or {})
    return "f:spec" in fields and not entry.get("subresource") and not made


def _counts(kind: str, entry: Mapping[str, Any]) -> bool:
    """Whether a decision may read an entry: nobody asks who manages the fields of an LLMDeployment."""
    if kind == names.KIND:
        return False
    return is_edit(entry) if kind == "Pod" else is_rival(entry)


def _small(value: Any) -> Any:
    """The same value, its keys and short strings shared with those of all others."""
    if value.__class__ is str:
        return intern(value) if len(value) <= _INTERNED_LENGTH else value
    if isinstance(value, dict):
        return {intern(key): _small(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_small(item) for item in value]
    return value
