"""Whether the candidate answers the golden questions worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Answered:
    """How much worse the candidate answers one question."""

    weight: int
    first: float
    """The stable revision's score less the candidate's, when it was first answered by both."""
    mean: float
    """The same, over all times that it was asked."""


def scored(pairs: Sequence[GoldenPair]) -> list[Answered]:
    """The questions that both answered.

    A question that is asked again may well be answered again as before, so its later answers are no further evidence;
    but they tell a wrong answer from one that is sometimes wrong.
    """
    found: dict[str, tuple[int, list[float]]] = {}
    for pair in pairs:
        if pair.stable_score is not None and pair.candidate_score is not None:
            _, drops = found.setdefault(pair.question, (pair.weight, []))
            drops.append(pair.stable_score - pair.candidate_score)
    return [Answered(weight, drops[0], sum(drops) / len(drops)) for weight, drops in found.values() if weight > 0]


def finding(pairs: Sequence[GoldenPair], stable_name: str, rules: Rules, questions: int | None = None) -> Finding:
    """The verdict on golden answers.

    A small set cannot exclude a drop, so it passes without any. A larger one has to exclude it, however few of its
    questions were answered until now.

    The drop is the weighted mean of the stable revision's score less the candidate's. In the evidence a question bets
    its weight's part of the largest weight.

    Worked example: 20 questions of weight 1, of which the stable revision has 17 right and the candidate 2 of these:
    the drop is 0.75, the evidence that of 15 drops, 5461: enough for alpha 0.0006.

    Args:
        pairs: What both answered.
        stable_name: What sentences call the stable revision.
        rules: The bounds.
        questions: Of the whole set, those of which something is expected; None: not known, so those that were answered.
    """
    answered = scored(pairs)
    if not answered:
        return Finding(Metric.GOLDEN_ANSWERS, Verdict.INCONCLUSIVE, "golden answers: none that both gave")
    largest = max(item.weight for item in answered)
    drop = sum(item.weight * item.mean for item in answered) / sum(item.weight for item in answered)
    evidence = betting_evidence([item.weight / largest * item.first for item in answered])
    worse = sum(item.mean > 0 for item in answered)
    says = (
        f"golden answers {abs(drop) * 100:.3g} points {'below' if drop >= 0 else 'above'} {stable_name}, worse on "
        f"{worse} of {len(answered)} questions (bound {rules.golden_drop * 100:g} points)"
    )
    verdict = Verdict.INCONCLUSIVE
    if drop > rules.golden_drop and evidence >= -math.log(rules.alphas[Metric.GOLDEN_ANSWERS]):
        verdict = Verdict.FAIL
    elif (questions or len(answered)) < rules.golden_questions:
        verdict = Verdict.PASS if drop <= 0 else Verdict.INCONCLUSIVE
    elif drop <= rules.golden_drop and drop_at_most(answered, rules.doubt) < rules.golden_harm:
        verdict = Verdict.PASS
    return Finding(Metric.GOLDEN_ANSWERS, verdict, says)


def drop_at_most(answered: Sequence[Answered], chance: float) -> float:
    """The upper limit of the weighted mean drop, as if one more question of mean weight had dropped by half.

    Worked example: 16 questions of weight 1 without a drop: mean 0.0294, its deviation 0.0285, limit 0.0294 + 1.645 x
    0.0285 = 0.076.
    """
    mean_weight = sum(item.weight for item in answered) / len(answered)
    together = [*((float(item.weight), item.mean) for item in answered), (mean_weight, 0.5)]
    weights = sum(weight for weight, _ in together)
    mean = sum(weight * value for weight, value in together) / weights
    variance = sum((weight * (value - mean)) ** 2 for weight, value in together) / weights**2
    return mean + deviations(chance) * math.sqrt(variance)
