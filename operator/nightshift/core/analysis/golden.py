"""Whether the candidate answers the golden questions worse."""

import math
from collections.abc import Sequence

from nightshift.core.analysis.evalues import betting_evidence
from nightshift.core.analysis.evidence import Arm, GoldenPair
from nightshift.core.analysis.limits import deviations
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.verdict import Finding, Verdict


def asked(pairs: Sequence[GoldenPair]) -> tuple[Arm, Arm]:
    """The golden requests as a window of their own, the stable revision's and the candidate's, for counting errors."""
    return (
        Arm(requests=len(pairs), failed=sum(pair.stable_failed for pair in pairs)),
        Arm(requests=len(pairs), failed=sum(pair.candidate_failed for pair in pairs)),
    )


def scored(pairs: Sequence[GoldenPair]) -> list[tuple[int, float]]:
    """Weight and drop of each question that both answered, by its first answer.

    A question that is asked again may well be answered again as before, so its later answers are no further evidence.
    """
    found: dict[str, tuple[int, float]] = {}
    for pair in pairs:
        if pair.stable_score is not None and pair.candidate_score is not None:
            found.setdefault(pair.question, (pair.weight, pair.stable_score - pair.candidate_score))
    return list(found.values())


def finding(pairs: Sequence[GoldenPair], stable_name: str, rules: Rules) -> Finding:
    """The verdict on golden answers.

    The drop is the weighted mean of the stable revision's score less the candidate's. In the evidence a question bets
    its weight's part of the largest weight.

    Worked example: 20 questions of weight 1, of which the stable revision has 17 right and the candidate 2 of these:
    the drop is 0.75, the evidence that of 15 drops, 5530: enough for alpha 0.0006.
    """
    drops = scored(pairs)
    weights = sum(weight for weight, _ in drops)
    if not drops or weights <= 0:
        return Finding(Metric.GOLDEN_ANSWERS, Verdict.INCONCLUSIVE, "golden answers: none that both gave")
    largest = max(weight for weight, _ in drops)
    drop = sum(weight * value for weight, value in drops) / weights
    evidence = betting_evidence([weight / largest * value for weight, value in drops])
    worse = sum(value > 0 for _, value in drops)
    says = (
        f"golden answers {abs(drop) * 100:.3g} points {'below' if drop >= 0 else 'above'} {stable_name}, worse on "
        f"{worse} of {len(drops)} questions (bound {rules.golden_drop * 100:g} points)"
    )
    verdict = Verdict.INCONCLUSIVE
    if drop > rules.golden_drop and evidence >= -math.log(rules.alphas[Metric.GOLDEN_ANSWERS]):
        verdict = Verdict.FAIL
    elif len(drops) < rules.golden_questions:
        verdict = Verdict.PASS if drop <= 0 else Verdict.INCONCLUSIVE
    elif drop <= rules.golden_drop and drop_at_most(drops, rules.doubt) < rules.golden_harm:
        verdict = Verdict.PASS
    return Finding(Metric.GOLDEN_ANSWERS, verdict, says)


def drop_at_most(drops: Sequence[tuple[int, float]], chance: float) -> float:
    """The upper limit of the weighted mean drop, as if one more question of mean weight had dropped by half.

    Worked example: 16 questions of weight 1 without a drop: mean 0.029, deviation 0.118, limit 0.029 + 1.645 x 0.118 /
    sqrt(17) = 0.077.
    """
    mean_weight = sum(weight for weight, _ in drops) / len(drops)
    together = [*((float(weight), value) for weight, value in drops), (mean_weight, 0.5)]
    weights = sum(weight for weight, _ in together)
    mean = sum(weight * value for weight, value in together) / weights
    variance = sum((weight * (value - mean)) ** 2 for weight, value in together) / weights**2
    return mean + deviations(chance) * math.sqrt(variance)
