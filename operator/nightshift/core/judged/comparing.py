"""Comparing a candidate with the stable revision: what is noted of it, and what it comes to by now.

What is noted stands on the candidate's ControllerRevision before anything follows from it. It is noted where a window
ends, where pods came that would not be counted otherwise, and where the weights change.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from nightshift.api.comparison import Comparison
from nightshift.api.evaluation import GoldenSetRef
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.counted import counters
from nightshift.core.analysis.evidence import Evidence
from nightshift.core.analysis.judge import judge
from nightshift.core.analysis.rules import DEFAULT_RULES
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.analysis.window import Counters, arms, begin, closed, renewed, worth_renewing
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.golden.jobs import Pairing, golden_complete, golden_of
from nightshift.core.judged.steps import holds
from nightshift.core.observed import Observed
from nightshift.core.revisions import Revision

WINDOW_SECONDS = 60.0
"""Of a window: short, so that a busy hour is not compared with a quiet one, and as long as engines need to be read."""

NOT_ASKED = "the golden set was not put to both revisions in full yet"


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


def is_comparing(state: RolloutState) -> bool:
    """Whether two revisions get requests to be compared by: while judging, and in a pause that leaves them as it is."""
    return state.phase is Phase.JUDGING or holds(state)


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
    reference: GoldenSetRef | None = None,
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
        reference: The user's golden set; None: there is none, and the built-in questions tell times and likeness.
    """
    ones, others = counters(route, stable.hash, observed, now), counters(route, target.hash, observed, now)
    before = _present(target, stable, state)
    if before is None:
        return _begun(target, stable, ones, others)
    seconds = max(0.0, (now - before.since).total_seconds())
    left, right = arms(before, ones, others)
    pairing = pairing_of(target, stable, reference)
    evidence = Evidence(
        stable=left,
        candidate=right,
        golden=golden_of(pairing),
        seconds=seconds,
        golden_expected=reference is not None,
        earlier=before.tally,
        stable_name=stable_name,
    )
    found = judge(evidence, DEFAULT_RULES)
    if found.verdict is Verdict.PASS and reference is not None and not golden_complete(pairing):
        found = replace(found, verdict=Verdict.INCONCLUSIVE, says=NOT_ASKED)
    return Compared(
        judgement=Known(found, now),
        noted=_noted(before, ones, others, over=seconds >= WINDOW_SECONDS),
        at_change=closed(before, ones, others),
        due=max(1.0, WINDOW_SECONDS - seconds),
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
