"""Whether the candidate is another model, by the probabilities that it gives to first tokens.

Another engine version moves them by hundredths, and so does a batch of another size; damaged weights move them by
several. So they fail a candidate only when they are grossly off on most questions.
"""

import math
from collections.abc import Sequence
from statistics import median

from nightshift.core.analysis.evalues import at_most, sign_evidence
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.verdict import Finding, Verdict


def finding(pairs: Sequence[GoldenPair], stable_name: str, rules: Rules) -> Finding | None:
    """The verdict on log-probabilities; None where none were told. Each question counts once, by its median.

    Worked example: 13 of 13 questions 2 nats off, with a noise of 0.02: over the bound of 0.5 each, and the evidence of
    13 signs is 1,785. That is less than 1 / 0.0004; 14 questions have 3,388 and fail.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        if pair.logprob_distance is not None:
            found.setdefault(pair.question, []).append((pair.logprob_distance, pair.stable_noise or 0.0))
    if not found:
        return None
    middles = [tuple(map(median, zip(*seen, strict=True))) if len(seen) > 1 else seen[0] for seen in found.values()]
    distances = [distance for distance, _ in middles]
    bounds = [max(rules.logprob_floor, rules.logprob_noise_ratio * noise) for _, noise in middles]
    gross = sum(distance > bound for distance, bound in zip(distances, bounds, strict=True))
    says = (
        f"log-probabilities {median(distances):.2g} nats from {stable_name}, grossly off on {gross} of {len(found)} "
        f"questions (bound {median(bounds):.2g} nats on half of them)"
    )
    verdict = Verdict.INCONCLUSIVE
    if sign_evidence(gross, len(found) - gross) >= -math.log(rules.alphas[Metric.LOG_PROBABILITY]):
        verdict = Verdict.FAIL
    elif at_most(gross, len(found)) <= rules.doubt:
        verdict = Verdict.PASS
    return Finding(Metric.LOG_PROBABILITY, verdict, says)
