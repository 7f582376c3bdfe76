"""What others added to objects of ours: server-side apply leaves alone what it does not set.

A field below spec that nobody of us set decides what later pods are, or who reaches them, as much as one that was
changed. So it is taken away, with the list that it stands in.
Format of managedFields: sigs.k8s.io/structured-merge-diff, fieldpath (``f:`` a field, ``k:`` an item by its keys).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.core.kept import is_rival

_ALLOCATED = frozenset({"clusterIP", "clusterIPs", "healthCheckNodePort", "ipFamilies", "ipFamilyPolicy", "nodePort"})
"""Fields that the API server fills as it finds fit, whoever sent them."""

_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "apiVersion": ("v1",),
    "defaultMode": (420,),
    "dnsPolicy": ("ClusterFirst",),
    "failureThreshold": (3,),
    "imagePullPolicy": ("Always", "IfNotPresent"),
    "internalTrafficPolicy": ("Cluster",),
    "periodSeconds": (10,),
    "procMount": ("Default",),
    "protocol": ("TCP",),
    "restartPolicy": ("Always",),
    "schedulerName": ("default-scheduler",),
    "scheme": ("HTTP",),
    "sessionAffinity": ("None",),
    "successThreshold": (1,),
    "terminationGracePeriodSeconds": (30,),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "timeoutSeconds": (1,),
}
"""What the API server sets where nothing is said: whoever applies an exported object holds it too. Taken away, it
would come back, and mean the same. Source: k8s.io/kubernetes, pkg/apis/core/v1/defaults.go, v1.34."""


@dataclass(frozen=True)
class Additions:
    """What others added to one object."""

    managers: tuple[str, ...]
    fields: tuple[str, ...]
    patch: dict[str, Any]
    """JSON merge patch that takes it away from exactly this version of the object.

    It brings our annotations in the same write: a process that ends after it has noted what it took away."""


def additions(desired: Mapping[str, Any], live: Mapping[str, Any]) -> Additions | None:
    """Fields below spec that others hold and that are not desired; None where there are none.

    What is desired otherwise is no addition: `core.contest` names it, and applying sets it back.
    """
    held: dict[str, Any] = {}
    managers = []
    for entry in live["metadata"].get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:spec")
        if not fields or not is_rival(entry):
            continue
        if _pruned(fields, desired.get("spec"), live.get("spec"), "")[0]:
            managers.append(str(entry.get("manager")))
            held = _united(held, fields)
    if not managers:
        return None
    paths, spec = _pruned(held, desired.get("spec"), live.get("spec"), ".spec")
    metadata: dict[str, Any] = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
    if noted := desired["metadata"].get("annotations"):
        metadata["annotations"] = dict(noted)
    return Additions(tuple(dict.fromkeys(managers)), tuple(paths), {"metadata": metadata, "spec": spec})


def _united(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _united(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}


def _pruned(held: Mapping[str, Any], desired: Any, live: Any, path: str) -> tuple[list[str], Any]:
    """Paths that are held and not desired, and the merge patch without them."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return _pruned_fields(held, desired, live, path)
    if isinstance(desired, list | tuple) and isinstance(live, list | tuple):
        return _pruned_items(held, desired, live, path)
    return [], None


def _pruned_fields(
    held: Mapping[str, Any], desired: Mapping[str, Any], live: Mapping[str, Any], path: str
) -> tuple[list[str], dict[str, Any]]:
    paths: list[str] = []
    patch: dict[str, Any] = {}
    for key, below in held.items():
        sort, _, name = key.partition(":")
        if sort != "f" or _says_nothing(name, live):
            continue
        if name in desired:
            found, inner = _pruned(below, desired[name], live[name], f"{path}.{name}")
        else:
            found, inner = [f"{path}.{name}"], None
        if found:
            paths += found
            patch[name] = inner
    return paths, patch


def _pruned_items(
    held: Mapping[str, Any], desired: list[Any] | tuple[Any, ...], live: list[Any] | tuple[Any, ...], path: str
) -> tuple[list[str], list[Any]]:
    paths: list[str] = []
    items = list(live)
    for key, below in held.items():
        sort, _, text = key.partition(":")
        keys = json.loads(text) if sort == "k" else {}
        there = next((item for item in items if keys and _has(item, keys)), None)
        if there is None:
            continue
        where = f"{path}[{','.join(f'{name}={value}' for name, value in keys.items())}]"
        wanted = next((item for item in desired if _has({**keys, **item}, keys)), None)
        found, inner = _pruned(below, wanted, there, where) if wanted is not None else ([where], None)
        if found:
            paths += found
            left = [merged(there, inner)] if wanted is not None else []
            index = items.index(there)
            items[index : index + 1] = left
    return paths, items


def _has(item: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and all(item.get(name) == value for name, value in keys.items())


def _says_nothing(name: str, live: Mapping[str, Any]) -> bool:
    """Whether a field means the same as if it were not there."""
    value = live.get(name)
    if not value or name in _ALLOCATED:
        return True
    alias = name == "serviceAccount" and value == live.get("serviceAccountName")
    return alias or value in _DEFAULTS.get(name, ())


def merged(value: Any, patch: Any) -> Any:
    """A value with a JSON merge patch carried out (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(value) if isinstance(value, Mapping) else {}
    for key, item in patch.items():
        if item is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), item)
    return found
