"""Judged rollouts where what serves is broken, starting, off, or not alone on its accelerators."""

from itertools import groupby

import pytest

from nightshift.adapters.kube import Object, Reference
from nightshift.api.rollout import Phase
from nightshift.core.analysis.verdict import Verdict
from tests.sim.test_judged import ARGUMENT, all_serve, events, judged, minutes, ready, rollout, weights
from tests.support.builders import NOW, model_spec, with_gateway
from tests.support.judged_tales import idle_since, pass_minutes
from tests.support.simulation import Simulation
from tests.support.traffic import Traffic
from tests.support.world import Fate, is_ready

OTHER = {"args": ["--max-model-len=2048"]}


def revision_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["nightshift.dev/revision"])


def crash(simulation: Simulation, revision: str | None, *, spared: int = 0) -> None:
    """Replicas of a revision crash again and again from now on, but for so many."""
    pods = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod) and revision_of(pod) == revision]
    bad = {pod["metadata"]["name"] for pod in pods[spared:]}
    good = {pod["metadata"]["name"] for pod in pods[:spared]}

    def fate(pod: Object) -> Fate:
        crashes = revision_of(pod) == revision and pod["metadata"]["name"] not in good
        return Fate.CRASHES if crashes else Fate.SERVES

    simulation.world.fate = fate
    for pod in pods:
        if pod["metadata"]["name"] in bad:
            simulation.world.crash(pod)
    simulation.settle()


def starts(simulation: Simulation, revision: str | None) -> None:
    """Replicas of a revision are starting from now on, for as long as it takes."""
    simulation.world.fate = lambda pod: Fate.STARTS if revision_of(pod) == revision else Fate.SERVES


@pytest.mark.parametrize("outage", [True, False], ids=["with allowOutage", "without"])
def test_the_next_revision_takes_the_only_accelerator_from_one_that_crashes_and_heals(outage: bool) -> None:
    simulation, compared = judged(replicas=1, gpus=1, rollout={"allowOutage": outage})
    compared.readable = False
    crash(simulation, simulation.status().revision)
    assert ready(simulation) == 0
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 10)
    assert rollout(simulation).phase is Phase.PROMOTED
    assert all_serve(simulation, simulation.status().target_revision)
    assert simulation.condition("Ready") == ("True", "Serving")


def test_of_two_replicas_on_two_accelerators_the_one_that_crashes_makes_room() -> None:
    simulation, compared = judged(replicas=2, gpus=2)
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    crash(simulation, old, spared=1)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 10, least=1)
    new = simulation.status().target_revision
    assert rollout(simulation).phase is Phase.JUDGING
    assert weights(simulation) == {old: 50, new: 50}


def test_a_replica_that_is_only_starting_keeps_its_accelerator() -> None:
    simulation, _ = judged(replicas=1, gpus=1)
    old = simulation.status().revision
    (pod,) = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod)]
    starts(simulation, old)
    simulation.world.crash(pod)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 4)
    assert ready(simulation) == 0
    starts(simulation, None)
    minutes(simulation, 30)
    assert all_serve(simulation, old)
    assert rollout(simulation).reason == "NoGpuCapacity"


def test_a_candidate_that_is_ready_before_the_stable_revision_serves_and_is_judged() -> None:
    simulation, compared = judged(replicas=1)
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    (pod,) = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod)]
    starts(simulation, old)
    simulation.world.crash(pod)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 4)
    new = simulation.status().target_revision
    assert rollout(simulation).phase is Phase.JUDGING
    assert weights(simulation) == {new: 100}
    starts(simulation, None)
    minutes(simulation, 4, least=1)
    assert rollout(simulation).phase is Phase.JUDGING
    assert weights(simulation) == {old: 95, new: 5}
    compared.verdict = Verdict.PASS
    minutes(simulation, 30, least=1)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_what_serves_stays_the_measure_where_the_way_back_to_another_is_given_up() -> None:
    simulation, _ = judged(replicas=2, gpus=3)
    first = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 40, least=2)
    serving = simulation.status().revision
    assert serving != first
    starts(simulation, first)
    simulation.change_spec(engine={"args": []})
    minutes(simulation, 2, least=2)
    assert simulation.status().target_revision == first
    simulation.change_spec(engine=OTHER)
    minutes(simulation, 40, least=2)
    assert rollout(simulation).stable == serving
    assert rollout(simulation).phase is Phase.PROMOTED
    assert len(events(simulation, "RolloutAbandoned")) == 1


@pytest.mark.parametrize("gpus", [1, 1000], ids=["with one accelerator", "with many"])
def test_what_was_changed_while_it_was_off_is_what_is_started(gpus: int) -> None:
    simulation, compared = judged(replicas=1, gpus=gpus)
    compared.readable = False
    old = simulation.status().revision
    simulation.change_spec(replicas=0)
    simulation.settle()
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    simulation.change_spec(replicas=1)
    for _ in simulation.in_turn():
        assert not simulation.asked().get(f"bot-{old}")
    assert simulation.condition("Ready") == ("True", "Serving")
    assert all_serve(simulation, simulation.status().target_revision)
    assert simulation.status().target_revision != old


@pytest.mark.parametrize(
    "again",
    [{"order": "retry Bob: it was the network"}, {"retry": "once more"}],
    ids=["by an order", "by nightshift.dev/retry"],
)
def test_what_a_person_took_back_is_judged_when_it_is_tried_again(again: dict[str, str]) -> None:
    simulation, compared = judged(replicas=2)
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 40, least=2)
    new = simulation.status().revision
    simulation.annotate(order="undo Ada: customers complain")
    minutes(simulation, 10, least=2)
    assert all_serve(simulation, old)
    compared.verdict = Verdict.INCONCLUSIVE
    simulation.annotate(**again)
    minutes(simulation, 20, least=2)
    assert rollout(simulation).phase is Phase.JUDGING
    assert weights(simulation) == {old: 95, new: 5}


def test_the_way_back_to_a_revision_that_does_not_start_any_more_is_given_up_and_told() -> None:
    simulation, _ = judged(replicas=2)
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 40, least=2)
    new = simulation.status().revision
    crash(simulation, old)
    simulation.annotate(order="undo Ada: customers complain")
    minutes(simulation, 10, least=2)
    assert all_serve(simulation, new)
    assert weights(simulation) == {new: 100}
    assert rollout(simulation).phase is Phase.PROMOTED
    (told,) = events(simulation, "UndoEnded")
    assert "unrecognized arguments" in told


def test_where_the_stable_revision_cannot_be_read_nothing_is_decided_until_a_person_does() -> None:
    simulation, compared = judged(replicas=1)
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 4, least=1)
    new = simulation.status().target_revision
    before = weights(simulation)
    assert before == {old: 95, new: 5}
    where = Reference("apps/v1", "ControllerRevision", "ml", f"bot-{old}")
    simulation.server.change(where, lambda raw: raw.update(data={"written": "by another version"}))
    compared.verdict = Verdict.PASS
    minutes(simulation, 60, least=2)
    assert rollout(simulation).phase is Phase.JUDGING
    assert weights(simulation) == before
    assert (ready(simulation, old), ready(simulation, new)) == (1, 1)
    assert simulation.condition("Stalled") == ("True", "RevisionUnreadable")
    simulation.annotate(order="promote Ada: it is lost")
    minutes(simulation, 10, least=1)
    assert all_serve(simulation, new)


ON_DEMAND = {"mode": "Auto", "minReplicas": 0, "maxReplicas": 2, "target": {"concurrentRequests": 16}}


@pytest.mark.parametrize(
    ("outage", "phase", "reason"),
    [
        pytest.param(False, Phase.PAUSED, "NoGpuCapacity", id="and is given back where no outage is allowed"),
        pytest.param(True, Phase.PROMOTED, "", id="and is enough where one is"),
    ],
)
def test_at_zero_a_candidate_on_the_only_accelerator_holds_it_no_longer_than_a_node_may_take_to_come(
    outage: bool, phase: Phase, reason: str
) -> None:
    rollout_spec = {"strategy": "Auto", "allowOutage": outage}
    simulation = Simulation(model_spec(scaling=ON_DEMAND, rollout=rollout_spec), gpus=1, chosen=with_gateway())
    simulation.asked_by(Traffic(0, NOW))
    simulation.demand = lambda now: idle_since(NOW, now)
    simulation.settle()
    pass_minutes(simulation, 30)
    assert not any(simulation.asked().values())
    simulation.change_spec(engine=ARGUMENT)
    pass_minutes(simulation, 10)
    assert rollout(simulation).phase is Phase.JUDGING
    pass_minutes(simulation, 10)
    assert (rollout(simulation).phase, rollout(simulation).reason) == (phase, reason)
    assert not any(simulation.asked().values())
    assert simulation.condition("Stalled")[0] == ("True" if phase is Phase.PAUSED else "False")


def test_what_takes_over_in_an_outage_is_ready_once_its_rollout_is_over_and_not_before() -> None:
    simulation, _ = judged(replicas=1, gpus=1, rollout={"allowOutage": True, "placementTimeoutSeconds": 3})
    simulation.change_spec(engine=ARGUMENT)
    told: list[str] = []
    for _ in range(10):
        told.extend(simulation.condition("Ready")[0] for _ in simulation.in_turn())
        simulation.pass_time(2)
    assert [status for status, _ in groupby(told)] == ["False", "True"]
