"""Confidence limits of shares and quantiles, by which a metric passes."""

import math
from collections.abc import Sequence
from statistics import NormalDist

_FIRST_BUCKET = 4.0
"""The first bucket is taken to begin at its bound over this; times below it are all alike to people."""
_LAST_BUCKET = 2.0
"""And the last, which has no end, to end at its beginning times this."""


def deviations(chance: float) -> float:
    """The standard deviations that a normal variable exceeds with this chance: 1.645 for 0.05."""
    return NormalDist().inv_cdf(1 - chance)


def wilson(share: float, count: float, deviation: float) -> tuple[float, float]:
    """Limits of a share (Wilson 1927).

    Worked example: 0 of 133 at 1.645: at most 0.0199, near the rule of three's 3 / 133.

    Args:
        share: As it was found.
        count: In so many.
        deviation: Standard deviations of each limit.
    """
    if count <= 0:
        return 0.0, 1.0
    square = deviation * deviation
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = deviation * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def rise_at_most(candidate: float, asked: float, stable: float, kept: float, deviation: float) -> float:
    """The upper limit of a difference of two shares (Newcombe 1998, method 10).

    Worked example: 0 of 150 against 0 of 150: 0.0177.
    """
    _, top = wilson(candidate, asked, deviation)
    bottom, _ = wilson(stable, kept, deviation)
    return candidate - stable + math.hypot(top - candidate, stable - bottom)


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float:
    """A quantile of at least one time in buckets with bounds; within a bucket the logarithms are taken to be even.

    Worked example: 10 up to 0.1 s, 10 up to 0.4 s: the share 0.75 is halfway between them by ratio, 0.2 s.
    """
    left = min(max(share, 0.0), 1.0) * sum(counts)
    for index, count in enumerate(counts):
        if count and (left <= count or index == len(counts) - 1):
            low = bounds[index - 1] if index else bounds[0] / _FIRST_BUCKET
            high = bounds[index] if index < len(bounds) else bounds[-1] * _LAST_BUCKET
            return float(low * (high / low) ** min(1.0, left / count))
        left -= count
    return bounds[-1] * _LAST_BUCKET


def quantile_within(
    bounds: Sequence[float], counts: Sequence[float], share: float, effective: float, deviation: float
) -> tuple[float, float, float]:
    """A quantile of at least one time, between its limits.

    They are the quantiles of the shares that so many independent times cannot tell from this one.

    Args:
        bounds: Of the buckets.
        counts: In them.
        share: Of the times that are below the quantile.
        effective: Independent times that the counts are worth.
        deviation: Standard deviations of each limit.
    """
    off = deviation * math.sqrt(share * (1 - share) / max(effective, 1.0))
    low, middle, high = (quantile(bounds, counts, at) for at in (share - off, share, share + off))
    return low, middle, high
