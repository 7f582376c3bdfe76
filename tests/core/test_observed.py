from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.fetch import Downloaded, to_line
from nightshift.core.observed import Observed, image_key, job_facts, observe, pod_facts, replica_set_facts
from nightshift.core.times import moment
from tests.support.builders import NOW, SHA, UID, digest_known, pod, revision

OWNED: dict[str, Any] = {"ownerReferences": [{"uid": UID, "controller": True}]}
FOREIGN: dict[str, Any] = {"ownerReferences": [{"uid": "someone-else", "controller": True}]}


def labelled(component: str = "engine", **metadata: Any) -> dict[str, Any]:
    labels = {names.LABEL_COMPONENT: component, names.LABEL_REVISION: "r1"}
    return {"name": "bot-r1-a", "labels": labels, **metadata}


def test_a_pod_that_the_kubelet_has_not_seen_yet() -> None:
    facts = pod_facts({"metadata": labelled(creationTimestamp="2026-03-01T12:00:00Z")})
    assert (facts.name, facts.component, facts.revision, facts.phase) == ("bot-r1-a", "engine", "r1", "Pending")
    assert (facts.ready, facts.terminating, facts.unschedulable, facts.containers) == (False, False, None, ())


def test_a_pod_that_serves() -> None:
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [
            {
                "name": names.DOWNLOAD_CONTAINER,
                "ready": True,
                "state": {"terminated": {"exitCode": 0, "message": to_line(Downloaded(sha=SHA, files=2, bytes=9))}},
            }
        ],
        "containerStatuses": [
            {
                "name": "engine",
                "ready": True,
                "restartCount": 2,
                "imageID": "registry.example/vllm@sha256:1f",
                "state": {"running": {"startedAt": "2026-03-01T12:01:00Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "killed"}},
            }
        ],
    }
    facts = pod_facts({"metadata": labelled(), "status": status})
    engine = facts.container("engine")
    assert engine is not None
    assert (engine.restarts, engine.exit_code, engine.termination_reason) == (2, 137, "OOMKilled")
    assert (engine.image_id, engine.running_since) == ("registry.example/vllm@sha256:1f", "2026-03-01T12:01:00Z")
    assert facts.outcome == Downloaded(sha=SHA, files=2, bytes=9)
    assert facts.ready
    assert facts.container("sidecar") is None


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}, "no node"),
        ({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gated"}, None),
    ],
)
def test_only_the_schedulers_refusal_counts_as_unschedulable(condition: dict[str, Any], message: str | None) -> None:
    assert pod_facts({"metadata": labelled(), "status": {"conditions": [condition]}}).unschedulable == message


MADE, LOADED, LAPSED = "2026-03-01T12:00:00Z", "2026-03-01T12:20:00Z", "2026-03-01T15:00:00Z"


@pytest.mark.parametrize(
    ("ready", "advanced", "lapsed"),
    [
        pytest.param({}, MADE, None, id="nothing is told yet"),
        pytest.param({"status": "False", "lastTransitionTime": MADE}, MADE, MADE, id="it is not ready yet"),
        pytest.param({"status": "True", "lastTransitionTime": LOADED}, LOADED, None, id="it is ready since then"),
        pytest.param({"status": "False", "lastTransitionTime": LAPSED}, MADE, LAPSED, id="it was ready until then"),
    ],
)
def test_until_when_a_pod_was_ready(ready: dict[str, Any], advanced: str, lapsed: str | None) -> None:
    status = {"conditions": [{"type": "Ready", **ready}]}
    facts = pod_facts({"metadata": labelled(creationTimestamp=MADE), "status": status})
    assert (facts.advanced, facts.lapsed) == (moment(advanced), moment(lapsed))


@pytest.mark.parametrize("told", [True, False, None], ids=["it has started", "it loads", "the kubelet told nothing"])
def test_whether_an_engine_has_started_is_what_the_kubelet_says(told: bool | None) -> None:
    status: dict[str, Any] = {"containerStatuses": [{"name": names.ENGINE_CONTAINER, "started": told, "state": {}}]}
    engine = pod_facts({"metadata": labelled(), "status": status}).container(names.ENGINE_CONTAINER)
    assert engine is not None
    assert engine.started is bool(told)


def test_what_another_container_wrote_is_no_outcome() -> None:
    line = to_line(Downloaded(sha=SHA, files=2, bytes=9))
    status = {"containerStatuses": [{"name": "engine", "state": {"terminated": {"exitCode": 1, "message": line}}}]}
    assert pod_facts({"metadata": labelled(), "status": status}).outcome is None


@pytest.mark.parametrize(
    ("conditions", "failure"),
    [
        ([], None),
        ([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}], "exceeded quota"),
        ([{"type": "ReplicaFailure", "status": "False", "message": "exceeded quota"}], None),
    ],
)
def test_a_replica_set_says_what_refuses_its_pods(conditions: list[dict[str, Any]], failure: str | None) -> None:
    raw = {"metadata": labelled(), "spec": {"replicas": 2}, "status": {"conditions": conditions}}
    facts = replica_set_facts(raw)
    assert (facts.revision, facts.replicas, facts.failure) == ("r1", 2, failure)


@pytest.mark.parametrize(
    ("generation", "status", "ready", "settled"),
    [
        pytest.param(1, {}, 0, False, id="its controller has not seen it"),
        pytest.param(2, {"observedGeneration": 1, "readyReplicas": 2}, 2, False, id="nor its last change"),
        pytest.param(2, {"observedGeneration": 2, "readyReplicas": 1}, 1, True, id="it has"),
    ],
)
def test_a_replica_set_is_settled_once_its_controller_has_seen_it(
    generation: int, status: dict[str, Any], ready: int, settled: bool
) -> None:
    raw = {"metadata": labelled(generation=generation), "spec": {"replicas": 2}, "status": status}
    facts = replica_set_facts(raw)
    assert (facts.ready, facts.settled) == (ready, settled)


@pytest.mark.parametrize(
    ("conditions", "succeeded", "failed", "finished"),
    [
        ([], False, False, None),
        ([{"type": "Complete", "status": "True", "lastTransitionTime": "t"}], True, False, "t"),
        ([{"type": "Failed", "status": "True", "lastTransitionTime": "t"}], False, True, "t"),
        ([{"type": "FailureTarget", "status": "True", "lastTransitionTime": "t"}], False, False, None),
        ([{"type": "Failed", "status": "False", "lastTransitionTime": "t"}], False, False, None),
    ],
)
def test_a_job_says_how_it_ended(
    conditions: list[dict[str, Any]], succeeded: bool, failed: bool, finished: str | None
) -> None:
    facts = job_facts({"metadata": {"name": "job"}, "status": {"conditions": conditions}})
    assert (facts.succeeded, facts.failed, facts.finished_at) == (succeeded, failed, finished)


def test_only_what_the_deployment_owns_is_observed_and_pods_by_their_label() -> None:
    stored = revision()
    objects: dict[tuple[str, str], dict[str, Any]] = {
        ("ControllerRevision", "mine"): stored.manifest,
        ("ControllerRevision", "broken"): {"metadata": {"name": "broken", **OWNED}, "data": {}},
        ("ControllerRevision", "foreign"): {**stored.manifest, "metadata": {**stored.manifest["metadata"], **FOREIGN}},
        ("ReplicaSet", "mine"): {"metadata": labelled(**OWNED), "spec": {"replicas": 1}},
        ("ReplicaSet", "foreign"): {"metadata": labelled(**FOREIGN), "spec": {"replicas": 9}},
        ("Job", "job"): {"metadata": {"name": "job", **OWNED}},
        ("Service", "owned-without-control"): {"metadata": {"name": "x", "ownerReferences": [{"uid": UID}]}},
        ("Pod", "pod"): {"metadata": labelled(**FOREIGN)},
    }
    observed = observe(UID, objects, digest_known(), {})
    assert observed.revisions == (stored,)
    assert [item.replicas for item in observed.replica_sets] == [1]
    assert [item.name for item in observed.jobs] == ["job"]
    assert [item.name for item in observed.pods] == ["bot-r1-a"]
    assert ("ReplicaSet", "foreign") not in observed.live
    assert ("Service", "owned-without-control") not in observed.live
    assert observed.images[image_key("registry.example/vllm", "v0.32.0")].at == NOW


def test_engine_pods_are_those_that_stay() -> None:
    observed = Observed(
        pods=(
            pod("r1", name="serves", ready=True),
            pod("r1", name="starts"),
            pod("r1", name="leaves", ready=True, terminating=True),
            pod("r1", name="evicted", phase="Failed"),
            pod("r1", name="ended", phase="Succeeded"),
            pod("r2", name="other", ready=True),
            pod(None, name="fetches", component=names.COMPONENT_DOWNLOAD, ready=True),
        )
    )
    assert [item.name for item in observed.engine_pods()] == ["serves", "starts", "other"]
    assert [item.name for item in observed.engine_pods("r1")] == ["serves", "starts"]
    assert (observed.ready(), observed.ready("r1"), observed.ready("r3")) == (2, 1, 0)
    assert observed.replica_set("r1") is None
