"""Whether the candidate is slower: by both histograms of the same windows, and by golden questions in pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from nightshift.api.tally import Tally, TimesTally
from nightshift.core.analysis.evalues import at_most, mean_evidence, normal_evidence, sign_evidence
from nightshift.core.analysis.evidence import Histogram
from nightshift.core.analysis.limits import deviations, quantile_within
from nightshift.core.analysis.ranks import TAIL_POWER, added, coarsened, common_bounds, dispersion, rank_score
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.verdict import Finding, Verdict

TYPICAL, TAIL = 0.5, 0.95
_CROWDED = 0.9
"""Where one wide bucket holds so much, nothing is seen of what happens inside of it."""
_SIGN_OF_HARM = 0.2
"""A ratio whose lower limit with this chance is beyond the bound is a reason to wait."""

FIRST_TOKEN_NAME, INTER_TOKEN_NAME, WHOLE_NAME = "TTFT", "inter-token latency", "request time"
"""What sentences call the times."""

Quoted: TypeAlias = tuple[float, str]
"""A ratio and what it is over, e.g. 1.6 and `412 requests`."""


def counted(tally: TimesTally, stable: Histogram, candidate: Histogram) -> TimesTally:
    """A tally with one more window; one in which either has no time tells nothing.

    The stable revision's times are weighted to the candidate's number, so that both have the same share of each window.
    """
    asked, kept = candidate.total, stable.total
    if not asked or not kept:
        return tally
    known = [tally.bounds] if tally.stable_seen else []
    bounds = common_bounds(stable.bounds, candidate.bounds, *known)
    mine = coarsened(candidate.bounds, candidate.counts, bounds)
    other = coarsened(stable.bounds, stable.counts, bounds)
    weight = asked / kept
    if tally.stable_seen:
        before = coarsened(tally.bounds, tally.candidate, bounds), coarsened(tally.bounds, tally.stable, bounds)
    else:
        before = [0.0] * len(mine), [0.0] * len(mine)
    return TimesTally(
        bounds=bounds,
        candidate=tuple(round(a + b) for a, b in zip(before[0], mine, strict=True)),
        stable=tuple(a + weight * b for a, b in zip(before[1], other, strict=True)),
        stable_seen=tally.stable_seen + kept,
        typical=added(tally.typical, *rank_score(mine, other)),
        tail=added(tally.tail, *rank_score(mine, other, TAIL_POWER)),
    )


@dataclass(frozen=True)
class Compared:
    """What histograms say."""

    requests: int
    """Of the candidate, whose times were counted."""
    typical: float
    """Ratio of the medians."""
    tail: float
    """Ratio of the 95th percentiles."""
    typical_at_most: float
    """Infinite where a few requests set no limit."""
    typical_at_least: float
    tail_at_least: float
    has_tail: bool
    """Whether both have so many requests that some lie beyond the 95th percentile."""
    typical_evidence: float
    tail_evidence: float

    @property
    def median(self) -> Quoted:
        """As sentences quote it."""
        return self.typical, _counted(self.requests, "request")

    @property
    def p95(self) -> Quoted:
        """The same of the tail."""
        return self.tail, _counted(self.requests, "request")


def requests_timed(tally: Tally) -> int:
    """The candidate's requests whose tokens were timed; of each the first token is timed once.

    Golden ones are among them, which no gateway counts. An engine that tells no first tokens has those of the gateway.
    """
    return sum(tally.first_token.candidate) or tally.errors.candidate


def compared(tally: TimesTally, requests: int, rules: Rules) -> Compared | None:
    """What histograms say; None where they say nothing, also since all times are in one wide bucket.

    Of few requests the limits of the median lie outside of all of them, where no bucket tells how far: with z = 1.645
    these are z**2 = 2.7 independent ones, or 31 while windows have not shown yet how much ranks vary (11.6 times more).

    Args:
        tally: Of all windows.
        requests: Of the candidate in them, 0 where each has one time. Times of one request go together, so a request
            counts once however many tokens it has.
        rules: The bounds.
    """
    asked, stable_total = sum(tally.candidate), sum(tally.stable)
    if not asked or not stable_total or not tally.bounds or _is_blind(tally, rules.latency_ratio):
        return None
    cluster = max(1.0, asked / requests) if requests else 1.0
    dispersions = [
        dispersion(ranks, rules.dispersion * cluster, rules.dispersion_windows) for ranks in (tally.typical, tally.tail)
    ]
    spread, slow = dispersions
    typical, _, at_most = _ratio(tally, TYPICAL, spread, rules.doubt)
    _, at_least, _ = _ratio(tally, TYPICAL, spread, _SIGN_OF_HARM)
    tail, tail_at_least, _ = _ratio(tally, TAIL, slow, _SIGN_OF_HARM)
    evidence = [
        normal_evidence(ranks.score / spread, ranks.information / spread, rules.mixture)
        for ranks, spread in zip((tally.typical, tally.tail), dispersions, strict=True)
    ]
    if min(asked, tally.stable_seen) / spread <= deviations(rules.doubt) ** 2:
        at_most = math.inf
    return Compared(
        requests=requests or asked,
        typical=typical,
        tail=tail,
        typical_at_most=at_most,
        typical_at_least=at_least,
        tail_at_least=tail_at_least,
        has_tail=min(asked, tally.stable_seen) / cluster >= rules.tail_requests,
        typical_evidence=evidence[0],
        tail_evidence=evidence[1],
    )


def _ratio(tally: TimesTally, share: float, spread: float, chance: float) -> tuple[float, float, float]:
    """The ratio of two quantiles, and the limits that it exceeds and stays below with this chance of error.

    The limits of the two are put together as logarithms (Zou and Donner, "Construction of confidence limits about
    effect measures", Statistics in Medicine 27, 2008).
    """
    off = deviations(chance)
    mine = quantile_within(tally.bounds, tally.candidate, share, sum(tally.candidate) / spread, off)
    other = quantile_within(tally.bounds, tally.stable, share, tally.stable_seen / spread, off)
    (low, middle, high), (bottom, centre, top) = ([math.log(value) for value in item] for item in (mine, other))
    ratio, below, above = (
        middle - centre,
        math.hypot(middle - low, top - centre),
        math.hypot(high - middle, centre - bottom),
    )
    return math.exp(ratio), math.exp(ratio - below), math.exp(ratio + above)


def _is_blind(tally: TimesTally, ratio: float) -> bool:
    both = [mine + other for mine, other in zip(tally.candidate, tally.stable, strict=True)]
    index = max(range(len(both)), key=both.__getitem__)
    inside = 0 < index < len(tally.bounds)
    narrow = inside and tally.bounds[index] <= ratio * tally.bounds[index - 1]
    return not narrow and both[index] > _CROWDED * sum(both)


@dataclass(frozen=True)
class Paired:
    """What golden questions say that were asked of both."""

    count: int
    ratio: float
    """Median of the candidate's time over the stable revision's."""
    beyond: int
    """Pairs in which it is over the bound."""
    evidence: float

    @property
    def median(self) -> Quoted:
        """As sentences quote it."""
        return self.ratio, _counted(self.count, "golden pair")


def paired(times: Sequence[tuple[float | None, float | None]], rules: Rules) -> Paired | None:
    """What pairs of the stable revision's and the candidate's times say; None where there are none."""
    ratios = [candidate / stable for stable, candidate in times if stable and candidate]
    if not ratios:
        return None
    worse, better = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    beyond = sum(ratio >= rules.latency_ratio for ratio in ratios)
    return Paired(len(ratios), median(ratios), beyond, sign_evidence(worse, better))


def is_within(pairs: Paired, rules: Rules) -> bool:
    """Whether the median ratio is shown to be below the bound: too few pairs are beyond it for half of all.

    Worked example: 3 of 14 beyond: the chance of so few with a median at the bound is 0.029.
    """
    return at_most(pairs.beyond, pairs.count) <= rules.doubt


def is_beyond(pairs: Paired) -> bool:
    """Whether the median ratio is probably beyond the bound: too few pairs are below it."""
    return at_most(pairs.count - pairs.beyond, pairs.count) <= _SIGN_OF_HARM


def finding(
    metric: Metric, name: str, seen: Compared | None, pairs: Paired | None, *, stable_name: str, rules: Rules
) -> Finding:
    """The verdict on one kind of times, which quotes what decided it; both, where neither did.

    Evidence of the traffic and of golden pairs is averaged, since engines count golden requests in their histograms
    too.

    Args:
        metric: Which metric they are.
        name: What sentences call them.
        seen: What histograms say.
        pairs: What golden pairs say.
        stable_name: What sentences call the stable revision.
        rules: The bounds.
    """
    bound = rules.latency_ratio
    alpha = rules.alphas[metric]
    usual, slow = alpha * (1 - rules.tail_alpha_share), alpha * rules.tail_alpha_share
    parts = [(seen.typical_evidence, seen.median)] if seen else []
    parts += [(pairs.evidence, pairs.median)] if pairs else []
    if not parts:
        return Finding(metric, Verdict.INCONCLUSIVE, f"{name}: nothing to compare yet")

    def found(verdict: Verdict, at: str, *quoted: Quoted) -> Finding:
        (ratio, count), *others = quoted
        beside = "".join(f" and {times:.2g}x over {more}" for times, more in others)
        says = f"{name} {at} {ratio:.2g}x of {stable_name} over {count}{beside} (bound {bound:g}x)"
        return Finding(metric, verdict, says)

    together = mean_evidence([evidence for evidence, _ in parts])
    _, strongest = max(parts, key=lambda part: part[0])
    if together >= -math.log(usual) and strongest[0] > bound:
        return found(Verdict.FAIL, "median", strongest)
    if seen and seen.tail > bound and seen.tail_evidence >= -math.log(slow):
        return found(Verdict.FAIL, "p95", seen.p95)
    if seen and seen.typical_at_least > bound:
        return found(Verdict.INCONCLUSIVE, "median", seen.median)
    if pairs and is_beyond(pairs):
        return found(Verdict.INCONCLUSIVE, "median", pairs.median)
    if seen and seen.has_tail and seen.tail_at_least > bound:
        return found(Verdict.INCONCLUSIVE, "p95", seen.p95)
    if seen and seen.typical_at_most < bound:
        return found(Verdict.PASS, "median", seen.median)
    if pairs and is_within(pairs, rules):
        return found(Verdict.PASS, "median", pairs.median)
    return found(Verdict.INCONCLUSIVE, "median", *(quote for _, quote in parts))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
