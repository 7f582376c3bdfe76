"""Evidence for tests: arms, golden pairs, and what is known of them."""

from collections.abc import Sequence
from typing import Any

from nightshift.api.tally import Tally
from nightshift.core.analysis.evidence import Arm, Evidence, GoldenPair, Histogram
from nightshift.core.analysis.judge import judge
from nightshift.core.analysis.rules import DEFAULT_RULES, Metric
from nightshift.core.analysis.tally import with_window
from nightshift.core.analysis.verdict import Finding, Judgement
from nightshift.core.facts import Known, Unknown
from tests.support.builders import NOW

BOUNDS = (0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.64, 0.8)
USUAL = (2, 4, 8, 14, 20, 22, 14, 8, 4, 2, 2)
ALIKE: dict[str, Any] = {
    "stable_first_token": 0.2,
    "candidate_first_token": 0.2,
    "stable_inter_token": 0.02,
    "candidate_inter_token": 0.02,
    "logprob_distance": 0.01,
    "stable_noise": 0.01,
}
"""A golden question that both answered alike."""
"""100 times with the median at about 0.26 s."""
SLOWER = (0, 0, 2, 4, 8, 14, 20, 22, 14, 8, 8)
"""The same times 1.6: two buckets further."""
SLOW_TAIL = (2, 4, 8, 14, 20, 22, 14, 4, 2, 2, 8)
"""The same up to the nine tenths."""


def times(hundreds: int, shape: Sequence[int] = USUAL) -> Histogram:
    return Histogram(BOUNDS, tuple(hundreds * count for count in shape))


def arm(requests: int, failed: int = 0, shape: Sequence[int] = USUAL, **changes: Any) -> Arm:
    """Requests, whole hundreds of which have times."""
    values: dict[str, Any] = {
        "first_token": times(requests // 100, shape),
        "inter_token": times(requests // 100),
        "stalled": False,
    }
    return Arm(requests, failed, **(values | changes))


def pair(question: str, stable: float | None = 1.0, candidate: float | None = 1.0, **changes: Any) -> GoldenPair:
    return GoldenPair(question, stable_score=stable, candidate_score=candidate, **changes)


def pairs(count: int, wrong: int = 0, **changes: Any) -> tuple[GoldenPair, ...]:
    """The stable revision has all right, the candidate so many wrong."""
    return tuple(pair(f"q{number}", candidate=float(number >= wrong), **changes) for number in range(count))


def evidence(
    stable: Arm, candidate: Arm, golden: Sequence[GoldenPair] | Unknown = (), *, windows: int = 1, **changes: Any
) -> Evidence:
    """So many windows that were all alike, of which the last is the present one."""
    tally = Tally()
    for _ in range(windows - 1):
        tally = with_window(tally, stable, candidate, 60)
    values: dict[str, Any] = {
        "stable": Known(stable, NOW),
        "candidate": Known(candidate, NOW),
        "golden": golden if isinstance(golden, Unknown) else Known(tuple(golden), NOW),
        "seconds": 60.0,
        "earlier": tally,
        "stable_name": "0.31.0",
    }
    return Evidence(**(values | changes))


def finding(judgement: Judgement, metric: Metric) -> Finding:
    return next(item for item in judgement.findings if item.metric == metric)


def judged(found: Evidence) -> Judgement:
    return judge(found, DEFAULT_RULES)
