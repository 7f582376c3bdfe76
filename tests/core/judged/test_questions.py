"""Golden questions in a judged rollout, through the real plan: when they are asked, and what is kept of them."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from nightshift.api import names
from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.api.golden_run import GoldenFailed, GoldenReason, GoldenRun, parse_kept
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.autoscale.demand import Demand, GatewaySight, Load
from nightshift.core.engine_metrics import EngineDetails
from nightshift.core.engine_sight import EngineSight, looked
from nightshift.core.facts import Known
from nightshift.core.golden.outcome import packed
from nightshift.core.observed import Observed, engine_start, pod_facts
from tests.support.builders import HUB_MODEL, NOW, SHA, model_spec, with_gateway
from tests.support.evidence import ALIKE, BOUNDS, USUAL
from tests.support.fake_engines import metrics
from tests.support.simulation import KEY, Simulation

ARGUMENT = {"args": ["--max-model-len=1024"]}


class Judged(Simulation):
    """A deployment behind a gateway that counts what the test says."""

    def __init__(self, **more: Any) -> None:
        self.hundreds: dict[str, int] = {}
        """Requests that the gateway counted by now, by revision, in hundreds."""
        rollout = {"strategy": "Auto", "stepSeconds": 60, **more.pop("rollout", {})}
        super().__init__(model_spec(rollout=rollout, **more), chosen=with_gateway())
        self.golden: GoldenRun | GoldenFailed = self.run()
        self.world.golden = lambda pod: self.golden

    def run(self, **changes: Any) -> GoldenRun:
        """What a Job tells of 100 questions."""
        pairs = [GoldenPair(f"q{place}", **(ALIKE | changes)) for place in range(100)]
        return GoldenRun(digest="abcd", of=100, start=0, count=100, asked=100, at=NOW, pairs=packed(pairs))

    def observed(self) -> Observed:
        since = NOW - timedelta(days=1)
        sets = [raw["metadata"]["labels"][names.LABEL_REVISION] for raw in self.server.of_kind("ReplicaSet")]
        counted = {
            item: RevisionResults(
                since=since,
                ok=100 * count,
                first_byte=(),
                total=tuple(count * share for share in USUAL),
            )
            for item in sets
            for count in [self.hundreds.get(item, 0)]
        }
        told = GatewayDemand(
            written=self.now, pod="gw", routes={"ml/bot": RouteDemand(revisions=counted)}, total_bounds=BOUNDS
        )
        return replace(super().observed(), gateway=GatewaySight({"gw": Known(told, self.now)}))

    def sights(self) -> dict[str, EngineSight]:
        pods = [pod_facts(raw) for (kind, _), raw in self.cache.children(KEY).items() if kind == "Pod"]
        reading = Known(metrics(details=EngineDetails()), self.now)
        return {pod.name: looked(None, start, reading) for pod in pods if (start := engine_start(pod)) is not None}

    @property
    def target(self) -> str:
        return str(self.status().target_revision)

    def annotations(self) -> dict[str, str]:
        return next(
            raw["metadata"].get("annotations") or {}
            for raw in self.server.of_kind("ControllerRevision")
            if raw["metadata"]["labels"][names.LABEL_REVISION] == self.target
        )

    def phase(self) -> Phase:
        return RolloutState.model_validate_json(self.annotations()[names.ANNOTATION_ROLLOUT]).phase

    def jobs(self) -> list[str]:
        return [
            raw["metadata"]["name"]
            for raw in self.server.of_kind("Job")
            if raw["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_EVALUATION
        ]

    def rounds(self) -> int:
        kept = parse_kept(self.annotations().get(names.ANNOTATION_GOLDEN))
        return len(kept.runs) if kept is not None else 0

    def message(self) -> str:
        return next(item.message for item in self.status().conditions if item.type == "Ready")

    def changed(self) -> "Judged":
        """It serves, and another revision is asked for."""
        self.settle()
        self.change_spec(engine=ARGUMENT)
        return self

    def minutes(self, count: int, hundreds: int = 0) -> None:
        """Minutes pass, in each of which both revisions get so many requests."""
        for _ in range(count):
            for raw in self.server.of_kind("ReplicaSet"):
                name = raw["metadata"]["labels"][names.LABEL_REVISION]
                self.hundreds[name] = self.hundreds.get(name, 0) + hundreds
            self.pass_time(60)
            self.settle()


def done(simulation: Simulation, *words: str) -> int:
    """The place of the first line in the log that has all of these words."""
    return next(place for place, line in enumerate(simulation.log) if all(word in line for word in words))


def test_questions_are_asked_once_and_noted_before_their_job_goes() -> None:
    simulation = Judged().changed()
    simulation.settle()
    assert simulation.phase() is Phase.JUDGING
    assert simulation.rounds() == 1
    assert simulation.jobs() == []
    noted = done(simulation, "Noting what golden questions told")
    asked = done(simulation, "operator: Asking golden questions")
    assert asked < noted < done(simulation, "operator: Job bot-golden", "is needed no more")
    simulation.minutes(6, hundreds=5)
    assert simulation.phase() is Phase.PROMOTED
    assert simulation.rounds() == 1, "clients asked enough, and what was told stays on the revision"


def test_where_clients_ask_too_little_the_questions_are_asked_again() -> None:
    simulation = Judged().changed()
    simulation.minutes(12)
    assert simulation.phase() is Phase.PROMOTED
    assert simulation.rounds() == 2, "100 questions do not exclude 2 points more failures, 200 do"


def test_worse_answers_roll_back_whatever_the_traffic_says() -> None:
    simulation = Judged(evaluation={"goldenSetRef": {"name": "golden"}})
    simulation.golden = simulation.run(stable_score=1.0, candidate_score=0.0)
    simulation.changed()
    simulation.minutes(3, hundreds=5)
    assert simulation.phase() in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert "golden answers 100 points below" in simulation.message()


def test_a_set_that_is_not_there_waits_for_a_person_and_nothing_is_promoted() -> None:
    simulation = Judged(evaluation={"goldenSetRef": {"name": "golden"}})
    missing = "ConfigMap golden has no key golden.jsonl; create it."
    simulation.golden = GoldenFailed(reason=GoldenReason.GOLDEN_SET_NOT_FOUND, message=missing)
    simulation.changed()
    simulation.minutes(3, hundreds=5)
    assert simulation.condition("Stalled") == ("True", "GoldenSetNotFound")
    assert simulation.phase() is Phase.PAUSED
    simulation.golden = simulation.run(stable_score=1.0, candidate_score=1.0)
    simulation.minutes(8, hundreds=5)
    assert simulation.phase() is Phase.PROMOTED
    assert simulation.condition("Ready") == ("True", "Serving")


EMBEDDING = {"uri": HUB_MODEL, "revision": SHA, "task": "Embedding"}


def test_a_model_that_writes_no_text_is_asked_no_questions_and_judged_by_its_clients() -> None:
    simulation = Judged(model=EMBEDDING).changed()
    simulation.settle()
    assert simulation.phase() is Phase.JUDGING
    assert "golden questions cannot be asked: a model for Embedding writes no text" in simulation.message()
    simulation.minutes(12, hundreds=5)
    assert simulation.phase() is Phase.PROMOTED
    assert not any("golden questions from number" in line for line in simulation.log)


def test_a_golden_set_for_a_model_that_writes_no_text_is_told_and_passes_nothing() -> None:
    simulation = Judged(model=EMBEDDING, evaluation={"goldenSetRef": {"name": "golden"}}).changed()
    simulation.minutes(5, hundreds=5)
    assert simulation.phase() is Phase.PAUSED
    assert "a model for Embedding writes no text; remove spec.evaluation" in simulation.message()
    assert simulation.jobs() == []


def test_a_pause_for_want_of_requests_says_why_no_questions_were_asked() -> None:
    simulation = Judged(rollout={"deadlineSeconds": 600})
    cannot = "The candidate revision's pod at 10.0.0.3:8000 cannot be reached for golden questions."
    simulation.golden = GoldenFailed(reason=GoldenReason.GOLDEN_ENGINE_UNREACHABLE, message=cannot)
    simulation.changed()
    simulation.minutes(3)
    assert simulation.phase() is Phase.JUDGING
    assert f"golden questions cannot be asked: {cannot}" in simulation.message()
    simulation.minutes(12)
    assert simulation.phase() is Phase.PAUSED
    assert f"golden questions cannot be asked: {cannot}" in simulation.message()


def test_a_rollout_that_is_over_leaves_no_job() -> None:
    simulation = Judged().changed()
    while not simulation.jobs():
        simulation.tell_all()
        simulation.reconcile()
        for step in simulation.world.pending()[:1]:
            step.act()
    simulation.annotate(order="abort Ada")
    simulation.settle()
    assert simulation.jobs() == []
    simulation.minutes(1)
    assert simulation.phase() is Phase.ROLLED_BACK


def test_the_status_tells_what_was_compared_and_is_not_written_at_every_look() -> None:
    simulation = Judged().changed()
    simulation.settle()
    simulation.pass_time(20)
    simulation.settle()
    says = simulation.message()
    assert says.endswith(
        "100 golden questions; errors: too little seen; time to first token passed; time between tokens passed; "
        "log-probabilities passed."
    )
    writes = simulation.writes
    for _ in range(3):
        simulation.pass_time(10)
        simulation.settle()
    assert (simulation.message(), simulation.writes) == (says, writes)


def test_at_zero_one_of_each_is_started_judged_by_questions_alone_and_all_go_again() -> None:
    scaling = {"mode": "Auto", "minReplicas": 0, "maxReplicas": 2, "target": {"concurrentRequests": 4}}
    simulation = Judged(scaling=scaling)
    simulation.settle()
    idle = Load(0, 0, "0 requests", "")
    simulation.demand = lambda now: Demand(idle, last_request=Known(NOW, now))
    simulation.pass_time(100_000)
    simulation.settle()
    assert list(simulation.asked().values()) == [0]
    simulation.change_spec(engine=ARGUMENT)
    simulation.settle()
    assert sorted(simulation.asked().values()) == [1, 1]
    assert "by golden questions alone, as the deployment is idle" in simulation.message()
    simulation.minutes(10)
    assert simulation.phase() is Phase.PROMOTED
    assert set(simulation.asked().values()) == {0}
    assert simulation.condition("Ready")[0] == "True"


def test_what_golden_questions_told_survives_a_new_process() -> None:
    simulation = Judged().changed()
    simulation.settle()
    kept = json.loads(simulation.annotations()[names.ANNOTATION_GOLDEN])
    assert [item["round"] for item in kept["runs"]] == [0]
    assert kept["stable"] != simulation.target


def test_gateway_and_engines_are_asked_from_loading_on_and_no_longer_than_it_is_judged() -> None:
    simulation = Judged().changed()
    asked = {plan.rollout[0]: plan.compares for plan in simulation.in_turn() if plan.rollout is not None}
    assert asked == {"Placing": False, "Loading": True, "Judging": True}
    simulation.annotate(order="promote Ada")
    assert [plan.compares for plan in simulation.in_turn()][-1] is False


def test_one_whose_stable_revision_serves_no_more_goes_before_others() -> None:
    simulation = Judged().changed()
    first = next(plan.contender for plan in simulation.in_turn() if plan.contender is not None)
    assert not first.emergency
    for raw in simulation.server.of_kind("Pod"):
        simulation.world.crash(raw)
    simulation.tell_all()
    again = simulation.reconcile().contender
    assert again is not None
    assert again.emergency
