"""Ranks of buckets, and limits of shares and quantiles."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api.tally import RankTally
from nightshift.core.analysis.evidence import EMPTY, Histogram
from nightshift.core.analysis.limits import quantile, quantile_within, rise_at_most, wilson
from nightshift.core.analysis.ranks import (
    added,
    coarsened,
    common_bounds,
    dispersion,
    merged,
    rank_score,
)

COUNTS = st.lists(st.integers(0, 30), min_size=5, max_size=5)


def test_a_score_by_hand() -> None:
    score, information = rank_score((0, 2), (2, 0))
    assert score == pytest.approx(0.5 / math.sqrt(1 / 12))
    assert information == 1


@pytest.mark.parametrize("power", [1, 8])
def test_over_all_ways_to_deal_the_times_the_score_is_zero_and_its_variance_the_information(power: int) -> None:
    buckets = [0, 0, 1, 1, 1, 2, 3, 3]
    scores = []
    information = 0.0
    for mine in combinations(range(len(buckets)), 3):
        candidate, stable = [0] * 4, [0] * 4
        for index, bucket in enumerate(buckets):
            (candidate if index in mine else stable)[bucket] += 1
        score, information = rank_score(candidate, stable, power)
        scores.append(score)
    assert sum(scores) / len(scores) == pytest.approx(0, abs=1e-12)
    assert sum(score * score for score in scores) / len(scores) == pytest.approx(information)


@pytest.mark.parametrize(
    ("candidate", "stable"),
    [
        pytest.param((0, 0), (3, 4), id="the candidate has none"),
        pytest.param((1, 2), (0, 0), id="the stable revision has none"),
        pytest.param((5, 0), (9, 0), id="all are in one bucket"),
        pytest.param((1, 0), (0, 1), id="one each"),
    ],
)
def test_what_tells_nothing_has_no_information(candidate: tuple[int, int], stable: tuple[int, int]) -> None:
    assert rank_score(candidate, stable) == (0, 0)
    assert added(RankTally(), 0, 0) == RankTally()


@given(COUNTS, COUNTS)
@settings(deadline=None)
def test_who_is_slower_is_told_by_the_sign(mine: list[int], other: list[int]) -> None:
    score, information = rank_score(mine, other)
    opposite, same = rank_score(other, mine)
    assert score == pytest.approx(-opposite, abs=1e-9)
    assert information == same
    assert score * score <= information * (sum(mine) + sum(other)) + 1e-6


def test_dispersion_by_hand() -> None:
    tally = RankTally(score=10, information=50, squares=12, windows=5)
    assert dispersion(tally, 2, 4) == pytest.approx(2.25 / 0.3418, rel=0.01)


def test_dispersion_is_what_is_expected_before_there_are_windows_and_never_below_one() -> None:
    assert dispersion(RankTally(), 2, 4) > 2
    many = RankTally(score=0, information=1000, squares=10, windows=500)
    assert dispersion(many, 2, 4) == 1


@pytest.mark.parametrize(
    ("bounds", "counts", "wanted", "found"),
    [
        pytest.param((0.1, 0.2), (1, 2, 3), (0.2,), [3, 3], id="a bound less puts two buckets together"),
        pytest.param((0.1, 0.2), (1, 2, 3), (0.1,), [1, 5], id="the last bound less makes the open one larger"),
        pytest.param((0.1, 0.2), (1, 2, 3), (), [6], id="no bounds are one bucket"),
        pytest.param((0.1, 0.2), (1, 2, 3), (0.1, 0.2), [1, 2, 3], id="the same bounds change nothing"),
    ],
)
def test_coarser_buckets(
    bounds: tuple[float, ...], counts: tuple[int, ...], wanted: tuple[float, ...], found: list[int]
) -> None:
    assert coarsened(bounds, counts, wanted) == found


def test_versions_with_other_buckets_are_compared_in_those_that_both_have() -> None:
    assert common_bounds((0.1, 0.2, 0.4), (0.1, 0.3, 0.4)) == (0.1, 0.4)
    both = merged(Histogram((0.1, 0.2), (1, 2, 3)), Histogram((0.2,), (10, 20)))
    assert both == Histogram((0.2,), (13, 23))


def test_what_is_empty_does_not_limit_the_buckets() -> None:
    some = Histogram((0.1,), (1, 2))
    assert merged(EMPTY, some) == merged(some, EMPTY) == some


@pytest.mark.parametrize(
    ("share", "value"),
    [
        pytest.param(0.75, 0.2, id="within a bucket by ratio"),
        pytest.param(0.5, 0.1, id="at a bound"),
        pytest.param(0.0, 0.025, id="the first bucket begins at a quarter of its bound"),
        pytest.param(1.0, 0.4, id="all"),
        pytest.param(1.7, 0.4, id="more than all is all"),
    ],
)
def test_a_quantile(share: float, value: float) -> None:
    assert quantile((0.1, 0.4), (10, 10, 0), share) == pytest.approx(value)


def test_the_last_bucket_ends_at_twice_its_beginning() -> None:
    assert quantile((0.1,), (0, 10), 1.0) == pytest.approx(0.2)


@given(COUNTS.filter(any), st.floats(0.01, 0.99), st.floats(1, 500))
@settings(deadline=None)
def test_a_quantile_is_between_its_limits(counts: list[int], share: float, effective: float) -> None:
    low, middle, high = quantile_within((0.1, 0.2, 0.4, 0.8), counts, share, effective, 1.645)
    assert 0 < low <= middle <= high


@pytest.mark.parametrize(
    ("found", "value"),
    [
        pytest.param(wilson(0, 133, 1.645)[1], 0.0199, id="no failure in 133 is at most 2 points"),
        pytest.param(wilson(0, 0, 1.645)[1], 1, id="of nothing everything is possible"),
        pytest.param(rise_at_most(0, 150, 0, 150, 1.645), 0.0177, id="none of 150 against none of 150"),
        pytest.param(rise_at_most(0.05, 400, 0.05, 400, 1.645), 0.0263, id="equal shares"),
    ],
)
def test_limits_of_shares(found: float, value: float) -> None:
    assert found == pytest.approx(value, rel=0.02)
