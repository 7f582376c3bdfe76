from dataclasses import replace
from typing import Any

import pytest

from nightshift.adapters.kube import reference
from nightshift.api import names
from nightshift.api.fetch import Downloaded, Failed, FetchReason, Progress
from nightshift.core.facts import Unknown
from nightshift.core.fetch_jobs import RETRY_SECONDS
from nightshift.core.images import IMAGE_ATTEMPTS
from nightshift.core.observed import ImageAnswer, Observed
from nightshift.core.plan import plan
from nightshift.core.planning import Plan, ReadProgress
from nightshift.core.progress import PROGRESS_SECONDS, progress_sentence
from tests.support.builders import (
    DIGEST,
    HUB_MODEL,
    NOW,
    SHA,
    config,
    container,
    deployment,
    digest_known,
    model_spec,
    pod,
)
from tests.support.simulation import Simulation, with_accelerators

ON_CLAIM = {"model": {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "20Gi"}}}
SILENT = {"registry.example/vllm:v0.32.0": ImageAnswer(Unknown("no answer"), IMAGE_ATTEMPTS, NOW)}
DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")


def applied(decided: Plan) -> list[tuple[str, str]]:
    return [(item.manifest["kind"], item.reason) for item in decided.apply]


def test_a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    leaving = deployment().model_copy(update={"deleting": True})
    assert plan(leaving, Observed(images=digest_known()), config(), NOW) == Plan()


def test_a_first_look_makes_everything_at_once() -> None:
    decided = plan(deployment(), Observed(images=digest_known()), config(), NOW)
    assert [kind for kind, _ in applied(decided)] == [
        "ServiceAccount",
        "NetworkPolicy",
        "Service",
        "PodDisruptionBudget",
        "ControllerRevision",
        "ReplicaSet",
    ]
    assert all(item.create for item in decided.apply)
    assert decided.target is not None
    assert decided.counts == {decided.target.hash: 1}
    assert decided.notes == (f"Revision {decided.target.hash}: 0 -> 1 replicas.",)


def test_a_deployment_that_is_off_gets_a_replica_set_of_none() -> None:
    decided = plan(deployment(model_spec(replicas=0)), Observed(images=digest_known()), config(), NOW)
    assert decided.apply[-1].manifest["spec"]["replicas"] == 0


def test_while_something_is_asked_access_is_prepared_already() -> None:
    decided = plan(deployment(), Observed(), config(), NOW)
    assert [kind for kind, _ in applied(decided)] == [
        "ServiceAccount",
        "NetworkPolicy",
        "Service",
        "PodDisruptionBudget",
    ]
    assert decided.requests
    assert decided.target is None
    assert decided.notes == ("Asking the registry for the digest of registry.example/vllm:v0.32.0.",)


def test_what_is_as_it_should_be_is_not_written_and_needs_no_appointment() -> None:
    simulation = Simulation(model_spec(replicas=2)).settle()
    decided = plan(deployment(uid="uid-1", spec=model_spec(replicas=2)), simulation.observed(), config(), NOW)
    assert (decided.apply, decided.delete, decided.requests) == ((), (), ())
    assert (decided.requeue_after, decided.notes, decided.blocker) == (None, (), None)


def test_zero_values_in_a_sidecar_are_not_written_again_and_again() -> None:
    probe = {"tcpSocket": {"port": 9000}, "initialDelaySeconds": 0}
    sidecar = {"name": "exporter", "image": "exporter.example/exporter:1", "tty": False, "readinessProbe": probe}
    simulation = Simulation(model_spec(podTemplate={"sidecars": [sidecar]})).settle()
    assert simulation.reconcile().apply == ()


@pytest.mark.parametrize(
    ("kind", "change", "where"),
    [
        pytest.param("Service", {"type": "NodePort"}, ".spec.type", id="a Service that was opened"),
        pytest.param("NetworkPolicy", {"ingress": []}, ".spec.ingress", id="a policy that was edited"),
        pytest.param("ReplicaSet", {"replicas": 5}, ".spec.replicas", id="a ReplicaSet that was scaled by hand"),
        pytest.param("PodDisruptionBudget", {"maxUnavailable": 3}, ".spec.maxUnavailable", id="a budget"),
    ],
)
def test_a_hand_edit_is_corrected_and_named(kind: str, change: dict[str, Any], where: str) -> None:
    simulation = Simulation(model_spec()).settle()
    raw = simulation.server.of_kind(kind)[0]
    simulation.server.change(reference(raw), lambda o: o["spec"].update(change))
    simulation.tell_all()
    decided = simulation.reconcile()
    assert applied(decided) == [(kind, f"Correcting {kind} {raw['metadata']['name']} at {where}.")]
    assert not decided.apply[0].create


def test_a_field_that_is_no_longer_desired_is_noticed_by_the_applied_hash() -> None:
    limited = {"allowFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}]}
    simulation = Simulation(model_spec(traffic=limited)).settle()
    simulation.change_spec(traffic={"allowFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]})
    simulation.tell_all()
    decided = simulation.reconcile()
    assert applied(decided)[0][1].startswith("Correcting NetworkPolicy bot at .metadata.annotations.")
    peers = simulation.server.of_kind("NetworkPolicy")[0]["spec"]["ingress"][0]["from"]
    assert peers[2:] == [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]
    assert simulation.reconcile().apply == ()


@pytest.mark.parametrize("kind", ["Service", "ServiceAccount", "ReplicaSet", "ControllerRevision"])
def test_a_deleted_child_is_made_again(kind: str) -> None:
    simulation = Simulation(model_spec()).settle()
    target = simulation.status().target_revision
    simulation.server.remove(reference(simulation.server.of_kind(kind)[0]))
    simulation.settle()
    assert len(simulation.server.of_kind(kind)) == 1
    assert simulation.status().target_revision == target
    assert simulation.condition("Ready") == ("True", "Serving")


def test_paused_means_that_nothing_is_written() -> None:
    simulation = Simulation(model_spec()).settle()
    simulation.change_spec(paused=True, replicas=3, engine={"args": ["--seed=1"]})
    simulation.tell_all()
    decided = simulation.reconcile()
    assert (decided.apply, decided.delete, decided.requests) == ((), (), ())
    assert decided.target is not None
    assert decided.notes == ("Paused: nothing is changed until spec.paused is false.",)


def test_paused_before_anything_could_be_resolved_asks_nobody() -> None:
    decided = plan(deployment(model_spec(paused=True)), Observed(), config(), NOW)
    assert (decided.target, decided.requests) == (None, ())


def test_the_digest_that_the_first_pod_runs_is_pinned_where_no_registry_could_be_asked() -> None:
    simulation = Simulation(model_spec(), images=SILENT).settle()
    stored = simulation.server.of_kind("ControllerRevision")[0]
    assert stored["metadata"]["annotations"][names.ANNOTATION_IMAGE_ID] == DIGEST
    template = simulation.server.of_kind("ReplicaSet")[0]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == f"registry.example/vllm:v0.32.0@{DIGEST}"
    assert simulation.status().image is not None
    assert simulation.server.of_kind("Pod")[0]["spec"]["containers"][0]["image"] == "registry.example/vllm:v0.32.0"


def test_a_pinned_digest_survives_going_away_and_back() -> None:
    simulation = Simulation(model_spec(), images=SILENT).settle()
    first = simulation.status().target_revision
    for args in (["--seed=1"], []):
        simulation.change_spec(engine={"args": args})
        simulation.settle()
    assert simulation.status().target_revision == first
    found = {raw["metadata"]["name"]: raw for raw in simulation.server.of_kind("ControllerRevision")}
    assert found[f"bot-{first}"]["revision"] == 3
    assert found[f"bot-{first}"]["metadata"]["annotations"][names.ANNOTATION_IMAGE_ID] == DIGEST


@pytest.mark.parametrize("image_id", ["", "sha256:1f", "registry.example/vllm:v0.32.0", "registry.example/vllm@md5:1"])
def test_an_image_that_tells_no_digest_is_not_pinned(image_id: str) -> None:
    simulation = Simulation(model_spec(), images=SILENT)
    simulation.tell_all()
    simulation.reconcile()
    target = simulation.status().target_revision
    running = pod(target, containers=(container(image_id=image_id),))
    observed = simulation.observed()
    changed = replace(observed, pods=(running,))
    decided = plan(deployment(uid="uid-1"), changed, config(), NOW)
    assert [kind for kind, _ in applied(decided)] == []


def test_going_back_makes_the_earlier_revision_the_newest_and_the_next_change_is_carried_from_it() -> None:
    newer = config().defaults.model_copy(update={"engine_version": "0.33.0"})
    images = digest_known() | digest_known("0.31.0") | digest_known("0.33.0")
    simulation = Simulation(model_spec(), images=images).settle()
    simulation.change_spec(engine={"version": "0.31.0"})
    simulation.settle()
    simulation.change_config(defaults=newer)
    for args in ([], ["--seed=1"]):
        simulation.change_spec(engine={"args": args})
        simulation.settle()
    assert simulation.status().version == "0.32.0", "kept as first resolved, whatever came between"


def test_an_operator_of_another_version_rolls_nothing() -> None:
    simulation = Simulation(model_spec()).settle()
    target, writes = simulation.status().target_revision, simulation.writes
    edited = with_accelerators(simulation.config, "nvidia-gpu", shared_memory="64Gi", limits={"memory": "64Gi"})
    newer = config().defaults.model_copy(update={"engine_version": "0.33.0", "engine_image": "registry.example/new"})
    simulation.change_config(accelerators=edited.accelerators, defaults=newer, fetch_image="registry.example/op:2")
    simulation.settle()
    assert (simulation.status().target_revision, simulation.writes) == (target, writes)


def test_the_model_is_downloaded_into_the_claim_before_the_first_pod() -> None:
    simulation = Simulation(ON_CLAIM)
    simulation.tell_all()
    first = simulation.reconcile()
    assert [kind for kind, _ in applied(first)][-2:] == ["PersistentVolumeClaim", "ControllerRevision"]
    assert first.notes == ("Waiting for claim bot-models.",)
    decided = simulation.reconcile()
    assert [kind for kind, _ in applied(decided)] == ["Job"]
    assert simulation.server.of_kind("ReplicaSet") == []
    assert decided.target is not None
    waiting = simulation.reconcile()
    assert (applied(waiting), waiting.requests, waiting.requeue_after) == ([], (), PROGRESS_SECONDS)
    assert waiting.notes[0].startswith("Waiting for Job bot-download-")


def test_a_running_download_is_asked_how_far_it_is() -> None:
    simulation = Simulation(ON_CLAIM)
    simulation.tell_all()
    simulation.reconcile()
    simulation.reconcile()
    job = simulation.server.of_kind("Job")[0]["metadata"]["name"]
    observed = simulation.observed()
    fetching = pod(None, name="fetch-1", job=job, phase="Running", component=names.COMPONENT_DOWNLOAD)
    progress = Progress(bytes_done=3_200_000_000, bytes_total=16_100_000_000, files_done=1, files_total=3)
    known = replace(observed, pods=(fetching,), progress={"fetch-1": progress})
    decided = plan(deployment(ON_CLAIM, uid="uid-1"), known, config(), NOW)
    assert decided.requests == (ReadProgress("fetch-1", names.DOWNLOAD_CONTAINER),)
    assert decided.notes == ("Downloading the model: 10 % of 16.1 GB.",)


def test_a_failed_download_says_why_and_is_tried_again_after_a_while() -> None:
    simulation = Simulation(ON_CLAIM)
    simulation.world.answer = lambda job: DENIED
    simulation.settle()
    decided = simulation.reconcile()
    assert decided.blocker is not None
    assert (decided.blocker.reason, decided.requeue_after, decided.delete) == (
        "ModelAccessDenied",
        RETRY_SECONDS / 2,
        (),
    )
    simulation.server.timestamp = lambda: "2026-03-01T11:00:00Z"  # type: ignore[method-assign]
    job = simulation.server.of_kind("Job")[0]
    simulation.server.change(
        reference(job), lambda o: o["status"]["conditions"][0].update(lastTransitionTime="2026-03-01T11:00:00Z")
    )
    simulation.world.answer = lambda job: Downloaded(sha=SHA, files=1, bytes=1)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_download_that_ended_without_a_word_is_told_so() -> None:
    simulation = Simulation(ON_CLAIM)
    simulation.tell_all()
    simulation.reconcile()
    simulation.reconcile()
    job = simulation.server.of_kind("Job")[0]
    ended = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}]}
    simulation.server.change(reference(job), lambda o: o.update(status=ended))
    simulation.tell_all()
    decided = simulation.reconcile()
    assert decided.blocker is not None
    assert decided.blocker.reason == "ModelDownloadFailed"


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        (None, "Downloading the model."),
        (Progress(bytes_done=0, bytes_total=0, files_done=0, files_total=0), "Downloading the model."),
        (
            Progress(bytes_done=3_200_000_000, bytes_total=16_100_000_000, files_done=0, files_total=1),
            "Downloading the model: 10 % of 16.1 GB.",
        ),
        (
            Progress(bytes_done=99, bytes_total=100, files_done=0, files_total=1),
            "Downloading the model: 90 % of 0.0 GB.",
        ),
        (
            Progress(bytes_done=100, bytes_total=100, files_done=1, files_total=1),
            "Downloading the model: 100 % of 0.0 GB.",
        ),
    ],
)
def test_progress_is_told_in_tenths(progress: Progress | None, sentence: str) -> None:
    observed = Observed(progress={"bot-r1-a": progress} if progress else {})
    assert progress_sentence(pod(), observed) == sentence


def test_pods_that_download_are_asked_how_far_they_are() -> None:
    simulation = Simulation(model_spec()).settle()
    target = simulation.status().target_revision
    loading = pod(
        target, name="a", containers=(container(names.DOWNLOAD_CONTAINER, running_since="2026-03-01T12:00:00Z"),)
    )
    placed = pod(target, name="b", containers=(container(names.DOWNLOAD_CONTAINER),))
    observed = replace(simulation.observed(), pods=(loading, placed))
    decided = plan(deployment(uid="uid-1"), observed, config(), NOW)
    assert decided.requests == (ReadProgress("a", names.DOWNLOAD_CONTAINER),)
    assert decided.requeue_after == PROGRESS_SECONDS


@pytest.mark.parametrize("replicas", [0, 3])
def test_while_a_change_waits_what_serves_follows_the_replicas(replicas: int) -> None:
    simulation = Simulation(model_spec()).settle()
    serving = str(simulation.status().target_revision)
    spec = model_spec(replicas=replicas, engine={"version": "9.9.9"})
    decided = plan(deployment(spec, uid="uid-1"), replace(simulation.observed(), images={}), config(), NOW)
    asked = [item.manifest for item in decided.apply if item.manifest["kind"] == "ReplicaSet"]
    assert [(item["metadata"]["name"], item["spec"]["replicas"]) for item in asked] == [(f"bot-{serving}", replicas)]


def test_an_old_revision_is_retired_once_its_last_pod_is_gone() -> None:
    simulation = Simulation(model_spec()).settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    plans = list(simulation.in_turn())
    retired = [item for decided in plans for item in decided.delete]
    assert [(item.kind, item.api_version) for item in retired] == [("ReplicaSet", "apps/v1")]
    assert len(simulation.server.of_kind("ControllerRevision")) == 2, "kept to go back to"


def test_history_is_kept_to_its_limit() -> None:
    simulation = Simulation(model_spec(revisionHistoryLimit=1)).settle()
    for seed in range(4):
        simulation.change_spec(engine={"args": [f"--seed={seed}"]})
        simulation.settle()
    assert sorted(raw["revision"] for raw in simulation.server.of_kind("ControllerRevision")) == [4, 5]


@pytest.mark.parametrize(
    ("counted", "settled", "expected"),
    [
        pytest.param((3, 2), True, (2, 2), id="a pod beyond what is asked for is as good as gone"),
        pytest.param((3, 0), True, (3, 1), id="so is a pod that its ReplicaSet does not count"),
        pytest.param((3, 2), False, (3, 1), id="nothing moves before the last step was followed"),
    ],
)
def test_pods_on_their_way_out_do_not_count_as_serving(
    counted: tuple[int, int], settled: bool, expected: tuple[int, int]
) -> None:
    """A spec that goes back and forth: what is being deleted still looks ready for a moment."""
    simulation = Simulation(model_spec(replicas=3)).settle()
    old = str(simulation.status().target_revision)
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.tell_all()
    simulation.reconcile()
    new = str(simulation.status().target_revision)
    observed = simulation.observed()
    asked, ready = {old: 3, new: 1}, dict(zip((old, new), counted, strict=True))
    owners = tuple(
        replace(item, replicas=asked[item.revision], ready=ready[item.revision], settled=settled)
        for item in observed.replica_sets
    )
    pods = (*[pod(old, ready=True)] * 3, *[pod(new, ready=True)] * 2)
    spec = model_spec(replicas=3, engine={"args": ["--seed=1"]})
    changed = replace(observed, replica_sets=owners, pods=pods)
    decided = plan(deployment(spec, uid="uid-1"), changed, config(), NOW)
    assert decided.counts == dict(zip((old, new), expected, strict=True))


def test_a_claim_is_made_once_and_what_an_administrator_changes_of_it_stays() -> None:
    simulation = Simulation(ON_CLAIM).settle()
    claim = simulation.server.of_kind("PersistentVolumeClaim")[0]
    larger = {"requests": {"storage": "50Gi"}}
    simulation.server.change(reference(claim), lambda o: o["spec"].update(resources=larger))
    simulation.tell_all()
    assert simulation.reconcile().apply == ()


def test_what_a_newer_operator_stored_in_a_revision_stays_when_an_older_one_goes_back_to_it() -> None:
    simulation = Simulation(model_spec()).settle()
    first = simulation.server.of_kind("ControllerRevision")[0]
    data = {**first["data"], "verdict": "Good"}
    simulation.server.change(reference(first), lambda o: o.update(data=data))
    for args in (["--seed=1"], []):
        simulation.change_spec(engine={"args": args})
        simulation.settle()
    stored = simulation.server.get(reference(first))
    assert stored is not None
    assert (stored["revision"], stored["data"]) == (3, data)


@pytest.mark.parametrize(("ready", "gone"), [(0, []), (1, ["bot-lost"])], ids=["target starts", "target serves"])
def test_a_replica_set_of_an_unknown_revision_goes_once_the_target_serves(ready: int, gone: list[str]) -> None:
    simulation = Simulation(model_spec()).settle()
    observed = simulation.observed()
    target = str(simulation.status().target_revision)
    known = observed.replica_sets[0]
    lost = replace(known, name="bot-lost", revision="lost")
    live = {**observed.live, ("ReplicaSet", "bot-lost"): observed.live[("ReplicaSet", known.name)]}
    pods = (pod(target, ready=bool(ready)),)
    changed = replace(observed, replica_sets=(known, lost), live=live, pods=pods)
    decided = plan(deployment(model_spec(), uid="uid-1"), changed, config(), NOW)
    assert [item.name for item in decided.delete] == gone
