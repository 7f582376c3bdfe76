"""Whether a replica of the candidate makes fewer tokens a second at like load."""

from nightshift.api.tally import SignTally
from nightshift.core.analysis.evidence import Arm
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.signs import Rates, added, is_worse_beyond_chance, rates_of
from nightshift.core.analysis.verdict import Finding, Verdict

_LIKE = 1.1
"""Loads that differ by less are alike."""


def counted(tally: SignTally, stable: Arm, candidate: Arm) -> SignTally:
    """A tally with one more window, if it tells something.

    A replica that works on more requests at a time makes more tokens a second. So fewer tokens at the same or a higher
    load are worse, more at the same or a lower one are better, and other windows tell nothing; so do those in which
    replicas had next to nothing to do, where tokens are what clients asked for.

    Worked example: 8 requests at a time and 400 tokens/s against 7 and 500: worse. Against 9 and 500: nothing.
    """
    mine, other = candidate.mean_running, stable.mean_running
    if mine is None or other is None or mine < 1 or other < 1:
        return tally
    if candidate.replica_seconds <= 0 or stable.replica_seconds <= 0:
        return tally
    rates = Rates(
        candidate.generation_tokens, candidate.replica_seconds, stable.generation_tokens, stable.replica_seconds
    )
    worse = rates.candidate_rate < rates.stable_rate and mine * _LIKE >= other
    better = rates.candidate_rate > rates.stable_rate and mine <= other * _LIKE
    return added(tally, rates, worse=worse, better=better) if worse or better else tally


def finding(tally: SignTally, stable_name: str, rules: Rules) -> Finding:
    """The verdict on tokens per second and replica."""
    rates = rates_of(tally)
    if rates is None or not rates.stable_rate:
        return Finding(Metric.THROUGHPUT, Verdict.INCONCLUSIVE, "throughput: no time of like load yet")
    ratio = rates.candidate_rate / rates.stable_rate
    verdict = Verdict.PASS if ratio >= rules.throughput_ratio else Verdict.INCONCLUSIVE
    if ratio < rules.throughput_ratio and is_worse_beyond_chance(tally, rules.alphas[Metric.THROUGHPUT]):
        verdict = Verdict.FAIL
    says = (
        f"throughput {rates.candidate_rate:.3g} tokens/s per replica, {ratio:.2g}x of {stable_name} at like load "
        f"(bound {rules.throughput_ratio:g}x)"
    )
    return Finding(Metric.THROUGHPUT, verdict, says)
