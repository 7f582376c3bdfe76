"""What came to two revisions over a time, from counters that only grow, begin anew, go and come."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api import names
from nightshift.api.comparison import Base, Comparison, Counted, Sums, Times
from nightshift.api.tally import Tally
from nightshift.core.analysis.evidence import Arm, Histogram
from nightshift.core.analysis.window import (
    MOST_ENGINES,
    Counters,
    arms,
    begin,
    closed,
    lost,
    renewed,
    worth_renewing,
)
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.marks import read_marks
from tests.support.builders import NOW

BEFORE = NOW - timedelta(hours=5)
BOUNDS = (0.5, 1.0)


def read(text: str | None) -> Comparison | None:
    """A comparison as it stands on a revision."""
    return read_marks({} if text is None else {names.ANNOTATION_COMPARISON: text}).comparison


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def times(*counts: int, bounds: tuple[float, ...] = BOUNDS) -> Times:
    return Times(bounds=bounds, counts=counts)


def gateway(requests: int, failed: int = 0, *, at: float = 0, since: datetime = BEFORE, **more: Any) -> Known[Counted]:
    sums = Sums(requests=requests, failed=failed, total=times(requests - failed, 0, 0), **more)
    return Known(Counted(since=since, at=later(at), sums=sums), later(at))


def engine(tokens: int, *, at: float = 0, since: datetime = BEFORE, ready: datetime | None = None) -> Known[Counted]:
    sums = Sums(
        generation_tokens=tokens,
        preemptions=tokens // 100,
        finished={"stop": tokens // 10},
        first_token=times(tokens // 10, 0, 0),
        inter_token=times(0, tokens, 0),
        inference_seconds=tokens / 50,
    )
    return Known(Counted(since=since, serving=ready or since, at=later(at), sums=sums), later(at))


def counters(at: float = 0, gateways: Any = None, engines: Any = None, **more: Any) -> Counters:
    return Counters(later(at), gateways=gateways or {}, engines=engines or {}, **more)


QUIET = counters()


def begun(stable: Counters = QUIET, candidate: Counters = QUIET) -> Comparison:
    found = begin(("s", stable), ("c", candidate))
    assert isinstance(found, Known), found
    return found.value


def known(fact: Fact[Arm]) -> Arm:
    assert isinstance(fact, Known), fact
    return fact.value


def candidate(comparison: Comparison, now: Counters) -> Arm:
    return known(arms(comparison, QUIET, now)[1])


def test_what_counted_before_the_window_does_not_count() -> None:
    start = counters(0, {"gw-1": gateway(100, 7), "gw-2": gateway(50)}, {"e": engine(1000)})
    now = counters(60, {"gw-1": gateway(160, 9), "gw-2": gateway(55)}, {"e": engine(1600, at=60)})
    arm = candidate(begun(candidate=start), now)
    assert (arm.requests, arm.failed, arm.generation_tokens, arm.preemptions) == (65, 2, 600, 6)
    assert arm.total == Histogram(BOUNDS, (63, 0, 0))
    assert arm.first_token == Histogram(BOUNDS, (60, 0, 0))
    assert arm.inter_token == Histogram(BOUNDS, (0, 600, 0))
    assert arm.finish_reasons == {"stop": 60}
    assert arm.replica_seconds == 60
    assert arm.mean_running == pytest.approx(12 / 60)


def test_stable_and_candidate_come_in_this_order() -> None:
    stable, other = counters(0, {"gw": gateway(1)}), counters(0, {"gw": gateway(2)})
    comparison = begun(stable, other)
    found = arms(comparison, counters(9, {"gw": gateway(11)}), counters(9, {"gw": gateway(5)}))
    assert [known(one).requests for one in found] == [10, 3]
    assert (comparison.stable.revision, comparison.candidate.revision) == ("s", "c")


@pytest.mark.parametrize(
    ("then", "now", "requests", "told"),
    [
        pytest.param(
            {"gw": gateway(100)},
            {"gw": gateway(30, since=later(20))},
            30,
            "Gateway pod gw counts anew",
            id="a gateway pod that began anew counts from zero",
        ),
        pytest.param(
            {"gw": gateway(100)},
            {"gw": gateway(130, since=later(20))},
            130,
            "Gateway pod gw counts anew",
            id="also where it has counted more than before by now",
        ),
        pytest.param(
            {"gw": gateway(100)}, {"gw": gateway(40)}, 40, "counts anew", id="a counter that went back counts from zero"
        ),
        pytest.param(
            {"gw": gateway(100, 5)},
            {"gw": gateway(120, 3)},
            120,
            "counts anew",
            id="if one of a pod's counters went back they all did",
        ),
        pytest.param(
            {"gw": gateway(100)}, {"new": gateway(9, since=later(5))}, 9, "Gateway pod gw is gone", id="a pod that came"
        ),
        pytest.param({"gw": gateway(100)}, {}, 0, "Gateway pod gw is gone", id="a pod that went takes its part along"),
        pytest.param({}, {"gw": gateway(100)}, 0, None, id="a pod with an unknown past is not counted yet"),
        pytest.param({"gw": gateway(100)}, {"gw": gateway(100)}, 0, None, id="nobody asked"),
    ],
)
def test_gateway_pods_begin_anew_come_and_go(
    then: Mapping[str, Fact[Counted]], now: Mapping[str, Fact[Counted]], requests: int, told: str | None
) -> None:
    comparison, after = begun(candidate=counters(0, then)), counters(60, now)
    assert candidate(comparison, after).requests == requests
    found = lost(comparison, QUIET, after)
    assert [told in item for item in found if told] == ([True] if told else [])
    assert bool(found) is bool(told)


@pytest.mark.parametrize(
    ("now", "tokens", "seconds", "told"),
    [
        pytest.param({"a": engine(500, at=60)}, 400, 60, None, id="one that goes on"),
        pytest.param(
            {"b": engine(70, at=60, since=later(5), ready=later(40))},
            70,
            20,
            "serves no more",
            id="one that started since serves from when it was ready",
        ),
        pytest.param({"a": engine(20, at=60)}, 20, 60, "counts anew", id="a counter that went back within one start"),
        pytest.param(
            {"a": engine(100, at=60), "old": engine(9000, at=60)},
            0,
            60,
            None,
            id="one that is older than the window and was not in it has a past that nobody knows",
        ),
        pytest.param(
            {}, 0, 0, "The engine of revision c that started at 2026-03-01T07:00:00Z serves no more", id="gone"
        ),
    ],
)
def test_engines_start_go_on_and_end(
    now: Mapping[str, Fact[Counted]], tokens: int, seconds: float, told: str | None
) -> None:
    comparison, after = begun(candidate=counters(0, engines={"a": engine(100)})), counters(60, engines=now)
    arm = candidate(comparison, after)
    assert (arm.generation_tokens, arm.replica_seconds) == (tokens, seconds)
    assert [told in item for item in lost(comparison, QUIET, after) if told] == ([True] if told else [])


SILENT = Unknown("Gateway pod gw-2 does not say: silence")


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(counters(9, {"gw": gateway(1), "gw-2": SILENT}), "gw-2 does not say", id="a gateway pod"),
        pytest.param(counters(9, engines={"a": Unknown("It is silent.")}), "It is silent.", id="an engine"),
        pytest.param(
            counters(9, resting={"a": "Pod a is not ready."}),
            "Pod a is not ready.",
            id="one that serves no more and runs",
        ),
        pytest.param(counters(9, unlisted="Nobody knows."), "Nobody knows.", id="which gateway pods there are"),
    ],
)
def test_what_is_there_and_cannot_be_read_makes_all_of_its_arm_unknown(now: Counters, why: str) -> None:
    comparison = begun(candidate=counters(0, {"gw": gateway(1)}, {"a": engine(1)}))
    stable, found = arms(comparison, QUIET, now)
    assert isinstance(stable, Known)
    assert isinstance(found, Unknown)
    assert why in found.reason


def test_an_engine_that_runs_and_never_served_is_waited_for_by_nobody() -> None:
    loading = counters(9, {"gw": gateway(5)}, resting={"new": "Pod new is not ready."})
    assert candidate(begun(candidate=replace(loading, gateways={"gw": gateway(1)})), loading).requests == 4


@pytest.mark.parametrize("side", [0, 1])
def test_a_comparison_begins_only_when_everything_can_be_read(side: int) -> None:
    sides = [("s", QUIET), ("c", QUIET)]
    sides[side] = (sides[side][0], counters(0, {"gw-2": SILENT}))
    assert begin(sides[0], sides[1]) == SILENT


def test_a_closed_window_is_added_to_the_tally_and_the_present_one_is_alone() -> None:
    comparison = begun(candidate=counters(0, {"gw": gateway(100)}, {"a": engine(0)}))
    comparison = closed(comparison, QUIET, counters(40, {"gw": gateway(140)}, {"a": engine(10, at=40)}))
    now = counters(100, {"gw": gateway(200)}, {"a": engine(40, at=100)})
    alone, load = candidate(comparison, now), comparison.tally.load
    assert (load.candidate_requests, load.candidate_replica_seconds, comparison.tally.seconds) == (40, 40, 40)
    assert (alone.requests, alone.generation_tokens, alone.replica_seconds) == (60, 30, 60)
    assert (comparison.began, comparison.since, comparison.at) == (NOW, later(40), later(40))


def test_a_renewal_within_a_window_saves_the_counts_of_pods_that_go_and_lets_others_in() -> None:
    start = counters(0, {"gw": gateway(100)}, {"a": engine(0)})
    comparison = begun(candidate=start)
    late = counters(30, {"gw": gateway(110), "old": gateway(900)}, {"a": engine(10, at=30)})
    assert worth_renewing(comparison, QUIET, late)
    comparison = renewed(comparison, QUIET, late)
    assert not worth_renewing(comparison, QUIET, late)
    after = counters(60, {"old": gateway(905)}, {})
    arm = candidate(comparison, after)
    assert (arm.requests, arm.generation_tokens) == (10 + 5, 10)
    assert comparison.since == NOW
    assert any("Gateway pod gw is gone" in item for item in lost(comparison, QUIET, after))


@pytest.mark.parametrize("renew", [True, False])
@pytest.mark.parametrize(
    "away",
    [
        pytest.param(counters(30, {"gw": SILENT}, {"a": Unknown("It is silent.")}), id="silent pods"),
        pytest.param(
            counters(30, resting={"a": "Pod a is not ready."}, unlisted="Nobody knows."), id="pods out of sight"
        ),
    ],
)
def test_what_a_pod_counts_while_it_cannot_be_read_is_counted_later(away: Counters, renew: bool) -> None:
    comparison = begun(candidate=counters(0, {"gw": gateway(100)}, {"a": engine(0)}))
    comparison = renewed(comparison, QUIET, away) if renew else closed(comparison, QUIET, away)
    assert comparison.tally == Tally()
    assert comparison.lost == ()
    arm = candidate(comparison, counters(60, {"gw": gateway(150)}, {"a": engine(20, at=60)}))
    assert (arm.requests, arm.generation_tokens, arm.replica_seconds) == (50, 20, 60)


def test_what_the_caller_knows_of_a_stall_is_handed_on() -> None:
    assert [candidate(begun(), counters(1, stalled=stalled)).stalled for stalled in (True, False, None)] == [
        True,
        False,
        None,
    ]


def test_what_an_engine_does_not_export_is_not_zero() -> None:
    def mute(at: float) -> Known[Counted]:
        return Known(Counted(since=BEFORE, serving=BEFORE, at=later(at), sums=Sums(inference_seconds=None)), later(at))

    arm = candidate(begun(candidate=counters(0, engines={"a": mute(0)})), counters(60, engines={"a": mute(60)}))
    assert (arm.mean_running, arm.replica_seconds, arm.first_token.total) == (None, 60, 0)
    assert candidate(begun(), counters(60)).mean_running is None, "nobody served"


def test_of_many_engines_some_are_counted_and_always_the_same() -> None:
    many = {f"engine-{number:03}": engine(0) for number in range(100, 100 + MOST_ENGINES + 8)}
    comparison = begun(candidate=counters(0, engines=many))
    assert len(comparison.candidate.base.engines) == MOST_ENGINES
    grown = {start: engine(10, at=60) for start in many} | {"a-first": engine(10, at=60, since=later(1))}
    assert candidate(comparison, counters(60, engines=grown)).generation_tokens == 10 * MOST_ENGINES
    del grown["engine-100"]
    assert candidate(comparison, counters(60, engines=grown)).generation_tokens == 10 * MOST_ENGINES


def test_what_was_lost_is_told_once_and_in_few_sentences() -> None:
    comparison = begun(candidate=counters(0, {f"gw-{number}": gateway(1) for number in range(20)}))
    for _ in range(3):
        comparison = renewed(comparison, QUIET, counters(30))
    assert len(comparison.lost) == 6
    assert all(len(item) <= 200 for item in comparison.lost)


def detailed(number: int) -> Counted:
    """An engine after some months, with all buckets of vLLM 0.33."""
    first, inter = tuple(0.001 * 1.9**step for step in range(22)), tuple(0.01 * 1.6**step for step in range(19))
    reasons = ("stop", "length", "abort", "error", "repetition")
    sums = Sums(
        generation_tokens=10**11 + number,
        preemptions=10**6,
        finished=dict.fromkeys(reasons, 10**8 + number),
        first_token=times(*[10**7 + number] * 23, bounds=first),
        inter_token=times(*[10**9 + number] * 20, bounds=inter),
        inference_seconds=123456789.123456 + number,
    )
    return Counted(since=BEFORE, serving=BEFORE, at=NOW, sums=sums)


def test_the_text_of_8_engines_and_2_gateway_pods_is_short_and_is_read_again() -> None:
    bounds = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0)
    ended = Sums(requests=10**9, failed=10**8, left=10**8, total=times(*[10**8] * 15, bounds=bounds))
    gateways = {
        f"nightshift-gateway-5d9c7f6b8d-abcd{pod}": Known(Counted(since=BEFORE, at=NOW, sums=ended), NOW)
        for pod in range(2)
    }

    def side(which: int) -> Counters:
        engines = {f"{'0' * 35}{pod} 2026-03-01T12:00:00Z": Known(detailed(pod), NOW) for pod in range(4)}
        return counters(which, gateways, engines)

    comparison = begun(side(0), side(1))
    stepped = closed(comparison, side(60), side(60))
    stepped = stepped.model_copy(update={"lost": ("x" * 200,) * 6})
    assert len(stepped.text().encode()) < 32 * 1024
    assert read(stepped.text()) == stepped


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"began": "x"}'])
def test_a_text_that_is_none_is_no_comparison(text: str | None) -> None:
    assert read(text) is None


STEP = st.tuples(
    st.sampled_from(["ask", "restart", "silence", "renew", "step", "other pod"]), st.integers(min_value=0, max_value=50)
)


@settings(deadline=None)
@given(st.lists(STEP, max_size=30))
def test_whatever_happens_nothing_counts_twice_and_nothing_is_less_than_zero(steps: list[tuple[str, int]]) -> None:
    """A gateway pod that is asked, restarts, is silent, and is replaced; the comparison is renewed at any moment."""
    name, begun_at, count, asked, clock, silent = "gw-0", BEFORE, 7, 0, 0.0, False
    comparison = begun(candidate=counters(0, {name: gateway(count)}))
    for what, number in steps:
        clock += 1
        if what == "ask":
            count, asked = count + number, asked + number
        elif what in ("restart", "other pod"):
            count, begun_at = 0, later(clock)
            name = f"gw-{clock}" if what == "other pod" else name
        elif what == "silence":
            silent = not silent
        now = counters(clock, {name: SILENT if silent else gateway(count, at=clock, since=begun_at)})
        if what in ("renew", "step"):
            comparison = (closed if what == "step" else renewed)(comparison, QUIET, now)
            comparison = read(comparison.text()) or comparison
        found = arms(comparison, QUIET, now)[1]
        assert isinstance(found, Unknown) is silent
        if isinstance(found, Known):
            seen = comparison.tally.load.candidate_requests + found.value.requests
            assert 0 <= found.value.requests <= seen <= asked
            if all(kind in ("ask", "renew", "step", "silence") for kind, _ in steps):
                assert seen == asked


def test_an_empty_base_is_none() -> None:
    assert begun().stable.base == Base()
