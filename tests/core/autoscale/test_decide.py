"""How many replicas, for demands of every kind."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.autoscale.decide import Bounds, Decision, Fleet, decide, needed, rests_in
from nightshift.core.autoscale.demand import Demand, History, Load
from nightshift.core.autoscale.history import WINDOW_SECONDS, complete_in, peak, remembered
from nightshift.core.cause import Cause
from nightshift.core.facts import Known, Unknown
from tests.support.builders import NOW

SHORT = Cause("NoGpuCapacity", "No node has a free accelerator for pod bot-1.", definite=False)
ONE_TO_EIGHT = Bounds(1, 8, 16, 900)
ZERO_TO_EIGHT = replace(ONE_TO_EIGHT, minimum=0)
HOUR_AGO = NOW - timedelta(hours=1)


def ago(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


def load(requests: int) -> Load:
    return Load(requests, requests, f"Requests: {requests} in flight")


def partly(requests: int) -> Load:
    return Load(requests, None, f"Requests: {requests} in flight", "Gateway pod gw-2 does not say: silence.")


def steady(requests: int) -> History:
    """Seen all the time, and always the same."""
    return History(ago(2 * WINDOW_SECONDS), NOW, ((ago(5), requests),))


def fleet(replicas: int, **changes: Any) -> Fleet:
    values: dict[str, Any] = {"ready": replicas, "created": HOUR_AGO, "first_ready": HOUR_AGO if replicas else None}
    return Fleet(replicas=replicas, proven=True, **(values | changes))


def demand(now: Load, before: int | None = None, **more: Any) -> Demand:
    """A demand, and the highest of the last minutes."""
    history = steady(now.at_least if before is None else before)
    return Demand(now, history=history, **more)


ASLEEP: dict[str, Any] = {"last_request": Known(ago(1000), NOW)}


@pytest.mark.parametrize(
    ("bounds", "asked", "there", "replicas"),
    [
        pytest.param(ONE_TO_EIGHT, demand(load(48)), fleet(2), 3, id="48 requests at 16 per replica need 3, at once"),
        pytest.param(ONE_TO_EIGHT, demand(load(49)), fleet(2), 4, id="49 need 4"),
        pytest.param(ONE_TO_EIGHT, demand(load(200)), fleet(2), 8, id="the maximum limits"),
        pytest.param(ONE_TO_EIGHT, demand(load(0)), fleet(2), 1, id="without requests the minimum stays"),
        pytest.param(ONE_TO_EIGHT, demand(load(10), 40), fleet(4), 3, id="the highest of five minutes counts"),
        pytest.param(ONE_TO_EIGHT, demand(load(48), 48), fleet(3, ready=1), 3, id="starting replicas count"),
        pytest.param(ONE_TO_EIGHT, demand(partly(0), 0), fleet(4), 4, id="a demand that is not known lowers nothing"),
        pytest.param(ONE_TO_EIGHT, demand(partly(80)), fleet(4), 5, id="what is seen of it may raise"),
        pytest.param(
            ONE_TO_EIGHT,
            Demand(load(0), history=History(ago(200), NOW, ((ago(5), 0),))),
            fleet(4),
            4,
            id="nothing falls before the demand was known for five minutes, as after a restart",
        ),
        pytest.param(ONE_TO_EIGHT, demand(load(0)), fleet(12), 8, id="a lower maximum holds at once"),
        pytest.param(replace(ONE_TO_EIGHT, minimum=4), demand(partly(0)), fleet(2), 4, id="so does a higher minimum"),
        pytest.param(ONE_TO_EIGHT, demand(load(99)), fleet(3, short=SHORT), 3, id="without room no more are asked for"),
        pytest.param(ZERO_TO_EIGHT, demand(load(0), **ASLEEP), fleet(1), 0, id="nobody asked for long: none"),
        pytest.param(ZERO_TO_EIGHT, demand(load(0), 60, **ASLEEP), fleet(3), 0, id="from three replicas to none too"),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), last_request=Known(ago(890), NOW)),
            fleet(1),
            1,
            id="the last request is not long enough ago",
        ),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), **ASLEEP),
            fleet(1, first_ready=ago(60)),
            1,
            id="it became ready a minute ago",
        ),
        pytest.param(
            ZERO_TO_EIGHT, demand(load(0), **ASLEEP), fleet(1, created=ago(60)), 1, id="it was made a minute ago"
        ),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), typical_start_seconds=1200, **ASLEEP),
            fleet(1),
            1,
            id="a start takes longer than it has been idle",
        ),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), **ASLEEP),
            fleet(1, ready=0, first_ready=None, created=ago(1000), patience=7200),
            1,
            id="a first start that goes on is let end",
        ),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), **ASLEEP),
            fleet(1, ready=0, first_ready=None, created=ago(1000)),
            0,
            id="a start that has failed is not",
        ),
        pytest.param(
            ZERO_TO_EIGHT,
            demand(load(0), last_request=Unknown("half seen")),
            fleet(2),
            1,
            id="when the last request came is not known: not to none",
        ),
        pytest.param(ZERO_TO_EIGHT, demand(partly(0), **ASLEEP), fleet(1), 1, id="half of the gateway is seen"),
        pytest.param(ZERO_TO_EIGHT, demand(load(1), **ASLEEP), fleet(1), 1, id="a request still runs"),
        pytest.param(ZERO_TO_EIGHT, demand(load(64), woken=True), fleet(0), 4, id="the first wake is sized"),
        pytest.param(ZERO_TO_EIGHT, demand(load(0), woken=True), fleet(0), 1, id="a wake whose clients left"),
        pytest.param(ZERO_TO_EIGHT, demand(partly(64), woken=True), fleet(0), 4, id="a wake with half of the gateway"),
        pytest.param(ZERO_TO_EIGHT, demand(load(0), woken=True, **ASLEEP), fleet(1), 1, id="none goes during a wake"),
        pytest.param(ZERO_TO_EIGHT, demand(load(0), **ASLEEP), fleet(0), 0, id="asleep it stays asleep"),
        pytest.param(
            ZERO_TO_EIGHT, demand(load(0), **ASLEEP), Fleet(0, proven=False), 1, id="an unproven revision is tried"
        ),
        pytest.param(
            replace(ZERO_TO_EIGHT, zero=False), demand(load(0), **ASLEEP), fleet(1), 1, id="without a gateway one stays"
        ),
    ],
)
def test_how_many(bounds: Bounds, asked: Demand, there: Fleet, replicas: int) -> None:
    decided = decide(bounds, asked, there, NOW)
    assert (decided.replicas, decided.reason[-1]) == (replicas, ".")


def test_the_worked_example() -> None:
    burst = Load(48, 48, "Requests: 12 in flight, 6 queued, 30 held")
    assert decide(ONE_TO_EIGHT, demand(burst), fleet(2), NOW) == Decision(
        3,
        "Requests: 12 in flight, 6 queued, 30 held, at 16 per replica (scaling.target): 3 replicas.",
    )
    history = remembered(steady(48), load(48), NOW)
    for seconds in range(2, 302, 2):
        history = remembered(history, load(10), NOW + timedelta(seconds=seconds))
    later = NOW + timedelta(seconds=300)
    assert decide(ONE_TO_EIGHT, Demand(load(10), history=history), fleet(3), later).replicas == 3
    for seconds in range(302, 320, 2):
        later = NOW + timedelta(seconds=seconds)
        history = remembered(history, load(10), later)
    decided = decide(ONE_TO_EIGHT, Demand(load(10), history=history), fleet(3), later)
    assert decided.replicas == 1
    assert decided.reason == "At most 10 requests in the last 5 minutes, at 16 per replica (scaling.target): 1 replica."


@pytest.mark.parametrize(
    ("bounds", "asked", "there", "reason"),
    [
        pytest.param(ONE_TO_EIGHT, demand(load(10)), fleet(1), None, id="nothing"),
        pytest.param(ONE_TO_EIGHT, demand(load(200)), fleet(8), "MaxReplicas", id="the maximum"),
        pytest.param(ONE_TO_EIGHT, demand(load(64)), fleet(4, short=SHORT), "NoGpuCapacity", id="room"),
        pytest.param(replace(ZERO_TO_EIGHT, zero=False), demand(load(1)), fleet(1), "NoGateway", id="no gateway"),
        pytest.param(ONE_TO_EIGHT, demand(partly(9)), fleet(2), None, id="a demand that was known a moment ago"),
        pytest.param(ONE_TO_EIGHT, demand(partly(9), blind=True), fleet(2), "DemandUnknown", id="one that was not"),
        pytest.param(ONE_TO_EIGHT, demand(partly(9), blind=True), fleet(1), None, id="where nothing could fall anyway"),
    ],
)
def test_what_limits(bounds: Bounds, asked: Demand, there: Fleet, reason: str | None) -> None:
    limited = decide(bounds, asked, there, NOW).limited
    assert (limited.reason if limited else None) == reason


@pytest.mark.parametrize(
    ("requests", "target", "replicas"), [(48, 16, 3), (49, 16, 4), (0, 16, 0), (1, 16, 1), (16, 16, 1)]
)
def test_requests_need_replicas(requests: int, target: int, replicas: int) -> None:
    assert needed(requests, target) == replicas


def test_rest_begins_with_the_latest_and_lasts_at_least_a_start() -> None:
    asked = demand(load(0), last_request=Known(ago(300), NOW), typical_start_seconds=1200)
    assert rests_in(ZERO_TO_EIGHT, asked, fleet(1, first_ready=ago(900)), NOW) == 900
    assert decide(ZERO_TO_EIGHT, asked, fleet(1), NOW).due == 900


def test_the_highest_of_each_span_is_kept_and_a_gap_begins_anew() -> None:
    history = History()
    for seconds, requests in ((0, 40), (4, 10), (12, 20)):
        history = remembered(history, load(requests), NOW + timedelta(seconds=seconds))
    assert [requests for _, requests in history.peaks] == [40, 20]
    assert remembered(history, partly(1), NOW + timedelta(seconds=14)) is history
    later = NOW + timedelta(seconds=60)
    anew = remembered(history, load(5), later)
    assert anew == History(later, later, ((later, 5),))
    assert (peak(anew, load(5), later), complete_in(anew, later)) == (None, WINDOW_SECONDS)


counts = st.integers(0, 2000)
bounds_ = st.builds(
    lambda low, more, target, zero: Bounds(low, max(1, low + more), target, 900, zero),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 64),
    st.booleans(),
)
histories = st.builds(
    lambda since, last, high: History(ago(since + last), ago(last), ((ago(last), high),)),
    st.integers(0, 900),
    st.integers(0, 60),
    counts,
)
demands = st.builds(
    lambda seen, more, known, woken, idle, start, history, blind: Demand(
        Load(seen, seen + more if known else None, "Requests: some", "" if known else "half seen"),
        woken,
        Unknown("half seen") if idle is None else Known(ago(idle), NOW),
        start,
        history,
        blind,
    ),
    counts,
    counts,
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 5000),
    st.none() | st.integers(0, 5000),
    histories,
    st.booleans(),
)
fleets = st.builds(
    lambda replicas, proven, ready, made, first, short: Fleet(
        replicas,
        proven,
        ready,
        None if made is None else ago(made),
        None if first is None else ago(first),
        SHORT if short else None,
    ),
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 40),
    st.none() | st.integers(0, 5000),
    st.none() | st.integers(0, 5000),
    st.booleans(),
)


@given(bounds_, demands, fleets)
def test_never_outside_the_bounds(bounds: Bounds, asked: Demand, there: Fleet) -> None:
    replicas = decide(bounds, asked, there, NOW).replicas
    least = bounds.minimum if bounds.zero and there.proven else max(1, bounds.minimum)
    assert min(least, bounds.maximum) <= replicas <= bounds.maximum


@given(bounds_, demands, fleets)
def test_what_is_not_known_lowers_nothing(bounds: Bounds, asked: Demand, there: Fleet) -> None:
    blind = replace(asked, load=replace(asked.load, at_most=None, unknown="half seen"))
    replicas = decide(bounds, blind, there, NOW).replicas
    assert replicas >= min(there.replicas, bounds.maximum)
    assert decide(bounds, asked, there, NOW).replicas <= max(replicas, there.replicas)


@given(bounds_, demands, fleets, counts)
def test_more_demand_never_means_fewer_replicas(bounds: Bounds, asked: Demand, there: Fleet, more: int) -> None:
    load_, history = asked.load, asked.history
    higher = replace(
        asked,
        load=replace(
            load_, at_least=load_.at_least + more, at_most=None if load_.at_most is None else load_.at_most + more
        ),
        history=replace(history, peaks=tuple((at, high + more) for at, high in history.peaks)),
    )
    assert decide(bounds, higher, there, NOW).replicas >= decide(bounds, asked, there, NOW).replicas


@given(bounds_, demands, fleets)
def test_a_wake_never_means_fewer_replicas_and_never_none(bounds: Bounds, asked: Demand, there: Fleet) -> None:
    woken = decide(bounds, replace(asked, woken=True), there, NOW).replicas
    assert woken >= decide(bounds, replace(asked, woken=False), there, NOW).replicas
    settled = Fleet(there.replicas, proven=True) if there.replicas <= bounds.maximum else None
    if settled is not None and there.replicas >= bounds.minimum:
        assert decide(bounds, replace(asked, woken=True), settled, NOW).replicas >= 1


@given(bounds_, demands, fleets)
def test_what_was_decided_stands_until_something_changes(bounds: Bounds, asked: Demand, there: Fleet) -> None:
    replicas = decide(bounds, asked, there, NOW).replicas
    for _ in range(3):
        there = replace(there, replicas=replicas)
        before, replicas = replicas, decide(bounds, asked, there, NOW).replicas
    assert replicas == before
