"""Whether the candidate comes forward at all."""

from nightshift.core.analysis.evidence import Arm
from nightshift.core.analysis.rules import Metric
from nightshift.core.analysis.verdict import Finding, Verdict
from nightshift.core.facts import Fact, Unknown


def finding(stable: Fact[Arm], candidate: Fact[Arm], stable_name: str) -> Finding:
    """A candidate that stalls fails at once: that was seen by asking it, and is no estimate (core.hang).

    If the stable revision stalls too, the cause is something that both share, and nothing is said. What could not be
    read speaks for itself.
    """
    if isinstance(candidate, Unknown):
        return Finding(Metric.PROGRESS, Verdict.ERROR, candidate.reason or "Nothing was read of the candidate.")
    if candidate.value.stalled is None:
        return Finding(Metric.PROGRESS, Verdict.INCONCLUSIVE, "progress: the candidate's engine does not say yet")
    if not candidate.value.stalled:
        return Finding(Metric.PROGRESS, Verdict.PASS, "the candidate comes forward")
    if not isinstance(stable, Unknown) and stable.value.stalled:
        return Finding(Metric.PROGRESS, Verdict.INCONCLUSIVE, f"both the candidate and {stable_name} stalled")
    return Finding(Metric.PROGRESS, Verdict.FAIL, "the candidate took requests and came no further with them")
