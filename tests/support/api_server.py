"""An API server in memory: what matters of the real one to code that applies, lists and watches.

Server-side apply with field ownership, defaults, resourceVersion, uid and generation, preconditions,
immutable fields, a status subresource, and watch events. Zero values that a real API server leaves out
(`tty: false`, `initialDelaySeconds: 0`) are left out here too.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nightshift.adapters.kube import KubeError, Object, Reference, reference
from nightshift.api import names
from nightshift.core.additions import merged

Watcher = Callable[[str, Object], None]
"""Told of ADDED, MODIFIED and DELETED with the object."""

_OMITTED_ZEROES = frozenset({"tty", "stdin", "readOnly", "initialDelaySeconds", "hostPort"})
_IMMUTABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "ControllerRevision": (("data",),),
    "ReplicaSet": (("spec", "selector"),),
    "Job": (("spec", "template"), ("spec", "completions")),
    "PersistentVolumeClaim": (("spec", "accessModes"), ("spec", "storageClassName")),
}


@dataclass(frozen=True)
class Write:
    """One write that was carried out."""

    verb: str
    kind: str
    name: str


class ApiServer:
    """Objects by reference, and who was told of their changes."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        """Of clients, in order; what stands in for controllers and kubelets is not in it."""
        self.clock: Callable[[], datetime] = lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        """Tests with a clock of their own replace it."""
        self._objects: dict[Reference, Object] = {}
        self._applied: dict[tuple[Reference, str], Object] = {}
        self._watchers: list[Watcher] = []
        self._counter = 0

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._counter

    def watch(self, watcher: Watcher) -> None:
        """Tell of every change from now on."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell no more."""
        self._watchers.remove(watcher)

    def get(self, where: Reference) -> Object | None:
        found = self._objects.get(where)
        result: Object | None = copied(found)
        return result

    def listed(self, api_version: str, kind: str, label: str = "") -> list[Object]:
        return [
            copied(raw)
            for where, raw in self._objects.items()
            if (where.api_version, where.kind) == (api_version, kind)
            and (not label or selected(label, raw["metadata"].get("labels") or {}))
        ]

    def of_kind(self, kind: str) -> list[Object]:
        """Objects of a kind, in order of their creation; to look at, not to change."""
        return [raw for where, raw in self._objects.items() if where.kind == kind]

    def everything(self) -> Iterator[Object]:
        """All objects; to look at, not to change."""
        yield from self._objects.values()

    def create(self, manifest: Object) -> Object:
        where = reference(manifest)
        if where in self._objects:
            raise KubeError(409, "AlreadyExists", f"{where.kind} {where.name} exists already")
        raw = _with_defaults(_compact(copied(manifest)))
        self._counter += 1
        raw["metadata"] |= {"uid": f"uid-{self._counter}", "generation": 1, "creationTimestamp": self.timestamp()}
        return self._store(where, raw, "ADDED")

    def apply(self, manifest: Object, manager: str, subresource: str = "") -> Object:
        where = reference(manifest)
        live = self._objects.get(where)
        wanted_uid = manifest["metadata"].get("uid")
        if live is not None and wanted_uid not in (None, live["metadata"]["uid"]):
            raise KubeError(409, "Conflict", f"the UID in the precondition is not that of {where.name}")
        if live is not None and manifest["metadata"].get("resourceVersion") is not None:
            raise KubeError(409, "Conflict", f"{where.kind} {where.name} has been modified")
        if live is None and (subresource or wanted_uid):
            raise KubeError(404, "NotFound", f"{where.kind} {where.name} not found")
        before = self._applied.get((where, manager), {})
        left = {key: item for key, item in manifest["metadata"].items() if key not in ("uid", "resourceVersion")}
        manifest = {**manifest, "metadata": left}
        self._applied[(where, manager)] = copied(manifest)
        if live is None:
            return self.create({key: value for key, value in manifest.items() if key != "status"})
        raw = copied(live)
        parts = ("status",) if subresource else tuple(key for key in manifest if key != "status")
        for part in parts:
            raw[part] = _merged(raw.get(part), before.get(part), manifest.get(part))
        if subresource:
            raw = {key: value for key, value in raw.items() if value is not None}
        raw = _with_defaults(_compact(raw))
        _check_immutable(where, live, raw)
        return self._update(where, live, _taken_over(live, raw))

    def replace(self, manifest: Object) -> Object:
        where = reference(manifest)
        live = self._objects.get(where)
        if live is None:
            raise KubeError(404, "NotFound", f"{where.kind} {where.name} not found")
        if manifest["metadata"].get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            raise KubeError(409, "Conflict", f"{where.kind} {where.name} has been modified")
        return self._update(where, live, copied(manifest))

    def merge(self, where: Reference, patch: Object) -> Object:
        """A JSON merge patch that names uid and resourceVersion as preconditions."""
        live = self._objects.get(where)
        if live is None:
            raise KubeError(404, "NotFound", f"{where.kind} {where.name} not found")
        for key in ("uid", "resourceVersion"):
            if live["metadata"][key] != patch["metadata"][key]:
                raise KubeError(409, "Conflict", f"{where.kind} {where.name} has been modified")
        raw = _with_defaults(_compact(merged(copied(live), copied(patch))))
        return self._update(where, live, _taken_over(live, raw))

    def evict(self, where: Reference, uid: str) -> None:
        """Delete a pod where the PodDisruptionBudgets allow it, which never hold one that is not ready."""
        live = self._objects.get(where)
        if live is None:
            raise KubeError(404, "NotFound", f"{where.kind} {where.name} not found")
        if live["metadata"]["uid"] != uid:
            raise KubeError(409, "Conflict", f"the preconditions do not hold for {where.kind} {where.name}")
        for budget in self.of_kind("PodDisruptionBudget"):
            wanted = budget["spec"]["selector"]["matchLabels"].items()
            pods = [pod for pod in self.of_kind("Pod") if wanted <= pod["metadata"].get("labels", {}).items()]
            if live in pods and _stays_ready(live) and not self._may_go(budget, pods):
                raise KubeError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's budget.")
        if "deletionTimestamp" not in live["metadata"]:
            self.delete(where, uid)

    def _may_go(self, budget: Object, pods: list[Object]) -> bool:
        owners = {owner["uid"] for pod in pods for owner in pod["metadata"].get("ownerReferences", ())}
        sets = [raw for raw in self.of_kind("ReplicaSet") if raw["metadata"]["uid"] in owners]
        expected = sum(int(raw["spec"]["replicas"]) for raw in sets)
        return sum(map(_stays_ready, pods)) > expected - int(budget["spec"]["maxUnavailable"])

    def delete(
        self, where: Reference, uid: str = "", resource_version: str = "", grace_seconds: int | None = None
    ) -> None:
        live = self._objects.get(where)
        if live is None:
            raise KubeError(404, "NotFound", f"{where.kind} {where.name} not found")
        metadata = live["metadata"]
        if uid not in ("", metadata["uid"]) or resource_version not in ("", metadata["resourceVersion"]):
            raise KubeError(409, "Conflict", f"the preconditions do not hold for {where.kind} {where.name}")
        if where.kind == "Pod" and "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = self.timestamp()
            own = live.get("spec", {}).get("terminationGracePeriodSeconds", 30)
            metadata["deletionGracePeriodSeconds"] = own if grace_seconds is None else grace_seconds
            self._store(where, live, "MODIFIED")
            return
        self.remove(where)

    def remove(self, where: Reference) -> None:
        """Take an object away at once, as a kubelet does when a pod has ended."""
        raw = self._objects.pop(where)
        for key in [key for key in self._applied if key[0] == where]:
            del self._applied[key]
        self._counter += 1
        self._tell("DELETED", {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self._counter)}})

    def change(self, where: Reference, change: Callable[[Object], None], manager: str = "") -> Object:
        """What a controller, a kubelet or a person changes; with a manager, it is written down who holds the fields."""
        live = self._objects[where]
        raw = copied(live)
        change(raw)
        if manager and (held := held_fields(live, raw)):
            entry = {"manager": manager, "operation": "Update", "fieldsV1": held}
            raw["metadata"]["managedFields"] = [*raw["metadata"].get("managedFields", ()), entry]
        return self._update(where, live, raw)

    def timestamp(self) -> str:
        """Of the moment."""
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _update(self, where: Reference, live: Object, raw: Object) -> Object:
        if raw == live:
            return raw
        if raw.get("spec") != live.get("spec"):
            raw["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        return self._store(where, raw, "MODIFIED")

    def _store(self, where: Reference, raw: Object, event: str) -> Object:
        self._counter += 1
        raw["metadata"]["resourceVersion"] = str(self._counter)
        self._objects[where] = raw
        self._tell(event, raw)
        result: Object = copied(raw)
        return result

    def _tell(self, event: str, raw: Object) -> None:
        for watcher in list(self._watchers):
            watcher(event, copied(raw))


SCALARS = frozenset({str, int, float, bool, type(None)})


def copied(value: Any) -> Any:
    """A copy of JSON data, to the bottom."""
    if value.__class__ in SCALARS:  # most values are, and simulations copy millions of them
        return value
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


_KEYS = ("name", "containerPort", "port", "mountPath")
"""By which items of lists are told apart, where they have them."""


def held_fields(before: Any, after: Any) -> Object:
    """What an update of an object makes its manager hold, in the words of managedFields."""
    found: Object = {}
    if before is None and isinstance(after, Mapping | list):
        before = type(after)()
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        pairs = {f"f:{key}": (before.get(key), value) for key, value in after.items()}
    elif isinstance(before, list) and isinstance(after, list) and all(map(_key, (*before, *after))):
        known = {_key(item): item for item in before}
        pairs = {f"k:{_key(item)}": (known.get(_key(item)), item) for item in after}
    else:
        return found
    for key, (old, new) in pairs.items():
        if old != new:
            found[key] = held_fields(old, new)
    return found


def _taken_over(before: Object, after: Object) -> Object:
    """An object after a client's write, whose fields nobody else holds any more."""
    entries = [
        {**entry, "fieldsV1": left}
        for entry in after["metadata"].get("managedFields", ())
        if (left := _still_held(entry["fieldsV1"], before, after))
    ]
    if "managedFields" in after["metadata"]:
        after["metadata"]["managedFields"] = entries
    return after


def _still_held(held: Object, before: Any, after: Any) -> Object:
    left: Object = {}
    for key, below in held.items():
        old, new = _under(key, before), _under(key, after)
        inner = _still_held(below, old, new) if below else {}
        if inner or (not below and old == new):
            left[key] = inner
    return left


def _under(key: str, value: Any) -> Any:
    sort, _, name = key.partition(":")
    if sort == "f":
        return value.get(name) if isinstance(value, Mapping) else None
    items = value if isinstance(value, list) else []
    return next((item for item in items if _key(item) == name), None)


def _key(item: Any) -> str:
    name = next((name for name in _KEYS if isinstance(item, Mapping) and name in item), "")
    return json.dumps({name: item[name]}) if name else ""


def _stays_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def selected(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of the forms `key`, `!key`, `key=value` and `key!=value` matches."""
    for part in selector.split(","):
        key, operator, value = part.partition("!=" if "!=" in part else "=")
        if not operator:
            matches = (key.lstrip("!") in labels) is not key.startswith("!")
        else:
            matches = (labels.get(key) == value) is (operator == "=")
        if not matches:
            return False
    return True


def _merged(live: Any, before: Any, desired: Any) -> Any:
    """Server-side apply of one value: what was applied before and no longer is goes away."""
    if not isinstance(desired, Mapping):
        return live if desired is None and before is None else copied(desired)
    result = dict(live) if isinstance(live, Mapping) else {}
    owned = before if isinstance(before, Mapping) else {}
    for key in owned:
        if key not in desired:
            result.pop(key, None)
    for key, value in desired.items():
        result[key] = _merged(result.get(key), owned.get(key), value)
    return result


def _compact(value: Any) -> Any:
    """Leave out what the API server leaves out, and write quantities as it does."""
    if isinstance(value, dict):
        kept = {key: _compact(item) for key, item in value.items()}
        return {
            key: _quantity(key, item)
            for key, item in kept.items()
            if item is not None and not (key in _OMITTED_ZEROES and not item)
        }
    return [_compact(item) for item in value] if isinstance(value, list | tuple) else value


def _quantity(key: str, item: Any) -> Any:
    whole = key == "cpu" and isinstance(item, str) and item.endswith("000m")
    return item.removesuffix("000m") if whole else item


def _with_defaults(raw: Object) -> Object:
    spec = raw.get("spec")
    if raw["kind"] in ("ReplicaSet", "Job") and spec:
        pod = spec["template"]["spec"]
        defaults = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        spec["template"]["spec"] = {**defaults, **pod}
        for container in (*pod.get("containers", ()), *pod.get("initContainers", ())):
            container.setdefault("imagePullPolicy", "IfNotPresent")
            container.setdefault("terminationMessagePath", "/dev/termination-log")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    container[probe].setdefault("successThreshold", 1)
    if raw["kind"] == "Service" and spec:
        raw["spec"] = {"clusterIP": "10.0.0.10", "sessionAffinity": "None", **spec}
        if spec.get("type") == "ExternalName":  # as dropTypeDependentFields of the real one takes it back
            del raw["spec"]["clusterIP"]
    if raw["kind"] == "PersistentVolumeClaim" and spec:
        raw["spec"] = {"volumeMode": "Filesystem", **spec}
    return raw


def _check_immutable(where: Reference, live: Object, raw: Object) -> None:
    for path in _IMMUTABLE.get(where.kind, ()):
        before: Any = live
        after: Any = raw
        for part in path:
            before, after = (before or {}).get(part), (after or {}).get(part)
        if before != after:
            field = ".".join(path)
            raise KubeError(422, "Invalid", f"{where.kind} {where.name} is invalid: {field}: field is immutable")


def deployment_reference(name: str = "bot", namespace: str = "ml") -> Reference:
    """Where an LLMDeployment lies."""
    return Reference(names.API_VERSION, names.KIND, namespace, name)
