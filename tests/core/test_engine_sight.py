"""What readings and answers come to, in order."""

from datetime import datetime, timedelta

import pytest

from nightshift.core.engine_metrics import EngineMetrics, ProbeAnswer
from nightshift.core.engine_sight import NEVER_READ, EngineSight, asked, looked
from nightshift.core.facts import Fact, Known, Unknown
from tests.support.builders import NOW
from tests.support.fake_engines import metrics

START = "uid-1 2026-03-01T11:00:00Z"
SILENT = Unknown("/metrics did not answer within 10 s.")
NO_TOKEN = ProbeAnswer(answered=False, seconds=30.0)
TOKEN = ProbeAnswer(answered=True, seconds=0.1)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def seen(*readings: tuple[float, EngineMetrics | Unknown], start: str = START) -> EngineSight:
    sight = None
    for seconds, reading in readings:
        fact: Fact[EngineMetrics] = reading if isinstance(reading, Unknown) else Known(reading, at(seconds))
        sight = looked(sight, start, fact)
    assert sight is not None
    return sight


BUSY = metrics(running=3)


@pytest.mark.parametrize(
    ("readings", "still_since"),
    [
        pytest.param([(0, BUSY)], 0, id="one reading is still since it was made"),
        pytest.param([(0, BUSY), (30, BUSY), (60, BUSY)], 0, id="equal readings are still since the first"),
        pytest.param([(0, BUSY), (30, SILENT), (60, BUSY)], 0, id="a reading that did not come changes nothing"),
        pytest.param([(0, BUSY), (30, metrics(running=3, generation_tokens=5001))], 30, id="a token is movement"),
        pytest.param([(0, BUSY), (30, metrics(running=3, iterations=4001))], 30, id="a step is movement"),
        pytest.param([(0, BUSY), (30, metrics(running=3, kv_cache_usage=0.01))], 30, id="a part of a prompt is"),
        pytest.param([(0, BUSY), (30, metrics(running=3, waiting=1))], 30, id="a request that came is"),
        pytest.param([(0, BUSY), (30, metrics(running=3, prompt_tokens=0))], 30, id="counters that began anew are"),
        pytest.param([(0, SILENT)], None, id="nothing is known without a reading"),
    ],
)
def test_since_when_an_engine_stands_still(
    readings: list[tuple[float, EngineMetrics | Unknown]], still_since: float | None
) -> None:
    assert seen(*readings).still_since == (None if still_since is None else at(still_since))


def test_the_last_reading_that_came_is_kept_beside_the_latest() -> None:
    sight = seen((0, BUSY), (30, SILENT))
    assert (sight.metrics, sight.last) == (SILENT, Known(BUSY, at(0)))
    assert EngineSight(START).metrics == NEVER_READ


def test_another_start_is_seen_anew() -> None:
    hanging = asked(seen((0, BUSY), (60, BUSY)), Known(NO_TOKEN, at(90)), at(90))
    again = looked(hanging, "uid-1 2026-03-01T12:05:00Z", Known(BUSY, at(120)))
    assert (again.still_since, again.unanswered) == (at(120), 0)
    assert looked(hanging, "uid-2 x", SILENT) == EngineSight("uid-2 x", SILENT)


@pytest.mark.parametrize(
    ("answers", "unanswered", "still_since"),
    [
        pytest.param([NO_TOKEN], 1, 0, id="one that did not come"),
        pytest.param([NO_TOKEN, NO_TOKEN], 2, 0, id="two in a row"),
        pytest.param([NO_TOKEN, SILENT], 1, 0, id="what is unknown counts neither for nor against"),
        pytest.param([SILENT, SILENT, SILENT], 0, 0, id="however often"),
        pytest.param([NO_TOKEN, TOKEN], 0, 100, id="a token proves that it moves, whatever its metrics say"),
    ],
)
def test_what_answers_count_for(answers: list[ProbeAnswer | Unknown], unanswered: int, still_since: float) -> None:
    sight = seen((0, BUSY), (60, BUSY))
    for answer in answers:
        sight = asked(sight, answer if isinstance(answer, Unknown) else Known(answer, at(100)), at(100))
    assert (sight.unanswered, sight.still_since, sight.asked_at) == (unanswered, at(still_since), at(100))


def test_movement_after_a_question_excuses_that_it_was_not_answered() -> None:
    waited = asked(seen((0, BUSY), (60, BUSY)), Known(NO_TOKEN, at(90)), at(90))
    moved = looked(waited, START, Known(metrics(running=3, iterations=4001), at(91)))
    assert (moved.unanswered, moved.still_since) == (0, at(91))
