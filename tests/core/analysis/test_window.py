"""From counters to windows: differences, new starts, what cannot be read, and what is stored."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nightshift.api.comparison import ArmName, Comparison, Counters, Times
from nightshift.core.analysis.evidence import Arm, Histogram
from nightshift.core.analysis.window import Reading, Stalls, begun, closed, is_due, window
from nightshift.core.facts import Fact, Known, Unknown
from tests.support.builders import NOW

BEFORE = NOW - timedelta(hours=1)
LATER = NOW + timedelta(seconds=60)
SILENT = Unknown("Pod gw-2 does not answer.")


def counters(requests: int, failed: int = 0, **changes: Any) -> Counters:
    return Counters(requests=requests, failed=failed, **changes)


def reading(source: str, counts: Counters | Unknown, arm: ArmName = "candidate", **changes: Any) -> Reading:
    known: Fact[Counters] = counts if isinstance(counts, Unknown) else Known(counts, NOW)
    values: dict[str, Any] = {"kind": "gateway", "since": BEFORE}
    return Reading(source=source, arm=arm, counters=known, **(values | changes))


STABLE = reading("gw-1", counters(1000), "stable")


def candidate(comparison: Comparison, *readings: Reading, stalls: Stalls | None = None) -> Fact[Arm]:
    return window(comparison, (STABLE, *readings), LATER, stalls or Stalls())[1]


def known(fact: Fact[Arm]) -> Arm:
    assert isinstance(fact, Known)
    return fact.value


@pytest.mark.parametrize(
    ("first", "then", "requests"),
    [
        pytest.param([reading("gw-1", counters(100))], [reading("gw-1", counters(130))], 30, id="what was added"),
        pytest.param(
            [reading("gw-1", counters(100)), reading("gw-2", counters(7))],
            [reading("gw-1", counters(130)), reading("gw-2", counters(8))],
            31,
            id="of all pods",
        ),
        pytest.param(
            [reading("gw-1", counters(100))],
            [reading("gw-1", counters(130)), reading("gw-2", counters(4), since=NOW + timedelta(seconds=5))],
            34,
            id="a pod that came new counts from zero",
        ),
        pytest.param(
            [reading("gw-1", counters(100)), reading("gw-2", SILENT)],
            [reading("gw-1", counters(130)), reading("gw-2", counters(5000))],
            30,
            id="one that could not be read at the begin counts from when it can",
        ),
        pytest.param(
            [reading("gw-1", counters(100, 10))], [reading("gw-1", counters(4, 1))], 4, id="counters that went back"
        ),
        pytest.param(
            [reading("gw-1", counters(100, first_token=Times(bounds=(0.1,), counts=(90, 10))))],
            [reading("gw-1", counters(120, first_token=Times(bounds=(0.1,), counts=(3, 117))))],
            120,
            id="a bucket that went back",
        ),
        pytest.param(
            [reading("gw-1", counters(100)), reading("gw-2", counters(50))],
            [reading("gw-1", counters(130))],
            30,
            id="a pod that is gone takes its counts with it",
        ),
    ],
)
def test_the_requests_of_a_window(first: list[Reading], then: list[Reading], requests: int) -> None:
    assert known(candidate(begun((STABLE, *first), NOW), *then)).requests == requests


def test_everything_is_a_difference() -> None:
    before = counters(
        *(10, 1),
        first_token=Times(bounds=(0.1, 0.2), counts=(5, 4, 1)),
        inter_token=Times(bounds=(0.01,), counts=(100, 0)),
        finish_reasons={"stop": 9},
        generation_tokens=1000,
        preemptions=2,
        busy_seconds=20.0,
    )
    after = counters(
        *(30, 2),
        first_token=Times(bounds=(0.1, 0.2), counts=(9, 14, 7)),
        inter_token=Times(bounds=(0.01,), counts=(300, 7)),
        total=Times(bounds=(1.0,), counts=(3, 4)),
        finish_reasons={"stop": 20, "length": 8},
        generation_tokens=3000,
        preemptions=5,
        busy_seconds=140.0,
    )
    comparison = begun((STABLE, reading("bot-1", before, kind="engine")), NOW)
    found = known(
        candidate(comparison, reading("bot-1", after, kind="engine"), stalls=Stalls(stable=True, candidate=False))
    )
    assert found == Arm(
        requests=20,
        failed=1,
        first_token=Histogram((0.1, 0.2), (4, 10, 6)),
        inter_token=Histogram((0.01,), (200, 7)),
        total=Histogram((1.0,), (3, 4)),
        finish_reasons={"stop": 11, "length": 8},
        generation_tokens=2000,
        preemptions=3,
        replica_seconds=60.0,
        mean_running=2.0,
        stalled=False,
    )


def test_an_engine_that_started_within_the_window_has_its_part_of_replica_seconds() -> None:
    young = reading("bot-2", counters(1), kind="engine", since=NOW + timedelta(seconds=45))
    assert known(candidate(begun((STABLE,), NOW), young)).replica_seconds == 15.0


@pytest.mark.parametrize("arm", ["stable", "candidate"])
def test_a_pod_that_cannot_be_read_makes_its_part_unknown_and_the_window_goes_on(arm: ArmName) -> None:
    other: ArmName = "candidate" if arm == "stable" else "stable"
    comparison = begun((reading("gw-1", counters(5), arm), reading("gw-1", counters(5), other)), NOW)
    now = [reading("gw-1", counters(9), arm), reading("gw-2", SILENT, arm), reading("gw-1", counters(9), other)]
    stable, mine = window(comparison, now, LATER, Stalls())
    assert (stable if arm == "stable" else mine) == SILENT
    assert isinstance(mine if arm == "stable" else stable, Known)
    assert closed(comparison, now, LATER) is comparison


def test_where_nothing_counts_nothing_is_known() -> None:
    assert candidate(begun((STABLE,), NOW)) == Unknown("Nothing counts the requests of the candidate revision.")


def test_a_window_that_is_closed_is_added_to_those_before_and_the_next_begins() -> None:
    comparison = begun((STABLE, reading("gw-1", counters(100))), NOW)
    then = (reading("gw-1", counters(1900), "stable"), reading("gw-1", counters(150, 5)))
    assert not is_due(comparison, NOW + timedelta(seconds=59))
    assert is_due(comparison, LATER)
    second = closed(comparison, then, LATER)
    assert (second.began, second.tally.seconds) == (LATER, 60.0)
    errors = second.tally.errors
    assert (errors.candidate, errors.candidate_failed, errors.stable) == (50, 5, 900)
    assert known(window(second, then, LATER, Stalls())[1]).requests == 0


def test_a_source_that_is_silent_when_a_window_is_stored_keeps_its_baseline() -> None:
    first = begun((STABLE, reading("gw-1", counters(100))), NOW)
    assert begun((STABLE, reading("gw-1", SILENT)), NOW).baseline("gw-1", "candidate") is None
    assert first.baseline("gw-1", "candidate") == counters(100)


def test_what_is_stored_is_read_again_and_stays_small_in_two_hours() -> None:
    buckets = Times(bounds=tuple(index / 10 for index in range(1, 23)), counts=(1000,) * 23)

    def engines(minute: int) -> list[Reading]:
        grown = replace_counts(buckets, minute)
        return [
            reading(
                f"bot-{index}", counters(minute * 100, minute, first_token=grown, inter_token=grown), arm, kind="engine"
            )
            for index in range(4)
            for arm in ("stable", "candidate")
        ]

    comparison = begun(engines(0), NOW)
    for minute in range(1, 121):
        comparison = closed(comparison, engines(minute), NOW + timedelta(minutes=minute))
    text = json.dumps(comparison.to_json(), separators=(",", ":"))
    assert Comparison.model_validate_json(text) == comparison
    assert comparison.tally.first_token.typical.windows == 120
    assert len(text) < 16_000


def replace_counts(buckets: Times, minute: int) -> Times:
    return Times(
        bounds=buckets.bounds, counts=tuple(count + minute * (1 + index) for index, count in enumerate(buckets.counts))
    )


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({"bounds": [0.1], "counts": [1]}, id="a count is missing"),
        pytest.param({"bounds": [0.2, 0.1], "counts": [1, 2, 3]}, id="bounds descend"),
        pytest.param({"bounds": [0.1], "counts": [1, -2]}, id="a count is negative"),
    ],
)
def test_a_histogram_that_is_none_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Times.model_validate(stored)


STEP = st.tuples(st.integers(0, 50), st.integers(0, 5), st.booleans())


@given(st.lists(STEP, min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_however_windows_are_cut_and_pods_restart_nothing_is_lost_or_counted_twice(
    steps: list[tuple[int, int, bool]],
) -> None:
    """A restart is seen here by counters that went back, so it is one only where something had been counted."""
    counts = [0, 0]
    comparison = begun((STABLE, reading("gw-1", counters(0))), NOW)
    requests = failed = 0
    for index, (more, broken, restarts) in enumerate(steps):
        broken = min(more, broken)
        if restarts and counts[0] > more and counts[1] >= broken:
            counts = [0, 0]
        counts = [counts[0] + more, counts[1] + broken]
        now = (reading("gw-1", counters(1000 + index), "stable"), reading("gw-1", counters(*counts)))
        at = NOW + timedelta(minutes=index + 1)
        comparison = closed(comparison, now, at)
        requests, failed = requests + more, failed + broken
    found = comparison.tally.load
    assert found.candidate_requests == requests
    assert comparison.tally.seconds == 60.0 * len(steps)
    assert comparison.tally.errors.candidate_failed <= failed


def test_readings_of_an_unknown_source_change_nothing_of_another() -> None:
    comparison = begun((STABLE, reading("gw-1", counters(100))), NOW)
    other = replace(reading("gw-9", counters(77)), since=BEFORE)
    assert known(candidate(comparison, reading("gw-1", counters(101)), other)).requests == 1
