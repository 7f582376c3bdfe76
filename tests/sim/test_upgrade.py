"""Upgrades of the operator and restored clusters: nothing that serves is touched, nothing that is known is lost."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.fetch import Resolved
from nightshift.core.facts import Known
from tests.support.api_server import copied, deployment_reference
from tests.support.builders import HUB_MODEL, NOW, OTHER_DIGEST, OTHER_SHA, config, model_spec
from tests.support.harness import KEY, Harness
from tests.support.simulation import with_accelerators

BRANCH = {"model": {"uri": HUB_MODEL, "revision": "main"}, "replicas": 2}


def pods(harness: Harness) -> dict[str, str]:
    """Engine pods by uid, with the image that they run."""
    return {
        raw["metadata"]["uid"]: raw["spec"]["containers"][0]["image"]
        for raw in harness.server.of_kind("Pod")
        if raw["metadata"]["labels"].get(names.LABEL_COMPONENT) == names.COMPONENT_ENGINE
    }


def pins(harness: Harness) -> list[Any]:
    """What the stored revisions say, by name."""
    return sorted((raw["metadata"]["name"], repr(raw["data"])) for raw in harness.server.of_kind("ControllerRevision"))


def newer() -> OperatorConfig:
    """Another build: its own image, other defaults, an edited profile, another way to look at the fleet."""
    base = with_accelerators(config(), "nvidia-gpu", shared_memory="64Gi", requests={"cpu": "9"})
    defaults = base.defaults.model_copy(update={"engine_version": "0.33.0", "engine_image": "registry.example/new"})
    changes = {"fetch_image": "registry.example/nightshift/operator:2", "defaults": defaults, "resync_seconds": 60}
    return base.model_copy(update=changes)


async def upgraded(harness: Harness, chosen: OperatorConfig) -> Harness:
    """A new process with another configuration."""
    harness.config = chosen
    harness.restart()
    return await harness.settle()


@pytest.mark.parametrize(
    "spec",
    [pytest.param(model_spec(replicas=2), id="pinned by its spec"), pytest.param(BRANCH, id="following defaults")],
)
async def test_an_upgrade_and_its_taking_back_restart_no_engine_and_lose_no_status(
    spec: Mapping[str, Any],
) -> None:
    harness = await Harness(spec).settle()
    before, stored, told = pods(harness), pins(harness), harness.body["status"]
    assert len(before) == 2
    sets = [raw["metadata"]["generation"] for raw in harness.server.of_kind("ReplicaSet")]
    harness.registry.answer = Known(OTHER_DIGEST, NOW)
    for chosen in (newer(), config()):
        await upgraded(harness, chosen)
        assert pods(harness) == before
        assert [raw["metadata"]["generation"] for raw in harness.server.of_kind("ReplicaSet")] == sets
        assert pins(harness) == stored
        assert harness.body["status"] == told


async def test_the_new_defaults_come_with_the_next_rollout_and_only_the_ones_that_may() -> None:
    harness = await Harness(BRANCH).settle()
    await upgraded(harness, newer())
    harness.change_spec(engine={"args": ["--seed=1"]})
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    (raw,) = harness.server.of_kind("ReplicaSet")
    template = raw["spec"]["template"]["spec"]
    assert template["containers"][0]["image"].startswith("registry.example/vllm"), "the resolved image stays"
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}} in template["volumes"]


async def test_an_upgrade_in_the_middle_of_a_rollout_ends_that_rollout_and_starts_no_other() -> None:
    harness = await Harness(model_spec(replicas=2)).settle()
    harness.change_spec(engine={"args": ["--seed=1"]})
    for _ in range(6):
        await harness.reconcile()
        steps = harness.world.pending()
        if steps:
            steps[0].act()
    target = harness.status().target_revision
    await upgraded(harness, newer())
    assert harness.condition("Ready") == ("True", "Serving")
    assert harness.status().target_revision == target
    assert len(pods(harness)) == 2


def restored(harness: Harness, keep: Callable[[Object], bool]) -> Harness:
    """Another cluster, into which the objects were restored from YAML: new uids, no status, no owners.

    So do Velero (it keeps name, namespace, labels and annotations of the metadata) and careful people: an owner
    reference with the old uid would have the garbage collector delete what was restored.
    """
    fresh = Harness(None, harness.config)
    body = {key: value for key, value in harness.body.items() if key != "status"}
    fresh.server.create({**body, "metadata": {"name": "bot", "namespace": "ml"}})
    for raw in list(harness.server.everything()):
        if raw["kind"] in (names.KIND, "Pod", "Job", "Event") or not keep(raw):
            continue
        kept = ("name", "namespace", "labels", "annotations")
        metadata = {key: raw["metadata"][key] for key in kept if key in raw["metadata"]}
        rest = {key: value for key, value in raw.items() if key not in ("metadata", "status")}
        fresh.server.create({**rest, "metadata": metadata})
    fresh.restart()
    return fresh


def time_passes(harness: Harness) -> None:
    """The tag stands for another image, and the branch for another commit."""
    harness.registry.answer = Known(OTHER_DIGEST, NOW)
    harness.world.answer = lambda job: Resolved(sha=OTHER_SHA, files=3, bytes=1000)


ON_CLAIM = {"model": {"uri": HUB_MODEL, "cache": {"type": "Claim", "size": "9Gi"}}}


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        pytest.param(BRANCH, None, id="everything but pods and Jobs"),
        pytest.param(BRANCH, {"ControllerRevision"}, id="only the ControllerRevisions"),
        pytest.param(BRANCH, {"ControllerRevision", "ReplicaSet"}, id="without the small objects"),
        pytest.param(ON_CLAIM, None, id="with a claim that caches the model"),
    ],
)
async def test_pins_survive_a_restored_cluster_where_their_revisions_do(
    spec: Mapping[str, Any], kept: set[str] | None
) -> None:
    harness = await Harness(spec).settle()
    images, told = set(pods(harness).values()), harness.status()
    fresh = restored(harness, lambda raw: kept is None or raw["kind"] in kept)
    time_passes(fresh)
    await fresh.settle()
    assert fresh.condition("Ready") == ("True", "Serving")
    assert set(pods(fresh).values()) == images, "the digest that was pinned, not what the tag stands for now"
    assert fresh.status().model == told.model, "the commit that was pinned, not where the branch stands now"
    assert fresh.status().revision == told.revision
    assert pins(fresh) == pins(harness)
    uid = fresh.body["metadata"]["uid"]
    ours = [raw for raw in fresh.server.everything() if raw["kind"] not in (names.KIND, "Pod", "Event")]
    assert {raw["metadata"]["ownerReferences"][0]["uid"] for raw in ours} == {uid}, "all of it goes with its owner"
    assert ("Normal", "Adopted") in fresh.events(), "and it was said"
    writes = fresh.writes()
    await fresh.reconcile()
    assert fresh.writes() == writes


async def test_objects_that_were_left_without_an_owner_are_taken_up_without_a_restart() -> None:
    """kubectl delete --cascade=orphan, and the same YAML applied again."""
    harness = await Harness(BRANCH).settle()
    before, body = pods(harness), harness.body
    for raw in list(harness.server.everything()):
        if raw["metadata"].get("ownerReferences", [{}])[0].get("kind") == names.KIND:
            harness.server.change(reference(raw), lambda item: item["metadata"].pop("ownerReferences"))
    harness.server.remove(deployment_reference())
    time_passes(harness)
    harness.server.create({key: value for key, value in body.items() if key != "status"})
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    assert pods(harness) == before
    assert harness.events()[-1] != ("Warning", "NameTaken")


@pytest.mark.parametrize(
    "strip",
    [
        pytest.param(lambda raw: raw["metadata"]["labels"].pop(names.LABEL_MANAGED_BY), id="without our label"),
        pytest.param(lambda raw: raw["metadata"].pop("annotations"), id="without the hash of what was applied"),
        pytest.param(
            lambda raw: raw["metadata"].update(
                ownerReferences=[{"kind": "Shop", "name": "x", "uid": "u", "controller": True}]
            ),
            id="with another owner",
        ),
    ],
)
async def test_what_does_not_bear_our_marks_is_not_taken_up(strip: Callable[[Object], object]) -> None:
    harness = await Harness(model_spec()).settle()
    service = harness.server.of_kind("Service")[0]
    fresh = Harness(None)
    kept = {key: service["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    raw: Object = copied({**service, "metadata": kept})
    strip(raw)
    before = fresh.server.create(raw)
    fresh.server.create(
        {
            **{key: harness.body[key] for key in ("apiVersion", "kind", "spec")},
            "metadata": {"name": "bot", "namespace": "ml"},
        }
    )
    for _ in range(4):
        await fresh.reconcile()
    assert fresh.condition("Stalled") == ("True", "NameTaken")
    assert fresh.server.get(reference(before)) == before


async def test_a_status_that_was_lost_is_told_again_and_nothing_restarts() -> None:
    harness = await Harness(BRANCH).settle()
    before, told = pods(harness), harness.status()
    harness.server.change(deployment_reference(), lambda raw: raw.pop("status"))
    harness.restart()
    await harness.settle()
    assert pods(harness) == before
    assert harness.status().model_copy(update={"conditions": ()}) == told.model_copy(update={"conditions": ()})
    assert [(item.type, item.status, item.reason) for item in harness.status().conditions] == [
        (item.type, item.status, item.reason) for item in told.conditions
    ]


async def test_without_their_revisions_pins_are_made_anew() -> None:
    """What is not in the backup cannot survive: the counterpart that shows where the pins lie."""
    harness = await Harness(model_spec()).settle()
    fresh = restored(harness, lambda raw: False)
    fresh.registry.answer = Known(OTHER_DIGEST, NOW)
    await fresh.settle()
    assert fresh.condition("Ready") == ("True", "Serving")
    assert {image.partition("@")[2] for image in pods(fresh).values()} == {OTHER_DIGEST}
    assert fresh.cache.keys() == (KEY,)
    assert OTHER_SHA not in repr(pins(fresh))
