"""What the agent tells of how requests to each revision ended."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from nightshift.api.demand import RevisionResults
from nightshift.core.gateway.demand import Asked, told
from nightshift.core.gateway.slots import Assignment, SlotKey
from nightshift.gateway.request_telemetry import FIRST_BYTE_SECONDS, TOTAL_SECONDS, RequestTelemetry
from tests.core.gateway.test_log_line import line

BEGUN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
R1, R2 = SlotKey("ml/bot", "r1"), SlotKey("ml/bot", "r2")


@pytest.fixture
def counting() -> RequestTelemetry:
    """Each assignment happens a minute after the one before."""
    minutes: Iterator[datetime] = (BEGUN + timedelta(minutes=minute) for minute in range(1000))
    found = RequestTelemetry(CollectorRegistry(), lambda: next(minutes))
    found.assign(Assignment({R1: "be_l600_0", SlotKey("ml/bot", "r1", "refunds"): "be_l600_7"}))
    return found


def all_of(counting: RequestTelemetry) -> dict[str, RevisionResults]:
    return counting.results(lambda route: route == "ml/bot").get("ml/bot", {})


def test_a_revision_that_nobody_asked_has_counted_none_and_says_since_when(counting: RequestTelemetry) -> None:
    zeros = (0,) * (len(FIRST_BYTE_SECONDS) + 1), (0,) * (len(TOTAL_SECONDS) + 1)
    assert all_of(counting) == {"r1": RevisionResults(since=BEGUN, first_byte=zeros[0], total=zeros[1])}


@pytest.mark.parametrize(
    ("given", "result"),
    [
        pytest.param({}, "ok", id="an answer"),
        pytest.param({"status": 404}, "client_error", id="an engine's 4xx"),
        pytest.param({"status": 500}, "server_error", id="an engine's 5xx"),
        pytest.param({"status": 429, "server": "<NOSRV>"}, "refused", id="a full queue"),
        pytest.param({"end": "CD"}, "left", id="a client that went"),
        pytest.param({"end": "SD"}, "cut", id="an answer that broke off"),
        pytest.param({"slot": "be_l600_7"}, "ok", id="an answer of an adapter's replicas"),
    ],
)
def test_how_it_ended(counting: RequestTelemetry, given: dict[str, object], result: str) -> None:
    counting.take((line(**given) + "\n").encode() * 2)
    found = all_of(counting)["r1"].to_json()
    names = ("ok", "clientError", "serverError", "refused", "left", "cut", "retried")
    written = {"client_error": "clientError", "server_error": "serverError"}.get(result, result)
    assert {name: found[name] for name in names} == {**dict.fromkeys(names, 0), written: 2}
    assert sum(found["total"]) == sum(found["firstByte"]) == (2 if result == "ok" else 0)


@pytest.mark.parametrize(
    ("given", "retried"),
    [
        pytest.param({"retries": "0"}, 0, id="answered at once"),
        pytest.param({"retries": "+1"}, 1, id="answered by another replica"),
        pytest.param({"retries": "3"}, 1, id="answered at the fourth try: one request"),
        pytest.param({"retries": "1", "status": 404}, 1, id="refused as the client's fault at the second try"),
        pytest.param({"retries": "3", "status": 500}, 0, id="failed at every try: it is told as such"),
        pytest.param({"retries": "1", "end": "SD"}, 0, id="broke off at the second try: it is told as such"),
        pytest.param({"retries": "1", "status": -1, "end": "CH"}, 0, id="a client that went meanwhile"),
    ],
)
def test_a_request_that_was_answered_after_a_try_that_failed_is_told_once(
    counting: RequestTelemetry, given: dict[str, object], retried: int
) -> None:
    counting.take((line(**given) + "\n").encode())
    assert all_of(counting)["r1"].retried == retried


def test_counts_go_on_for_as_long_as_there_is_a_slot_and_begin_anew_after_that(counting: RequestTelemetry) -> None:
    counting.take((line() + "\n").encode())
    counting.assign(Assignment({R1: "be_l600_0", R2: "be_l600_1"}))
    found = all_of(counting)
    assert (found["r1"].ok, found["r1"].since) == (1, BEGUN)
    assert (found["r2"].ok, found["r2"].since) == (0, BEGUN + timedelta(minutes=1))
    counting.assign(Assignment({R2: "be_l600_1"}, left={"be_l600_0": R1}))
    assert all_of(counting)["r1"].ok == 1, "requests are left in it"
    counting.assign(Assignment({R2: "be_l600_1"}))
    assert set(all_of(counting)) == {"r2"}
    counting.assign(Assignment({R1: "be_l600_0", R2: "be_l600_1"}))
    found = all_of(counting)
    assert (found["r1"].ok, found["r1"].since) == (0, BEGUN + timedelta(minutes=4))


def test_only_what_is_asked_for_is_told_and_bounds_once(counting: RequestTelemetry) -> None:
    counting.assign(Assignment({R1: "be_l600_0", SlotKey("ml/other", "r1"): "be_l600_1"}))
    assert set(counting.results(lambda route: True)) == {"ml/bot", "ml/other"}
    asked = {"ml/bot": Asked(0, 0), "ml/other": Asked(0, 0)}
    results = counting.results(lambda route: route == "ml/bot")
    answer = told(asked, "gw-1", BEGUN, 0.0, results, (FIRST_BYTE_SECONDS, TOTAL_SECONDS))
    assert [len(one.revisions) for one in answer.routes.values()] == [1, 0]
    assert (answer.first_byte_bounds, answer.total_bounds) == (FIRST_BYTE_SECONDS, TOTAL_SECONDS)
    assert len(answer.routes["ml/bot"].revisions["r1"].total) == len(answer.total_bounds) + 1
    plain = told(asked, "gw-1", BEGUN, 0.0, {}, (FIRST_BYTE_SECONDS, TOTAL_SECONDS))
    assert (plain.total_bounds, plain.routes["ml/bot"].revisions) == ((), {})
