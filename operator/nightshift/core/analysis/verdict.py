"""What a comparison comes to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Of one metric, and of a rollout as a whole. Only Fail rolls back, and only Pass promotes."""

    PASS = "Pass"  # noqa: S105
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    """Too little was seen to say."""
    ERROR = "Error"
    """What should tell could not be read."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one metric."""

    metric: str
    """One of core.analysis.rules.Metric."""
    verdict: Verdict
    says: str
    """One sentence with its numbers, e.g. `TTFT p95 2.1x of 0.31.0 over 412 requests (bound 1.3x)`."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a candidate."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    says: str
    """The finding that decided, or what is missing, as one sentence."""
