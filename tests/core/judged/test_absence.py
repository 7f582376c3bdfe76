"""Time in which nobody looked at a rollout."""

from datetime import datetime, timedelta

import pytest

from nightshift.api.comparison import Compared, Comparison
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.judged.absence import looked_at_again
from nightshift.core.judged.advance import Pace
from nightshift.core.judged.steps import NO_EVIDENCE
from tests.support.builders import NOW


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def state(phase: Phase, **more: object) -> RolloutState:
    values: dict[str, object] = {"since": NOW, "steps": (5, 25, 50), "stable": "s", "judging_since": NOW}
    return RolloutState(phase=phase, **(values | {"step_since": NOW} | more))


def noted(minutes: float) -> Comparison:
    side = Compared(revision="r")
    return Comparison(began=NOW, since=NOW, at=later(minutes), stable=side, candidate=side)


BLIND = state(Phase.PAUSED, reason=NO_EVIDENCE, before_pause=Phase.JUDGING)


@pytest.mark.parametrize(
    ("given", "until", "minutes", "since", "begun"),
    [
        pytest.param(state(Phase.JUDGING), 30, 480, 452.5, None, id="the worked example"),
        pytest.param(state(Phase.JUDGING), 30, 32.5, 0, 0, id="a process that took a moment to begin"),
        pytest.param(state(Phase.JUDGING), None, 480, 482.5, None, id="nothing was noted yet"),
        pytest.param(state(Phase.JUDGING), -5, 480, 482.5, None, id="what is noted is of before a pause"),
        pytest.param(BLIND, 30, 60, 0, 0, id="a pause without evidence goes on to its deadline"),
        pytest.param(BLIND, 30, 480, 362.5, 0, id="a pause without evidence has the time to ask everybody"),
        pytest.param(state(Phase.PROMOTING), 30, 480, 0, 0, id="what passed is judged no more"),
    ],
)
def test_when_a_rollout_is_looked_at_again(
    given: RolloutState, until: float | None, minutes: float, since: float, begun: float | None
) -> None:
    before = noted(until) if until is not None else None
    found = looked_at_again(given, before, Pace(300, 7200), later(minutes))
    assert (found.judging_since, found.step_since) == (later(since), later(begun) if begun is not None else None)
    assert found.phase is given.phase


def test_before_it_is_judged_there_is_nothing_to_take_off() -> None:
    loading = state(Phase.LOADING, judging_since=None, step_since=None)
    assert looked_at_again(loading, None, Pace(), later(480)) == loading
