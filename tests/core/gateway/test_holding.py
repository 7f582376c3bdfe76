"""Who may wait, who is sent away with which words, and how many may go on."""

from typing import Any

import pytest

from nightshift.api.gateway_state import RouteState
from nightshift.core.gateway import holding
from nightshift.core.gateway.holding import OVERHEAD_BYTES, admission, others_in_flight, retry_after, room, standing
from nightshift.core.gateway.refusals import Why

FAILURE = {"reason": "NoGpuCapacity", "message": "No node has a free GPU. Add one."}


def state(usable: int = 0, capacity: int = 0, in_flight: int | None = None, **route: Any) -> RouteState:
    written = {"namespace": "ml", "name": "bot", **route}
    return RouteState.model_validate(
        {"route": written, "usable": {"be_0": usable}, "capacity": capacity, "inFlight": in_flight}
    )


@pytest.mark.parametrize(
    ("known", "why"),
    [
        pytest.param(state(), None, id="requests wait for a deployment at zero"),
        pytest.param(None, (Why.UNKNOWN_ROUTE, 404), id="nothing waits for a deployment that is not there"),
        pytest.param(state(state="Off"), (Why.OFF, 503), id="one that is switched off is said to be so at once"),
        pytest.param(
            state(start={"failure": FAILURE}), (Why.START_FAILED, 503), id="a start that failed is told with its reason"
        ),
        pytest.param(
            state(usable=1, start={"failure": FAILURE}), None, id="a second replica's failed start is no matter here"
        ),
        pytest.param(state(usable=1, state="Off"), (Why.OFF, 503), id="off is off, even while the last replica drains"),
    ],
)
def test_how_a_deployment_stands(known: RouteState | None, why: tuple[Why, int] | None) -> None:
    found = standing("ml/bot", known)
    assert (found and (found.why, found.status)) == why
    assert found is None or "ml/bot" in found.message


def test_a_failed_start_is_told_in_the_operators_words_and_without_another_try() -> None:
    found = standing("ml/bot", state(start={"failure": FAILURE}))
    assert found is not None
    assert found.message == "ml/bot cannot start: NoGpuCapacity. No node has a free GPU. Add one."
    assert found.headers()["x-should-retry"] == "false"
    assert "Retry-After" not in found.headers()


QUEUE = {"queue": {"maxRequests": 3, "timeoutSeconds": 60}}
LIMITED = {**QUEUE, "limits": {"bodyBytes": 100}}


@pytest.mark.parametrize(
    ("route", "given", "why"),
    [
        pytest.param(QUEUE, {"held": 2}, None, id="the last place is given away"),
        pytest.param(QUEUE, {"held": 3}, (Why.QUEUE_FULL, 429), id="past the cap nobody waits"),
        pytest.param(QUEUE, {"held": 2, "members": 2}, (Why.QUEUE_FULL, 429), id="two gateway pods have two of three"),
        pytest.param(QUEUE, {"held": 1, "members": 2}, None, id="and the share is rounded up"),
        pytest.param(QUEUE, {"size": 10_000, "free": 10_000}, None, id="the last bytes are given away"),
        pytest.param(QUEUE, {"size": 10_001, "free": 10_000}, (Why.NO_MEMORY, 429), id="past the budget nobody waits"),
        pytest.param(LIMITED, {"size": OVERHEAD_BYTES + 100}, None, id="a body of just the limit may wait"),
        pytest.param(LIMITED, {"size": OVERHEAD_BYTES + 101}, (Why.TOO_LARGE, 413), id="a body over the limit may not"),
    ],
)
def test_who_may_wait(route: dict[str, Any], given: dict[str, int], why: tuple[Why, int] | None) -> None:
    given = {"held": 0, "members": 1, "size": 0, "free": 2**30, "again": 41, **given}
    found = admission(state(**route), **given)
    assert (found and (found.why, found.status)) == why
    assert found is None or found.status == 413 or found.headers()["Retry-After"] == "41"


@pytest.mark.parametrize(
    ("typical", "waited", "again"),
    [
        pytest.param(82.0, 30.5, 52, id="what is left of a typical start, rounded up"),
        pytest.param(82.0, 0.0, 82, id="all of it for the first one"),
        pytest.param(82.0, 200.0, 5, id="a start that takes longer than usual is asked about again soon"),
        pytest.param(82.0, 81.0, 5, id="nobody is asked back at once"),
        pytest.param(None, 10.0, 50, id="a minute is assumed of a start that nobody has seen"),
    ],
)
def test_when_to_try_again(typical: float | None, waited: float, again: int) -> None:
    assert retry_after(typical, waited) == again


@pytest.mark.parametrize(
    ("in_flight", "age", "counted", "others"),
    [
        pytest.param(None, 0.0, 0, 0, id="what is not known is no obstacle"),
        pytest.param(7, 0.0, 0, 7, id="all are others where none was released from here"),
        pytest.param(7, 0.0, 5, 2, id="those that waited here are not counted twice"),
        pytest.param(3, 0.0, 5, 0, id="there are never fewer than none"),
        pytest.param(7, 10.1, 0, 0, id="an old count is not known"),
    ],
)
def test_requests_in_flight_that_did_not_wait_here(
    in_flight: int | None, age: float, counted: int, others: int
) -> None:
    assert others_in_flight(in_flight, age, counted) == others


@pytest.mark.parametrize(
    ("known", "others", "own", "free"),
    [
        pytest.param(state(usable=1, capacity=4), 0, 0, 4, id="an idle replica takes as many as it can"),
        pytest.param(state(usable=1, capacity=4), 1, 2, 1, id="others and those under way take their places"),
        pytest.param(state(usable=1, capacity=4), 4, 2, 0, id="too many is no negative room"),
        pytest.param(state(usable=0, capacity=4), 0, 0, 0, id="nobody goes on without a usable replica"),
    ],
)
def test_how_many_may_go_on(known: RouteState, others: int, own: int, free: int) -> None:
    assert room(known, others, own) == free


def test_a_request_that_nobody_takes_is_given_up_after_three_tries_with_growing_pauses() -> None:
    assert [holding.pause_after_failure(forwards) for forwards in (1, 2, 3)] == [0.5, 1.0, None]


@pytest.mark.parametrize(
    "refusal",
    [
        holding.unknown("ml/bot"),
        holding.too_large("ml/bot", 100),
        holding.no_memory("ml/bot", 7),
        holding.slow_body("ml/bot"),
        holding.timed_out("ml/bot", 600.0, 7),
        holding.not_forwarded("ml/bot", 7),
        holding.stopping("ml/bot"),
    ],
    ids=lambda refusal: refusal.why.value,
)
def test_every_refusal_names_the_deployment_and_says_what_to_do(refusal: Any) -> None:
    assert "ml/bot" in refusal.message
    assert any(word in refusal.message.lower() for word in ("try again", "send less"))
    assert refusal.to_json()["error"]["code"]
