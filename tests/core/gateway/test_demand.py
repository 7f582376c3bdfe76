"""What HAProxy's counters say of the requests for each route."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from nightshift.core.gateway.demand import Asked, look, told
from nightshift.core.gateway.slots import Assignment, SlotKey
from nightshift.core.gateway.state import LiveSlot

NOW = 1000.0
KEY = "ml/bot"
ASSIGNMENT = Assignment(
    {
        SlotKey(KEY, "r1"): "be_l600_0",
        SlotKey(KEY, "r2"): "be_l600_1",
        SlotKey(KEY, "r2", "refunds"): "be_l600_2",
        SlotKey("ml/other", "r1"): "be_l600_3",
    }
)
LEFT = Assignment({SlotKey(KEY, "r2"): "be_l600_1"}, left={"be_l600_0": SlotKey(KEY, "r1")})
QUIET = LiveSlot()
OLD = LiveSlot(total=7, since_last=300)


def live(first: LiveSlot = QUIET, second: LiveSlot = QUIET, adapter: LiveSlot = QUIET) -> dict[str, LiveSlot]:
    busy_elsewhere = LiveSlot(connections=9, waiting=4, total=99, since_last=0)
    return {"be_l600_0": first, "be_l600_1": second, "be_l600_2": adapter, "be_l600_3": busy_elsewhere}


def before(last: float | None = 900.0, total: int = 0) -> dict[str, Asked]:
    return {KEY: Asked(0, 0, last, dict.fromkeys(live(), total))}


@pytest.mark.parametrize(
    ("slots", "former", "earlier", "expected"),
    [
        pytest.param(
            live(LiveSlot(connections=3, waiting=1)), [], {}, (2, 1, 0), id="those that wait are not worked on"
        ),
        pytest.param(
            live(LiveSlot(connections=3), LiveSlot(connections=2), LiveSlot(connections=1)),
            [],
            {},
            (6, 0, 0),
            id="all slots of the route count, an adapter's own one too, and no other route's",
        ),
        pytest.param(live(OLD), [], {}, (0, 0, 300), id="after the agent's start HAProxy says when the last one came"),
        pytest.param(
            live(OLD, LiveSlot(total=1, since_last=20)), [], {}, (0, 0, 20), id="the last one of all slots counts"
        ),
        pytest.param(
            live(), [], {}, (0, 0, 0), id="where nothing tells of one, the time without one begins at the look"
        ),
        pytest.param(live(), [], before(900.0), (0, 0, 100), id="and goes on with the next look"),
        pytest.param(
            live(LiveSlot(total=1)), [], before(900.0), (0, 0, 0), id="one that came and went between two looks counts"
        ),
        pytest.param(
            live(), [], before(900.0, total=5), (0, 0, 100), id="counters of a HAProxy that started anew are no request"
        ),
        pytest.param(live(), [], before(990.0), (0, 0, 10), id="what was seen in a slot that is gone is remembered"),
        pytest.param(
            live(LiveSlot(connections=1, since_last=500)),
            [],
            before(500.0),
            (1, 0, 0),
            id="an answer that takes long is no idle time",
        ),
        pytest.param(
            live(),
            [{"be_l600_0": LiveSlot(connections=2, waiting=1)}],
            before(900.0),
            (1, 1, 0),
            id="requests of a process that a reload replaced count",
        ),
        pytest.param(
            live(OLD), None, before(900.0), (None, None, None), id="if nobody says what such a process has: unknown"
        ),
        pytest.param(
            {"be_l600_0": OLD}, [], before(900.0), (None, None, None), id="if HAProxy lacks one of its slots: unknown"
        ),
        pytest.param(
            live(OLD), [], before(None), (0, 0, 0), id="what came while it was unknown is unknown: it begins anew"
        ),
    ],
)
def test_a_look(
    slots: Mapping[str, LiveSlot],
    former: Sequence[Mapping[str, LiveSlot]] | None,
    earlier: Mapping[str, Asked],
    expected: tuple[int | None, int | None, float | None],
) -> None:
    asked = look([KEY], ASSIGNMENT, slots, former, earlier, NOW)
    said = told(asked, "gateway-1", datetime(2026, 3, 1, tzinfo=UTC), NOW).routes[KEY]
    assert (said.in_flight, said.queued, said.idle_seconds) == expected


def test_a_route_without_a_slot_has_no_request_and_one_that_is_gone_is_not_told_of() -> None:
    asked = look(["ml/new"], ASSIGNMENT, live(), [], before(), NOW)
    assert asked == {"ml/new": Asked(0, 0, NOW, {})}


def test_requests_that_are_left_in_a_slot_which_is_needed_no_more_count() -> None:
    slots = live(LiveSlot(connections=3, waiting=2))
    found = look([KEY], LEFT, slots, [], before(), NOW)[KEY]
    assert (found.in_flight, found.queued, found.last) == (1, 2, NOW)
