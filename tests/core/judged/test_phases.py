"""The table of phases: what leads where, and the drawing of it."""

import pytest

from nightshift.api.rollout import Phase, RolloutOrder
from nightshift.core.judged.phases import (
    ACTIVE,
    ENDED,
    FIRST,
    ORDERED,
    TRANSITIONS,
    Happening,
    allowed_orders,
    drawing,
    follows,
)


@pytest.mark.parametrize(
    ("phase", "happening", "after"),
    [
        pytest.param(Phase.JUDGING, Happening.FAILED, Phase.ROLLING_BACK, id="a failure sends it back at once"),
        pytest.param(Phase.PROMOTED, Happening.FAILED, None, id="what was promoted is judged no more"),
        pytest.param(Phase.JUDGING, Happening.STEP_PASSED, Phase.JUDGING, id="a step that passed leads to the next"),
        pytest.param(Phase.JUDGING, Happening.BLIND, Phase.PAUSED, id="without evidence it pauses"),
        pytest.param(Phase.PAUSED, Happening.SEEING, Phase.JUDGING, id="and goes on when the evidence is back"),
        pytest.param(Phase.PLACING, Happening.HELD_UP, Phase.PAUSED, id="without room it pauses and has not failed"),
        pytest.param(Phase.ROLLED_BACK, Happening.CLEARED, None, id="the same is not tried again by itself"),
        pytest.param(Phase.ROLLED_BACK, Happening.RETRY, Phase.PREFLIGHT, id="but when a person asks for it"),
        pytest.param(Phase.JUDGING, Happening.SUPERSEDED, Phase.ABANDONED, id="a new spec abandons it"),
        pytest.param(Phase.ROLLING_BACK, Happening.SUPERSEDED, Phase.ROLLED_BACK, id="one that failed stays failed"),
    ],
)
def test_what_follows(phase: Phase, happening: Happening, after: Phase | None) -> None:
    assert follows(phase, happening) is after


def test_every_phase_is_reached_and_every_phase_that_has_not_ended_is_left() -> None:
    assert {FIRST, *TRANSITIONS.values()} == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} >= set(Phase) - ENDED
    assert ACTIVE.isdisjoint(ENDED)


def test_every_happening_and_every_order_leads_somewhere() -> None:
    assert {happening for _, happening in TRANSITIONS} == set(Happening)
    assert set(ORDERED) == set(RolloutOrder)


def test_from_every_phase_that_has_not_ended_an_end_can_be_reached() -> None:
    reaching = set(ENDED)
    for _ in Phase:
        reaching |= {before for (before, _), after in TRANSITIONS.items() if after in reaching}
    assert reaching == set(Phase)


def test_only_a_failure_a_policy_or_a_person_sends_a_rollout_back() -> None:
    causes = {happening for (_, happening), after in TRANSITIONS.items() if after is Phase.ROLLING_BACK}
    assert causes == {Happening.FAILED, Happening.SENT_BACK, Happening.ABORT, Happening.UNDO}


@pytest.mark.parametrize(
    ("phase", "orders"),
    [
        pytest.param(Phase.JUDGING, {"pause", "promote", "abort", "undo"}, id="while it is judged"),
        pytest.param(Phase.PAUSED, {"pause", "resume", "promote", "abort", "undo"}, id="while it is paused"),
        pytest.param(Phase.PROMOTED, {"undo"}, id="after it was promoted"),
        pytest.param(Phase.ROLLED_BACK, {"retry"}, id="after it was rolled back"),
        pytest.param(Phase.ROLLING_BACK, set(), id="while it is rolled back"),
    ],
)
def test_which_orders_change_something(phase: Phase, orders: set[str]) -> None:
    assert {order.value for order in allowed_orders(phase)} == orders


def test_the_drawing_has_every_arrow_once() -> None:
    lines = drawing().splitlines()
    assert lines[0] == "stateDiagram-v2"
    arrows = [line.partition(": ")[0].strip() for line in lines[1:]]
    assert len(arrows) == len(set(arrows))
    ends = {(before.value, after.value) for (before, _), after in TRANSITIONS.items()}
    assert {tuple(arrow.split(" --> ")) for arrow in arrows if "[*]" not in arrow} == ends
    assert all(line.count(":") <= 1 for line in lines), "Mermaid takes what follows a colon for the label"
