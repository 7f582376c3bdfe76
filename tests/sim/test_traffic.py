"""What simulated worlds count: it grows with time, by the route's weights, and alike for whoever looks."""

from typing import Any

import pytest

from nightshift.api.golden_run import GoldenFailed, GoldenRun, parse_golden
from nightshift.api.termination import json_line
from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.facts import Known
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.outcome import pairs_of
from tests.support.api_server import ApiServer
from tests.support.builders import NOW
from tests.support.questions import USER_QUESTIONS, Questions
from tests.support.traffic import ROUTE, USUAL, Answers, Traffic

ENGINES = {"old": ["a", "b"], "new": ["c"]}


def after(minutes: int, weights: dict[str, int], answers: Answers = USUAL, seed: int = 0) -> Traffic:
    traffic = Traffic(20, NOW, seed)
    traffic.answers = lambda revision: answers if revision == "new" else USUAL
    for _ in range(2 * minutes):
        traffic.passes(30, weights, ENGINES)
    return traffic


def counted(traffic: Traffic, revision: str) -> tuple[int, int]:
    """Requests that ended, and how many of them failed, by both gateway pods."""
    told = [traffic.told(pod, NOW, ENGINES, {ROUTE}).routes[ROUTE].revisions[revision] for pod in ("gw-1", "gw-2")]
    return sum(item.ok + item.server_error for item in told), sum(item.server_error for item in told)


def mean(found: EngineMetrics) -> float:
    assert found.details is not None
    assert found.details.inference_seconds is not None
    return found.details.inference_seconds / sum(found.details.finished.values())


@pytest.mark.parametrize(
    ("weights", "share"),
    [({"old": 95, "new": 5}, 0.05), ({"old": 50, "new": 50}, 0.5), ({"old": 100, "new": 0}, 0.0), ({"new": 1}, 1.0)],
    ids=["5 %", "half", "none", "all"],
)
def test_requests_come_by_weight(weights: dict[str, int], share: float) -> None:
    traffic = after(60, weights)
    assert counted(traffic, "new")[0] == pytest.approx(72_000 * share, rel=0.05)
    assert counted(traffic, "old")[0] == pytest.approx(72_000 * (1 - share), rel=0.05)


def test_engines_of_a_revision_share_its_requests_and_count_what_the_gateway_counts() -> None:
    traffic = after(10, {"old": 50, "new": 50})
    ones, others = traffic.metrics("a").details, traffic.metrics("b").details
    assert ones is not None
    assert others is not None
    ended, failed = counted(traffic, "old")
    assert sum(ones.finished.values()) + sum(others.finished.values()) == ended - failed
    assert ones.first_token is not None
    assert ones.first_token.total == sum(ones.finished.values())
    assert sum(ones.finished.values()) == pytest.approx(sum(others.finished.values()), rel=0.01)


def test_a_revision_can_be_worse() -> None:
    usual, bad = after(20, {"old": 50, "new": 50}), after(20, {"old": 50, "new": 50}, Answers(failed=0.1, slower=2.0))
    assert counted(bad, "old") == counted(usual, "old")
    ended, failed = counted(bad, "new")
    assert failed == pytest.approx(0.1 * ended, rel=0.1)
    assert mean(bad.metrics("c")) == pytest.approx(2 * mean(usual.metrics("c")), rel=0.05)


def test_the_seed_decides_and_nothing_else() -> None:
    weights = {"old": 50, "new": 50}
    assert after(5, weights).metrics("c") == after(5, weights).metrics("c")
    assert after(5, weights).metrics("c") != after(5, weights, seed=1).metrics("c")


def test_counters_only_grow() -> None:
    traffic, before = Traffic(20, NOW), 0
    for _ in range(20):
        traffic.passes(30, {"new": 1}, ENGINES)
        assert traffic.metrics("c").generation_tokens > before
        before = traffic.metrics("c").generation_tokens


def world() -> ApiServer:
    server = ApiServer()
    for name, ip, revision in (("p1", "10.0.0.1", "old"), ("p2", "10.0.0.2", "new")):
        metadata = {"name": name, "namespace": "ml", "labels": {"nightshift.dev/revision": revision}}
        status = {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
        server.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
    return server


def job(*more: str, candidate: str = "10.0.0.2") -> Any:
    arguments = ["--stable", "10.0.0.1:8000", "--candidate", f"{candidate}:8000", "--seed", "job"]
    arguments += ["--start", "0", "--count", "150", *more]
    return {"spec": {"containers": [{"args": arguments}]}}


def test_a_golden_job_tells_what_can_be_read_back() -> None:
    told = Questions(world())(job())
    found = parse_golden(json_line(told))
    assert isinstance(found, GoldenRun)
    pairs = pairs_of(found)
    assert isinstance(pairs, Known)
    assert len(pairs.value) == len(builtin_set().questions) == found.of
    assert all(pair.stable_score is None and pair.stable_first_token is not None for pair in pairs.value)


def test_a_worse_model_answers_a_users_questions_worse() -> None:
    answers = {"old": USUAL, "new": Answers(wrong=0.6)}
    told = Questions(world(), answers.__getitem__)(job("--set", "/golden/golden.jsonl"))
    assert isinstance(told, GoldenRun)
    pairs = pairs_of(told)
    assert isinstance(pairs, Known)
    assert len(pairs.value) == USER_QUESTIONS
    right = [
        sum(pair.stable_score or 0 for pair in pairs.value),
        sum(pair.candidate_score or 0 for pair in pairs.value),
    ]
    assert right[0] > 0.8 * USER_QUESTIONS
    assert right[1] < 0.6 * USER_QUESTIONS


def test_an_engine_that_is_gone_cannot_be_asked() -> None:
    assert isinstance(Questions(world())(job(candidate="10.0.0.9")), GoldenFailed)
