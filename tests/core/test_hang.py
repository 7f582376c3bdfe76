"""When an engine is suspect, when it is asked, and when it hangs."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Known, Unknown
from nightshift.core.hang import (
    LOOK_SECONDS,
    first_look_seconds,
    is_hung,
    is_suspect,
    question_due,
    worth_telling,
)
from tests.support.builders import NOW
from tests.support.fake_engines import metrics

BUSY = metrics(running=3)
QUIET = metrics()
NEW = metrics(prompt_tokens=0, generation_tokens=0, iterations=0)
"""An engine that has brought no token yet, and says that it has nothing to do."""
SILENT = Unknown("/metrics did not answer within 10 s.")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def sight(
    reading: EngineMetrics = BUSY,
    read: float = 60,
    *,
    still: float = 0,
    unanswered: int = 0,
    asked: float | None = None,
) -> EngineSight:
    last = Known(reading, at(read))
    return EngineSight("start", last, last, at(still), unanswered, None if asked is None else at(asked))


@pytest.mark.parametrize(
    ("seen", "suspect"),
    [
        pytest.param(sight(read=59), False, id="with requests, 59 s are not long enough"),
        pytest.param(sight(read=60), True, id="with requests, 60 s are"),
        pytest.param(sight(metrics(waiting=1)), True, id="requests that wait while none runs count too"),
        pytest.param(sight(QUIET, 599), False, id="without requests, nothing is expected to move"),
        pytest.param(sight(QUIET, 600), True, id="but the count may be wrong, so that it is asked now and then"),
        pytest.param(sight(NEW, 59), False, id="one that never brought a token, after 59 s"),
        pytest.param(sight(NEW, 60), True, id="one that never brought a token is asked early"),
        pytest.param(sight(NEW, 95, unanswered=1, asked=90), True, id="and again, where no answer came"),
        pytest.param(sight(NEW, 599, asked=90), False, id="but not where it answered or refused"),
        pytest.param(sight(replace(NEW, prompt_tokens=9), 60), False, id="one that computed a prompt has moved"),
        pytest.param(sight(replace(NEW, awake=False), 60), False, id="one that was put to sleep before it began"),
        pytest.param(sight(metrics(running=3, awake=False), 600), False, id="one that was put to sleep stands still"),
        pytest.param(EngineSight("start"), False, id="one that was never read"),
        pytest.param(sight(still=130, read=60, asked=130), False, id="one that answered after the last reading"),
    ],
)
def test_standing_still_makes_suspect(seen: EngineSight, suspect: bool) -> None:
    assert is_suspect(seen) is suspect


@pytest.mark.parametrize(
    ("seen", "hangs"),
    [
        pytest.param(sight(), False, id="standing still alone says nothing"),
        pytest.param(sight(read=90, unanswered=1, asked=90), False, id="nor does one question"),
        pytest.param(sight(read=125, unanswered=2, asked=125), True, id="two unanswered questions, still after them"),
        pytest.param(sight(NEW, 125, unanswered=2, asked=125), True, id="one that never brought a token"),
        pytest.param(sight(read=95, unanswered=2, asked=125), False, id="not read since the last question"),
        pytest.param(sight(still=125, read=125, unanswered=0), False, id="it moved after the questions"),
        pytest.param(sight(QUIET, 665, unanswered=2, asked=665), True, id="one that says that nothing runs"),
        pytest.param(sight(read=125, unanswered=0, asked=125), False, id="questions whose answers are unknown"),
    ],
)
def test_only_unanswered_questions_make_it_hang(seen: EngineSight, hangs: bool) -> None:
    assert is_hung(seen) is hangs


def test_a_reading_that_fails_later_does_not_take_back_what_was_seen() -> None:
    assert is_hung(replace(sight(read=125, unanswered=2, asked=125), metrics=SILENT))


@pytest.mark.parametrize(
    ("seen", "due"),
    [
        pytest.param(sight(read=59), None, id="nothing is asked of one that is not suspect"),
        pytest.param(sight(), 0, id="a suspect is asked at once"),
        pytest.param(sight(read=90, unanswered=1, asked=90), 95, id="and again after an unanswered question"),
        pytest.param(sight(read=90, asked=90), 150, id="not soon where the answer is unknown"),
        pytest.param(sight(NEW), 0, id="one that never brought a token is asked at once, too"),
        pytest.param(sight(NEW, 90, unanswered=1, asked=90), 95, id="and again as one that has requests"),
        pytest.param(sight(NEW, 90, asked=90), None, id="and not again where it answered or refused"),
        pytest.param(sight(QUIET, 610, asked=610), 1210, id="and seldom where nothing runs"),
        pytest.param(sight(read=125, unanswered=2, asked=125), None, id="one that hangs is asked no more"),
    ],
)
def test_when_it_is_asked(seen: EngineSight, due: float | None) -> None:
    assert question_due(seen) == (None if due is None else at(due))


@pytest.mark.parametrize(
    ("before", "after", "worth"),
    [
        pytest.param(None, EngineSight("start", SILENT), False, id="no reading"),
        pytest.param(None, sight(), True, id="the first reading, which tells the size of the KV cache"),
        pytest.param(EngineSight("start", SILENT), sight(), True, id="the first that came"),
        pytest.param(sight(QUIET, 0), sight(QUIET, 30), False, id="the same again"),
        pytest.param(sight(read=0), sight(read=30, still=30), False, id="movement"),
        pytest.param(sight(read=30), sight(read=60), True, id="it became suspect"),
        pytest.param(sight(read=60), sight(read=90, still=90), True, id="it moved after all"),
        pytest.param(sight(), sight(replace(BUSY, cache_config={"block_size": "16"})), True, id="another KV cache"),
        pytest.param(sight(), replace(sight(), start="other", last=None), False, id="a new start without a reading"),
    ],
)
def test_what_a_reconcile_should_hear_of(before: EngineSight | None, after: EngineSight, worth: bool) -> None:
    assert worth_telling(before, after) is worth


def test_first_looks_are_spread() -> None:
    waits = [first_look_seconds(f"uid-{number} 2026-03-01T12:00:00Z") for number in range(1000)]
    assert all(0 <= wait < LOOK_SECONDS for wait in waits)
    tenths = [sum(1 for wait in waits if int(wait * 10 / LOOK_SECONDS) == tenth) for tenth in range(10)]
    assert min(tenths) > 50, "1,000 engines do not come at once"
