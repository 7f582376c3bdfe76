"""Shares of rollouts, and how sure they are."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import Any

from bench.analysis.driver import INCONCLUSIVE, PROMOTED, ROLLED_BACK, Outcome

CONFIDENCE = 0.95


def _log_at_most(successes: int, trials: int, share: float) -> float:
    """The chance of so few successes or fewer."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 1.0 if successes >= trials else 0.0
    logarithms = [
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(share)
        + (trials - count) * math.log1p(-share)
        for count in range(successes + 1)
    ]
    top = max(logarithms)
    return math.exp(top) * sum(math.exp(value - top) for value in logarithms)


@cache
def upper_bound(successes: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper limit of a share (Clopper and Pearson 1934).

    Worked example: 0 of 2,000 at 95 %: 1 - 0.05**(1/2000) = 0.0015.
    """
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _log_at_most(successes, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower_bound(successes: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided lower limit of a share.

    Worked example: 2,000 of 2,000 at 95 %: 0.9985.
    """
    return 1 - upper_bound(trials - successes, trials, confidence)


def told(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of one cell: shares with their limits, and how long it took."""
    ends = Counter(outcome.end for outcome in outcomes)
    found: dict[str, Any] = {"rollouts": len(outcomes)}
    for end in (PROMOTED, ROLLED_BACK, INCONCLUSIVE):
        name = end.replace(" ", "_")
        found[f"{name}_share"] = ends[end] / len(outcomes)
        found[f"{name}_share_upper_95"] = upper_bound(ends[end], len(outcomes))
        found[f"{name}_share_lower_95"] = lower_bound(ends[end], len(outcomes))
    found["median_minutes_to_the_verdict"] = median(outcome.minutes for outcome in outcomes)
    found["median_requests_to_the_verdict"] = median(outcome.requests for outcome in outcomes)
    by = Counter(outcome.by for outcome in outcomes if outcome.by and outcome.end == ROLLED_BACK)
    missing = Counter(outcome.by for outcome in outcomes if outcome.by and outcome.end == INCONCLUSIVE)
    found["rolled_back_by"] = dict(by.most_common())
    found["inconclusive_for"] = dict(missing.most_common(5))
    return found
