"""How much more must be seen for a verdict."""

import math
from dataclasses import dataclass

from nightshift.core.analysis import latency
from nightshift.core.analysis.evidence import Evidence
from nightshift.core.analysis.judge import basis, judge
from nightshift.core.analysis.limits import deviations, rise_at_most
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.tally import all_errors
from nightshift.core.analysis.verdict import Verdict

_MORE = 0.5
"""Where enough was seen by plan and it does not suffice, so much of it is asked for again."""
_LEAST = 20
_UNSEEN_REQUESTS = 300
"""Times of which nothing is known yet need about so many requests: a median whose logarithm has deviation 0.8, with a
dispersion of 2, is told apart from 1.3 times itself."""
_UNSEEN_PAIRS = 60
"""And so many golden pairs, of which a quarter is beyond the bound by chance."""


@dataclass(frozen=True)
class Needs:
    """What would let a judgement conclude that the candidate is good, if it is: one or the other."""

    requests: int
    """Further requests of clients that the candidate answers."""
    golden_pairs: int
    """Golden questions, each asked of both; more than there are means to ask them again. None where only clients'
    requests speak against the candidate, of which golden questions say nothing new."""
    only_golden: bool = False
    """Whether clients' requests do not suffice, since answers are missing."""


def error_requests(base: float, rules: Rules) -> int:
    """Requests of each revision with which equal failure rates are shown to be within the bound, with rules.power.

    The smallest n at which a candidate with more failures than the share 1 - power of equally good ones has an upper
    limit below the bound. For none and 2 points: 135, against 150 by the rule of three for the candidate alone.

    Args:
        base: The stable revision's share of failures.
        rules: The bounds.
    """
    if base >= 0.5:
        base = 0.5
    count, above = 20.0, deviations(1 - rules.power)
    while count < 1e6:
        unlucky = base + above * math.sqrt(base * (1 - base) / count)
        if rise_at_most(unlucky, count, base, count, deviations(rules.doubt)) < rules.error_points:
            break
        count *= 1.05
    return math.ceil(count)


def pairs_for_ratio(beyond: float, rules: Rules) -> int:
    """Golden pairs with which a median ratio is shown to be below the bound, if this share of pairs is beyond it.

    ((z(doubt) / 2 + z(1 - power) sqrt(b (1 - b))) / (1 / 2 - b))**2, the size of a binomial test against one half.

    Worked example: a quarter beyond: ((0.822 + 1.282 x 0.433) / 0.25)**2 = 31.
    """
    share = min(max(beyond, 0.02), 0.45)
    above = deviations(rules.doubt) / 2 + deviations(1 - rules.power) * math.sqrt(share * (1 - share))
    return math.ceil((above / (0.5 - share)) ** 2)


def needs(evidence: Evidence, rules: Rules) -> Needs:
    """How much more would let the judgement conclude; nothing where it has.

    Worked example: after 15 requests of the candidate without failures, errors need 135 of each revision, so 120 more;
    the times of 15 requests need more than that.

    Args:
        evidence: What is known.
        rules: The bounds.
    """
    judgement = judge(evidence, rules)
    if judgement.verdict not in (Verdict.INCONCLUSIVE, Verdict.ERROR):
        return Needs(0, 0)
    open_metrics = {item.metric for item in judgement.findings if item.verdict is not Verdict.PASS}
    found = basis(evidence)
    requests = pairs = 0
    only_golden = bool({Metric.GOLDEN_ANSWERS, Metric.LOG_PROBABILITY} & open_metrics)
    if Metric.ERRORS in open_metrics:
        tally = all_errors(found.tally, found.pairs)
        missing = error_requests(tally.stable_failed / tally.stable if tally.stable else 0.0, rules) - tally.candidate
        missing = _at_least_some(missing, tally.candidate)
        requests, pairs = missing, missing
    for metric in (Metric.FIRST_TOKEN, Metric.INTER_TOKEN):
        if metric not in open_metrics:
            continue
        first = metric is Metric.FIRST_TOKEN
        asked = latency.paired(found.first_token_pairs if first else found.inter_token_pairs, rules)
        wanted = (
            pairs_for_ratio(asked.beyond / asked.count, rules) if asked and asked.count >= _LEAST else _UNSEEN_PAIRS
        )
        have = asked.count if asked else 0
        if asked is None or not latency.is_within(asked, rules):
            pairs = max(pairs, _at_least_some(wanted - have, have))
        requests = max(requests, _requests_for_times(found.tally.errors.candidate, metric, evidence, rules))
    if only_golden:
        asked_before = {pair.question for pair in found.pairs}
        pairs = max(pairs, len(asked_before) or rules.golden_questions)
    return Needs(requests, pairs, only_golden)


def _requests_for_times(have: int, metric: Metric, evidence: Evidence, rules: Rules) -> int:
    tally = basis(evidence).tally
    if metric is Metric.INTER_TOKEN:
        seen = latency.compared(tally.inter_token, latency.requests_timed(tally), rules)
    else:
        times = tally.first_token if tally.first_token.stable_seen else tally.total
        seen = latency.compared(times, 0, rules)
    if seen is None or have < _LEAST or math.isinf(seen.typical_at_most):
        return _at_least_some(_UNSEEN_REQUESTS - have, have)
    half = math.log(seen.typical_at_most / seen.typical)
    wide = half * (1 + deviations(1 - rules.power) / deviations(rules.doubt))
    wanted = math.ceil(have * (wide / math.log(rules.latency_ratio)) ** 2)
    return _at_least_some(wanted - have, have)


def _at_least_some(missing: int, have: int) -> int:
    return missing if missing > 0 else max(_LEAST, math.ceil(_MORE * have))
