"""The file between agent and activator."""

import json
from typing import Any

import pytest

from nightshift.api.gateway_state import parse_gateway_state

WRITTEN = "2026-03-01T12:00:00+00:00"
ROUTE: dict[str, Any] = {
    "version": 1,
    "namespace": "ml",
    "name": "bot",
    "uid": "u1",
    "servedName": "bot",
    "task": "Chat",
    "state": "On",
    "revisions": [{"hash": "abc", "weight": 100, "service": "bot-abc", "port": 8000}],
    "queue": {"maxRequests": 3, "timeoutSeconds": 60},
    "limits": {"bodyBytes": 1000, "later": True},
    "start": {"typicalSeconds": 80, "failure": {"reason": "NoGpuCapacity"}},
}


def text(**routes: Any) -> str:
    return json.dumps({"written": WRITTEN, "later": 1, "routes": routes})


def test_a_whole_route_is_read_as_far_as_it_matters() -> None:
    entry = {"route": ROUTE, "usable": {"be_0": 2, "be_1": 1}, "capacity": 24, "inFlight": 5, "later": 1}
    found = parse_gateway_state(text(**{"ml/bot": entry}))
    assert found.broken == {}
    state = found.routes["ml/bot"]
    assert (state.usable_servers, state.capacity, state.in_flight) == (3, 24, 5)
    assert (state.route.queue.max_requests, state.route.queue.timeout_seconds) == (3, 60)
    assert state.route.limits.body_bytes == 1000
    assert state.route.start.failure is not None


def test_what_an_older_agent_does_not_say_has_a_default() -> None:
    state = parse_gateway_state(text(**{"ml/bot": {"route": {"namespace": "ml", "name": "bot"}}})).routes["ml/bot"]
    assert (state.usable_servers, state.capacity, state.in_flight, state.route.state) == (0, 0, None, "On")
    assert (state.route.queue.max_requests, state.route.queue.timeout_seconds) == (200, 600)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(7, id="no object"),
        pytest.param({}, id="no route"),
        pytest.param({"route": {**ROUTE, "state": "Maybe"}}, id="a state that does not exist"),
        pytest.param({"route": {**ROUTE, "queue": {"maxRequests": -1}}}, id="a negative limit"),
    ],
)
def test_a_broken_route_hides_no_other_one(broken: Any) -> None:
    found = parse_gateway_state(text(**{"ml/bad": broken, "ml/bot": {"route": ROUTE}}))
    assert set(found.routes) == {"ml/bot"}
    assert set(found.broken) == {"ml/bad"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="half"),
        pytest.param("[]", id="a list"),
        pytest.param('{"routes": {}}', id="no time"),
        pytest.param('{"written": "2026-03-01T12:00:00", "routes": {}}', id="a time of nowhere"),
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_what_is_no_such_file_is_an_error(content: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever kind of it
        parse_gateway_state(content)
