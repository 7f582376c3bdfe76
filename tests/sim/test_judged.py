"""Judged rollouts through the real plan, status and events, on the in-memory API server behind a gateway."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.fetch import Failed, FetchReason
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.judged.pools import Claim, Contender
from tests.support.builders import NOW, config, model_spec, with_gateway
from tests.support.simulation import Simulation
from tests.support.world import Fate, is_ready

ARGUMENT = {"args": ["--max-model-len=1024"]}
SLOWER = "TTFT p95 2.1x of the stable revision over 412 requests (bound 1.3x)"


FIRST = Contender(("ml", "other"), "nvidia-gpu", 1, Claim.WAITING, NOW - timedelta(days=1))
"""A rollout that began before."""


class Compared:
    """What the comparison comes to, as a test says."""

    def __init__(self) -> None:
        self.verdict = Verdict.PASS
        self.says = "TTFT p95 1.0x of the stable revision over 412 requests (bound 1.3x)"
        self.readable = True

    def __call__(self, now: datetime) -> Fact[Judgement]:
        if not self.readable:
            return Unknown("The gateway did not answer.")
        return Known(Judgement(self.verdict, (), self.says), now)


def judged(replicas: int = 4, gpus: int = 1000, **more: Any) -> tuple[Simulation, Compared]:
    """A deployment that serves in full behind a gateway, where somebody compares."""
    rollout = {"strategy": "Auto", **more.pop("rollout", {})}
    simulation = Simulation(model_spec(replicas=replicas, rollout=rollout, **more), gpus=gpus, chosen=with_gateway())
    compared = Compared()
    simulation.comparison = compared
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    return simulation, compared


def annotations(simulation: Simulation, revision: str | None) -> dict[str, str]:
    return next(
        raw["metadata"].get("annotations") or {}
        for raw in simulation.server.of_kind("ControllerRevision")
        if raw["metadata"]["labels"].get(names.LABEL_REVISION) == revision
    )


def rollout(simulation: Simulation) -> RolloutState:
    """Where the target's rollout stands."""
    text = annotations(simulation, simulation.status().target_revision)[names.ANNOTATION_ROLLOUT]
    return RolloutState.model_validate_json(text)


def weights(simulation: Simulation) -> dict[str, int]:
    (route,) = simulation.server.of_kind("ConfigMap")
    found = json.loads(route["data"]["route.json"])
    return {item["hash"]: item["weight"] for item in found["revisions"] if item["weight"]}


def ready(simulation: Simulation, revision: str | None = None) -> int:
    pods = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod)]
    return sum(revision in (None, pod["metadata"]["labels"][names.LABEL_REVISION]) for pod in pods)


def all_serve(simulation: Simulation, revision: str | None) -> bool:
    pods = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod)]
    return bool(pods) and all(pod["metadata"]["labels"][names.LABEL_REVISION] == revision for pod in pods)


def minutes(simulation: Simulation, count: int, least: int = 0) -> None:
    """Minutes pass, in which everybody does what is due, and never less serves than that."""
    while count > 0:
        for _ in simulation.in_turn():
            assert ready(simulation) >= least, "\n".join(simulation.log[-20:])
        simulation.pass_time(60 * min(count, 2))
        count -= 2
    simulation.settle()


def events(simulation: Simulation, reason: str) -> list[str]:
    found = [line.partition(": ")[2] for line in simulation.log if line.startswith("event: ")]
    return [line.partition(": ")[2] for line in found if line.split(" ")[1].rstrip(":") == reason]


def only(revision: str | None, otherwise: Fate) -> Callable[[Object], Fate]:
    return lambda pod: Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == revision else otherwise


def test_a_candidate_goes_step_by_step_and_takes_over() -> None:
    simulation, _ = judged()
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    new = simulation.status().target_revision
    seen = [weights(simulation).get(str(new), 0)]
    for _ in range(60):
        if rollout(simulation).phase is Phase.PROMOTED:
            break
        assert simulation.condition("Ready")[0] == "False"
        assert simulation.condition("Reconciling")[0] == "True"
        assert simulation.condition("Stalled")[0] == "False"
        minutes(simulation, 1, least=4)
        seen.append(weights(simulation).get(str(new), 0))
    assert list(dict.fromkeys(seen)) == [5, 25, 50, 100]
    assert simulation.condition("Ready") == ("True", "Serving")
    assert all_serve(simulation, new)
    assert events(simulation, "Promoted") == [f"Revision {new} has taken over from revision {old}."]
    writes = simulation.writes
    minutes(simulation, 3)
    assert simulation.writes == writes, "at rest nothing is written"


def test_a_step_lasts_until_it_has_passed_and_a_failure_counts_at_once() -> None:
    simulation, compared = judged()
    old = simulation.status().revision
    compared.verdict = Verdict.INCONCLUSIVE
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 30, least=4)
    new = simulation.status().target_revision
    assert rollout(simulation).phase is Phase.JUDGING
    assert simulation.condition("Progressing") == ("True", "Judging")
    assert weights(simulation) == {old: 95, new: 5}
    compared.verdict, compared.says = Verdict.FAIL, SLOWER
    simulation.pass_time(1)
    simulation.settle()
    assert weights(simulation) == {old: 100}
    minutes(simulation, 15, least=4)
    assert all_serve(simulation, old)
    assert rollout(simulation).phase is Phase.ROLLED_BACK
    assert simulation.condition("Ready")[0] == "False"
    assert simulation.condition("Stalled") == ("True", "JudgedWorse")
    assert simulation.condition("Reconciling")[0] == "False"
    assert simulation.condition("Available")[0] == "True"
    assert events(simulation, "RolledBack") == [f"Revision {new} rolled back: {SLOWER}"]
    assert events(simulation, "JudgedWorse") == []
    (ready,) = [item for item in simulation.status().conditions if item.type == "Ready"]
    assert ready.message.startswith(f"Rolled back to revision {old}: {SLOWER}. Change the spec")
    writes = simulation.writes
    simulation.pass_time(100_000)
    simulation.settle()
    assert simulation.writes == writes, "not tried again by itself"


def test_requests_leave_a_failed_candidate_before_its_pods_do() -> None:
    simulation, compared = judged()
    compared.verdict = Verdict.INCONCLUSIVE
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 2)
    new = str(simulation.status().target_revision)
    compared.verdict = Verdict.FAIL
    simulation.pass_time(1)
    simulation.settle()
    assert new not in weights(simulation)
    assert ready(simulation, new) == 1, "requests that it works on may end"
    minutes(simulation, 11)
    assert ready(simulation, new) == 0


@pytest.mark.parametrize("gpus", [1000, 4], ids=["with spare accelerators", "in place"])
def test_a_candidate_that_crashes_is_rolled_back_with_its_reason(gpus: int) -> None:
    simulation, _ = judged(gpus=gpus, rollout={"placementTimeoutSeconds": 0})
    old = simulation.status().revision
    simulation.world.fate = only(old, Fate.CRASHES)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 5, least=4 if gpus > 4 else 3)
    assert all_serve(simulation, old)
    assert ready(simulation) == 4
    assert simulation.condition("Stalled") == ("True", "EngineArgsRejected")
    assert len(events(simulation, "RolledBack")) == 1
    assert weights(simulation) == {old: 100}


def test_two_replicas_on_two_accelerators_are_replaced_in_place_with_requests_by_capacity() -> None:
    simulation, compared = judged(replicas=2, gpus=2)
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 20, least=1)
    new = simulation.status().target_revision
    assert weights(simulation) == {old: 50, new: 50}
    compared.verdict = Verdict.PASS
    minutes(simulation, 30, least=1)
    assert all_serve(simulation, new)
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_candidate_without_room_is_paused_and_goes_on_when_there_is_some() -> None:
    simulation, _ = judged(replicas=1, gpus=1)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 60, least=1)
    assert (rollout(simulation).phase, rollout(simulation).reason) == (Phase.PAUSED, "NoGpuCapacity")
    assert simulation.condition("Ready") == ("False", "NoGpuCapacity")
    assert simulation.condition("Stalled")[0] == "False"
    simulation.world.gpus = 2
    minutes(simulation, 30, least=1)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_a_candidate_whose_pods_are_refused_is_paused_and_no_longer_before_others() -> None:
    simulation, _ = judged(replicas=2)
    refused = 'pods "bot" is forbidden: no PriorityClass with name high was found'
    simulation.world.refusal = refused
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 14, least=2)
    assert rollout(simulation).phase is Phase.PLACING
    minutes(simulation, 4, least=2)
    assert (rollout(simulation).phase, rollout(simulation).reason) == (Phase.PAUSED, "PodsRefused")
    contender = simulation.reconcile().contender
    assert contender is not None
    assert contender.claim is Claim.AGAIN
    simulation.world.refusal = None
    minutes(simulation, 40, least=2)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_the_only_replica_gives_way_where_an_outage_is_allowed_and_nothing_is_compared() -> None:
    simulation, compared = judged(replicas=1, gpus=1, rollout={"allowOutage": True})
    compared.readable = False
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 30)
    assert rollout(simulation).phase is Phase.PROMOTED
    assert len(events(simulation, "OutageBegins")) == 1


def test_without_evidence_it_pauses_as_it_is_and_goes_on_by_itself() -> None:
    simulation, compared = judged()
    compared.readable = False
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 20, least=4)
    new = simulation.status().target_revision
    assert rollout(simulation).reason == "EvidenceUnavailable"
    assert weights(simulation) == {old: 95, new: 5}
    assert simulation.condition("Stalled")[0] == "False"
    assert len(events(simulation, "RolloutPaused")) == 1
    assert events(simulation, "EvidenceUnavailable") == []
    compared.readable = True
    minutes(simulation, 60, least=4)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_a_new_spec_abandons_the_candidate_and_what_serves_stays_the_measure() -> None:
    simulation, compared = judged()
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 10, least=4)
    first = simulation.status().target_revision
    simulation.change_spec(engine={"args": ["--max-model-len=2048"]})
    minutes(simulation, 10, least=4)
    second = simulation.status().target_revision
    assert weights(simulation) == {old: 95, second: 5}
    stored = RolloutState.model_validate_json(annotations(simulation, first)[names.ANNOTATION_ROLLOUT])
    assert stored.phase is Phase.ABANDONED
    assert rollout(simulation).stable == old
    assert ready(simulation, first) == 0


def test_a_new_spec_that_cannot_be_named_yet_gives_the_candidate_up_at_once() -> None:
    simulation, compared = judged()
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 10, least=4)
    assert len(weights(simulation)) == 2
    missing = Failed(reason=FetchReason.MODEL_NOT_FOUND, message="The Hub has no acme/absent.")
    simulation.world.answer = lambda job: missing
    simulation.change_spec(model={"uri": "hf://acme/absent"})
    minutes(simulation, 6, least=4)
    assert weights(simulation) == {old: 100}
    assert all_serve(simulation, old)
    assert simulation.condition("Ready") == ("False", "ModelNotFound")
    assert len(events(simulation, "RolloutAbandoned")) == 1


def test_taking_the_change_back_in_the_middle_needs_no_judging() -> None:
    simulation, compared = judged()
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 10, least=4)
    simulation.change_spec(engine={"args": []})
    minutes(simulation, 2, least=4)
    assert simulation.condition("Ready") == ("True", "Serving")
    assert all_serve(simulation, old)


def test_people_pause_resume_promote_undo_and_retry() -> None:
    simulation, compared = judged()
    compared.verdict = Verdict.INCONCLUSIVE
    old = simulation.status().revision
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 5, least=4)
    new = simulation.status().target_revision
    simulation.annotate(order="pause Ada: the demo")
    minutes(simulation, 2, least=4)
    assert simulation.condition("Stalled") == ("True", "RolloutPaused")
    assert all_serve(simulation, old)
    seen = rollout(simulation).ordered
    assert seen is not None
    assert seen.by == "Ada: the demo"
    simulation.annotate(order="resume Ada")
    minutes(simulation, 2, least=4)
    assert weights(simulation) == {old: 95, new: 5}
    simulation.annotate(order="promote Ada: good enough")
    minutes(simulation, 3, least=4)
    assert simulation.condition("Ready") == ("True", "Serving")
    assert all_serve(simulation, new)
    simulation.annotate(order="undo Bob: customers complain")
    minutes(simulation, 5, least=4)
    assert all_serve(simulation, old)
    assert simulation.condition("Stalled") == ("True", "Undone")
    simulation.annotate(order="retry Bob: it was the network")
    compared.verdict = Verdict.PASS
    minutes(simulation, 30, least=4)
    assert all_serve(simulation, new)
    simulation.annotate(order="faster Bob")
    minutes(simulation, 2, least=4)
    assert len(events(simulation, "OrderRefused")) == 1


def test_an_order_of_before_is_not_carried_out_on_the_next_rollout() -> None:
    simulation, _ = judged()
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 2)
    simulation.annotate(order="pause Ada")
    minutes(simulation, 2)
    simulation.change_spec(engine={"args": ["--max-model-len=2048"]})
    minutes(simulation, 30, least=4)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_others_go_first_and_nothing_is_asked_for_meanwhile() -> None:
    simulation, _ = judged()
    simulation.contenders = (FIRST,)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 30, least=4)
    assert rollout(simulation).phase is Phase.PREFLIGHT
    assert len(simulation.server.of_kind("Pod")) == 4
    simulation.contenders = ()
    minutes(simulation, 30, least=4)
    assert rollout(simulation).phase is Phase.PROMOTED


def test_a_new_process_that_hears_of_another_rollout_first_leaves_a_candidate_its_waiting_replica() -> None:
    simulation, _ = judged(replicas=1, gpus=1)
    simulation.change_spec(engine=ARGUMENT)
    minutes(simulation, 4, least=1)
    assert rollout(simulation).phase is Phase.PLACING
    before = {pod["metadata"]["uid"] for pod in simulation.server.of_kind("Pod")}
    simulation.contenders = (FIRST,)
    minutes(simulation, 4, least=1)
    assert {pod["metadata"]["uid"] for pod in simulation.server.of_kind("Pod")} == before
    simulation.contenders = (replace(FIRST, emergency=True),)
    minutes(simulation, 2, least=1)
    assert len(simulation.server.of_kind("Pod")) == 1


def test_a_first_revision_and_one_without_a_gateway_are_not_judged() -> None:
    simulation, _ = judged()
    assert names.ANNOTATION_ROLLOUT not in annotations(simulation, simulation.status().revision)
    straight = Simulation(model_spec(replicas=2, rollout={"strategy": "Auto"}), chosen=config())
    straight.comparison = Compared()
    straight.settle()
    straight.change_spec(engine=ARGUMENT)
    straight.settle()
    assert straight.condition("Ready") == ("True", "Serving")
    assert names.ANNOTATION_ROLLOUT not in annotations(straight, straight.status().revision)


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL], ids=["a good one", "a bad one"])
def test_an_operator_that_forgets_everything_after_every_step_ends_the_same(verdict: Verdict) -> None:
    simulation, compared = judged()
    compared.verdict = verdict
    simulation.change_spec(engine=ARGUMENT)
    for _ in range(80):
        simulation.tell_all()
        simulation.reconcile()
        simulation.world.settle()
        simulation.pass_time(60)
    simulation.settle()
    assert rollout(simulation).phase is (Phase.PROMOTED if verdict is Verdict.PASS else Phase.ROLLED_BACK)
