import pytest

from nightshift.api import names
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.marks import Marks, Order, Ordered, read_marks
from nightshift.core.times import moment
from tests.support.builders import DIGEST, NOW

VERDICT = FailedTry(reason="EngineCrashed", message="It crashed.", at=NOW, returned_to="r1", retry="again")
ROLLOUT = RolloutState(phase=Phase.JUDGING, since=NOW, step=1, steps=(5, 50), stable="r1")
FULL = Marks(DIGEST, NOW, NOW, Ordered(Order.IN_PLACE, NOW), VERDICT, rollout=ROLLOUT)


@pytest.mark.parametrize("marks", [Marks(), FULL, Marks(ordered=Ordered(Order.OUTAGE, NOW)), Marks(proven=NOW)])
def test_marks_are_read_as_they_were_written(marks: Marks) -> None:
    assert read_marks(marks.annotations()) == marks


@pytest.mark.parametrize(
    "annotations",
    [
        {names.ANNOTATION_PROVEN: "yesterday"},
        {names.ANNOTATION_ORDER: "InPlace"},
        {names.ANNOTATION_ORDER: "Sideways 2026-03-01T12:00:00Z"},
        {names.ANNOTATION_VERDICT: "{"},
        {names.ANNOTATION_VERDICT: '{"reason": "EngineCrashed"}'},
        {names.ANNOTATION_ROLLOUT: '{"phase": "Sideways"}'},
        {names.ANNOTATION_COMPARISON: "{"},
        {names.ANNOTATION_GOLDEN: "[]"},
        {"another.example/mark": "x"},
    ],
)
def test_what_cannot_be_read_counts_as_not_there(annotations: dict[str, str]) -> None:
    assert read_marks(annotations) == Marks()


@pytest.mark.parametrize(
    ("marks", "under_way"),
    [
        pytest.param(Marks(), True, id="it has yet to serve"),
        pytest.param(Marks(proven=NOW), False, id="it served in full"),
        pytest.param(Marks(started=NOW, proven=NOW), True, id="it served in full once, and is tried again"),
    ],
)
def test_whether_a_rollout_is_under_way(marks: Marks, under_way: bool) -> None:
    assert marks.under_way == under_way


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment("2026-03-01T12:00:00") == NOW
    assert moment(None) is None
