"""Orders of people: read from the annotation, told where they say nothing, and never carried out twice."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.rollout import Ordering, Phase, RolloutOrder, RolloutState
from nightshift.core.judged.orders import Order, last_seen, read_order, refusal
from tests.support.builders import NOW


@pytest.mark.parametrize(
    ("text", "order", "by"),
    [
        pytest.param("pause Ada: the demo is at three", RolloutOrder.PAUSE, "Ada: the demo is at three", id="with why"),
        pytest.param("promote", RolloutOrder.PROMOTE, "", id="without a name"),
        pytest.param("  Abort  Ada ", RolloutOrder.ABORT, "Ada", id="with spaces and a capital"),
        pytest.param("hurry Ada", None, "Ada", id="a word that is no order"),
        pytest.param("pause, Ada", None, "Ada", id="a word with a comma"),
    ],
)
def test_an_order_is_read(text: str, order: RolloutOrder | None, by: str) -> None:
    assert read_order(text, None) == Order(text.strip(), order, by)


@pytest.mark.parametrize("text", [None, "", "   "], ids=["none", "empty", "blank"])
def test_no_annotation_is_no_order(text: str | None) -> None:
    assert read_order(text, None) is None


@given(st.text(max_size=600))
def test_an_order_that_was_seen_is_not_seen_again_whatever_it_says(text: str) -> None:
    order = read_order(text, None)
    if order is not None:
        assert read_order(text, order.seen(NOW)) is None
        assert read_order(f"x{text}", order.seen(NOW)) is not None


def test_another_text_is_another_order() -> None:
    first = read_order("pause Ada, 9:00", None)
    assert first is not None
    assert read_order("pause Ada, 10:00", first.seen(NOW)) is not None


def test_the_order_that_was_seen_last_counts_whichever_revision_s_rollout_it_was() -> None:
    def state(minutes: int, text: str) -> RolloutState:
        at = NOW + timedelta(minutes=minutes)
        return RolloutState(phase=Phase.JUDGING, since=NOW, stable="a", ordered=Ordering(text=text, at=at))

    unordered = RolloutState(phase=Phase.JUDGING, since=NOW, stable="a")
    found = last_seen([state(1, "pause"), unordered, state(3, "resume"), state(2, "abort")])
    assert found is not None
    assert found.text == "resume"
    assert last_seen([unordered]) is None


def test_what_is_no_order_is_told_with_field_value_and_remedy() -> None:
    order = read_order("hurry Ada", None)
    assert order is not None
    assert refusal(order, Phase.JUDGING) == (
        "The annotation nightshift.dev/order is 'hurry Ada', which is no order. Write one of pause, resume, promote, "
        "abort, undo, retry, a space, and who asks for it and why."
    )


def test_an_order_that_changes_nothing_is_told_with_those_that_do() -> None:
    order = read_order("resume Ada", None)
    assert order is not None
    assert refusal(order, Phase.JUDGING) == (
        "The annotation nightshift.dev/order asks to resume, which changes nothing: the rollout is in phase Judging. "
        "Orders that do: pause, promote, abort, undo."
    )
    assert refusal(order, Phase.ROLLING_BACK).endswith("No order does now.")
    assert refusal(order, Phase.PAUSED) == ""
