"""Time in which nobody looked at a rollout, which is taken off the time that it has to be judged."""

from datetime import datetime, timedelta

from nightshift.api.comparison import Comparison
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.judged.advance import BLIND_SECONDS, Pace
from nightshift.core.judged.steps import holds


def looked_at_again(state: RolloutState, noted: Comparison | None, pace: Pace, now: datetime) -> RolloutState:
    """The state of a rollout at the first look of a process, or after spec.paused or an off deployment.

    Where nobody looked for long the deadline comes as much later, with the time that it takes to ask everybody, and the
    step begins anew. A pause for want of evidence gets that time alone: it was seen that there was none.

    Worked example: judged since 12:00 with a deadline at 14:00, last noted at 12:30, looked at again at 20:00: judged
    since 19:32:30, so until 21:32:30.

    Args:
        state: Where it stands.
        noted: What was compared until then.
        pace: How the spec wants it judged.
        now: The present moment.
    """
    begun, deadline = state.judging_since, pace.deadline(state)
    if begun is None or deadline is None:
        return state
    asking = timedelta(seconds=BLIND_SECONDS)
    if holds(state):
        return state.model_copy(update={"judging_since": max(begun, begun + (now + asking - deadline))})
    last = max(begun, noted.at) if noted is not None else begun
    if state.phase is not Phase.JUDGING or now - last <= asking:
        return state
    return state.model_copy(update={"judging_since": begun + (now - last) + asking, "step_since": None})
