"""Which replicas count as changed, what is said of it, and who goes when."""

from collections.abc import Callable
from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.resource import parse
from nightshift.core.changed import changed_pods, same_image
from nightshift.core.exchange import COST_ANNOTATION, not_evicted
from nightshift.core.plan import plan
from nightshift.core.planning import Plan
from tests.support.api_server import copied
from tests.support.builders import DIGEST, OTHER_DIGEST, model_spec
from tests.support.simulation import Simulation
from tests.support.world import is_ready

Change = Callable[[Object], Any]
EVIL = f"registry.example/evil:v1@{OTHER_DIGEST}"
TAG = "registry.example/vllm:v0.32.0"


@pytest.mark.parametrize(
    ("wanted", "live", "running", "expected"),
    [
        pytest.param("a/vllm:v1", "a/vllm:v1", "", True, id="the same words"),
        pytest.param("a/vllm:v1@sha256:1f", "mirror/a/vllm@sha256:1f", "", True, id="a mirror keeps the digest"),
        pytest.param("a/vllm:v1@sha256:1f", "a/vllm:v1@sha256:2e", "sha256:1f", False, id="another digest"),
        pytest.param("a/vllm:v1@sha256:1f", "a/vllm:v1", "sha256:1f", True, id="a tag that runs what is pinned"),
        pytest.param("a/vllm:v1@sha256:1f", "a/vllm:v1", "", True, id="a tag of which it is not told what it runs"),
        pytest.param("a/vllm:v1@sha256:1f", "a/vllm:v1", "sha256:2e", False, id="a tag that runs something else"),
        pytest.param("a/vllm:v1@sha256:1f", "a/vllm:v2", "sha256:1f", False, id="another tag that does not run yet"),
        pytest.param("a/vllm:v1", "a/vllm:v1@sha256:1f", "", True, id="nothing was pinned, and somebody pinned it"),
        pytest.param("a/vllm:v1", "b/vllm:v1", "", False, id="nothing was pinned, and it is of another repository"),
    ],
)
def test_whether_two_references_mean_one_image(wanted: str, live: str, running: str, expected: bool) -> None:
    assert same_image(wanted, live, running) is expected


def serving(replicas: int = 2, **more: Any) -> Simulation:
    return Simulation(model_spec(replicas=replicas, **more.pop("spec", {})), **more).settle()


def engine(raw: Object) -> Object:
    found: Object = raw["spec"]["containers"][0]
    return found


def download(raw: Object) -> Object:
    found: Object = raw["spec"]["initContainers"][0]
    return found


def found_after(change: Change, *, corrected: bool = True, manager: str = "") -> list[str]:
    """Fields named after a pod was changed, with and without knowing of an edit."""
    simulation = serving(1)
    if corrected:
        (owner,) = simulation.server.of_kind("ReplicaSet")
        note = {names.ANNOTATION_CORRECTED: simulation.server.timestamp()}
        simulation.server.change(
            reference(owner), lambda raw: raw["metadata"].setdefault("annotations", {}).update(note)
        )
    (pod,) = simulation.server.of_kind("Pod")
    simulation.server.change(reference(pod), change, manager)
    simulation.tell_all()
    observed = simulation.observed()
    return [where for _, where in changed_pods(parse(simulation.body), observed.revisions[0], observed)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda raw: None, None, id="nothing"),
        pytest.param(lambda raw: engine(raw).update(image=EVIL), ".spec.containers[name=engine].image", id="an image"),
        pytest.param(
            lambda raw: engine(raw).update(image=f"mirror.example/vllm@{DIGEST}"), None, id="a mirror of the image"
        ),
        pytest.param(lambda raw: engine(raw).update(image=TAG), None, id="its tag alone, which runs what is pinned"),
        pytest.param(
            lambda raw: engine(raw)["args"].append("--seed=9"), ".spec.containers[name=engine].args", id="an argument"
        ),
        pytest.param(
            lambda raw: engine(raw).update(command=["sh"]), ".spec.containers[name=engine].command", id="a command"
        ),
        pytest.param(
            lambda raw: engine(raw)["env"][0].update(value="other"),
            ".spec.containers[name=engine].env[name=",
            id="a variable of ours",
        ),
        pytest.param(lambda raw: engine(raw)["env"].append({"name": "INJECTED", "value": "1"}), None, id="one more"),
        pytest.param(
            lambda raw: download(raw)["args"].append("--x"),
            ".spec.initContainers[name=model-download].args",
            id="fetch",
        ),
        pytest.param(lambda raw: raw["spec"]["containers"].append({"name": "mesh"}), None, id="a sidecar of admission"),
        pytest.param(
            lambda raw: engine(raw).update(name="other"), ".spec.containers[name=engine]", id="no engine at all"
        ),
        pytest.param(lambda raw: raw["spec"].setdefault("tolerations", []).append({}), None, id="a toleration"),
        pytest.param(lambda raw: raw["spec"].update(hostNetwork=True), ".spec.hostNetwork", id="the host's network"),
        pytest.param(lambda raw: raw["spec"].update(hostPID=True), ".spec.hostPID", id="the host's processes"),
        pytest.param(lambda raw: raw["spec"].update(hostNetwork=False), None, id="no host's network, in words"),
        pytest.param(
            lambda raw: raw["spec"].update(serviceAccountName="default"), ".spec.serviceAccountName", id="an account"
        ),
    ],
)
def test_what_makes_a_replica_a_changed_one(change: Change, expected: str | None) -> None:
    found = found_after(change)
    assert len(found) == (expected is not None)
    assert all(where.startswith(expected or "") for where in found)


def test_what_nobody_is_known_to_have_edited_is_admissions() -> None:
    """A webhook that changes every pod must not have them replaced without end."""

    def change(raw: Object) -> None:
        engine(raw)["args"].append("--by-a-webhook")
        created: dict[str, Any] = {"f:metadata": {"f:ownerReferences": {}}, "f:spec": {"f:containers": {}}}
        raw["metadata"]["managedFields"] = [{"manager": "k3s", "operation": "Update", "fieldsV1": created}]

    assert found_after(change, corrected=False) == []
    assert found_after(change) == [".spec.containers[name=engine].args"]


def test_who_edits_a_pod_is_seen_in_its_managed_fields() -> None:
    assert found_after(lambda raw: engine(raw).update(image=EVIL), corrected=False, manager="kubectl-set") == [
        ".spec.containers[name=engine].image"
    ]


def test_a_pod_that_was_made_long_after_its_template_was_set_back_is_as_admission_made_it() -> None:
    def change(raw: Object) -> None:
        engine(raw)["args"].append("--by-a-webhook")
        raw["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"

    assert found_after(change) == []


def edit(simulation: Simulation, raw: Object) -> str:
    """kubectl set image pod/..."""
    simulation.server.change(reference(raw), lambda pod: engine(pod).update(image=EVIL), "kubectl-set")
    return str(raw["metadata"]["name"])


def decided(simulation: Simulation) -> Plan:
    simulation.tell_all()
    return plan(parse(simulation.body), simulation.observed(), simulation.config, simulation.now)


def test_of_several_one_is_evicted_at_a_time_and_never_two_are_missing() -> None:
    simulation = serving(3)
    edited = {edit(simulation, raw) for raw in copied(simulation.server.of_kind("Pod"))}
    least = 3
    for _ in simulation.in_turn():
        least = min(least, sum(map(is_ready, simulation.server.of_kind("Pod"))))
    assert least == 2
    assert edited.isdisjoint(raw["metadata"]["name"] for raw in simulation.server.of_kind("Pod"))
    assert simulation.condition("Ready") == ("True", "Serving")
    assert sum("is evicted now" in line for line in simulation.log if line.startswith("operator")) == 3
    assert simulation.asked() == {f"bot-{simulation.status().target_revision}": 3}


def test_what_is_told_names_pod_field_and_remedy() -> None:
    simulation = serving()
    name = edit(simulation, simulation.server.of_kind("Pod")[0])
    simulation.tell_all()
    simulation.reconcile()
    told = {item.type: item for item in simulation.status().conditions}
    assert [(told[kind].status, told[kind].reason) for kind in ("Ready", "Reconciling", "Progressing", "Stalled")] == [
        ("False", "PodChanged"),
        ("True", "PodChanged"),
        ("True", "PodChanged"),
        ("False", "NotStalled"),
    ]
    message = told["Ready"].message
    assert message.startswith(f"Pod {name} is not as revision ")
    assert ".spec.containers[name=engine].image" in message
    assert "It is evicted now, and its ReplicaSet starts another." in message
    assert "To run something else, change the LLMDeployment." in message
    assert told["Available"].status == "True"


def test_the_others_must_serve_before_one_is_evicted() -> None:
    simulation = serving(2)
    first, second = copied(simulation.server.of_kind("Pod"))
    edit(simulation, first)
    simulation.world.crash(second)
    found = decided(simulation)
    assert found.delete == ()
    assert found.changed is not None
    assert "once the other replicas serve" in found.changed


def test_a_changed_replica_that_does_not_serve_is_evicted_at_once() -> None:
    simulation = serving(1)
    (raw,) = copied(simulation.server.of_kind("Pod"))
    edit(simulation, raw)
    simulation.world.crash(raw)
    (eviction,) = decided(simulation).delete
    assert (eviction.name, eviction.evict) == (raw["metadata"]["name"], True)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


def test_of_a_lost_node_nothing_is_taken() -> None:
    simulation = serving(1)
    (raw,) = copied(simulation.server.of_kind("Pod"))
    edit(simulation, raw)
    lost = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    simulation.server.change(reference(raw), lambda pod: pod["status"].update(conditions=lost))
    found = decided(simulation)
    assert found.delete == ()
    assert found.changed is not None
    assert "once its node reports again" in found.changed


def test_the_only_one_goes_when_a_second_serves() -> None:
    simulation = serving(1)
    name = edit(simulation, simulation.server.of_kind("Pod")[0])
    least, most = 1, 1
    for _ in simulation.in_turn():
        pods = simulation.server.of_kind("Pod")
        least, most = min(least, sum(map(is_ready, pods))), max(most, len(pods))
    assert (least, most) == (1, 2)
    (left,) = simulation.server.of_kind("Pod")
    assert left["metadata"]["name"] != name
    assert COST_ANNOTATION not in left["metadata"].get("annotations", {})
    assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.asked() == {f"bot-{simulation.status().target_revision}": 1}


def test_without_room_for_a_second_the_only_one_stays_until_there_is_some() -> None:
    simulation = serving(1, gpus=1)
    name = edit(simulation, simulation.server.of_kind("Pod")[0])
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "PodChanged")
    message = simulation.status().conditions[0].message
    assert "A second replica finds no room" in message
    assert "rollout.placementTimeoutSeconds" in message
    simulation.pass_time(3600)
    simulation.settle()
    assert name in {raw["metadata"]["name"] for raw in simulation.server.of_kind("Pod") if is_ready(raw)}
    assert "set rollout.allowOutage to true" in simulation.status().conditions[0].message
    simulation.world.gpus = 2
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert [raw["metadata"]["name"] == name for raw in simulation.server.of_kind("Pod")] == [False]


def test_with_an_allowed_outage_the_only_one_goes_first_once_no_node_came() -> None:
    simulation = serving(1, gpus=1, spec={"rollout": {"allowOutage": True}})
    name = edit(simulation, simulation.server.of_kind("Pod")[0])
    simulation.settle()
    assert "Then this one is deleted first" in simulation.status().conditions[0].message
    assert [is_ready(raw) for raw in simulation.server.of_kind("Pod")] == [True, False]
    simulation.pass_time(901)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert [raw["metadata"]["name"] == name for raw in simulation.server.of_kind("Pod")] == [False]


def test_while_a_rollout_is_under_way_it_waits_and_an_old_one_goes_with_it() -> None:
    simulation = serving(2)
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.tell_all()
    simulation.reconcile()
    for _ in simulation.in_turn():
        target = simulation.status().target_revision
        new = [
            raw
            for raw in simulation.server.of_kind("Pod")
            if target is not None and raw["metadata"]["labels"].get(names.LABEL_REVISION) == target
        ]
        if new:
            edit(simulation, new[0])
            break
    simulation.tell_all()
    found = decided(simulation)
    assert found.changed is not None
    assert not any(item.evict for item in found.delete)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert {engine(raw)["image"] for raw in simulation.server.of_kind("Pod")} != {EVIL}


def test_while_paused_it_is_told_and_left_alone() -> None:
    simulation = serving(2)
    simulation.change_spec(paused=True)
    name = edit(simulation, simulation.server.of_kind("Pod")[0])
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "PodChanged")
    assert simulation.condition("Reconciling")[0] == "False"
    assert "while spec.paused is true" in simulation.status().conditions[0].message
    assert name in {raw["metadata"]["name"] for raw in simulation.server.of_kind("Pod")}


def test_a_pod_that_was_made_of_an_edited_template_goes_also_by_a_new_process() -> None:
    simulation = serving(2)
    (owner,) = copied(simulation.server.of_kind("ReplicaSet"))
    pods = copied(simulation.server.of_kind("Pod"))

    def change(raw: Object) -> None:
        raw["spec"]["template"]["spec"]["hostNetwork"] = True
        raw["spec"]["template"]["spec"]["containers"][0]["args"] = ["--model=/evil"]

    simulation.server.change(reference(owner), change, "kubectl-edit")
    simulation.server.remove(reference(pods[0]))
    for step in simulation.world.pending():
        if "makes a pod" in step.name:
            step.act()
    assert any(raw["spec"].get("hostNetwork") for raw in simulation.server.of_kind("Pod"))
    simulation.settle()
    assert not any(raw["spec"].get("hostNetwork") for raw in simulation.server.of_kind("Pod"))
    assert {tuple(engine(raw)["args"]) for raw in simulation.server.of_kind("Pod")} == {tuple(engine(pods[1])["args"])}
    assert pods[1]["metadata"]["uid"] in {raw["metadata"]["uid"] for raw in simulation.server.of_kind("Pod")}
    assert simulation.condition("Ready") == ("True", "Serving")


def test_no_replica_is_given_up_while_its_template_is_not_set_back() -> None:
    simulation = serving(2)
    (owner,) = copied(simulation.server.of_kind("ReplicaSet"))
    edit(simulation, simulation.server.of_kind("Pod")[0])
    simulation.server.change(
        reference(owner), lambda raw: raw["spec"]["template"]["spec"].update(hostPID=True), "kubectl-edit"
    )
    found = decided(simulation)
    assert not any(item.evict for item in found.delete)
    assert found.changed is not None
    assert "once the template is set back" in found.changed


def test_a_pod_that_was_taken_out_of_its_replicaset_is_left_alone_and_told() -> None:
    simulation = serving(2)
    raw = copied(simulation.server.of_kind("Pod")[0])
    simulation.server.change(
        reference(raw), lambda pod: pod["metadata"]["labels"].update({names.LABEL_REVISION: "debug"})
    )
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.condition("Progressing") == ("False", "StrayPod")
    assert (simulation.status().replicas, simulation.status().ready_replicas) == (2, 2)
    assert len(simulation.server.of_kind("Pod")) == 3
    assert any(line.startswith(f"event: Warning StrayPod: Pod {raw['metadata']['name']} ") for line in simulation.log)
    simulation.server.delete(reference(raw))
    simulation.settle()
    assert simulation.condition("Progressing") == ("False", "Complete")


def test_an_eviction_that_is_refused_says_so() -> None:
    cause = not_evicted("bot-1", "Cannot evict pod as it would violate the pod's disruption budget.")
    assert (cause.reason, cause.definite) == ("PodChanged", False)
    assert "disruption budget. It is tried again every minute" in cause.message
