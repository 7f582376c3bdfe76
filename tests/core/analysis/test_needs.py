"""How much more must be seen."""

import math
from typing import Any

import pytest

from nightshift.core.analysis.evidence import Arm, Evidence
from nightshift.core.analysis.limits import rise_at_most
from nightshift.core.analysis.power import Needs, error_requests, needs, pairs_for_ratio
from nightshift.core.analysis.rules import DEFAULT_RULES
from nightshift.core.analysis.verdict import Verdict
from tests.support.evidence import SLOWER, arm, evidence, judged, pair, pairs

ALIKE: dict[str, Any] = {
    "stable_first_token": 0.2,
    "stable_inter_token": 0.02,
    "candidate_first_token": 0.2,
    "candidate_inter_token": 0.02,
}


def test_the_sizes_by_hand() -> None:
    assert error_requests(0, DEFAULT_RULES) == 135
    assert pairs_for_ratio(0.25, DEFAULT_RULES) == 31


def binomial_chance(successes: int, trials: int, share: float) -> float:
    if not share:
        return float(successes == 0)
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways + successes * math.log(share) + (trials - successes) * math.log1p(-share))


@pytest.mark.parametrize("base", [0.0, 0.002, 0.02, 0.2])
def test_as_many_requests_as_are_asked_for_show_equal_failures_with_the_promised_power(base: float) -> None:
    """Exactly, over all numbers of failures that the candidate may have; the stable revision has its mean."""
    count = error_requests(base, DEFAULT_RULES)
    passing = 0.0
    for failures in range(count + 1):
        if rise_at_most(failures / count, count, base, count, 1.645) >= DEFAULT_RULES.error_points:
            break
        passing += binomial_chance(failures, count, base)
    assert passing >= DEFAULT_RULES.power - 0.05


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(evidence(arm(500), arm(500), windows=10), Needs(0, 0), id="a verdict needs no more"),
        pytest.param(evidence(arm(500), arm(500, 400), windows=10), Needs(0, 0), id="a candidate that failed neither"),
        pytest.param(evidence(Arm(0, 0), Arm(0, 0, stalled=False)), Needs(300, 135), id="of nothing everything"),
        pytest.param(
            evidence(Arm(0, 0), Arm(0, 0, stalled=False), pairs(100, **ALIKE)),
            Needs(35, 35),
            id="100 pairs showed the times, and errors need 35 more",
        ),
        pytest.param(
            evidence(arm(500), arm(500), windows=10, golden_expected=True),
            Needs(0, 16, only_golden=True),
            id="answers that no client can give",
        ),
        pytest.param(
            evidence(
                arm(500),
                arm(500),
                [pair(f"q{n}", candidate=float(n > 1)) for n in range(30)],
                windows=10,
                golden_expected=True,
            ),
            Needs(0, 30, only_golden=True),
            id="a golden set that must be asked again",
        ),
        pytest.param(
            evidence(arm(500), arm(100, shape=SLOWER), pairs(160, **ALIKE)),
            Needs(534, 0),
            id="slow to clients alone: of golden questions nothing more",
        ),
    ],
)
def test_what_is_needed(found: Evidence, wanted: Needs) -> None:
    assert needs(found, DEFAULT_RULES) == wanted


def test_times_that_are_open_need_as_much_as_their_limit_is_wide() -> None:
    """One window of 140: errors pass, and the limit of the ratio is beyond the bound only since they are few."""
    few = evidence(arm(140), arm(140))
    judgement = judged(few)
    wanted = needs(few, DEFAULT_RULES)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert 20 < wanted.requests < 20_000
    more = math.ceil(wanted.requests / 140)
    assert judged(evidence(arm(140), arm(140), windows=1 + more)).verdict is Verdict.PASS


def test_a_candidate_that_is_probably_slower_needs_more_until_it_is_told() -> None:
    slower = evidence(arm(100), arm(100, shape=SLOWER), windows=2)
    assert judged(slower).verdict is Verdict.INCONCLUSIVE
    assert needs(slower, DEFAULT_RULES).requests >= 20
