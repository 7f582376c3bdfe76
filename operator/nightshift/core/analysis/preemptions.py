"""Whether the candidate preempts more requests, which then begin anew."""

from nightshift.api.tally import SignTally
from nightshift.core.analysis.evidence import Arm
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.signs import Rates, added, is_worse_beyond_chance, rates_of
from nightshift.core.analysis.verdict import Finding, Verdict


def counted(tally: SignTally, stable: Arm, candidate: Arm) -> SignTally:
    """A tally with one more window; one request can be preempted often, so windows are compared and not requests."""
    if not candidate.requests or not stable.requests:
        return tally
    rates = Rates(candidate.preemptions, candidate.requests, stable.preemptions, stable.requests)
    more, fewer = rates.candidate_rate > rates.stable_rate, rates.candidate_rate < rates.stable_rate
    return added(tally, rates, worse=more, better=fewer)


def finding(tally: SignTally, stable_name: str, rules: Rules) -> Finding:
    """The verdict on preemptions."""
    rates = rates_of(tally)
    if rates is None:
        return Finding(Metric.PREEMPTIONS, Verdict.INCONCLUSIVE, "preemptions: nothing to compare yet")
    mine, other = rates.candidate_rate, rates.stable_rate
    beyond = mine - other > rules.preemptions_per_request and mine > rules.preemption_ratio * other
    verdict = Verdict.INCONCLUSIVE if beyond else Verdict.PASS
    if beyond and is_worse_beyond_chance(tally, rules.alphas[Metric.PREEMPTIONS]):
        verdict = Verdict.FAIL
    says = (
        f"{mine:.2g} preemptions per request, {other:.2g} with {stable_name} (bound {rules.preemption_ratio:g}x and "
        f"{rules.preemptions_per_request:g} more)"
    )
    return Finding(Metric.PREEMPTIONS, verdict, says)
