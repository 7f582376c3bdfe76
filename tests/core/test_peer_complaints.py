"""What users of other operators complained of, one named test each, against the real plan, status and events.

The number is that of the issue in the project's tracker. Each test shows the state that the complaint describes
and what Nightshift says in it.
"""

from collections.abc import Iterator

from nightshift.adapters.kube import CHILD_KINDS
from nightshift.api import names
from tests.support.builders import HUB_MODEL, OTHER_SHA, config, model_spec
from tests.support.simulation import Simulation
from tests.support.world import Fate, is_ready


def serving(replicas: int = 1, gpus: int = 1000) -> Simulation:
    simulation = Simulation(model_spec(replicas=replicas), gpus=gpus).settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    return simulation


def generation(simulation: Simulation) -> int:
    return int(simulation.body["metadata"]["generation"])


def pods_of(simulation: Simulation, revision: str | None) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in simulation.server.of_kind("Pod")
        if pod["metadata"]["labels"].get(names.LABEL_REVISION) == revision
    ]


def uids(simulation: Simulation) -> set[str]:
    return {pod["metadata"]["uid"] for pod in simulation.server.of_kind("Pod")}


def each_step(simulation: Simulation) -> Iterator[str]:
    """Ready's status after every reconcile until all is at rest."""
    for _ in simulation.in_turn():
        yield simulation.condition("Ready")[0]


def out_of_memory(simulation: Simulation) -> None:
    """The kernel ends the only engine, and it is out of memory again each time it starts."""
    simulation.world.fate = lambda pod: Fate.CRASHES
    pod = simulation.server.of_kind("Pod")[0]
    simulation.world.crash(pod)
    where = simulation.reference_of(pod)

    def killed(raw: dict[str, object]) -> None:
        raw["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] = "OOMKilled"  # type: ignore[index]

    simulation.server.change(where, killed)
    simulation.tell_all()
    simulation.reconcile()


def test_kaito_1493_out_of_memory_is_not_ready() -> None:
    """InferenceReady stayed True while the engine was out of memory."""
    simulation = serving()
    out_of_memory(simulation)
    assert simulation.condition("Ready") == ("False", "OutOfMemory")
    assert simulation.condition("Available")[0] == "False"


def test_kaito_931_a_crash_loop_is_not_ready() -> None:
    """The workspace was True while its pod was in CrashLoopBackOff."""
    simulation = serving()
    simulation.world.fate = lambda pod: Fate.CRASHES
    simulation.world.crash(simulation.server.of_kind("Pod")[0])
    for ready in each_step(simulation):
        assert ready != "True"
    assert simulation.condition("Available")[0] == "False"
    assert simulation.status().ready_replicas == 0


def test_kserve_6043_every_kind_that_is_made_is_watched_and_its_state_reaches_the_status() -> None:
    """The status of the workload's own object was not watched, so the service stayed as it was."""
    simulation = serving()
    made = {kind for kind, _ in simulation.applied} | {"Pod"}
    assert made <= {kind for _, kind in CHILD_KINDS}
    where = simulation.reference_of(simulation.server.of_kind("ReplicaSet")[0])
    failure = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: gpus"}
    for pod in simulation.server.of_kind("Pod")[:]:
        simulation.server.remove(simulation.reference_of(pod))
    simulation.server.change(where, lambda raw: raw.update(status={"replicas": 0, "conditions": [failure]}))
    simulation.tell_all()
    simulation.reconcile()
    assert simulation.condition("Ready") == ("False", "QuotaExceeded")


def test_kserve_6072_the_reason_names_what_is_wrong_and_not_what_would_come_later() -> None:
    """WaitingForGateway was shown while the pods could not be scheduled."""
    simulation = Simulation(model_spec(), gpus=0).settle()
    for kind in ("Ready", "Progressing"):
        assert simulation.condition(kind)[1] == "NoGpuCapacity"
    message = next(item.message for item in simulation.status().conditions if item.type == "Ready")
    assert "Insufficient nvidia.com/gpu" in message


def test_airunway_422_an_update_without_new_replicas_is_not_ready() -> None:
    """The current generation was reported Ready while the update had no replica."""
    simulation = serving(gpus=1)
    old = simulation.status().revision
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    for ready in each_step(simulation):
        new = simulation.status().target_revision
        fresh = [name for name in pods_of(simulation, new) if new != old and name]
        if not any(is_ready(pod) for pod in simulation.server.of_kind("Pod") if pod["metadata"]["name"] in fresh):
            assert ready != "True"
        assert simulation.status().observed_generation == generation(simulation)
    assert simulation.condition("Available")[0] == "True", "the old replica serves on"


def test_production_stack_an_edited_argument_reaches_the_engines() -> None:
    """Edits of the engine's arguments were accepted and ignored."""
    simulation = serving(replicas=2)
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    for pod in simulation.server.of_kind("Pod"):
        engine = next(item for item in pod["spec"]["containers"] if item["name"] == names.ENGINE_CONTAINER)
        assert "--max-model-len=1024" in engine["args"]


def test_production_stack_every_field_of_the_engine_and_the_model_is_heard() -> None:
    edits: list[dict[str, object]] = [
        {"engine": {"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}},
        {"engine": {"version": "0.31.0"}},
        {"engine": {"image": "registry.example/other"}},
        {"model": {"uri": HUB_MODEL, "revision": OTHER_SHA}},
        {"podTemplate": {"nodeSelector": {"zone": "b"}}},
    ]
    for edit in edits:
        simulation = serving()
        before = simulation.status().target_revision
        simulation.change_spec(**edit)
        simulation.tell_all()
        simulation.reconcile()
        told = simulation.status()
        heard = told.target_revision != before or simulation.condition("Ready")[0] == "False"
        assert heard, f"{edit} changed nothing"


def test_dynamo_3567_old_pods_do_not_count_for_the_new_revision() -> None:
    """The rollout was "successful" while old pods satisfied the count."""
    simulation = serving(replicas=2)
    old = simulation.status().revision
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    held_back = False
    simulation.world.fate = lambda pod: (
        Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == old else Fate.PULL_FAILS
    )
    for ready in each_step(simulation):
        if simulation.status().target_revision != old:
            held_back = True
            assert ready == "False"
    assert held_back
    assert simulation.status().ready_replicas == 2, "the old pods serve"
    assert simulation.status().revision == old, "and the status says that it is they"


def test_llmkube_192_an_upgrade_of_the_operator_needs_no_spare_gpu() -> None:
    """An upgrade of the operator rolled every model at once, and no GPU was free for it."""
    simulation = serving(replicas=2, gpus=2)
    before, writes = uids(simulation), simulation.server.of_kind("ReplicaSet")[0]["metadata"]["generation"]
    other = config()
    simulation.change_config(
        fetch_image="registry.example/nightshift/operator:2",
        defaults=other.defaults.model_copy(update={"engine_version": "0.33.0", "engine_image": "registry.example/new"}),
    )
    for ready in each_step(simulation):
        assert ready == "True"
    assert uids(simulation) == before
    assert simulation.server.of_kind("ReplicaSet")[0]["metadata"]["generation"] == writes


def test_kubeai_442_a_rollout_asks_for_one_replica_more_at_a_time() -> None:
    """All new pods were created before the old ones were removed."""
    simulation = serving(replicas=3)
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    most = 0
    for _ in each_step(simulation):
        asked, pods = sum(simulation.asked().values()), simulation.server.of_kind("Pod")
        engines = [pod for pod in pods if names.LABEL_REVISION in pod["metadata"]["labels"]]
        living = [pod for pod in engines if "deletionTimestamp" not in pod["metadata"]]
        assert asked <= 4, f"{asked} replicas are asked for"
        assert len(living) <= 4
        most = max(most, len(living))
    assert most == 4, "there was a spare accelerator, so the new one came first"
    assert len(simulation.server.of_kind("Pod")) == 3
