"""Evidence is at most 1 on average while nothing is wrong, and grows while something is."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api.tally import ErrorTally
from nightshift.core.analysis import errors
from nightshift.core.analysis.evalues import (
    at_most,
    betting_evidence,
    mean_evidence,
    normal_evidence,
    sign_evidence,
)
from nightshift.core.analysis.evidence import Arm


@pytest.mark.parametrize("count", [1, 5, 20, 60])
def test_the_evidence_of_fair_signs_is_one_on_average(count: int) -> None:
    chances = [math.comb(count, worse) / 2**count for worse in range(count + 1)]
    mean = sum(chance * math.exp(sign_evidence(worse, count - worse)) for worse, chance in enumerate(chances))
    assert mean == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_the_evidence_of_answers_that_get_worse_as_often_as_better_is_one_on_average(count: int) -> None:
    mean = sum(
        math.comb(count, worse)
        / 2**count
        * math.exp(betting_evidence([1.0] * worse + [-1.0] * (count - worse) + [0.0] * 7))
        for worse in range(count + 1)
    )
    assert mean == pytest.approx(1)


@pytest.mark.parametrize("information", [1.0, 40.0, 160.0])
def test_the_evidence_of_a_sum_around_zero_is_one_on_average(information: float) -> None:
    deviation, steps = math.sqrt(information), 4000
    mean = 0.0
    for step in range(-steps, steps + 1):
        at = 12 * step / steps
        density = math.exp(-at * at / 2) / math.sqrt(2 * math.pi) * 12 / steps
        mean += density * math.exp(normal_evidence(at * deviation, information, 40.0))
    assert mean == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("asked", "kept", "failed"), [(10, 90, 6), (50, 50, 9), (3, 7, 5), (200, 10, 4)])
def test_the_evidence_of_failures_that_befall_both_alike_is_at_most_one_on_average(
    asked: int, kept: int, failed: int
) -> None:
    """However many fail in all, which of the requests they are is chance alone."""
    everything = math.comb(asked + kept, failed)
    mean = 0.0
    for mine in range(max(0, failed - kept), min(asked, failed) + 1):
        chance = math.comb(asked, mine) * math.comb(kept, failed - mine) / everything
        tally = errors.counted(ErrorTally(), Arm(kept, failed - mine), Arm(asked, mine))
        mean += chance * math.exp(mean_evidence(tally.growth))
    assert mean <= 1 + 1e-9


@pytest.mark.parametrize(
    ("found", "value"),
    [
        pytest.param(math.exp(mean_evidence((0.0, math.log(3)))), 2, id="the mean of 1 and 3 is 2"),
        pytest.param(mean_evidence(()), 0, id="of nothing there is no evidence"),
        pytest.param(math.exp(sign_evidence(13, 0)), 1785, id="13 of 13 worse are enough for 0.0006"),
        pytest.param(math.exp(betting_evidence([1.0] * 13 + [0.0] * 30)), 1511, id="13 drops among 43 answers"),
        pytest.param(math.exp(betting_evidence([1.0] * 15)), 5461, id="15 drops are enough for a golden set of 20"),
        pytest.param(normal_evidence(0, 0, 40), 0, id="without information there is no evidence"),
        pytest.param(normal_evidence(4.4 * math.sqrt(300), 300, 40), 8.164, id="4.4 deviations at 300 requests"),
        pytest.param(at_most(0, 5), 1 / 32, id="no head in five tosses"),
        pytest.param(at_most(3, 14), 0.02869, id="three heads in fourteen"),
        pytest.param(at_most(-1, 5), 0, id="fewer than none"),
        pytest.param(at_most(5, 5), 1, id="all or fewer"),
        pytest.param(at_most(450, 1000), 0.000865, id="many tosses by the normal distribution"),
    ],
)
def test_worked_examples(found: float, value: float) -> None:
    assert found == pytest.approx(value, rel=0.01, abs=1e-12)


def test_the_evidence_of_failures_by_hand() -> None:
    tally = errors.counted(ErrorTally(), Arm(900, 1), Arm(100, 3))
    assert tally.growth[1] == pytest.approx(3 * math.log(4) - 4 * math.log(0.9 + 0.4))


@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None)
def test_worse_signs_are_never_less_evidence(worse: int, better: int) -> None:
    assert sign_evidence(worse + 1, better) > sign_evidence(worse, better + 1)


@pytest.mark.parametrize("far", [-1e6, -300.0, 300.0, 1e6])
def test_no_sum_is_too_far_away(far: float) -> None:
    told: Callable[[float], bool] = math.isnan
    assert not told(normal_evidence(far, 100.0, 40.0))
