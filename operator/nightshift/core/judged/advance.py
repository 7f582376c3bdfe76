"""What becomes of a rollout now: one step from phase to phase, from what was observed, with its reason.

The new state is written before anything follows from it, so a process that ends in between leaves a rollout that the
next one goes on with. Nothing that is unknown promotes, rolls back or takes replicas away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from nightshift.api.rollout import Ordering, Phase, RolloutOrder, RolloutState
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.cause import Cause
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.judged.orders import ANNOTATION, Order, refusal
from nightshift.core.judged.phases import ACTIVE, FIRST, ORDERED, Happening, follows
from nightshift.core.judged.steps import BY_ORDER, NO_EVIDENCE, UNDONE, holds, percent, waits_for_room
from nightshift.core.judged.telling import Names, note
from nightshift.core.planning import EventNote

NOT_JUDGED = Unknown("The candidate was not compared with the stable revision yet.")
MISSING = "EvidenceMissing"
OPEN = "Inconclusive"
WORSE = "JudgedWorse"
_REASON, _SAYS = 64, 1024

BLIND_SECONDS = 150.0
"""Evidence that cannot be read is missing once it was last read so long ago: a window and its readings, and the time
that a new process needs to ask everybody."""

OnInconclusive = Literal["Pause", "Promote", "Rollback"]


@dataclass(frozen=True)
class Pace:
    """How the spec wants a rollout to be judged."""

    step_seconds: float = 300.0
    """A step lasts at least so long."""
    deadline_seconds: float = 7200.0
    """From the begin of judging to a verdict; never less than all steps take."""
    on_inconclusive: OnInconclusive = "Pause"

    def deadline(self, state: RolloutState) -> datetime | None:
        """When judging ends without a verdict; None before it began.

        Worked example: begun at 12:00 with 7200 s and three steps of 300 s: 14:00. With 600 s: 12:15, since the steps
        alone take 900 s.
        """
        if state.judging_since is None:
            return None
        least = self.step_seconds * max(1, len(state.steps))
        return state.judging_since + timedelta(seconds=max(self.deadline_seconds, least))

    def patience(self, state: RolloutState) -> datetime | None:
        """Until when the replicas of a further step are waited for, where all that was seen has passed.

        Worked example: begun at 12:00 with 7200 s: until 16:00, as long again as to the deadline.
        """
        deadline = self.deadline(state)
        return deadline + (deadline - state.judging_since) if deadline and state.judging_since else None

    def step_ends(self, state: RolloutState) -> datetime | None:
        """When the present step has lasted long enough; None while the candidate has not its weight."""
        return state.step_since + timedelta(seconds=self.step_seconds) if state.step_since is not None else None


@dataclass(frozen=True)
class Situation:
    """What is known of a rollout besides its state."""

    wanted: int
    """Replicas that are asked for; 0 while the deployment is idle."""
    ready: int
    """Ready replicas of the candidate."""
    ready_stable: int
    cleared: bool = True
    """Everything is known and fetched that a replica needs before it is made."""
    turn: bool = True
    """The candidate may ask for an accelerator now."""
    placed: bool = False
    """A replica of the candidate has its node."""
    reached: bool = False
    """The candidate has the step's weight in the route, and the replicas for it."""
    complete: bool = False
    """The candidate serves in full, and nothing speaks against it."""
    drained: bool = False
    """The route gives the candidate nothing, and no request is left on it."""
    stable_there: bool = True
    """There is a revision to return to."""
    unjudged: bool = False
    """There is nothing to compare with, or nothing has to be proven again."""
    judgement: Fact[Judgement] = NOT_JUDGED
    read_at: datetime | None = None
    """Where gateway and engines cannot be read now, when they last were, as far as it is noted; None: nothing excuses
    that evidence is missing."""
    failure: Cause | None = None
    """Why the candidate has failed for certain, whatever the comparison says."""
    held_up: Cause | None = None
    """Why the cluster cannot run the candidate, and will not by waiting."""
    alone: Cause | None = None
    """Why no replica of the stable revision finds room beside the candidate, and none will by waiting."""
    order: Order | None = None
    superseded: bool = False
    """Another revision is asked for."""
    elsewhere: bool = False
    """By no other spec: it is the same one on the next of hardware.candidates."""


@dataclass(frozen=True)
class Advance:
    """What becomes of it."""

    state: RolloutState
    changed: bool = False
    """Whether the state has to be written."""
    events: tuple[EventNote, ...] = ()
    due: float | None = None
    """Seconds until time alone may bring the next step."""


@dataclass(frozen=True)
class _Found:
    """What happened, and why."""

    happening: Happening
    reason: str = ""
    says: str = ""
    order: Order | None = None


def begin(stable: str, steps: tuple[int, ...], now: datetime, last: Ordering | None = None) -> RolloutState:
    """The state of a rollout that begins.

    Args:
        stable: Hash of the revision that serves meanwhile; empty where none does: then readiness alone decides.
        steps: Percent of the requests, ascending.
        now: The present moment.
        last: The last order that was seen in this deployment: it was not meant for this rollout.
    """
    phase = FIRST if stable else Phase.PROMOTING
    return RolloutState(phase=phase, since=now, steps=steps, stable=stable, ordered=last)


def advance(
    state: RolloutState,
    situation: Situation,
    pace: Pace,
    names: Names,
    now: datetime,
    part: Callable[[RolloutState], int] = percent,
) -> Advance:
    """The next step of a rollout, one at a time: first what people and the spec say, then failures, then progress.

    Args:
        state: Where it stands.
        situation: What is known besides.
        pace: How the spec wants it judged.
        names: Who is compared with whom.
        now: The present moment (UTC).
        part: Percent of the requests that the candidate has in a state, for sentences.
    """
    found = _found(state, situation, pace, now)
    if found is not None and found.order is not None:
        refused = _refused(found.order, state, situation)
        seen = found.order.seen(now, refused)
        if refused:
            after = state.model_copy(update={"ordered": seen})
            return Advance(after, changed=True, events=(EventNote("Warning", "OrderRefused", refused),))
        state = state.model_copy(update={"ordered": seen})
    if found is None:
        started = _started(state, situation, now)
        return Advance(started, changed=started != state, due=_due(started, pace, now))
    after = _after(state, found, now)
    return Advance(after, changed=True, events=note(state, after, names, part(after)), due=_due(after, pace, now))


def _found(state: RolloutState, it: Situation, pace: Pace, now: datetime) -> _Found | None:
    """What happened; None where nothing did that changes the phase."""
    if it.superseded and follows(state.phase, Happening.SUPERSEDED) is not None:
        if state.phase is Phase.ROLLING_BACK:
            return _Found(Happening.SUPERSEDED, state.reason, state.says)
        moved = "It found no room, and the next of hardware.candidates is tried."
        says = moved if it.elsewhere else "The spec asks for another revision."
        return _Found(Happening.SUPERSEDED, "Superseded", says)
    if it.order is not None:
        return _ordered(it.order)
    if state.phase in ACTIVE and it.failure is not None and it.stable_there:
        return _Found(Happening.FAILED, it.failure.reason, it.failure.message)
    looks = {
        Phase.PREFLIGHT: lambda: _Found(Happening.CLEARED) if it.cleared and it.turn else None,
        Phase.PLACING: lambda: _placing(it),
        Phase.LOADING: lambda: _loading(it),
        Phase.JUDGING: lambda: _judging(state, it, pace, now),
        Phase.PROMOTING: lambda: _promoting(it),
        Phase.ROLLING_BACK: lambda: _rolling_back(state, it),
        Phase.PAUSED: lambda: _paused(state, it, pace, now),
    }
    look = looks.get(state.phase)
    return look() if look is not None else None


def _ordered(order: Order) -> _Found:
    if order.order is None:
        return _Found(Happening.PAUSE, order=order)
    by = f" ({order.by})" if order.by else ""
    reason = {RolloutOrder.PAUSE: BY_ORDER, RolloutOrder.ABORT: "Aborted", RolloutOrder.UNDO: UNDONE}
    says = {
        RolloutOrder.PAUSE: f"A person paused it{by}.",
        RolloutOrder.RESUME: f"A person resumed it{by}.",
        RolloutOrder.PROMOTE: f"A person promoted it{by}.",
        RolloutOrder.ABORT: f"A person ended it{by}.",
        RolloutOrder.UNDO: f"A person took it back{by}.",
        RolloutOrder.RETRY: f"A person has it tried again{by}.",
    }
    return _Found(ORDERED[order.order], reason.get(order.order, ""), says[order.order], order)


def _refused(order: Order, state: RolloutState, it: Situation) -> str:
    """Why an order is not carried out; empty where it is."""
    if order.order in (RolloutOrder.UNDO, RolloutOrder.ABORT) and not it.stable_there:
        return (
            f"The annotation {ANNOTATION} asks to {order.order.value}, and there is no earlier revision to return to. "
            "Change the spec instead."
        )
    return refusal(order, state.phase)


def _placing(it: Situation) -> _Found | None:
    if it.placed:
        return _Found(Happening.PLACED)
    return _Found(Happening.HELD_UP, it.held_up.reason, it.held_up.message) if it.held_up is not None else None


def _loading(it: Situation) -> _Found | None:
    if it.ready and it.unjudged:
        return _Found(Happening.UNJUDGED)
    if it.ready:
        return _Found(Happening.LOADED, says="" if it.wanted else "by the golden set alone, as the deployment is idle")
    if not it.placed:
        return _Found(Happening.DISPLACED)
    return _Found(Happening.HELD_UP, it.held_up.reason, it.held_up.message) if it.held_up is not None else None


def _judging(state: RolloutState, it: Situation, pace: Pace, now: datetime) -> _Found | None:
    """A failure counts at once; a pass when the step has had its time; anything else waits until the deadline.

    What has passed is not inconclusive: where the deadline comes in mid-step, or before the replicas of the next one,
    the candidate still gets these, unless they cannot come.
    """
    if it.unjudged:
        return _Found(Happening.UNJUDGED)
    judged, ends, deadline = it.judgement, pace.step_ends(state), pace.deadline(state)
    over, late = ends is not None and now >= ends, deadline is not None and now >= deadline
    if isinstance(judged, Known) and judged.value.verdict is Verdict.FAIL:
        return _Found(Happening.FAILED, WORSE, judged.value.says)
    if it.alone is not None:
        return _Found(Happening.HELD_UP, it.alone.reason, it.alone.message)
    passed = isinstance(judged, Known) and judged.value.verdict is Verdict.PASS
    if isinstance(judged, Known) and passed and over and it.reached:
        last = not it.wanted or state.step + 1 >= len(state.steps)
        return _Found(Happening.PASSED if last else Happening.STEP_PASSED, says=judged.value.says)
    blind = isinstance(judged, Unknown) or judged.value.verdict is Verdict.ERROR
    says = judged.reason if isinstance(judged, Unknown) else judged.value.says
    if blind:
        says = _unread(says, it.read_at)
    if blind and it.read_at is not None and now < it.read_at + timedelta(seconds=BLIND_SECONDS):
        return None
    if blind and late:
        return _Found(Happening.TIMED_OUT, MISSING, says)
    if blind and over:
        return _Found(Happening.BLIND, NO_EVIDENCE, says)
    if not late or (passed and it.reached):
        return None
    if passed:
        patience = pace.patience(state)
        if it.held_up is None and patience is not None and now < patience:
            return None
        says = f"It passed so far, and its replicas did not come for {percent(state)} % of the requests in time."
        says = f"{says} {it.held_up.message}" if it.held_up is not None else says
    by_policy = {"Promote": Happening.LET_THROUGH, "Rollback": Happening.SENT_BACK}
    return _Found(by_policy.get(pace.on_inconclusive, Happening.LEFT_OPEN), OPEN, says)


def _unread(why: str, read_at: datetime | None) -> str:
    """What cannot be read, since when, and what to do.

    Args:
        why: What cannot be read, and why, as a sentence.
        read_at: When gateway and engines were last read; None: they are not what is missing.
    """
    if read_at is None:
        return why
    return (
        f"{why.rstrip('.')}; everything was last read at {read_at:%H:%M:%S} UTC. See that the gateway's and the "
        "engines' pods are ready and that the operator reaches them, and their logs."
    )


def _promoting(it: Situation) -> _Found | None:
    if it.complete:
        return _Found(Happening.COMPLETE)
    if it.held_up is not None and not it.ready:
        return _Found(Happening.HELD_UP, it.held_up.reason, it.held_up.message)
    return None


def _rolling_back(state: RolloutState, it: Situation) -> _Found | None:
    if state.reason != UNDONE:
        gone = it.drained or not it.ready or not it.ready_stable  # alone it goes when another replica serves
        return _Found(Happening.DRAINED, state.reason, state.says) if gone else None
    if it.ready_stable >= it.wanted or not it.ready:
        return _Found(Happening.DRAINED, state.reason, state.says)
    if it.held_up is not None and not it.ready_stable and it.ready:
        return _Found(Happening.HELD_UP, it.held_up.reason, it.held_up.message)
    return None


def _paused(state: RolloutState, it: Situation, pace: Pace, now: datetime) -> _Found | None:
    """Some pauses end by themselves: when the evidence is back, and when there is room."""
    if holds(state):
        if it.alone is not None and it.unjudged:
            return _Found(Happening.UNJUDGED)
        if it.alone is not None:
            return _Found(Happening.HELD_UP, it.alone.reason, it.alone.message)
        deadline = pace.deadline(state)
        if isinstance(it.judgement, Known) and it.judgement.value.verdict is not Verdict.ERROR:
            return _Found(Happening.SEEING)
        if deadline is not None and now >= deadline:
            return _Found(Happening.TIMED_OUT, MISSING, state.says)
        return None
    if waits_for_room(state) and it.held_up is None and (it.placed or it.ready):
        return _Found(Happening.ROOM)
    return None


def _started(state: RolloutState, it: Situation, now: datetime) -> RolloutState:
    """The step's time begins when the candidate has its weight."""
    if state.phase is not Phase.JUDGING or state.step_since is not None or not it.reached:
        return state
    return state.model_copy(update={"step_since": now})


def _after(state: RolloutState, found: _Found, now: datetime) -> RolloutState:
    """The state after something happened."""
    after = follows(state.phase, found.happening)
    assert after is not None  # noqa: S101 - the looks find only what their phase knows
    changes: dict[str, object] = {"phase": after, "reason": found.reason[:_REASON], "says": found.says[:_SAYS]}
    if after is not state.phase:
        changes["since"] = now
    if after is Phase.PAUSED:
        changes["before_pause"] = state.before_pause if state.phase is Phase.PAUSED else state.phase
    elif found.happening is not Happening.SEEING:
        changes["before_pause"] = None
    if found.happening is Happening.LOADED:
        changes |= {"judging_since": now, "step_since": None}
    elif found.happening is Happening.STEP_PASSED:
        changes |= {"step": state.step + 1, "step_since": None}
    elif after in (Phase.PREFLIGHT, Phase.PLACING):
        changes |= {"judging_since": None, "step_since": None}
    if found.happening is Happening.RETRY:
        changes["step"] = 0
    return state.model_copy(update=changes)


def _due(state: RolloutState, pace: Pace, now: datetime) -> float | None:
    """Seconds until the step or the judging has had its time."""
    if state.phase is not Phase.JUDGING and not holds(state):
        return None
    ends = (pace.step_ends(state), pace.deadline(state), pace.patience(state))
    times = [at for at in ends if at is not None and at > now]
    return max(1.0, (min(times) - now).total_seconds()) if times else None
