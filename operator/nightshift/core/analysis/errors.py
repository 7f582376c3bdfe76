"""Whether the candidate fails more requests."""

import math

from nightshift.api.tally import ErrorTally
from nightshift.core.analysis.evalues import mean_evidence
from nightshift.core.analysis.evidence import Arm
from nightshift.core.analysis.limits import deviations, rise_at_most
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.verdict import Finding, Verdict

RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Failures of the candidate over those of the stable revision, against which equality is weighed."""


def counted(tally: ErrorTally, stable: Arm, candidate: Arm) -> ErrorTally:
    """A tally with one more window; one in which either had no request tells nothing.

    If both fail alike, a failure is the candidate's with the chance s, its share of the window's requests; if the
    candidate fails r times as often, with r s / (1 - s + r s). Each failure multiplies the evidence by the one over
    the other (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022). Requests are
    finite, which makes failures vary less than so (Hoeffding 1963): the evidence errs on the careful side.

    Worked example: 1 of 10 requests goes to the candidate, which fails 3 times, the stable revision once. For r = 4:
    3 log 4 - 4 log(0.9 + 0.4) = 3.11.
    """
    asked, kept = candidate.requests, stable.requests
    if not asked or not kept:
        return tally
    share = asked / (asked + kept)
    growth = tally.growth or (0.0,) * len(RATIOS)
    failures = candidate.failed + stable.failed
    if failures:
        growth = tuple(
            before + candidate.failed * math.log(ratio) - failures * math.log(1 - share + share * ratio)
            for before, ratio in zip(growth, RATIOS, strict=True)
        )
    return ErrorTally(
        candidate=tally.candidate + asked,
        candidate_failed=tally.candidate_failed + candidate.failed,
        stable=tally.stable + kept,
        stable_failed=tally.stable_failed + stable.failed,
        expected_failed=tally.expected_failed + asked * stable.failed / kept,
        growth=growth,
    )


def rise(tally: ErrorTally, chance: float) -> tuple[float, float, float]:
    """The candidate's share of failures, the one expected of it, and the upper limit of the difference."""
    if not tally.candidate:
        return 0.0, 0.0, 1.0
    found = tally.candidate_failed / tally.candidate
    expected = tally.expected_failed / tally.candidate
    limit = rise_at_most(found, tally.candidate, expected, tally.stable, deviations(chance))
    return found, expected, limit


def finding(tally: ErrorTally, stable_name: str, rules: Rules) -> Finding:
    """The verdict on failed requests, golden ones included."""
    found, expected, limit = rise(tally, rules.doubt)
    evidence = mean_evidence(tally.growth)
    beyond = found - expected > rules.error_points and found > rules.error_ratio * expected
    verdict = Verdict.INCONCLUSIVE
    if beyond and evidence >= -math.log(rules.alphas[Metric.ERRORS]):
        verdict = Verdict.FAIL
    elif limit < rules.error_points:
        verdict = Verdict.PASS
    says = (
        f"errors {found:.1%} of {tally.candidate:,} requests, {expected:.1%} with {stable_name} "
        f"(bound {rules.error_points * 100:g} points more)"
    )
    return Finding(Metric.ERRORS, verdict, says)
