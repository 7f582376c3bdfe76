"""Verdicts on times: when a slow tail holds a pass back, and what is quoted of them."""

from dataclasses import replace
from typing import Any

import pytest

from nightshift.core.analysis.evidence import Arm, Evidence, Histogram
from nightshift.core.analysis.rules import Metric
from nightshift.core.analysis.verdict import Verdict
from tests.support.evidence import SLOW_TAIL, SLOWER, USUAL, arm, evidence, finding, judged, pairs, times

FAST: dict[str, Any] = {"stable_first_token": 0.2, "stable_inter_token": 0.02}
ALIKE: dict[str, Any] = FAST | {"candidate_first_token": 0.2, "candidate_inter_token": 0.02}
SLOWER_PAIRS: dict[str, Any] = FAST | {"candidate_first_token": 0.4, "candidate_inter_token": 0.02}
GOOD = arm(500)
SLOWEST = 10
"""The last bucket."""


def few(usual: int, slow: int) -> Arm:
    """Requests of which so many had the usual time to the first token and so many the slowest."""
    counts = [0] * len(USUAL)
    counts[5], counts[SLOWEST] = usual, slow
    return Arm(usual + slow, 0, first_token=Histogram(times(1).bounds, tuple(counts)), stalled=False)


@pytest.mark.parametrize(
    ("candidate", "stable", "verdict", "says"),
    [
        pytest.param(few(1, 1), few(990, 10), Verdict.PASS, "", id="one of two requests was slow"),
        pytest.param(few(50, 9), few(950, 9), Verdict.PASS, "", id="nine of 59, one fewer than tell of a tail"),
        pytest.param(few(51, 9), few(950, 9), Verdict.INCONCLUSIVE, "p95", id="nine of 60 were slow"),
        pytest.param(few(270, 30), few(1990, 10), Verdict.INCONCLUSIVE, "p95", id="thirty of 300 were slow"),
        pytest.param(few(51, 9), few(59, 0), Verdict.PASS, "", id="the stable revision had too few"),
        pytest.param(few(2700, 300), few(19900, 100), Verdict.FAIL, "p95", id="300 of 3,000 were slow"),
    ],
)
def test_a_tail_holds_a_pass_back_once_there_are_requests_beyond_it(
    candidate: Arm, stable: Arm, verdict: Verdict, says: str
) -> None:
    """Golden pairs have shown the median."""
    found = finding(judged(evidence(stable, candidate, pairs(60, **ALIKE))), Metric.FIRST_TOKEN)
    assert found.verdict is verdict, found.says
    assert says in found.says


def test_tokens_of_few_requests_tell_of_no_tail_however_many_they_are() -> None:
    """Those of golden questions, while no client asks, are of as many requests as there are first tokens."""

    def verdict(requests: int) -> Verdict:
        usual = replace(few(requests, 0), requests=0, inter_token=times(20))
        found = evidence(usual, replace(usual, inter_token=times(20, SLOW_TAIL)), pairs(60, **ALIKE))
        return finding(judged(found), Metric.INTER_TOKEN).verdict

    held = {requests: verdict(requests) for requests in (10, 2000)}
    assert held == {10: Verdict.PASS, 2000: Verdict.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("found", "verdict", "says"),
    [
        pytest.param(
            evidence(few(990, 10), few(3, 2), pairs(60, **ALIKE)),
            Verdict.PASS,
            "TTFT median 1x of 0.31.0 over 60 golden pairs (bound 1.3x)",
            id="golden pairs passed it, five requests tell nothing",
        ),
        pytest.param(
            evidence(GOOD, GOOD, pairs(1, **ALIKE), windows=10),
            Verdict.PASS,
            "TTFT median 1x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="requests passed it, one pair tells nothing",
        ),
        pytest.param(
            evidence(GOOD, arm(500, shape=SLOWER), pairs(60, **ALIKE), windows=10),
            Verdict.FAIL,
            "TTFT median 1.6x of 0.31.0 over 5,000 requests (bound 1.3x)",
            id="requests failed it, pairs are alike",
        ),
        pytest.param(
            evidence(few(990, 10), few(5, 0), pairs(60, **SLOWER_PAIRS)),
            Verdict.FAIL,
            "TTFT median 2x of 0.31.0 over 60 golden pairs (bound 1.3x)",
            id="pairs failed it, five requests are alike",
        ),
        pytest.param(
            evidence(few(990, 10), few(5, 0), pairs(4, **SLOWER_PAIRS)),
            Verdict.INCONCLUSIVE,
            "TTFT median 2x of 0.31.0 over 4 golden pairs (bound 1.3x)",
            id="pairs hold it back",
        ),
        pytest.param(
            evidence(few(990, 10), few(1, 0), pairs(3, **ALIKE)),
            Verdict.INCONCLUSIVE,
            "TTFT median 1x of 0.31.0 over 1 request and 1x over 3 golden pairs (bound 1.3x)",
            id="neither suffices",
        ),
    ],
)
def test_what_is_quoted_of_times_is_what_decided(found: Evidence, verdict: Verdict, says: str) -> None:
    told = finding(judged(found), Metric.FIRST_TOKEN)
    assert (told.verdict, told.says) == (verdict, says)
