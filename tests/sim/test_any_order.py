"""Whatever happened before: the objects are those that the last spec alone would have made.

Specs, hand edits of children, deletions of children and of the resource, restarts of the operator and late watches, in
an order that hypothesis chooses and shrinks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightshift.adapters.kube import CHILD_KINDS, Object, reference
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.route import ROUTE_KEY
from tests.support.api_server import copied, deployment_reference
from tests.support.builders import HUB_MODEL, SHA, digest_known
from tests.support.mortal import Mortal

IMAGES = {**digest_known(), **digest_known("0.31.0")}
VOLATILE = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields")

# A field that is written with its default makes no new revision of what serves, though alone it would have made one of
# another name; so no default is written here.
specs = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            [
                {"uri": HUB_MODEL, "revision": SHA},
                {"uri": HUB_MODEL},
                {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "9Gi"}},
            ]
        ),
        "replicas": st.integers(0, 3),
    },
    optional={
        "engine": st.sampled_from(
            [
                {"args": ["--seed=1"]},
                {"args": ["--seed=2"]},
                {"version": "0.31.0"},
                {"version": "0.31.0", "args": ["--seed=1"]},
            ]
        ),
        "traffic": st.sampled_from([{"drainSeconds": 30}, {"drainSeconds": 60}]),
        "revisionHistoryLimit": st.integers(0, 3),
        "paused": st.booleans(),
    },
)


def containers(raw: Object) -> list[Object]:
    found: list[Object] = raw["spec"]["template"]["spec"]["containers"]
    return found


def debugged() -> Mapping[str, str]:
    return {names.LABEL_REVISION: "debug"}


@dataclass(frozen=True)
class Edit:
    """Somebody changes what we had set in a child."""

    kind: str
    how: str
    change: Callable[[Object], Any]


EDITS = (
    Edit("Service", "of another type", lambda raw: raw["spec"].update(type="NodePort")),
    Edit("Service", "without ports", lambda raw: raw["spec"].pop("ports", None)),
    Edit("Service", "without our labels", lambda raw: raw["metadata"].update(labels={})),
    Edit("Service", "without an owner", lambda raw: raw["metadata"].pop("ownerReferences", None)),
    Edit("ReplicaSet", "with more replicas", lambda raw: raw["spec"].update(replicas=4)),
    Edit("ReplicaSet", "with none", lambda raw: raw["spec"].update(replicas=0)),
    Edit(
        "ReplicaSet",
        "with another image",
        lambda raw: raw["spec"]["template"]["spec"]["containers"][0].update(image="registry.example/other"),
    ),
    Edit(
        "ReplicaSet",
        "on the host's network",
        lambda raw: raw["spec"]["template"]["spec"].update(hostNetwork=True),
    ),
    Edit("ReplicaSet", "with another container", lambda raw: containers(raw).append({"name": "spy", "image": "spy"})),
    Edit("Pod", "with another image", lambda raw: raw["spec"]["containers"][0].update(image="registry.example/other")),
    Edit("Pod", "taken for another revision's", lambda raw: raw["metadata"]["labels"].update(debugged())),
    Edit("Service", "that keeps clients", lambda raw: raw["spec"].update(sessionAffinity="ClientIP")),
    Edit("NetworkPolicy", "open to all", lambda raw: raw["spec"].update(ingress=[{}])),
    Edit("PodDisruptionBudget", "with another budget", lambda raw: raw["spec"].update(maxUnavailable=3)),
    Edit("ServiceAccount", "with a token", lambda raw: raw.update(automountServiceAccountToken=True)),
    Edit("ControllerRevision", "with another number", lambda raw: raw.update(revision=0)),
)
DELETABLE = tuple(kind for _, kind in CHILD_KINDS if kind != "PersistentVolumeClaim")

actions = st.one_of(
    specs.map(lambda spec: ("apply", spec)),
    st.sampled_from(EDITS).map(lambda edit: ("edit", edit)),
    st.sampled_from(DELETABLE).map(lambda kind: ("delete", kind)),
    st.sampled_from([("delete", names.KIND), ("restart", None), ("settle", None)]),
    st.integers(1, 12).map(lambda steps: ("steps", steps)),
    st.randoms(use_true_random=False).map(lambda chooser: ("late", chooser)),
)


class Someone:
    """Does what hypothesis says."""

    def __init__(self, spec: Mapping[str, Any], chosen: OperatorConfig | None = None) -> None:
        self.simulation = Mortal(copied(spec), images=IMAGES, chosen=chosen)

    def act(self, action: tuple[str, Any]) -> None:
        verb, what = action
        getattr(self, f"_{verb}")(what)

    def _apply(self, spec: Mapping[str, Any]) -> None:
        server = self.simulation.server
        if server.get(deployment_reference()) is None:
            self._make(spec)
        server.change(deployment_reference(), lambda raw: raw.update(spec=copied(spec)))

    def _make(self, spec: Mapping[str, Any]) -> None:
        metadata = {"name": "bot", "namespace": "ml"}
        manifest = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": copied(spec)}
        self.simulation.server.create(manifest)

    def _edit(self, edit: Edit) -> None:
        for raw in self.simulation.server.of_kind(edit.kind):
            self.simulation.server.change(reference(raw), edit.change, "kubectl-edit")

    def _delete(self, kind: str) -> None:
        """The resource is made again at once: a user who applies the same file; its garbage is there still."""
        if kind == names.KIND:
            spec = self.simulation.body["spec"]
            self.simulation.server.delete(deployment_reference())
            self._make(spec)
            return
        for raw in list(self.simulation.server.of_kind(kind)):
            if "deletionTimestamp" not in raw["metadata"]:
                self.simulation.server.delete(reference(raw))

    def let_go(self) -> None:
        """An hour passes, so that no quarrel holds a correction up, and what was taken out for a look is deleted."""
        self.simulation.reconciler.quarrels.clear()
        for raw in list(self.simulation.server.of_kind("Pod")):
            if raw["metadata"]["labels"].items() >= debugged().items():
                self.simulation.server.remove(reference(raw))

    def _restart(self, _: None) -> None:
        self.simulation.begin()

    def _settle(self, _: None) -> None:
        self.simulation.settle()

    def _steps(self, count: int) -> None:
        for _, _plan in zip(range(count), self.simulation.in_turn(), strict=False):
            continue

    def _late(self, chooser: Any) -> None:
        """Everybody acts in any order, and the watches lag behind."""
        for _ in range(20):
            self.simulation.act(chooser)


def outcome(simulation: Mortal) -> dict[str, Any]:
    """What there is, without names of pods, uids, versions and history."""
    found: dict[str, Any] = {}
    raws = list(simulation.server.everything())
    owners = {raw["metadata"]["uid"]: f"{raw['kind']} {raw['metadata']['name']}" for raw in raws}
    serving = simulation.status().target_revision
    for raw in raws:
        kind, metadata = raw["kind"], raw["metadata"]
        if kind in ("Event", "Job", "PersistentVolumeClaim") or is_history(raw, serving):
            continue
        name = metadata["name"]
        if kind == "Pod":
            if metadata["labels"].get(names.LABEL_COMPONENT) != names.COMPONENT_ENGINE:
                continue
            name = f"{sum(key.startswith('Pod') for key in found)} of {metadata['labels'][names.LABEL_REVISION]}"
        found[f"{kind} {name}"] = plain(raw, owners)
    return found


def is_history(raw: Object, serving: str | None) -> bool:
    return bool(raw["kind"] == "ControllerRevision" and raw["metadata"]["name"] != f"bot-{serving}")


def plain(raw: Object, owners: Mapping[str, str]) -> Object:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in VOLATILE}
    metadata["ownerReferences"] = [owners[owner["uid"]] for owner in metadata.get("ownerReferences", ())]
    if raw["kind"] == "Pod":
        metadata.pop("name")
        metadata["ownerReferences"] = []
    annotations = metadata.pop("annotations", {})  # the hash of what was applied holds the uid of the owner
    passed_over = {names.ANNOTATION_APPLIED, names.ANNOTATION_PROVEN, names.ANNOTATION_STARTED}  # history, and when
    passed_over |= {names.ANNOTATION_CORRECTED}
    metadata["annotations"] = {key: value for key, value in annotations.items() if key not in passed_over}
    rest = {key: value for key, value in raw.items() if key not in ("metadata", "revision", "status")}
    if raw["kind"] == "ControllerRevision" and "preflight" in rest["data"]:  # only asked where something served
        rest["data"] = {key: value for key, value in rest["data"].items() if key != "preflight"}
    if raw["kind"] == "ConfigMap":
        rest["data"] = {**json.loads(raw["data"][ROUTE_KEY]), "uid": "", "generation": 0}
    if raw["kind"] == names.KIND:
        told = [(item["type"], item["status"], item["reason"]) for item in raw["status"]["conditions"]]
        rest["status"] = {**raw["status"], "conditions": told, "observedGeneration": 0}
        if "image" in raw["status"]:  # what it said stands there only where it was asked
            rest["status"]["image"] = {k: v for k, v in raw["status"]["image"].items() if k != "preflight"}
    return {**rest, "metadata": metadata}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(first=specs, history=st.lists(actions, max_size=10), last=specs)
def test_any_history_ends_in_what_the_last_spec_alone_makes(
    first: Mapping[str, Any], history: list[tuple[str, Any]], last: Mapping[str, Any]
) -> None:
    someone = Someone(first)
    for action in history:
        someone.act(action)
    last = {**last, "paused": False}
    someone.act(("apply", last))
    someone.let_go()
    someone.simulation.settle()
    alone = Mortal(copied(last), images=IMAGES)
    alone.settle()
    assert outcome(someone.simulation) == outcome(alone), "\n".join(someone.simulation.log[-40:])
    writes = someone.simulation.writes
    assert writes > 0
    someone.simulation.reconcile()
    assert someone.simulation.writes == writes


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.kind} {edit.how}")
def test_every_edit_changes_something_that_is_compared(edit: Edit) -> None:
    someone = Someone({"model": {"uri": HUB_MODEL, "revision": SHA}, "replicas": 2})
    someone.simulation.settle()
    before = someone.simulation.server.version, outcome(someone.simulation)
    someone.act(("edit", edit))
    assert someone.simulation.server.version > before[0]
    if edit.how != "with another number":
        assert outcome(someone.simulation) != before[1]
    someone.simulation.settle()
    someone.let_go()
    someone.simulation.settle()
    assert outcome(someone.simulation) == before[1]
