"""Rollouts where accelerators are few or revisions fail: what serves is watched at every step.

`pytest tests/sim --seeds 200` tries more orders of events than the six of every day.
"""

import random
from collections.abc import Callable

import pytest

from nightshift.adapters.kube import Object
from nightshift.api import names
from tests.support.builders import model_spec
from tests.support.simulation import Simulation, with_accelerators
from tests.support.world import Fate, is_ready

ARGUMENT = {"args": ["--max-model-len=1024"]}
ON_EITHER = {"candidates": [{"accelerator": "nvidia-gpu"}, {"accelerator": "cpu"}]}


def ready(simulation: Simulation) -> int:
    return sum(is_ready(pod) for pod in simulation.server.of_kind("Pod"))


def revisions(simulation: Simulation) -> set[str]:
    return {pod["metadata"]["labels"][names.LABEL_REVISION] for pod in simulation.server.of_kind("Pod")}


def settled_with(simulation: Simulation, least: int) -> Simulation:
    """Until all is at rest, with so many replicas ready at every step."""
    for _ in simulation.in_turn():
        assert ready(simulation) >= least, "\n".join(simulation.log[-20:])
    return simulation


def message(simulation: Simulation, kind: str = "Ready") -> str:
    return next(item.message for item in simulation.status().conditions if item.type == kind)


def good_one(simulation: Simulation) -> Callable[[Object], Fate]:
    good = simulation.status().target_revision
    return lambda pod: Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES


def test_two_replicas_on_two_accelerators_are_replaced_in_place_and_never_less_than_one_serves() -> None:
    simulation = Simulation(model_spec(replicas=2), gpus=2).settle()
    simulation.change_spec(engine=ARGUMENT)
    settled_with(simulation, 2)
    assert simulation.condition("Ready") == ("False", "NoGpuCapacity")
    assert "Then: Replicas are replaced in place" in message(simulation)
    simulation.pass_time(900)
    settled_with(simulation, 1)
    assert simulation.condition("Ready") == ("True", "Serving")
    assert revisions(simulation) == {simulation.status().target_revision}
    stored = simulation.server.of_kind("ControllerRevision")[-1]["metadata"]["annotations"]
    assert list(stored) == [names.ANNOTATION_PROVEN], "the order ends with the rollout"


def test_the_only_replica_on_the_only_accelerator_stays_until_an_outage_is_allowed() -> None:
    simulation = Simulation(model_spec(), gpus=1).settle()
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    settled_with(simulation, 1)
    simulation.pass_time(100_000)
    settled_with(simulation, 1)
    assert simulation.condition("Ready") == ("False", "NoGpuCapacity")
    assert simulation.condition("Progressing") == ("False", "NoGpuCapacity")
    assert "rollout.allowOutage" in message(simulation)
    assert simulation.status().revision == old
    simulation.change_spec(rollout={"allowOutage": True})
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.status().revision != old
    assert any(line.startswith("event: Warning OutageBegins: ") for line in simulation.log)


def test_where_an_accelerator_becomes_free_a_refused_rollout_goes_on_by_itself() -> None:
    simulation = Simulation(model_spec(), gpus=1).settle()
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle().pass_time(100_000)
    simulation.settle()
    simulation.world.gpus = 2
    settled_with(simulation, 1)
    assert simulation.condition("Ready") == ("True", "Serving")


def test_the_first_placement_falls_back_to_the_next_candidate_and_stays_there() -> None:
    simulation = Simulation(model_spec(hardware=ON_EITHER), gpus=0).settle()
    first = simulation.status().target_revision
    assert simulation.condition("Ready") == ("False", "NoGpuCapacity")
    simulation.pass_time(900)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    effective = simulation.status().effective
    assert effective is not None
    assert effective.accelerator == "cpu"
    assert simulation.status().target_revision != first
    assert list(simulation.asked()) == [f"bot-{simulation.status().target_revision}"], "the first one is retired"
    simulation.world.gpus = 5
    simulation.pass_time(100_000)
    writes = simulation.writes
    simulation.settle()
    assert simulation.writes == writes, "sticky"
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    effective = simulation.status().effective
    assert effective is not None
    assert effective.accelerator == "cpu", "a change stays on the hardware that serves"


def test_after_the_last_candidate_the_first_is_tried_again() -> None:
    simulation = Simulation(model_spec(hardware=ON_EITHER), gpus=0)
    edited = with_accelerators(simulation.config, "cpu", resource_name="nvidia.com/gpu")
    simulation.change_config(accelerators=edited.accelerators)
    tried = []
    for _ in range(4):
        simulation.settle()
        effective = simulation.status().effective
        assert effective is not None
        tried.append(effective.accelerator)
        simulation.pass_time(900)
    assert tried == ["nvidia-gpu", "cpu", "nvidia-gpu", "cpu"]
    assert len(simulation.server.of_kind("ControllerRevision")) == 2
    assert len(simulation.server.of_kind("Pod")) == 1, "an abandoned sibling keeps no pod"


def test_a_broken_first_revision_gives_its_accelerator_to_its_correction() -> None:
    simulation = Simulation(model_spec(), gpus=1)
    simulation.world.fate = lambda pod: Fate.CRASHES
    simulation.settle()
    simulation.world.fate = lambda pod: Fate.SERVES
    broken = simulation.status().target_revision
    simulation.world.fate = lambda pod: (
        Fate.CRASHES if pod["metadata"]["labels"][names.LABEL_REVISION] == broken else Fate.SERVES
    )
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize("gpus", [3, 2], ids=["with a spare accelerator", "in place"])
def test_a_revision_that_fails_goes_and_what_served_serves_again_in_full(gpus: int) -> None:
    simulation = Simulation(model_spec(replicas=2, rollout={"placementTimeoutSeconds": 0}), gpus=gpus).settle()
    good = simulation.status().target_revision
    simulation.world.fate = good_one(simulation)
    simulation.change_spec(engine=ARGUMENT)
    settled_with(simulation, 2 if gpus == 3 else 1)
    assert ready(simulation) == 2
    assert revisions(simulation) == {good}
    found = {item.type: (item.status, item.reason) for item in simulation.status().conditions}
    assert found["Ready"] == ("False", "EngineArgsRejected")
    assert found["Stalled"] == ("True", "EngineArgsRejected")
    assert found["Reconciling"][0] == "False"
    assert found["Available"][0] == "True"
    assert message(simulation).startswith(f"Rolled back to revision {good}: ")
    assert sum(line.startswith("event: Warning RolledBack") for line in simulation.log) == 1
    simulation.change_spec(replicas=1)
    simulation.settle()
    assert (ready(simulation), revisions(simulation)) == (1, {good}), "what serves instead still follows spec.replicas"


def test_a_corrected_spec_heals_and_going_back_to_the_failed_one_is_a_fresh_try() -> None:
    simulation = Simulation(model_spec(), gpus=2).settle()
    simulation.world.fate = good_one(simulation)
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    failed = simulation.status().target_revision
    simulation.world.fate = lambda pod: Fate.SERVES
    simulation.pass_time(100_000)
    settled_with(simulation, 1)
    assert simulation.condition("Stalled")[0] == "True", "the same spec is not tried again by itself"
    for args in ([], ARGUMENT["args"]):
        simulation.change_spec(engine={"args": args})
        settled_with(simulation, 1)
        assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.status().target_revision == failed


def test_another_value_of_the_annotation_tries_the_same_spec_again_and_no_more_than_once() -> None:
    simulation = Simulation(model_spec(), gpus=2).settle()
    simulation.annotate(retry="0")
    simulation.world.fate = good_one(simulation)
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    simulation.annotate(retry="1")
    simulation.settle()
    assert sum(line.startswith("event: Normal Retrying") for line in simulation.log) == 1
    assert simulation.condition("Stalled") == ("True", "EngineArgsRejected"), "it failed again, and waits again"
    simulation.world.fate = lambda pod: Fate.SERVES
    simulation.annotate(retry="2")
    settled_with(simulation, 1)
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_revision_without_progress_is_judged_at_its_deadline_and_not_before() -> None:
    simulation = Simulation(model_spec(), gpus=2).settle()
    good = simulation.status().target_revision
    simulation.world.fate = lambda pod: (
        Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.PULL_FAILS
    )
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle().pass_time(7100)
    settled_with(simulation, 1)
    assert simulation.condition("Stalled")[0] == "False"
    simulation.pass_time(100)
    settled_with(simulation, 1)
    assert simulation.condition("Stalled") == ("True", "ImagePullFailed")
    assert "there was no progress for rollout.deadlineSeconds (7200 s)" in message(simulation)
    assert revisions(simulation) == {good}


def test_any_order_of_events_with_few_accelerators_keeps_what_is_promised_and_ends(seed: int) -> None:
    chooser = random.Random(5000 + seed)
    wanted = chooser.randint(1, 4)
    allowed = chooser.random() < 0.3
    simulation = Simulation(model_spec(replicas=wanted, rollout={"allowOutage": allowed}), gpus=wanted).settle()
    least = 0 if allowed and wanted == 1 else max(1, wanted - 1)
    for index in range(chooser.randint(1, 4)):
        bad = chooser.random() < 0.4
        if bad:
            good = simulation.status().revision
            simulation.world.fate = lambda pod, good=good: (  # type: ignore[misc]
                Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES
            )
        else:
            simulation.world.fate = lambda pod: Fate.SERVES
        simulation.change_spec(engine={"args": [f"--seed={index}"]})
        for _ in range(chooser.randint(10, 150)):
            if chooser.random() < 0.05:
                simulation.pass_time(chooser.choice([10, 300, 900]))
            simulation.act(chooser)
            assert ready(simulation) >= least, "\n".join(simulation.log[-30:])
        settle_over_time(simulation, least)
    simulation.world.fate = lambda pod: Fate.SERVES
    simulation.change_spec(engine={"args": ["--seed=99"]})
    settle_over_time(simulation, least)
    if wanted > 1 or allowed:
        assert simulation.condition("Ready") == ("True", "Serving"), "\n".join(simulation.log[-30:])
        assert revisions(simulation) == {simulation.status().target_revision}
    else:
        assert simulation.condition("Ready") == ("False", "NoGpuCapacity")
    writes = simulation.writes
    simulation.pass_time(1)
    simulation.settle()
    assert simulation.writes == writes, "at rest nothing is written"


def settle_over_time(simulation: Simulation, least: int) -> None:
    for _ in range(4):
        settled_with(simulation, least)
        simulation.pass_time(2000)
    settled_with(simulation, least)
