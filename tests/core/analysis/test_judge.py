"""Verdicts on candidates: what fails one, what passes one, and what says nothing."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.core.analysis.evidence import EMPTY, Arm, Evidence, GoldenPair, Histogram
from nightshift.core.analysis.judge import judge
from nightshift.core.analysis.rules import ALPHAS, DEFAULT_RULES, FAMILY_ALPHA, Metric
from nightshift.core.analysis.verdict import Verdict
from nightshift.core.facts import Unknown
from tests.support.evidence import (
    SLOW_TAIL,
    SLOWER,
    USUAL,
    arm,
    evidence,
    finding,
    judged,
    pair,
    pairs,
    times,
)

GOOD = arm(500)
FAST: dict[str, Any] = {"stable_first_token": 0.2, "stable_inter_token": 0.02}
ALIKE: dict[str, Any] = FAST | {"candidate_first_token": 0.2, "candidate_inter_token": 0.02}
ALIKE_LOGPROBS: dict[str, Any] = {"logprob_distance": 0.02, "stable_noise": 0.02}


def against(candidate: Arm, stable: Arm = GOOD, **changes: Any) -> Evidence:
    """Ten windows of both."""
    return evidence(stable, candidate, windows=10, **changes)


def changed(**changes: Any) -> Arm:
    return replace(GOOD, **changes)


def loaded(tokens: int, running: float, **changes: Any) -> Arm:
    return changed(generation_tokens=tokens, mean_running=running, replica_seconds=60.0, **changes)


@pytest.mark.parametrize(
    ("found", "metric", "says"),
    [
        pytest.param(
            against(arm(500, failed=25), arm(500, failed=1)),
            Metric.ERRORS,
            "errors 5.0% of 5,000 requests, 0.2% with 0.31.0 (bound 2 points more)",
            id="5 % of the requests fail",
        ),
        pytest.param(
            against(changed(first_token=times(5, SLOWER))),
            Metric.FIRST_TOKEN,
            "TTFT median 1.6x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="the first token comes later",
        ),
        pytest.param(
            against(changed(first_token=times(5, SLOW_TAIL))),
            Metric.FIRST_TOKEN,
            "TTFT p95 1.7x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="only the slowest first tokens come later",
        ),
        pytest.param(
            against(changed(inter_token=times(5, SLOWER))),
            Metric.INTER_TOKEN,
            "inter-token latency median 1.6x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="tokens come later one after the other",
        ),
        pytest.param(
            evidence(loaded(30000, 4.0), loaded(15000, 4.2), windows=20),
            Metric.THROUGHPUT,
            "throughput 250 tokens/s per replica, 0.5x of 0.31.0 at like load (bound 0.8x)",
            id="half the tokens a second at like load",
        ),
        pytest.param(
            against(
                changed(finish_reasons={"stop": 250, "length": 250}),
                changed(finish_reasons={"stop": 450, "length": 50}),
            ),
            Metric.FINISH_REASONS,
            "50.0% of 5,000 requests ended by length, 10.0% with 0.31.0 (bound 15 points more)",
            id="answers that do not end",
        ),
        pytest.param(
            evidence(GOOD, changed(preemptions=400), windows=20),
            Metric.PREEMPTIONS,
            "0.8 preemptions per request, 0 with 0.31.0 (bound 3x and 0.2 more)",
            id="requests are preempted",
        ),
        pytest.param(
            against(changed(stalled=True)),
            Metric.PROGRESS,
            "the candidate took requests and came no further with them",
            id="the candidate hangs",
        ),
        pytest.param(
            against(GOOD, golden=pairs(20, wrong=16)),
            Metric.GOLDEN_ANSWERS,
            "golden answers 80 points below 0.31.0, worse on 16 of 20 questions (bound 5 points)",
            id="a damaged model on twenty questions",
        ),
        pytest.param(
            against(GOOD, golden=pairs(24, logprob_distance=2.0, stable_noise=0.01)),
            Metric.LOG_PROBABILITY,
            "log-probabilities 2 nats from 0.31.0, grossly off on 24 of 24 questions (bound 0.5 nats on half of them)",
            id="another model by its log-probabilities",
        ),
        pytest.param(
            evidence(Arm(0, 0), Arm(0, 0, stalled=False), pairs(60, candidate_first_token=0.4, **FAST)),
            Metric.FIRST_TOKEN,
            "TTFT median 2x of 0.31.0 over 60 golden pairs (bound 1.3x)",
            id="slower by golden pairs, without a client",
        ),
        pytest.param(
            against(changed(first_token=EMPTY, total=times(5, SLOWER)), changed(first_token=EMPTY, total=times(5))),
            Metric.FIRST_TOKEN,
            "request time median 1.6x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="whole requests take longer, of an engine that tells no first token",
        ),
        pytest.param(
            evidence(
                Arm(0, 0), Arm(0, 0), [pair(str(number), candidate_failed=number % 4 == 0) for number in range(80)]
            ),
            Metric.ERRORS,
            "errors 25.0% of 80 requests, 0.0% with 0.31.0 (bound 2 points more)",
            id="golden questions without an answer",
        ),
    ],
)
def test_what_fails_a_candidate(found: Evidence, metric: Metric, says: str) -> None:
    judgement = judged(found)
    assert judgement.verdict is Verdict.FAIL
    assert finding(judgement, metric).verdict is Verdict.FAIL
    assert judgement.says == finding(judgement, metric).says == says


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(against(GOOD), id="alike"),
        pytest.param(against(arm(500, failed=3), arm(500, failed=2)), id="a few failures more"),
        pytest.param(against(arm(500, failed=100), arm(500, failed=100)), id="both fail alike"),
        pytest.param(against(changed(first_token=times(5)), changed(first_token=times(5, SLOWER))), id="faster"),
        pytest.param(against(GOOD, arm(2000)), id="alike, on a fifth of the traffic"),
        pytest.param(against(GOOD, golden=pairs(20, **ALIKE), golden_expected=True), id="the golden set is answered"),
        pytest.param(
            against(GOOD, golden=pairs(5, **ALIKE), golden_expected=True, questions=5), id="a golden set of five"
        ),
        pytest.param(against(changed(inter_token=EMPTY), changed(inter_token=EMPTY)), id="embeddings have no tokens"),
        pytest.param(
            against(changed(first_token=EMPTY, total=times(5)), changed(first_token=EMPTY, total=times(5))),
            id="where the engine tells no first token, the gateway's times stand in",
        ),
        pytest.param(
            evidence(Arm(0, 0), Arm(0, 0, stalled=False), pairs(200, **ALIKE)), id="golden pairs alone, at zero traffic"
        ),
        pytest.param(
            against(GOOD, golden=pairs(30, logprob_distance=0.06, stable_noise=0.01)),
            id="log-probabilities of another engine version",
        ),
    ],
)
def test_what_passes_a_candidate(found: Evidence) -> None:
    judgement = judged(found)
    assert judgement.verdict is Verdict.PASS, judgement.says


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(
            evidence(arm(100), arm(100)), "errors 0.0% of 100 requests, 0.0% with 0.31.0", id="too few requests"
        ),
        pytest.param(against(Arm(0, 0, stalled=False)), "errors 0.0% of 0 requests", id="the candidate had none"),
        pytest.param(against(GOOD, Arm(0, 0)), "errors 0.0% of 0 requests", id="the stable revision had none"),
        pytest.param(
            against(GOOD, golden_expected=True), "golden answers: none", id="the golden set was not asked yet"
        ),
        pytest.param(
            against(changed(stalled=True), changed(stalled=True)),
            "both the candidate and 0.31.0 stalled",
            id="both hang",
        ),
        pytest.param(against(changed(stalled=None)), "progress", id="nobody knows whether it comes forward"),
        pytest.param(
            against(GOOD, golden=pairs(20, wrong=2), golden_expected=True),
            "golden answers 10 points below 0.31.0",
            id="two answers of twenty are worse, which may be chance",
        ),
        pytest.param(
            against(GOOD, golden=pairs(5, wrong=1), golden_expected=True),
            "worse on 1 of 5 questions",
            id="a small golden set passes only without a drop",
        ),
        pytest.param(
            against(GOOD, golden=pairs(5, **ALIKE), golden_expected=True, questions=150),
            "worse on 0 of 5 questions",
            id="five questions of a large golden set are no small set",
        ),
        pytest.param(
            against(
                changed(first_token=Histogram((0.1, 0.25), (0, 500, 0))),
                changed(first_token=Histogram((0.1, 0.25), (0, 500, 0))),
            ),
            "TTFT: nothing to compare",
            id="all times are in one wide bucket",
        ),
        pytest.param(
            against(
                loaded(0, 6.0, first_token=times(5, SLOWER), requests=1000),
                loaded(0, 3.0),
            ),
            "but its replicas are asked 1.5x as often or more",
            id="slower, but with twice the work for each replica",
        ),
        pytest.param(
            against(
                GOOD,
                golden=pairs(20, logprob_distance=1.0, stable_noise=0.01)[:7] + pairs(7, **ALIKE_LOGPROBS),
            ),
            "log-probabilities",
            id="log-probabilities of half of the questions are off",
        ),
    ],
)
def test_what_says_nothing_yet(found: Evidence, says: str) -> None:
    judgement = judged(found)
    assert judgement.verdict is Verdict.INCONCLUSIVE, judgement
    assert says in judgement.says


SILENT = Unknown("Pod bot-2 does not answer.")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stable": SILENT}, id="the stable revision cannot be read"),
        pytest.param({"candidate": SILENT}, id="the candidate cannot be read"),
        pytest.param({"stable": SILENT, "candidate": SILENT}, id="neither can"),
        pytest.param({"golden": SILENT, "golden_expected": True}, id="the golden set cannot be read"),
    ],
)
def test_what_cannot_be_read_neither_passes_nor_fails(changes: dict[str, Any]) -> None:
    judgement = judged(replace(against(GOOD), **changes))
    assert judgement.verdict is Verdict.ERROR
    assert judgement.says in ("Pod bot-2 does not answer.", "the golden set is not known: Pod bot-2 does not answer.")


def test_what_was_seen_before_fails_a_candidate_that_cannot_be_read_now() -> None:
    bad = evidence(arm(500), arm(500, failed=50), windows=10)
    assert judged(replace(bad, candidate=SILENT)).verdict is Verdict.FAIL


def test_a_golden_set_that_nobody_has_is_not_missed() -> None:
    assert judged(against(GOOD, golden=SILENT)).verdict is Verdict.PASS


def test_a_question_counts_once_however_often_it_is_asked() -> None:
    once = [pair(f"q{number}", candidate=float(number > 2)) for number in range(20)]
    judgement = judged(against(GOOD, golden=tuple(once * 30), golden_expected=True))
    assert finding(judgement, Metric.GOLDEN_ANSWERS).verdict is Verdict.INCONCLUSIVE


def test_a_heavy_question_counts_more() -> None:
    some = [pair(f"q{number}") for number in range(20)]
    light = [*some, pair("heavy", candidate=0.0)]
    heavy = [*some, pair("heavy", candidate=0.0, weight=10)]
    verdicts = [finding(judged(against(GOOD, golden=tuple(asked))), Metric.GOLDEN_ANSWERS) for asked in (light, heavy)]
    assert [item.verdict for item in verdicts] == [Verdict.PASS, Verdict.INCONCLUSIVE]
    assert "33.3 points below" in verdicts[1].says


def test_a_busy_hour_that_the_candidate_had_more_of_is_no_difference() -> None:
    """At 5 % both were fast, at 50 % both are slow: by all requests together the candidate looks slower."""
    quiet = evidence(arm(1900), arm(100), windows=10)
    earlier = evidence(arm(1000, shape=SLOWER), arm(1000, shape=SLOWER), windows=1)
    found = replace(earlier, earlier=quiet.earlier)
    assert finding(judged(found), Metric.FIRST_TOKEN).verdict is Verdict.PASS


def test_golden_requests_count_beside_those_of_the_gateway_which_never_sees_them() -> None:
    both = evidence(arm(500), arm(500), pairs(40, **ALIKE), windows=2)
    assert "of 1,040 requests" in finding(judged(both), Metric.ERRORS).says


def test_the_parts_of_the_error_rate_come_to_the_whole() -> None:
    assert sum(ALPHAS.values()) == pytest.approx(FAMILY_ALPHA)
    assert set(ALPHAS) == set(Metric) - {Metric.PROGRESS}


COUNT = st.integers(0, 3000)
HISTOGRAM = st.lists(COUNT, min_size=len(USUAL), max_size=len(USUAL)).map(
    lambda counts: Histogram(times(1).bounds, tuple(counts))
)
FIRST = st.sampled_from([EMPTY, Histogram((0.5,), (1, 2)), Histogram((0.3, 7.0), (0, 5, 3))]) | HISTOGRAM


@st.composite
def arms(draw: st.DrawFn) -> Arm:
    requests = draw(COUNT)
    return Arm(
        requests=requests,
        failed=draw(st.integers(0, requests)),
        first_token=draw(FIRST),
        inter_token=draw(FIRST),
        total=draw(FIRST),
        finish_reasons=draw(st.dictionaries(st.sampled_from(["stop", "length", "abort", "new"]), COUNT)),
        generation_tokens=draw(COUNT),
        preemptions=draw(COUNT),
        replica_seconds=draw(st.floats(0, 1e5)),
        mean_running=draw(st.none() | st.floats(0, 1e3)),
        stalled=draw(st.sampled_from([None, False, True])),
    )


SCORE = st.none() | st.floats(0, 1)
SECONDS = st.none() | st.floats(0, 1e4)
PAIRS = st.lists(
    st.builds(
        GoldenPair,
        question=st.sampled_from("abcdef"),
        weight=st.integers(0, 5),
        stable_score=SCORE,
        candidate_score=SCORE,
        stable_failed=st.booleans(),
        candidate_failed=st.booleans(),
        stable_first_token=SECONDS,
        candidate_first_token=SECONDS,
        stable_inter_token=SECONDS,
        candidate_inter_token=SECONDS,
        logprob_distance=SECONDS,
        stable_noise=SECONDS,
    ),
    max_size=12,
).map(tuple)


@given(arms(), arms(), PAIRS, st.integers(1, 4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_is_counted_there_is_a_verdict_and_it_is_the_same_again(
    stable: Arm, candidate: Arm, golden: tuple[GoldenPair, ...], windows: int, expected: bool
) -> None:
    found = evidence(stable, candidate, golden, windows=windows, golden_expected=expected)
    judgement = judge(found, DEFAULT_RULES)
    assert judgement == judge(found, DEFAULT_RULES)
    assert judgement.says
    verdicts = {item.verdict for item in judgement.findings}
    assert (judgement.verdict is Verdict.FAIL) == (Verdict.FAIL in verdicts)


@given(arms(), PAIRS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_what_did_the_same_never_fails(alike: Arm, golden: tuple[GoldenPair, ...], windows: int) -> None:
    same = tuple(
        replace(
            item,
            candidate_score=item.stable_score,
            candidate_failed=item.stable_failed,
            candidate_first_token=item.stable_first_token,
            candidate_inter_token=item.stable_inter_token,
            logprob_distance=item.stable_noise,
        )
        for item in golden
    )
    judgement = judged(evidence(alike, alike, same, windows=windows))
    assert judgement.verdict is not Verdict.FAIL


@given(arms(), st.sampled_from(["stable", "candidate"]))
@settings(max_examples=100, deadline=None)
def test_from_a_first_window_that_is_unknown_nothing_follows(known: Arm, unknown: str) -> None:
    changes: dict[str, Any] = {unknown: SILENT}
    found = replace(evidence(known, known), **changes)
    verdict = judged(found).verdict
    assert verdict is Verdict.ERROR or (verdict is Verdict.FAIL and known.stalled and unknown == "stable")
