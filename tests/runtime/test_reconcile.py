"""One reconcile after another against the in-memory API server."""

from typing import Any

import pytest

from nightshift.adapters.kube import KubeError, Reference, reference
from nightshift.api import names
from nightshift.api.fetch import Progress, to_line
from nightshift.core.events import EventNote
from nightshift.core.facts import ImageNotFound, Unknown
from nightshift.core.fetch_jobs import RETRY_SECONDS
from nightshift.runtime.records import record_event
from nightshift.runtime.telemetry import DEPLOYMENT_READY
from tests.support.api_server import Write, deployment_reference
from tests.support.builders import HUB_MODEL, NOW, config, model_spec
from tests.support.fake_kube import FakeKube
from tests.support.harness import KEY, Harness
from tests.support.world import Fate

SERVICE = Reference("v1", "Service", "ml", "bot")
DOWN = KubeError(503, "ServiceUnavailable", "try again later")


async def test_from_creation_to_serving() -> None:
    harness = Harness(model_spec(replicas=2))
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    assert harness.events() == [
        ("Normal", "Preparing"),
        ("Normal", "RevisionSelected"),
        ("Normal", "Serving"),
    ]
    assert harness.registry.asked == [("registry.example/vllm", "v0.32.0")]
    assert ready_metric() == 1.0


def ready_metric() -> float | None:
    for family in DEPLOYMENT_READY.collect():
        for sample in family.samples:
            if sample.labels == {"namespace": "ml", "name": "bot"}:
                return sample.value
    return None


async def test_what_serves_is_left_alone() -> None:
    harness = await Harness(model_spec()).settle()
    writes, requests = harness.writes(), harness.kube.requests
    for _ in range(5):
        assert await harness.reconcile() == harness.config.resync_seconds
    assert (harness.writes(), harness.kube.requests) == (writes, requests), "not even a read"


async def test_a_new_process_leaves_alone_what_serves() -> None:
    harness = await Harness(model_spec()).settle()
    writes = harness.writes()
    harness.restart()
    await harness.settle()
    assert harness.writes() == writes
    assert harness.registry.asked == [("registry.example/vllm", "v0.32.0")], "nothing is resolved again"


async def test_an_answer_that_just_came_is_used_at_once() -> None:
    harness = Harness(model_spec())
    assert await harness.reconcile() == 0.0
    assert [write.kind for write in harness.server.writes].count("ReplicaSet") == 0
    assert await harness.reconcile() == harness.config.resync_seconds
    assert harness.server.of_kind("ReplicaSet")


async def test_a_registry_that_does_not_answer_is_asked_three_times_and_then_the_tag_identifies() -> None:
    harness = Harness(model_spec())
    harness.registry.answer = Unknown("registry.example does not answer")
    dues = [await harness.reconcile() for _ in range(2)]
    assert dues[0] == 0.0
    assert dues[1] == pytest.approx(2.0, abs=0.5)
    assert len(harness.registry.asked) == 1


async def test_a_tag_that_is_missing_waits_for_a_person() -> None:
    harness = Harness(model_spec())
    harness.registry.answer = ImageNotFound("registry.example/vllm has no tag v0.32.0.")
    await harness.settle()
    assert harness.condition("Stalled") == ("True", "ImagePullFailed")
    assert harness.registry.asked == [("registry.example/vllm", "v0.32.0")]


@pytest.mark.parametrize("gone", ["absent", "leaving"])
async def test_a_deployment_that_is_gone_is_forgotten(gone: str) -> None:
    harness = await Harness(model_spec()).settle()
    writes = harness.writes()
    if gone == "absent":
        harness.server.remove(deployment_reference())
    else:
        harness.server.change(
            deployment_reference(), lambda raw: raw["metadata"].update(deletionTimestamp="2026-03-01T12:00:00Z")
        )
    assert await harness.reconcile() is None
    assert harness.writes() == writes
    assert ready_metric() is None
    assert await harness.reconcile() is None


async def test_everything_goes_with_the_deployment() -> None:
    harness = await Harness(model_spec()).settle()
    harness.server.remove(deployment_reference())
    await harness.settle()
    assert [raw["kind"] for raw in harness.server.everything() if raw["kind"] != "Event"] == []


@pytest.mark.parametrize("kind", ["Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"])
async def test_a_foreign_object_of_the_same_name_is_never_touched(kind: str) -> None:
    harness = await Harness(model_spec()).settle()
    raw = harness.server.of_kind(kind)[0]
    where, api_version = reference(raw), raw["apiVersion"]
    foreign = Harness(None)
    mine = {"apiVersion": api_version, "kind": kind, "metadata": {"name": where.name, "namespace": "ml"}, "spec": {}}
    before = foreign.server.create(mine)
    foreign.server.create(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "bot", "namespace": "ml"},
            "spec": model_spec(),
        }
    )
    await foreign.reconcile()
    assert await foreign.reconcile() == RETRY_SECONDS
    await foreign.settle()
    assert foreign.server.get(where) == before
    assert foreign.condition("Stalled") == ("True", "NameTaken")
    assert [item for item in foreign.events() if item[1] == "NameTaken"] == [("Warning", "NameTaken")]
    assert f"{kind} {where.name} exists already" in foreign.status().conditions[0].message
    foreign.server.remove(where)
    foreign.dirty = True
    await foreign.settle()
    assert foreign.condition("Ready") == ("True", "Serving")


async def test_nothing_is_read_before_it_is_created() -> None:
    harness = Harness(model_spec())
    seen: list[tuple[str, str]] = []

    def note(verb: str, kind: str, name: str) -> None:
        seen.append((verb, kind))

    harness.kube.failing = note
    await harness.settle()
    assert ("apply", "ReplicaSet") in seen
    assert {verb for verb, _ in seen} == {"apply", "status", "create"}


async def test_an_object_whose_creation_was_not_answered_is_taken_for_ours() -> None:
    harness = await Harness(model_spec()).settle()
    kept = harness.server.of_kind("Service")[0]
    harness.cache.replace_children("Service", [], horizon=10**9)
    await harness.reconcile()
    assert harness.server.get(SERVICE) == kept
    await harness.reconcile()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_a_foreign_object_that_carries_our_label_is_not_touched_either() -> None:
    harness = Harness(None)
    labels = {names.LABEL_DEPLOYMENT: "bot"}
    mine = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bot", "namespace": "ml", "labels": labels}}
    before = harness.server.create(mine)
    deployed = {"apiVersion": names.API_VERSION, "kind": names.KIND, "spec": model_spec()}
    harness.server.create({**deployed, "metadata": {"name": "bot", "namespace": "ml"}})
    await harness.settle()
    assert harness.server.get(SERVICE) == before
    assert harness.condition("Stalled") == ("True", "NameTaken")


async def test_a_deployment_that_is_made_anew_waits_for_the_objects_of_the_one_before() -> None:
    harness = await Harness(model_spec()).settle()
    old = harness.body
    harness.server.remove(deployment_reference())
    harness.server.create({key: value for key, value in old.items() if key != "status"})
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "WaitingForDeletion")
    assert harness.condition("Stalled")[0] == "False", "nobody has to do anything"
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    uid = harness.body["metadata"]["uid"]
    owners = {raw["metadata"]["ownerReferences"][0]["uid"] for raw in harness.server.of_kind("Service")}
    assert owners == {uid}


KV_TOO_SMALL = (
    "(EngineCore pid=9) ERROR 11-24 04:17:24 [core.py:1510] ValueError: To serve at least one request with the model's "
    "max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV cache memory "
    "(4.31 GiB). Based on the available memory, the estimated maximum model length is 35280. Try increasing "
    "`gpu_memory_utilization`.\n" + "  File x\n" * 300 + "RuntimeError: Engine core initialization failed."
)


async def test_why_an_engine_crashed_is_read_from_its_log_before_anything_is_told() -> None:
    harness = await Harness(model_spec()).settle()
    pod = harness.server.of_kind("Pod")[0]["metadata"]["name"]
    harness.kube.logs[(pod, names.ENGINE_CONTAINER)] = KV_TOO_SMALL
    harness.world.fate = lambda raw: Fate.CRASHES
    harness.world.crash(harness.server.of_kind("Pod")[0])
    await harness.reconcile()
    assert harness.condition("Stalled") == ("True", "DoesNotFit")
    assert "--max-model-len to at most 35280" in harness.status().conditions[0].message
    asked, writes = harness.kube.requests, harness.writes()
    await harness.reconcile()
    assert (harness.kube.requests, harness.writes()) == (asked, writes), "one crash is read once"
    logs = harness.kube.logs
    harness.restart()
    harness.kube.logs = logs
    await harness.reconcile()
    assert harness.writes() == writes, "a new process tells the same at once"


async def test_a_log_that_cannot_be_read_leaves_a_crash_without_a_cause_and_is_asked_for_once() -> None:
    harness = await Harness(model_spec()).settle()
    harness.world.crash(harness.server.of_kind("Pod")[0])
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "EngineCrashed")
    asked = harness.kube.requests
    await harness.reconcile()
    assert harness.kube.requests == asked


async def test_a_spec_that_is_not_understood_is_told_once_and_what_serves_goes_on() -> None:
    harness = await Harness(model_spec()).settle()
    harness.change_spec(replicas="many")
    writes = harness.writes()
    await harness.settle()
    assert harness.condition("Stalled") == ("True", "InvalidSpec")
    assert harness.condition("Available") == ("True", "Serving")
    assert harness.status().observed_generation == harness.body["metadata"]["generation"]
    assert [write.verb for write in harness.server.writes[writes:]] == ["status", "create"]
    assert harness.events()[-1] == ("Warning", "InvalidSpec")
    await harness.reconcile()
    assert harness.writes() == writes + 2
    assert len(harness.server.of_kind("Pod")) == 1
    harness.change_spec(replicas=1)
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_a_refused_object_is_told_and_tried_again_now_and_then() -> None:
    harness = Harness(model_spec())
    denied = KubeError(403, "Forbidden", 'admission webhook "policy.example" denied the request.')
    harness.kube.failing = lambda verb, kind, name: denied if (verb, kind) == ("apply", "ReplicaSet") else None
    await harness.reconcile()
    assert await harness.reconcile() == RETRY_SECONDS
    assert harness.condition("Stalled") == ("True", "ObjectRefused")
    assert 'policy.example" denied' in harness.status().conditions[0].message
    harness.kube.failing = lambda verb, kind, name: None
    harness.dirty = True
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_after_a_refusal_nothing_further_is_applied() -> None:
    harness = Harness(model_spec())
    denied = KubeError(422, "Invalid", "no.")
    harness.kube.failing = lambda verb, kind, name: denied if (verb, kind) == ("apply", "NetworkPolicy") else None
    await harness.reconcile()
    await harness.reconcile()
    applied = [write.kind for write in harness.server.writes if write.verb == "apply"]
    assert applied == ["ServiceAccount"], "engines without their policy would be open"


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
async def test_a_failure_that_may_pass_is_left_to_the_queue(status: int) -> None:
    harness = Harness(model_spec())
    harness.kube.failing = lambda verb, kind, name: (
        KubeError(status, "", "not now") if (verb, kind) == ("apply", "Service") else None
    )
    with pytest.raises(KubeError):
        await harness.reconcile()
    harness.kube.failing = lambda verb, kind, name: None
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_a_status_that_cannot_be_written_is_tried_again() -> None:
    harness = Harness(model_spec())
    harness.kube.failing = lambda verb, kind, name: DOWN if verb == "status" else None
    with pytest.raises(KubeError):
        await harness.reconcile()
    harness.kube.failing = lambda verb, kind, name: None
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_an_event_that_cannot_be_recorded_stops_nothing() -> None:
    harness = Harness(model_spec())
    harness.kube.failing = lambda verb, kind, name: DOWN if kind == "Event" else None
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    assert harness.events() == []


async def test_the_status_is_written_only_when_it_differs() -> None:
    harness = await Harness(model_spec(replicas=2)).settle()
    statuses = harness.server.writes.count(Write("status", names.KIND, "bot"))
    pod = harness.server.of_kind("Pod")[0]
    harness.server.change(reference(pod), lambda raw: raw["metadata"].update(annotations={"seen": "by someone"}))
    await harness.settle()
    assert harness.server.writes.count(Write("status", names.KIND, "bot")) == statuses


async def test_an_edit_that_comes_while_the_status_is_written_is_not_lost() -> None:
    harness = await Harness(model_spec()).settle()
    harness.change_spec(engine={"args": ["--seed=1"]})

    async def edit() -> None:
        harness.kube.before_request = None
        harness.change_spec(replicas=2)

    harness.kube.before_request = edit
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")
    assert harness.status().ready_replicas == 2
    assert harness.status().observed_generation == harness.body["metadata"]["generation"]


async def test_an_object_that_changed_meanwhile_is_not_deleted() -> None:
    harness = await Harness(model_spec()).settle()
    harness.change_spec(engine={"args": ["--seed=1"]})
    old = harness.server.of_kind("ReplicaSet")[0]

    async def touch() -> None:
        live = harness.server.get(reference(old))
        pods = [raw for raw in harness.server.of_kind("Pod") if names.LABEL_REVISION in raw["metadata"]["labels"]]
        if live is not None and live["spec"]["replicas"] == 0 and not pods[1:]:
            harness.kube.before_request = None
            harness.server.change(reference(old), lambda raw: raw["metadata"].update(annotations={"held": "yes"}))

    harness.kube.before_request = touch
    with pytest.raises(KubeError, match="preconditions"):
        await harness.settle()
    assert harness.server.get(reference(old)) is not None
    harness.dirty = True
    await harness.settle()
    assert harness.server.get(reference(old)) is None


async def test_progress_of_a_download_is_asked_and_told() -> None:
    harness = Harness({"model": {"uri": HUB_MODEL, "revision": "0" * 40}})
    harness.world.fate = lambda pod: Fate.PULL_FAILS
    await harness.settle()
    pod = harness.server.of_kind("Pod")[0]
    name = pod["metadata"]["name"]
    running = [{"name": names.DOWNLOAD_CONTAINER, "state": {"running": {"startedAt": "2026-03-01T12:00:00Z"}}}]
    harness.server.change(reference(pod), lambda raw: raw.update(status={"initContainerStatuses": running}))
    progress = Progress(bytes_done=4_000_000_000, bytes_total=16_000_000_000, files_done=0, files_total=2)
    harness.kube.logs[(name, names.DOWNLOAD_CONTAINER)] = f"starts\n{to_line(progress)}\n"
    assert await harness.reconcile() == 10.0
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "DownloadingModel")
    assert "20 % of 16.0 GB" in harness.status().conditions[0].message


async def test_an_event_names_its_object_and_is_cut_to_size() -> None:
    harness = await Harness(model_spec()).settle()
    kube = FakeKube(harness.server)
    await record_event(kube, harness.body, EventNote("Warning", "Long", "x" * 5000), NOW)
    event: dict[str, Any] = harness.server.of_kind("Event")[-1]
    assert len(event["message"]) == 1024
    assert event["involvedObject"] == {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": "bot",
        "namespace": "ml",
        "uid": harness.body["metadata"]["uid"],
    }
    assert (event["type"], event["reason"], event["reportingComponent"]) == ("Warning", "Long", "nightshift")
    assert event["metadata"]["name"].startswith("bot.")


async def test_an_unknown_accelerator_is_told_with_what_is_offered() -> None:
    harness = Harness(model_spec(), config(accelerators={}))
    await harness.settle()
    assert harness.condition("Stalled") == ("True", "UnknownAccelerator")
    assert harness.cache.deployment(KEY) is not None
