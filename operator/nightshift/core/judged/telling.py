"""What people are told of a rollout: Events for what happened, and one sentence for where it stands."""

from dataclasses import dataclass

from nightshift.api.names import ANNOTATION_PERSON
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.analysis.rules import Metric
from nightshift.core.analysis.verdict import Verdict
from nightshift.core.cause import Cause
from nightshift.core.judged.steps import BY_ORDER, NO_EVIDENCE, UNDONE, percent, waits_for_room
from nightshift.core.planning import EventNote

_ORDER = f"the annotation {ANNOTATION_PERSON}"


@dataclass(frozen=True)
class Names:
    """How candidate and stable revision are called: by their versions where these differ, else by their hashes."""

    candidate: str
    stable: str


@dataclass(frozen=True)
class Seen:
    """What was compared so far, as the status tells it: of closed windows, so that it changes once a minute at most."""

    requests: int = 0
    """That the candidate answered."""
    pairs: int = 0
    """Golden questions that both were asked."""
    findings: tuple[tuple[str, Verdict], ...] = ()
    """What each metric comes to."""
    readable: bool = True
    """Whether what gateway and engines count can be read now."""
    idle: bool = False
    """Whether golden questions alone judge, as nobody else asks."""
    besides: tuple[str, ...] = ()
    """What is not compared, or not asked, and why."""


_CALLED = {
    Metric.ERRORS: "errors",
    Metric.FIRST_TOKEN: "time to first token",
    Metric.INTER_TOKEN: "time between tokens",
    Metric.GOLDEN_ANSWERS: "golden answers",
    Metric.LOG_PROBABILITY: "log-probabilities",
}
"""What has to pass, as people read it. What else is compared is told where it fails."""

_COMES_TO = {
    Verdict.PASS: "{} passed",
    Verdict.FAIL: "{} worse",
    Verdict.INCONCLUSIVE: "{}: too little seen",
    Verdict.ERROR: "{}: cannot be read",
}


def so_far(seen: Seen) -> str:
    """What was compared, and what is missing.

    Worked example: `412 requests; errors passed; time to first token: too little seen`.
    """
    counted = [f"{seen.requests:,} request{'s' * (seen.requests != 1)}"] if seen.requests or not seen.pairs else []
    counted += [f"{seen.pairs:,} golden question{'s' * (seen.pairs != 1)}"] if seen.pairs else []
    parts = [" and ".join(counted)]
    if not seen.readable:
        return "; ".join([*parts, "what gateway and engines count cannot be read at the moment", *seen.besides])
    known = {metric: verdict for metric, verdict in seen.findings if metric in _CALLED}
    parts += [_COMES_TO[known[item]].format(_CALLED[item]) for item in _CALLED if item in known]
    return "; ".join([*parts, *seen.besides])


def called(candidate: tuple[str, str], stable: tuple[str, str]) -> Names:
    """Names of two revisions.

    Worked example: versions 0.32.0 and 0.31.0 are called so; of one version, `revision a1` and `revision b2`.

    Args:
        candidate: Its version and its hash.
        stable: The same of the stable revision.
    """
    if candidate[0] != stable[0]:
        return Names(candidate[0], stable[0])
    return Names(f"revision {candidate[1]}", f"revision {stable[1]}")


def note(before: RolloutState, after: RolloutState, names: Names, part: int = 0) -> tuple[EventNote, ...]:
    """The Event for a step; phases between which nothing is decided make none.

    Args:
        before: Where the rollout stood.
        after: Where it stands now.
        names: Who is compared with whom.
        part: Percent of the requests that the candidate has then: in place more than the step's.
    """
    new, says, who = after.phase, after.says, names.candidate
    if new is before.phase and new is Phase.JUDGING:
        return (EventNote("Normal", "RolloutStep", _sentence(who, "goes on", _requests(after, part))),)
    if new is Phase.JUDGING and before.phase is Phase.LOADING:
        what = f"is compared with {names.stable}"
        return (EventNote("Normal", "RolloutJudging", _sentence(who, what, says or _requests(after, part))),)
    if new is Phase.PAUSED:
        return (EventNote("Warning", "RolloutPaused", paused_message(after, names), why=_paused_reason(after)),)
    if before.phase is Phase.PAUSED and new in (Phase.JUDGING, Phase.PREFLIGHT, Phase.PLACING):
        return (EventNote("Normal", "RolloutResumed", _sentence(who, "goes on", says)),)
    if new is Phase.PROMOTING:
        return (EventNote("Normal", "Promoting", _sentence(who, "takes over", says)),)
    if new is Phase.PROMOTED and before.phase is Phase.ROLLING_BACK:
        return (EventNote("Warning", "UndoEnded", f"{_capital(who)} goes on serving: {says}"),)
    if new is Phase.PROMOTED:
        over = f"has taken over from {names.stable}" if after.stable else "serves in full"
        return (EventNote("Normal", "Promoted", f"{_capital(who)} {over}."),)
    if new is Phase.ROLLING_BACK:
        return (EventNote("Warning", "RollingBack", _sentence(who, f"gives way to {names.stable}", says)),)
    if new is Phase.ROLLED_BACK:
        return (EventNote("Warning", "RolledBack", rolled_back(after, names), why=after.reason),)
    if new is Phase.ABANDONED:
        return (EventNote("Normal", "RolloutAbandoned", _sentence(who, "is given up", says)),)
    if before.phase is Phase.ROLLED_BACK:
        return (EventNote("Normal", "Retrying", _sentence(who, "is tried again", says)),)
    return ()


def rolled_back(state: RolloutState, names: Names) -> str:
    """The evidence in one sentence.

    Worked example: `0.32.0 rolled back: TTFT p95 2.1x of 0.31.0 over 412 requests (bound 1.3x)`.
    """
    return f"{_capital(names.candidate)} {'taken' if state.reason == UNDONE else 'rolled'} back: {state.says}"


def paused_message(state: RolloutState, names: Names) -> str:
    """Why a rollout is paused, what serves meanwhile, and what ends the pause."""
    what = f"The rollout of {names.candidate} is paused: {state.says.rstrip('.')}."
    if state.reason == NO_EVIDENCE:
        return (
            f"{what} Both revisions go on as they are; it goes on by itself when the evidence can be read until "
            f"rollout.deadlineSeconds are over. To decide now, set {_ORDER} to promote or abort."
        )
    if waits_for_room(state):
        return (
            f"{what} {_capital(names.stable)} serves meanwhile; it goes on by itself when there is room. To give it "
            f"up, set {_ORDER} to abort, or change the spec."
        )
    return (
        f"{what} {_capital(names.stable)} serves meanwhile, and the candidate's accelerators are free. Set {_ORDER} to "
        "resume, promote or abort, with who asks and why."
    )


def _requests(state: RolloutState, part: int) -> str:
    """How much the candidate gets: what the step says, or more, where it stands in for a replica that made way.

    Worked example: at a step of 5 %, one of two replicas that are replaced in place has 50 % of the requests.
    """
    return f"{max(percent(state), part)} % of the requests"


def where(state: RolloutState, names: Names, seen: Seen | None = None, part: int = 0) -> tuple[str, str]:
    """Where a rollout stands, as a reason and a sentence for the status.

    Args:
        state: The phase and the step.
        names: Who is compared with whom.
        seen: What was compared so far; None: nothing yet.
        part: Percent of the requests that the candidate has: in place more than the step's.
    """
    who = names.candidate
    found = {
        Phase.PREFLIGHT: ("Preflight", f"Checking {who} before it is started, or waiting for its turn."),
        Phase.PLACING: ("Placing", f"Looking for room for the first replica of {who}."),
        Phase.LOADING: ("Loading", f"The first replica of {who} is starting."),
        Phase.JUDGING: (
            "Judging",
            f"Comparing {who} with {names.stable} {_part(state, seen, part)}{f': {so_far(seen)}' if seen else ''}.",
        ),
        Phase.PROMOTING: ("Promoting", f"{_capital(who)} takes over from {names.stable}."),
        Phase.ROLLING_BACK: ("RollingBack", f"{_capital(who)} gives way to {names.stable}: {state.says}"),
        Phase.PAUSED: ("RolloutPaused", paused_message(state, names)),
    }
    return found.get(state.phase, ("Complete", "The rollout has ended."))


def _part(state: RolloutState, seen: Seen | None, part: int) -> str:
    if seen is not None and seen.idle:
        return "by golden questions alone, as the deployment is idle"
    step = f"step {min(state.step + 1, len(state.steps))} of {len(state.steps)}"
    return f"at {_requests(state, part)} ({step})"


def waits_for_person(state: RolloutState, names: Names) -> Cause | None:
    """What the status tells of a pause: definite where a person has to end it."""
    if state.phase is not Phase.PAUSED:
        return None
    by_itself = state.reason == NO_EVIDENCE or waits_for_room(state)
    return Cause(_paused_reason(state), paused_message(state, names), definite=not by_itself)


def _paused_reason(state: RolloutState) -> str:
    return "RolloutPaused" if state.reason in (BY_ORDER, "") else state.reason


def _sentence(who: str, what: str, why: str) -> str:
    told = why.rstrip(".")
    return f"{_capital(who)} {what}: {told}." if told else f"{_capital(who)} {what}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
