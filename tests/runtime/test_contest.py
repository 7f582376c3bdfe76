"""Others at our objects: fields set back with their names told, quarrels slowed down, strangers left alone."""

import asyncio
from typing import Any

import pytest

from nightshift.adapters.kube import KubeError, Object, Reference, reference
from nightshift.api import names
from nightshift.core.contest import FREE_CORRECTIONS
from tests.support.api_server import copied
from tests.support.builders import HUB_MODEL, SHA, model_spec
from tests.support.harness import Harness
from tests.support.virtual_time import run

SERVICE = Reference("v1", "Service", "ml", "bot")
ON_CLAIM = {"model": {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "9Gi"}}}
BRANCH = {"model": {"uri": HUB_MODEL, "revision": "main"}}


def edit(harness: Harness, manager: str = "kubectl-edit") -> None:
    """Somebody makes the Service one of another type."""

    def change(raw: Object) -> None:
        raw["spec"]["type"] = "NodePort"
        entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:type": {}}}}
        raw["metadata"]["managedFields"] = [entry]

    harness.server.change(SERVICE, change)


def live(harness: Harness) -> Object:
    found = harness.server.get(SERVICE)
    assert found is not None
    return found


def contests(harness: Harness) -> list[str]:
    return [reason for _, reason in harness.events() if reason.startswith("Fields")]


def test_a_field_that_somebody_changed_is_set_back_and_the_event_names_both() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        edit(harness)
        await harness.settle()
        assert live(harness)["spec"]["type"] == "ClusterIP"
        assert contests(harness) == ["FieldsTakenBack"]
        message: str = harness.server.of_kind("Event")[-1]["message"]
        assert message.startswith("kubectl-edit changed .spec.type of Service bot; Nightshift set it back.")
        await harness.reconcile()
        assert contests(harness) == ["FieldsTakenBack"], "told once"
        assert harness.condition("Ready") == ("True", "Serving")

    run(story())


def test_what_somebody_added_is_taken_away_and_the_event_names_it() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        (owner,) = harness.server.of_kind("ReplicaSet")
        before, pods = copied(owner["spec"]), copied(harness.server.of_kind("Pod"))

        def change(raw: Object) -> None:
            raw["spec"]["template"]["spec"].update(hostNetwork=True)
            raw["spec"]["template"]["spec"]["containers"].append({"name": "spy", "image": "spy"})

        harness.server.change(reference(owner), change, "kubectl-edit")
        harness.server.change(SERVICE, lambda raw: raw["spec"].update(externalIPs=["192.0.2.1"]), "kubectl-edit")
        await harness.settle()
        (after,) = harness.server.of_kind("ReplicaSet")
        assert after["spec"] == before
        assert "externalIPs" not in live(harness)["spec"]
        assert contests(harness) == ["FieldsTakenBack", "FieldsTakenBack"]
        messages = " ".join(raw["message"] for raw in harness.server.of_kind("Event"))
        assert "kubectl-edit changed .spec.externalIPs of Service bot; Nightshift set it back." in messages
        assert ".spec.template.spec.containers[name=spy]" in messages
        assert ".spec.template.spec.hostNetwork" in messages
        kept = [raw["metadata"]["uid"] for raw in harness.server.of_kind("Pod")]
        assert kept == [raw["metadata"]["uid"] for raw in pods], "no pod was restarted"
        assert harness.condition("Ready") == ("True", "Serving")
        writes = harness.writes()
        await harness.reconcile()
        assert harness.writes() == writes

    run(story())


def test_who_adds_again_and_again_makes_no_hot_loop_and_no_pod_is_given_up_for_it() -> None:
    async def story() -> None:
        harness = await Harness(model_spec(replicas=2)).settle()
        where = reference(harness.server.of_kind("ReplicaSet")[0])
        pods = {raw["metadata"]["uid"] for raw in harness.server.of_kind("Pod")}
        writes = harness.writes()
        for _ in range(200):
            harness.server.change(
                where, lambda raw: raw["spec"]["template"]["spec"].update(hostNetwork=True), "argocd-controller"
            )
            await harness.reconcile()
            await asyncio.sleep(1)
        made = [write for write in harness.server.writes[writes:] if write.kind == "ReplicaSet"]
        assert FREE_CORRECTIONS < len(made) <= 20, "minutes of a change every second"
        assert harness.condition("Ready") == ("False", "ReplicaSetContested")
        assert {raw["metadata"]["uid"] for raw in harness.server.of_kind("Pod")} == pods

    run(story())


def test_an_eviction_that_the_budget_does_not_allow_is_told_and_tried_again() -> None:
    async def story() -> None:
        harness = await Harness(model_spec(replicas=2)).settle()
        where = reference(harness.server.of_kind("Pod")[0])
        harness.server.change(
            where, lambda raw: raw["spec"]["containers"][0].update(image="registry.example/other"), "kubectl-set"
        )
        full = KubeError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
        harness.kube.failing = lambda verb, kind, name: full if verb == "evict" else None
        due = await harness.reconcile()
        assert due is not None
        assert due <= 60
        assert harness.condition("Ready") == ("False", "PodChanged")
        message = harness.status().conditions[0].message
        assert "may not be evicted now: Cannot evict pod as it would violate the pod's disruption budget." in message
        assert "ChangedPodEvicted" not in {reason for _, reason in harness.events()}
        harness.kube.failing = lambda verb, kind, name: None
        harness.dirty = True
        await harness.settle()
        assert harness.condition("Ready") == ("True", "Serving")
        assert ("Warning", "ChangedPodEvicted") in harness.events()
        assert where not in [reference(raw) for raw in harness.server.of_kind("Pod")]

    run(story())


def test_an_eviction_that_fails_otherwise_is_an_error_like_any() -> None:
    async def story() -> None:
        harness = await Harness(model_spec(replicas=2)).settle()
        where = reference(harness.server.of_kind("Pod")[0])
        harness.server.change(
            where, lambda raw: raw["spec"]["containers"][0].update(image="registry.example/other"), "kubectl-set"
        )
        harness.kube.failing = lambda verb, kind, name: KubeError(500, "", "no.") if verb == "evict" else None
        with pytest.raises(KubeError):
            await harness.reconcile()

    run(story())


def test_somebody_who_changes_it_again_at_once_makes_no_hot_loop() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        writes = harness.writes()
        waits = []
        for _ in range(60 * 60):
            edit(harness, "argocd-controller")
            waits.append(await harness.reconcile())
            await asyncio.sleep(1)
        services = [write for write in harness.server.writes[writes:] if write.kind == "Service"]
        assert FREE_CORRECTIONS < len(services) <= 15, "an hour of a change every second"
        assert contests(harness)[:4] == ["FieldsTakenBack", "FieldsTakenBack", "FieldsContested", "FieldsContested"]
        assert len(contests(harness)) == len(services)
        assert harness.condition("Ready") == ("False", "ServiceContested"), "the Service is not as it should be"
        assert harness.condition("Available") == ("True", "Serving")
        assert all(wait is not None and wait <= harness.config.resync_seconds for wait in waits)
        await asyncio.sleep(3600)
        harness.dirty = True
        await harness.settle()
        assert live(harness)["spec"]["type"] == "ClusterIP", "it is not given up"
        assert harness.condition("Ready") == ("True", "Serving")

    run(story())


def test_a_quarrel_is_forgotten_with_its_deployment() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        edit(harness)
        await harness.settle()
        assert harness.reconciler.quarrels
        harness.server.remove(Reference(names.API_VERSION, names.KIND, "ml", "bot"))
        await harness.settle()
        assert harness.reconciler.quarrels == {}

    run(story())


def test_a_correction_that_is_refused_is_not_told_as_done() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        edit(harness)
        denied = KubeError(422, "Invalid", "no.")
        harness.kube.failing = lambda verb, kind, name: denied if (verb, kind) == ("apply", "Service") else None
        await harness.reconcile()
        assert contests(harness) == []

    run(story())


def test_a_stranger_that_took_the_name_between_look_and_write_is_not_adopted() -> None:
    async def story() -> None:
        harness = await Harness(model_spec()).settle()
        edit(harness)
        stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bot", "namespace": "ml"}, "spec": {}}

        async def replaced() -> None:
            harness.kube.before_request = None
            harness.server.unwatch(harness._tell)
            harness.server.remove(SERVICE)
            harness.server.create(stranger)

        harness.kube.before_request = replaced
        with pytest.raises(KubeError, match="UID"):
            await harness.reconcile()
        assert live(harness)["spec"].get("selector") is None

    run(story())


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        pytest.param(spec, kind, id=kind if label is None else f"{kind}, {label}")
        for spec, kind, label in [
            (model_spec(), "ServiceAccount", None),
            (model_spec(), "NetworkPolicy", None),
            (model_spec(), "Service", None),
            (model_spec(), "PodDisruptionBudget", None),
            (model_spec(), "ControllerRevision", None),
            (model_spec(), "ReplicaSet", None),
            (ON_CLAIM, "PersistentVolumeClaim", None),
            (ON_CLAIM, "Job", "that downloads"),
            (BRANCH, "Job", "that resolves"),
        ]
    ],
)
def test_a_foreign_object_of_any_kind_is_left_alone_and_named(spec: dict[str, Any], kind: str) -> None:
    async def story() -> None:
        wanted = next(raw for raw in await names_made(spec) if raw["kind"] == kind)
        harness = Harness(spec)
        if (kind, spec) == ("Job", ON_CLAIM):
            await harness.reconcile()  # its name is made of the claim's uid
        foreign = {**wanted, "metadata": {"name": wanted["metadata"]["name"], "namespace": "ml"}}
        before = harness.server.create(foreign)
        for _ in range(6):
            await harness.reconcile()
        assert harness.server.get(reference(before)) == before
        assert harness.condition("Ready") == ("False", "NameTaken")
        assert harness.condition("Stalled") == ("True", "NameTaken")
        message = next(item.message for item in harness.status().conditions if item.type == "Stalled")
        assert f"{kind} {wanted['metadata']['name']} exists already and is not Nightshift's" in message

    run(story())


async def names_made(spec: dict[str, Any]) -> list[Object]:
    """What is made of a spec, as it is applied for the first time."""
    harness = Harness(spec)
    made: list[Object] = []
    harness.server.watch(lambda event, raw: made.append(raw) if event == "ADDED" else None)
    await harness.settle()
    return [{key: raw[key] for key in raw if key != "status"} for raw in made]
