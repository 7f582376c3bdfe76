"""Whether more of the candidate's requests end for a reason that tells of trouble."""

import math
from collections.abc import Mapping

from nightshift.api.tally import ReasonTally
from nightshift.core.analysis.evalues import normal_evidence
from nightshift.core.analysis.evidence import Arm
from nightshift.core.analysis.ranks import added, dispersion, rank_score
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.verdict import Finding, Verdict

TROUBLE = ("length", "abort", "error", "repetition")
"""A damaged model seldom stops by itself, and clients leave a slow one. vLLM tells `repetition` from 0.33 on."""


def counted(
    ended: int, tallies: Mapping[str, ReasonTally], stable: Arm, candidate: Arm
) -> tuple[int, dict[str, ReasonTally]]:
    """The candidate's ended requests and the tallies with one more window."""
    asked, kept = sum(candidate.finish_reasons.values()), sum(stable.finish_reasons.values())
    if not asked or not kept:
        return ended, dict(tallies)
    found = dict(tallies)
    for reason in TROUBLE:
        mine, other = candidate.finish_reasons.get(reason, 0), stable.finish_reasons.get(reason, 0)
        before = found.get(reason)
        if not mine and not other and before is None:
            continue
        before = before or ReasonTally()
        found[reason] = ReasonTally(
            candidate=before.candidate + mine,
            expected=before.expected + asked * other / kept,
            ranks=added(before.ranks, *rank_score((asked - mine, mine), (kept - other, other))),
        )
    return ended + asked, found


def finding(ended: int, tallies: Mapping[str, ReasonTally], stable_name: str, rules: Rules) -> Finding:
    """The verdict on finish reasons; the reason that rose most speaks."""
    if not ended:
        return Finding(Metric.FINISH_REASONS, Verdict.INCONCLUSIVE, "finish reasons: nothing to compare yet")
    if not tallies:
        return Finding(Metric.FINISH_REASONS, Verdict.PASS, f"all {ended:,} requests stopped by themselves")
    needed = -math.log(rules.alphas[Metric.FINISH_REASONS] / len(TROUBLE))
    name, worst = max(tallies.items(), key=lambda item: item[1].candidate - item[1].expected)
    rise = (worst.candidate - worst.expected) / ended
    spread = dispersion(worst.ranks, rules.dispersion, rules.dispersion_windows)
    evidence = normal_evidence(worst.ranks.score / spread, worst.ranks.information / spread, rules.mixture)
    verdict = Verdict.PASS if rise <= rules.finish_points else Verdict.INCONCLUSIVE
    if rise > rules.finish_points and evidence >= needed:
        verdict = Verdict.FAIL
    says = (
        f"{worst.candidate / ended:.1%} of {ended:,} requests ended by {name}, {worst.expected / ended:.1%} with "
        f"{stable_name} (bound {rules.finish_points * 100:g} points more)"
    )
    return Finding(Metric.FINISH_REASONS, verdict, says)
