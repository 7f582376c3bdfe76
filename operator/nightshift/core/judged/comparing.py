"""Comparing a candidate with the stable revision: what is noted of it, and what it comes to by now.

What is noted stands on the candidate's ControllerRevision before anything follows from it. It is noted where a window
ends, where pods came that would not be counted otherwise, and where the weights change.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from nightshift.api.comparison import Comparison
from nightshift.api.evaluation import GoldenSetRef
from nightshift.api.names import ANNOTATION_PERSON
from nightshift.api.rollout import Phase, RolloutState
from nightshift.api.tally import Tally
from nightshift.core.analysis.counted import counters
from nightshift.core.analysis.evidence import Arm, Evidence
from nightshift.core.analysis.judge import basis, judge
from nightshift.core.analysis.power import needs
from nightshift.core.analysis.rules import DEFAULT_RULES, Metric
from nightshift.core.analysis.tally import is_asked_more
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.analysis.window import Counters, arms, begin, closed, renewed, worth_renewing
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.golden.jobs import Pairing, golden_of, kept_of
from nightshift.core.golden.outcome import complete, expecting, unasked
from nightshift.core.judged.steps import holds
from nightshift.core.judged.telling import Seen
from nightshift.core.observed import Observed
from nightshift.core.revisions import Revision, same_model

WINDOW_SECONDS = 60.0
"""Of a window: short, so that a busy hour is not compared with a quiet one, and as long as engines need to be read."""

LATE_SECONDS = 10.0
"""A window that is over and could not be closed is looked at again so often."""

MEANT = (
    f"Its model is another one: if that is meant, set the annotation {ANNOTATION_PERSON} to retry and then to promote; "
    "where models are changed often, rollout.strategy Readiness compares nothing"
)
"""What a verdict adds where a change of the model may have been meant to change what it found."""

_ASKED_MORE = "its replicas are asked so much more often that slower times do not count against it"
_HINDERED = "golden questions cannot be asked"
_RATE_SECONDS = 30.0
"""A window shows how often clients ask once it is so long."""
_ANY_MODEL = frozenset({Metric.ERRORS, Metric.PROGRESS})
"""What no model is meant to do worse."""
_NOTHING = Arm(requests=0, failed=0, stalled=False)


@dataclass(frozen=True)
class Asked:
    """What is asked of both revisions besides the requests of clients, and for how long."""

    reference: GoldenSetRef | None = None
    """The user's golden set; None: there is none, and the built-in questions tell times and likeness."""
    under_way: bool = False
    """Whether answers are on their way: none yet is no failure to read them."""
    idle: bool = False
    """Whether no client's request is to be expected: golden questions alone judge."""
    step_seconds: float = 300.0
    """Clients' requests are waited for so long before golden questions are asked again instead."""
    hindered: str = ""
    """Why golden questions cannot be asked now, or not at all; empty where they can."""


@dataclass(frozen=True)
class Compared:
    """What a comparison comes to now."""

    judgement: Fact[Judgement]
    noted: Comparison | None
    """What is to stand on the candidate; None: nothing, until everything can be read."""
    at_change: Comparison | None
    """The same with the present window closed, where the weights change now."""
    due: float
    """Seconds until the present window ends."""
    short: bool = False
    """Whether clients ask too little for a verdict within a step, so that golden questions have to be asked again."""
    seen: Seen | None = None
    """What the status tells of it; None: nothing was compared yet."""


def is_comparing(state: RolloutState) -> bool:
    """Whether two revisions get requests to be compared by: while judging, and in a pause that leaves them as it is."""
    return state.phase is Phase.JUDGING or holds(state)


def is_watched(state: RolloutState) -> bool:
    """Whether gateway pods and engines are asked for what a comparison needs.

    They are before it begins: the first window cannot begin until all of them have answered.
    """
    return state.phase is Phase.LOADING or is_comparing(state)


def pairing_of(target: Revision, stable: Revision, reference: GoldenSetRef | None) -> Pairing:
    """Who is asked golden questions in this try of a rollout."""
    return Pairing(target, stable, reference, target.marks.started)


def compare(
    route: str,
    target: Revision,
    stable: Revision,
    state: RolloutState,
    observed: Observed,
    now: datetime,
    *,
    stable_name: str,
    asked: Asked = Asked(),
) -> Compared:
    """What the comparison comes to, and what is to be noted of it.

    Args:
        route: NAMESPACE/NAME of the deployment.
        target: The candidate, with its marks until now.
        stable: The revision that it is compared with.
        state: Where the rollout stands; one that is_comparing.
        observed: What gateway pods and engines told.
        now: The present moment (UTC).
        stable_name: What sentences call the stable revision.
        asked: What both are asked besides.
    """
    pairing = pairing_of(target, stable, asked.reference)
    ones = counters(route, stable.hash, observed, now)
    others = counters(route, target.hash, observed, now)
    if asked.idle:
        return _idle(target, stable, pairing, others, asked, stable_name, now)
    before = _present(target, stable, state)
    if before is None:
        return _begun(target, stable, ones, others)
    seconds = max(0.0, (now - before.since).total_seconds())
    left, right = arms(before, ones, others)
    evidence = replace(
        _golden(pairing, asked, stable_name, now), stable=left, candidate=right, seconds=seconds, earlier=before.tally
    )
    found = _judged(evidence, pairing, asked)
    noted = _noted(before, ones, others, over=seconds >= WINDOW_SECONDS)
    return Compared(
        judgement=Known(found, now),
        noted=noted,
        at_change=closed(before, ones, others),
        due=WINDOW_SECONDS - seconds if seconds < WINDOW_SECONDS else LATE_SECONDS,
        short=found.verdict is Verdict.INCONCLUSIVE and _is_short(evidence, asked),
        seen=_seen(evidence, noted.tally, pairing, asked, now),
    )


def _golden(pairing: Pairing, asked: Asked, stable_name: str, now: datetime) -> Evidence:
    """What golden questions alone say."""
    golden = golden_of(pairing)
    if isinstance(golden, Unknown):
        golden = Known((), now) if asked.under_way else Unknown(asked.hindered or golden.reason)
    return Evidence(
        stable=Known(_NOTHING, now),
        candidate=Known(_NOTHING, now),
        golden=golden,
        seconds=0.0,
        golden_expected=asked.reference is not None,
        questions=expecting(kept_of(pairing)),
        stable_name=stable_name,
        other_model=not same_model(pairing.candidate, pairing.stable),
        other_place=pairing.candidate.place != pairing.stable.place,
    )


def _judged(evidence: Evidence, pairing: Pairing, asked: Asked) -> Judgement:
    """The verdict; a pass waits until every question of a user's golden set was put to both."""
    found = judge(evidence, DEFAULT_RULES)
    if found.verdict is Verdict.FAIL:
        decisive = next(item.metric for item in found.findings if item.verdict is Verdict.FAIL)
        meant = evidence.other_model and decisive not in _ANY_MODEL
        return replace(found, says=f"{found.says}. {MEANT}") if meant else found
    if found.verdict is Verdict.PASS and asked.reference is not None and not complete(kept_of(pairing)):
        found = replace(found, verdict=Verdict.INCONCLUSIVE, says=unasked(kept_of(pairing)))
    if found.verdict is not Verdict.PASS and asked.hindered and asked.hindered not in found.says:
        return replace(found, says=f"{found.says}; {_HINDERED}: {asked.hindered}")
    return found


def _besides(evidence: Evidence, pairing: Pairing, asked: Asked) -> tuple[str, ...]:
    """What a person has to know besides: what the change is meant to change, and what was not asked."""
    kept = kept_of(pairing)
    found = {
        "log-probabilities are not compared, as the model is another one": evidence.other_model,
        "times are not compared, as the accelerators are others": evidence.other_place,
        _ASKED_MORE: is_asked_more(evidence.earlier.load, DEFAULT_RULES.load_ratio, DEFAULT_RULES.busy),
        f"{_HINDERED}: {asked.hindered.rstrip('.')}": bool(asked.hindered),
        unasked(kept): asked.reference is not None and kept.runs and not complete(kept),
    }
    return tuple(says for says, so in found.items() if so)


def _idle(
    target: Revision,
    stable: Revision,
    pairing: Pairing,
    candidate: Counters,
    asked: Asked,
    stable_name: str,
    now: datetime,
) -> Compared:
    """What golden questions come to while no client asks; what was counted before that stays as it was noted."""
    earlier = _of_this_try(target, stable)
    tally = earlier.tally if earlier is not None else Tally()
    arm = replace(_NOTHING, stalled=candidate.stalled)
    evidence = replace(_golden(pairing, asked, stable_name, now), candidate=Known(arm, now), earlier=tally)
    found, noted = _judged(evidence, pairing, asked), target.marks.comparison
    short = found.verdict is Verdict.INCONCLUSIVE and _is_short(evidence, asked)
    seen = _seen(evidence, tally, pairing, asked, now)
    return Compared(Known(found, now), noted, noted, WINDOW_SECONDS, short, seen)


def _is_short(evidence: Evidence, asked: Asked) -> bool:
    """Whether clients, who go on asking as often as now, ask too little for a verdict within a step.

    Worked example: 300 more requests are needed, and the candidate gets 0.5 per second: in 300 s it gets 150, too few.
    Before a first minute nothing is said, nor where golden questions have said what they can.
    """
    found = needs(evidence, DEFAULT_RULES)
    more = found.requests
    if asked.idle or not found.golden_pairs:
        return found.golden_pairs > 0
    tally = basis(evidence).tally
    if tally.seconds < WINDOW_SECONDS:
        return False
    rates = [tally.load.candidate_requests / tally.seconds]
    if isinstance(evidence.candidate, Known) and evidence.seconds >= _RATE_SECONDS:
        rates.append(evidence.candidate.value.requests / evidence.seconds)
    return more > max(rates) * asked.step_seconds


def _seen(evidence: Evidence, tally: Tally, pairing: Pairing, asked: Asked, now: datetime) -> Seen:
    """What is told of closed windows and golden answers: it changes where one of them is noted, not at every look."""
    still = Known(_NOTHING, now)
    noted = replace(evidence, stable=still, candidate=still, seconds=0.0, earlier=tally)
    return Seen(
        requests=tally.load.candidate_requests,
        pairs=len(evidence.golden.value) if isinstance(evidence.golden, Known) else 0,
        findings=tuple((item.metric, item.verdict) for item in judge(noted, DEFAULT_RULES).findings),
        readable=isinstance(evidence.stable, Known) and isinstance(evidence.candidate, Known),
        idle=asked.idle,
        besides=_besides(noted, pairing, asked),
    )


def _noted(before: Comparison, ones: Counters, others: Counters, *, over: bool) -> Comparison:
    """The comparison as it is to be stored; as before where nothing is worth a write.

    A window that is over and cannot be read in full goes on, and is not written again for it at every look.
    """
    readable = all(isinstance(arm, Known) for arm in arms(before, ones, others))
    if over and readable:
        return closed(before, ones, others)
    return renewed(before, ones, others) if worth_renewing(before, ones, others) else before


def _present(target: Revision, stable: Revision, state: RolloutState) -> Comparison | None:
    """The comparison under way; None where it has to begin, as after a pause in which nobody was compared."""
    found = _of_this_try(target, stable)
    if found is None or (state.judging_since is not None and found.at < state.judging_since):
        return None
    return found


def _of_this_try(target: Revision, stable: Revision) -> Comparison | None:
    """What is stored of this try and of these two revisions."""
    found, started = target.marks.comparison, target.marks.started
    if found is None or (found.stable.revision, found.candidate.revision) != (stable.hash, target.hash):
        return None
    return None if started is not None and found.began < started else found


def _begun(target: Revision, stable: Revision, ones: Counters, others: Counters) -> Compared:
    """A comparison that begins, or goes on after a pause with what windows before it came to."""
    started = begin((stable.hash, ones), (target.hash, others))
    if isinstance(started, Unknown):
        return Compared(started, target.marks.comparison, target.marks.comparison, WINDOW_SECONDS)
    earlier, begun = _of_this_try(target, stable), started.value
    if earlier is not None:
        begun = begun.model_copy(update={"began": earlier.began, "tally": earlier.tally, "lost": earlier.lost})
    why = Unknown("The comparison begins now.")
    return Compared(why, begun, begun, WINDOW_SECONDS)
