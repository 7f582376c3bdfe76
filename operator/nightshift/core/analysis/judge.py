"""The verdict on a candidate, from everything that is known of it and of the stable revision over the same time.

It may be asked as often as one likes: what fails a candidate is evidence that holds at every look (evalues).
"""

from dataclasses import dataclass

from nightshift.api.tally import Tally
from nightshift.core.analysis import (
    errors,
    finish,
    golden,
    latency,
    logprobs,
    preemptions,
    progress,
    throughput,
)
from nightshift.core.analysis.evidence import Evidence, GoldenPair
from nightshift.core.analysis.rules import Metric, Rules
from nightshift.core.analysis.tally import all_errors, is_asked_more, with_window
from nightshift.core.analysis.verdict import Finding, Judgement, Verdict
from nightshift.core.facts import Known, Unknown


@dataclass(frozen=True)
class Basis:
    """Evidence, added up."""

    tally: Tally
    """Of all windows that are known."""
    pairs: tuple[GoldenPair, ...]
    blind: str
    """Why the present window is not known; empty if it is."""

    @property
    def inter_token_pairs(self) -> list[tuple[float | None, float | None]]:
        """The times between tokens of golden questions."""
        return [(pair.stable_inter_token, pair.candidate_inter_token) for pair in self.pairs]

    @property
    def first_token_pairs(self) -> list[tuple[float | None, float | None]]:
        """The times to the first token of golden questions."""
        return [(pair.stable_first_token, pair.candidate_first_token) for pair in self.pairs]

    @property
    def has_inter_token(self) -> bool:
        """Whether tokens come one after the other at all, which those of an embedding do not."""
        return bool(self.tally.inter_token.stable_seen) or any(a or b for a, b in self.inter_token_pairs)


def basis(evidence: Evidence) -> Basis:
    """Add up the present window, if it is known, and those before."""
    pairs = evidence.golden.value if isinstance(evidence.golden, Known) else ()
    stable, candidate = evidence.stable, evidence.candidate
    if isinstance(stable, Unknown):
        return Basis(evidence.earlier, pairs, stable.reason or "Nothing was read of the stable revision.")
    if isinstance(candidate, Unknown):
        return Basis(evidence.earlier, pairs, candidate.reason or "Nothing was read of the candidate.")
    tally = with_window(evidence.earlier, stable.value, candidate.value, evidence.seconds)
    return Basis(tally, pairs, "")


def judge(evidence: Evidence, rules: Rules) -> Judgement:
    """The verdict on a candidate.

    Fail if any metric fails; else Error if something that must pass could not be read; else Pass if everything that
    must pass does: errors, times to first token and between tokens, progress, the golden answers if the user has a
    golden set, and log-probabilities where they are told. What else is compared can only fail. What is not known
    neither passes nor fails.

    What a change is meant to change is not compared, and need not pass: log-probabilities of another model; on other
    accelerators times, and throughput and preemptions, which hang on the accelerators as well.

    Worked example: errors, times and progress pass, and the golden set was not asked yet: Inconclusive.

    Args:
        evidence: What is known.
        rules: The bounds.
    """
    found = basis(evidence)
    findings, required = _findings(evidence, found, rules)
    for verdict in (Verdict.FAIL, Verdict.ERROR):
        for item in findings:
            if item.verdict is verdict and (verdict is Verdict.FAIL or item.metric in required):
                return Judgement(verdict, findings, item.says)
    missing = [item for item in findings if item.metric in required and item.verdict is not Verdict.PASS]
    if missing:
        return Judgement(Verdict.INCONCLUSIVE, findings, "; ".join(item.says for item in missing))
    passed = "; ".join(item.says for item in findings if item.metric in required)
    return Judgement(Verdict.PASS, findings, passed)


def _findings(evidence: Evidence, found: Basis, rules: Rules) -> tuple[tuple[Finding, ...], frozenset[Metric]]:
    name, tally = evidence.stable_name, found.tally
    required = {Metric.ERRORS, Metric.PROGRESS}
    traffic = [errors.finding(all_errors(tally, found.pairs), name, rules)]
    if not evidence.other_place:
        required.add(Metric.FIRST_TOKEN)
        traffic.append(_first_token(found, name, rules))
        if found.has_inter_token:
            required.add(Metric.INTER_TOKEN)
            traffic.append(_inter_token(found, name, rules))
        traffic.append(throughput.finding(tally.throughput, name, rules))
    traffic.append(finish.finding(tally.ended, tally.reasons, name, rules))
    if not evidence.other_place:
        traffic.append(preemptions.finding(tally.preemptions, name, rules))
    if found.blind:
        traffic = [_blind(item, found.blind) for item in traffic]
    answers = []
    if evidence.golden_expected:
        required.add(Metric.GOLDEN_ANSWERS)
    if isinstance(evidence.golden, Unknown):
        if evidence.golden_expected:
            says = f"the golden set is not known: {evidence.golden.reason}"
            answers.append(Finding(Metric.GOLDEN_ANSWERS, Verdict.ERROR, says))
    else:
        if evidence.golden_expected or golden.scored(found.pairs):
            answers.append(golden.finding(found.pairs, name, rules, evidence.questions))
        likeness = None if evidence.other_model else logprobs.finding(found.pairs, name, rules)
        if likeness is not None:
            required.add(Metric.LOG_PROBABILITY)
            answers.append(likeness)
    stalled = progress.finding(evidence.stable, evidence.candidate, name)
    return (stalled, *answers, *traffic), frozenset(required)


def _blind(finding: Finding, reason: str) -> Finding:
    """What was seen before fails a candidate all the same; it passes nothing, and says what could not be read."""
    if finding.verdict is Verdict.FAIL:
        return finding
    return Finding(finding.metric, Verdict.ERROR, reason)


def _first_token(found: Basis, name: str, rules: Rules) -> Finding:
    """Of the engine; where it tells none, as for embeddings, the time of the whole request stands in."""
    tally = found.tally
    if not tally.first_token.stable_seen and tally.total.stable_seen:
        seen = latency.compared(tally.total, 0, rules)
        return _times(Metric.FIRST_TOKEN, latency.WHOLE_NAME, seen, found.first_token_pairs, found, name, rules)
    seen = latency.compared(tally.first_token, 0, rules)
    return _times(Metric.FIRST_TOKEN, latency.FIRST_TOKEN_NAME, seen, found.first_token_pairs, found, name, rules)


def _inter_token(found: Basis, name: str, rules: Rules) -> Finding:
    seen = latency.compared(found.tally.inter_token, latency.requests_timed(found.tally), rules)
    return _times(Metric.INTER_TOKEN, latency.INTER_TOKEN_NAME, seen, found.inter_token_pairs, found, name, rules)


def _times(
    metric: Metric,
    what: str,
    seen: latency.Compared | None,
    times: list[tuple[float | None, float | None]],
    found: Basis,
    name: str,
    rules: Rules,
) -> Finding:
    pairs = latency.paired(times, rules)
    finding = latency.finding(metric, what, seen, pairs, stable_name=name, rules=rules)
    more = is_asked_more(found.tally.load, rules.load_ratio, rules.busy)
    if finding.verdict is Verdict.FAIL and more:
        says = f"{finding.says}, but its replicas are asked {rules.load_ratio:g}x as often or more"
        return Finding(metric, Verdict.INCONCLUSIVE, says)
    return finding
