"""A new revision's own image is asked before it replaces what serves: what follows, whatever it answers."""

from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult
from tests.support.builders import model_spec
from tests.support.simulation import Simulation
from tests.support.world import nothing_against_it

CHANGE: dict[str, Any] = {"args": ["--max-num-seqs=4"]}
REMOVED: dict[str, Any] = {"args": ["--swap-space=4"]}


def answer(result: str, said: str = "") -> PreflightOutcome:
    return PreflightOutcome(checks=(PreflightCheck(check="arguments", result=PreflightResult(result), said=said),))


REFUSAL = answer("Refused", "unrecognized arguments: --swap-space=4")


def serving(**spec: Any) -> Simulation:
    return Simulation(model_spec(**spec)).settle()


def of(simulation: Simulation, kind: str) -> list[str]:
    return sorted(raw["metadata"]["name"] for raw in simulation.server.of_kind(kind))


def newest(simulation: Simulation) -> Object:
    found: Object = max(simulation.server.of_kind("ControllerRevision"), key=lambda raw: int(raw["revision"]))
    return found


def test_the_first_revision_is_not_held_up() -> None:
    simulation = serving()
    assert of(simulation, "Job") == []
    assert "preflight" not in newest(simulation)["data"]


def test_what_is_refused_makes_nothing_and_touches_nothing() -> None:
    simulation = serving(replicas=2)
    pods, sets, revisions = (of(simulation, kind) for kind in ("Pod", "ReplicaSet", "ControllerRevision"))
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(engine=REMOVED)
    for _ in simulation.in_turn():
        engines = [raw for raw in simulation.server.of_kind("Pod") if names.LABEL_REVISION in raw["metadata"]["labels"]]
        assert sorted(raw["metadata"]["name"] for raw in engines) == pods
        assert (of(simulation, "ReplicaSet"), of(simulation, "ControllerRevision")) == (sets, revisions)
    assert simulation.condition("Ready") == ("False", "EngineArgsRejected")
    assert simulation.condition("Stalled") == ("True", "EngineArgsRejected")
    assert simulation.condition("Reconciling")[0] == "False"
    assert simulation.condition("Available") == ("True", "Serving")
    assert "vLLM 0.18.0 removed --swap-space" in simulation.status().conditions[0].message
    writes, jobs = simulation.writes, of(simulation, "Job")
    simulation.pass_time(7200)
    simulation.settle()
    assert (simulation.writes, of(simulation, "Job")) == (writes, jobs), "nobody asks again and again"


def test_what_serves_is_still_scaled_while_a_change_is_refused() -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(engine=REMOVED)
    simulation.settle()
    simulation.change_spec(replicas=3)
    simulation.settle()
    assert list(simulation.asked().values()) == [3]
    assert simulation.condition("Available") == ("True", "Serving")


@pytest.mark.parametrize("correction", [CHANGE, {"args": []}], ids=["corrected", "taken back"])
def test_a_correction_heals_and_leaves_no_job_behind(correction: dict[str, Any]) -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(engine=REMOVED)
    simulation.settle()
    simulation.world.preflight = nothing_against_it
    simulation.change_spec(engine=correction)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert of(simulation, "Job") == []


def test_one_refusal_after_another_keeps_one_job() -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: REFUSAL
    for count in range(4):
        simulation.change_spec(engine={"args": [f"--swap-space={count}"]})
        simulation.settle()
        assert len(of(simulation, "Job")) == 1


def test_the_annotation_is_followed_at_once() -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(engine=REMOVED)
    simulation.settle()
    simulation.annotate(preflight="off")
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert of(simulation, "Job") == []


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(answer("Passed"), id="that it takes it"),
        pytest.param(answer("Unknown", "no vLLM"), id="that it cannot judge"),
        pytest.param(PreflightOutcome(), id="nothing"),
    ],
)
def test_everything_else_goes_on_and_is_stored(said: PreflightOutcome) -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: said
    simulation.change_spec(engine=CHANGE)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert newest(simulation)["data"]["preflight"]["outcome"] == said.to_json()


def test_what_is_known_already_is_not_asked_again() -> None:
    """Another label on the pods is another revision of the same engine."""
    simulation = serving()
    simulation.change_spec(engine=CHANGE)
    simulation.settle()
    asked = newest(simulation)["data"]["preflight"]
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(podTemplate={"metadata": {"labels": {"team": "a"}}})
    for _ in simulation.in_turn():
        assert of(simulation, "Job") == []
    assert simulation.condition("Ready") == ("True", "Serving")
    assert newest(simulation)["data"]["preflight"] == asked


def test_without_a_node_for_the_look_the_engine_tries_after_the_patience_for_placement() -> None:
    simulation = serving()
    simulation.world.preflight = lambda pod: None
    simulation.change_spec(engine=CHANGE)
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "Unschedulable")
    assert simulation.condition("Stalled")[0] == "False", "it passes by itself"
    assert simulation.condition("Available") == ("True", "Serving")
    assert "the engine is started without it" in simulation.status().conditions[0].message
    simulation.pass_time(900)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert "preflight" not in newest(simulation)["data"]
    assert of(simulation, "Job") == []


def test_an_image_that_cannot_be_pulled_is_found_before_a_replica_goes() -> None:
    simulation = serving()
    before = of(simulation, "Pod")
    simulation.world.preflight = lambda pod: None
    simulation.change_spec(engine=CHANGE)
    simulation.settle()
    (pod,) = (raw for raw in simulation.server.of_kind("Pod") if "preflight" in raw["metadata"]["name"])
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image: unauthorized"}
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": names.PREFLIGHT_CONTAINER, "state": {"waiting": waiting}}],
    }
    simulation.server.change(reference(pod), lambda raw: raw.update(status=status))
    for _ in range(3):
        simulation.pass_time(3600)
        simulation.tell_all()
        simulation.reconcile()
    assert simulation.condition("Ready") == ("False", "ImagePullFailed")
    assert simulation.condition("Stalled") == ("True", "ImagePullFailed")
    assert len(of(simulation, "ReplicaSet")) == 1
    assert [name for name in of(simulation, "Pod") if "preflight" not in name] == before


def test_while_paused_nobody_asks() -> None:
    simulation = serving()
    simulation.change_spec(engine=CHANGE, paused=True)
    simulation.settle()
    assert of(simulation, "Job") == []


def test_a_deployment_that_is_off_is_asked_too_since_it_may_be_switched_on() -> None:
    simulation = serving()
    simulation.change_spec(replicas=0)
    simulation.settle()
    simulation.world.preflight = lambda pod: REFUSAL
    simulation.change_spec(engine=REMOVED)
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "EngineArgsRejected")
