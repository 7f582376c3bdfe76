"""What a candidate is held to, and how often the judgement may be wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Metric(StrEnum):
    """What is compared."""

    ERRORS = "Errors"
    FIRST_TOKEN = "FirstToken"  # noqa: S105
    INTER_TOKEN = "InterToken"  # noqa: S105
    THROUGHPUT = "Throughput"
    FINISH_REASONS = "FinishReasons"
    PREEMPTIONS = "Preemptions"
    PROGRESS = "Progress"
    GOLDEN_ANSWERS = "GoldenAnswers"
    LOG_PROBABILITY = "LogProbability"


FAMILY_ALPHA = 0.004
"""The chance that a candidate that is as good as the stable revision is rolled back, over all metrics and looks."""

ALPHAS: Mapping[Metric, float] = {
    Metric.ERRORS: 0.0008,
    Metric.FIRST_TOKEN: 0.0007,
    Metric.INTER_TOKEN: 0.0007,
    Metric.THROUGHPUT: 0.0003,
    Metric.FINISH_REASONS: 0.0003,
    Metric.PREEMPTIONS: 0.0002,
    Metric.GOLDEN_ANSWERS: 0.0006,
    Metric.LOG_PROBABILITY: 0.0004,
}
"""Each metric's part of FAMILY_ALPHA (Bonferroni). Errors and answers have more, since small golden sets and rare
failures can hold little evidence. Progress is seen, not estimated, and needs none."""


@dataclass(frozen=True)
class Rules:
    """Bounds and error rates.

    A metric fails when the candidate is worse beyond chance and its estimate is beyond the bound; it passes when it is
    shown to be within the bound.
    """

    error_points: float = 0.02
    """Share of the requests by which failures may rise. Below 1 point no golden set of a usual size tells anything."""
    error_ratio: float = 1.5
    """And times the stable revision's, so that one that fails half of its requests is not held to a few more."""
    latency_ratio: float = 1.3
    """Times the stable revision's time to first token or between tokens, at the median or the 95th percentile. Versions
    of one engine differ by a tenth; a third is felt, and costs a third of the throughput."""
    throughput_ratio: float = 0.8
    """Times the stable revision's tokens per second and replica at like load."""
    finish_points: float = 0.15
    """Share of the requests by which a reason that tells of trouble may rise."""
    preemptions_per_request: float = 0.2
    """By which preemptions may rise."""
    preemption_ratio: float = 3.0
    """And times the stable revision's: they depend on the moment's load more than on the version."""
    golden_drop: float = 0.05
    """Weighted share of the golden answers that may get worse."""
    golden_harm: float = 0.15
    """A drop that must be excluded before the answers pass; a set of golden_questions can do that."""
    golden_questions: int = 16
    """A smaller golden set passes only without any drop."""
    logprob_floor: float = 0.5
    """Nats. Below it a first token's log-probabilities are alike whatever the noise: kernels and engine versions move
    them by hundredths, another model by several."""
    logprob_noise_ratio: float = 10.0
    """And times the distance between two answers of the stable revision itself."""
    load_ratio: float = 1.5
    """Replicas of which one is asked so many times as often as the other are not compared by their times."""
    busy: float = 2.0
    """Requests at a time from which load makes a replica slower."""
    doubt: float = 0.05
    """The chance that a metric passes though it is at its bound."""
    power: float = 0.9
    """The chance that what is as good as the stable revision passes with the requests that `needs` asks for."""
    tail_alpha_share: float = 0.3
    """The part of a latency's alpha that watches the slowest requests, the rest the usual ones."""
    tail_requests: int = 60
    """Of each revision, before their 95th percentile alone holds a pass back. Of 60 three lie beyond it on average; of
    fewer than 59 none may, more often than doubt: 0.95**59 = 0.048. A p95 of two requests is the slower of the two."""
    mixture: float = 40.0
    """Effective requests, n m / (n + m), at which the evidence of ranks grows best."""
    dispersion: float = 2.0
    """How many times more the ranks of windows vary than those of independent requests, until windows show it."""
    dispersion_windows: float = 4.0
    """So many windows the expected dispersion counts for."""
    alphas: Mapping[Metric, float] = field(default_factory=lambda: ALPHAS)


DEFAULT_RULES = Rules()
