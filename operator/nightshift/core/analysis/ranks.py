"""Histograms of two revisions, compared by rank within a window, and summed over windows.

Only the order of buckets counts, so nothing is assumed of how times are distributed. The comparison is made within
each window, so a busy hour that one revision had more of, because its weight changed then, is no difference between
them (van Elteren 1960).
"""

import math
from collections.abc import Sequence

from nightshift.api.tally import RankTally
from nightshift.core.analysis.evidence import Histogram

TAIL_POWER = 8
"""Ranks to the power of 8 weigh the slowest tenth about as much as all the rest."""


def common_bounds(*several: Sequence[float]) -> tuple[float, ...]:
    """The bounds that all have."""
    first, *others = several
    if all(other == first for other in others):
        return tuple(first)
    return tuple(bound for bound in first if all(bound in other for other in others))


def coarsened(bounds: Sequence[float], counts: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Counts of the buckets that wanted makes; wanted are some of bounds.

    Worked example: counts 1, 2, 3 of the buckets up to 0.1, up to 0.2 and above are 3, 3 with the bound 0.2 alone.
    """
    if len(bounds) == len(wanted):
        return list(counts)
    found, index = [0.0] * (len(wanted) + 1), 0
    for position, count in enumerate(counts):
        found[index] += count
        if index < len(wanted) and position < len(bounds) and bounds[position] == wanted[index]:
            index += 1
    return found


def merged(first: Histogram, second: Histogram) -> Histogram:
    """Both together, in the buckets that they share; what is empty does not limit them."""
    if not first.total or not second.total:
        return first if first.total else second
    bounds = common_bounds(first.bounds, second.bounds)
    one, two = (coarsened(item.bounds, item.counts, bounds) for item in (first, second))
    return Histogram(bounds, tuple(round(a + b) for a, b in zip(one, two, strict=True)))


def rank_score(candidate: Sequence[float], stable: Sequence[float], power: int = 1) -> tuple[float, float]:
    """How much later the candidate stands in the common order, and the variance of that.

    Each bucket has the score r**power, with r the middle rank of its observations among all, from 0 to 1. The sum of
    the candidate's scores, less its mean if the two are alike, over the standard deviation of the scores has the
    variance n m / (n + m) if they are alike: exactly, given the observations. Power 1 is Wilcoxon's rank sum test.

    Worked example: candidate 0, 2 and stable 2, 0: ranks 1/4 and 3/4, scores' deviation sqrt(1/12); the sum is
    2 x 1/4 / sqrt(1/12) = 1.732, its variance 2 x 2 / 4 = 1.

    Returns:
        The sum and its variance; 0 and 0 where all are in one bucket, or one side has nothing.
    """
    asked, kept = sum(candidate), sum(stable)
    everything = asked + kept
    if not asked or not kept or everything < 3:
        return 0.0, 0.0
    seen = mean = square = score = 0.0
    for mine, other in zip(candidate, stable, strict=True):
        here = mine + other
        if here:
            value = (seen + here / 2) / everything
            if power != 1:
                value **= power
            seen += here
            mean += here * value
            square += here * value * value
            score += mine * value
    mean /= everything
    variance = (square - everything * mean * mean) / (everything - 1)
    if variance <= 1e-12:
        return 0.0, 0.0
    return (score - asked * mean) / math.sqrt(variance), asked * kept / everything


def added(tally: RankTally, score: float, information: float) -> RankTally:
    """A tally with one more window."""
    if information <= 0:
        return tally
    return RankTally(
        score=tally.score + score,
        information=tally.information + information,
        squares=tally.squares + score * score / information,
        windows=tally.windows + 1,
    )


def dispersion(tally: RankTally, expected: float, weight: float) -> float:
    """How many times larger the variance may be than that of independent requests; at least 1.

    Requests of the same seconds wait in the same queue, so they tell less than as many independent ones. The windows
    show how much less: (squares - score**2 / information) / (windows - 1) is 1 for independent ones. It is mixed with
    what is expected, which counts as so many windows. Few windows show it badly, so what is used is its upper limit at
    95 %: divided by the 5th percentile of chi square over its degrees of freedom, by Wilson and Hilferty (1931).

    Worked example: 5 windows with squares 12, score 10, information 50: (12 - 2 + 2 x 4) / (4 + 4) = 2.25, and its
    upper limit with 8 degrees of freedom 2.25 / 0.342 = 6.6.
    """
    spread = tally.squares - tally.score * tally.score / tally.information if tally.information else 0.0
    degrees = max(0, tally.windows - 1) + weight
    found = (max(0.0, spread) + expected * weight) / degrees
    part = 2 / (9 * degrees)
    return max(1.0, found / (1 - part - 1.645 * math.sqrt(part)) ** 3)
