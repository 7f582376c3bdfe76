"""Adding counts up, and taking one moment's from a later one's."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api.comparison import Counted, Sums, Times
from nightshift.core.analysis.sums import added, anew, since, together
from tests.support.builders import NOW

BEFORE = NOW - timedelta(hours=5)
BOUNDS = (0.5, 1.0)


def times(*counts: int, bounds: tuple[float, ...] = BOUNDS) -> Times:
    return Times(bounds=bounds, counts=counts)


def test_times_by_other_bounds_are_added_by_those_that_both_have() -> None:
    one, other = times(1, 2, 3, bounds=(1, 2)), times(4, 5, 6, bounds=(2, 5))
    assert together([one, other]) == times(7, 14, bounds=(2,))
    assert together([one, times(9, bounds=())]) == times(15, bounds=())
    assert together([Times(), one]) == one
    assert together([]) == Times()


@pytest.mark.parametrize(
    ("after", "begun_anew"),
    [
        pytest.param({}, False, id="nothing moved"),
        pytest.param({"requests": 40}, True, id="fewer requests"),
        pytest.param({"finished": {"stop": 5, "length": 1}}, False, id="a first finish of a kind"),
        pytest.param({"finished": {}}, True, id="a finish reason is gone"),
        pytest.param({"first_token": times(3, 0, 9)}, True, id="fewer in one bucket"),
        pytest.param({"first_token": times(3, 1, 1, bounds=(1, 2))}, True, id="other buckets"),
        pytest.param({"inference_seconds": 9.0}, True, id="less time"),
        pytest.param({"inference_seconds": None}, False, id="a time that is not told any more"),
    ],
)
def test_whether_counting_began_anew(after: dict[str, Any], begun_anew: bool) -> None:
    before = Sums(requests=100, finished={"stop": 5}, first_token=times(3, 1, 1), inference_seconds=10.0)
    then = Counted(since=BEFORE, at=NOW, sums=before)
    assert anew(then, then.model_copy(update={"sums": before.model_copy(update=after)})) is begun_anew


COUNT = st.integers(min_value=0, max_value=10**6)
SUMS = st.builds(
    Sums,
    requests=COUNT,
    failed=COUNT,
    left=COUNT,
    generation_tokens=COUNT,
    preemptions=COUNT,
    finished=st.dictionaries(st.sampled_from(["stop", "length", "abort"]), COUNT, max_size=3),
    first_token=st.builds(Times, bounds=st.just(BOUNDS), counts=st.tuples(COUNT, COUNT, COUNT)),
    inter_token=st.one_of(st.just(Times()), st.builds(Times, bounds=st.just((2.0,)), counts=st.tuples(COUNT, COUNT))),
    inference_seconds=st.just(0.0),
)


def plain(sums: Sums) -> Sums:
    """Without zeros that say nothing."""
    return sums.model_copy(
        update={
            "finished": {reason: count for reason, count in sums.finished.items() if count},
            **{name: together([getattr(sums, name)]) for name in ("total", "first_token", "inter_token")},
        }
    )


@settings(deadline=None)
@given(before=SUMS, more=st.lists(SUMS, max_size=4))
def test_however_often_a_counter_is_looked_at_the_differences_add_up(before: Sums, more: list[Sums]) -> None:
    looks = [before]
    for step in more:
        looks.append(added([looks[-1], step]))
    seen = [Counted(since=BEFORE, at=NOW, sums=sums) for sums in looks]
    parts = [since(then, now) for then, now in pairwise(seen)]
    assert plain(added(parts)) == plain(added(more))
    assert plain(since(seen[0], seen[-1])) == plain(added(more))
