"""What is read in a line of HAProxy's log. That HAProxy writes such lines, tests/gateway/test_requests.py shows."""

import json

import pytest

from nightshift.core.gateway.log_line import (
    LINE_BYTES,
    Answered,
    log_format,
    parse_dropped,
    parse_saying,
    result_of,
    tally,
)


def line(**fields: object) -> str:
    values: dict[str, object] = {
        "time": 1790000000000,
        "slot": "be_l600_0",
        "server": "s-1",
        "status": 200,
        "bytes": 100,
        "retries": "0",
        "request_ms": 5,
        "queue_ms": 10,
        "connect_ms": 1,
        "first_byte_ms": 200,
        "total_ms": 1005,
        "end": "--",
        "route": "ml/bot",
        "method": "POST",
        "path": "/v1/completions",
    }
    return json.dumps(values | fields, separators=(",", ":")).replace("/", "\\/")


def parse_line(text: str) -> Answered | None:
    """What the only line of a block says."""
    sayings, others = tally(text.encode() + b"\n")
    assert sayings.total() + len(others) == 1
    return next((parse_saying(saying) for saying in sayings), None)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        pytest.param({}, "ok", id="the engine's 200"),
        pytest.param({"status": 400}, "client_error", id="the engine's 400"),
        pytest.param({"status": 429}, "client_error", id="the engine's own 429"),
        pytest.param({"status": 500}, "server_error", id="the engine's 500"),
        pytest.param({"status": 503, "end": "SC"}, "server_error", id="no replica took the connection"),
        pytest.param({"status": 502, "end": "SH"}, "server_error", id="the engine ended without an answer"),
        pytest.param({"status": 504, "end": "sH"}, "server_error", id="the engine said nothing for too long"),
        pytest.param({"end": "SD"}, "cut", id="the answer broke off"),
        pytest.param({"end": "sD"}, "cut", id="the answer stopped for too long"),
        pytest.param({"end": "CD"}, "left", id="the client left in the middle of its answer"),
        pytest.param({"status": -1, "end": "CQ", "server": "<NOSRV>"}, "left", id="the client left the queue"),
        pytest.param({"end": "cD"}, "left", id="the client took nothing for too long"),
        pytest.param({"status": 429, "end": "PR", "server": "<NOSRV>"}, "refused", id="the queue was full"),
        pytest.param({"status": 503, "end": "sQ", "server": "<NOSRV>"}, "refused", id="it waited for too long"),
        pytest.param({"retries": "+1"}, "ok", id="the second replica's 200"),
        pytest.param({"retries": "3", "status": 500}, "server_error", id="a 500 at every try"),
        pytest.param(
            {"retries": "1", "status": 503, "end": "SC", "server": "<NOSRV>"},
            "server_error",
            id="the only replica failed, and then there was none",
        ),
    ],
)
def test_how_a_request_ended(given: dict[str, object], result: str) -> None:
    found = parse_line(line(**given))
    assert found is not None
    assert result_of(found.ending) == result


def test_times_begin_when_the_headers_are_there_and_contain_the_waiting() -> None:
    assert parse_line(line()) == Answered("be_l600_0", "ml/bot", ("200", True, "--", 0), 211, 1000)


@pytest.mark.parametrize(("text", "retries"), [("0", 0), ("2", 2), ("+1", 1), ("+3", 3)])
def test_tries_that_failed_are_told_with_and_without_another_replica(text: str, retries: int) -> None:
    found = parse_line(line(retries=text))
    assert found is not None
    assert found.ending[3] == retries


def test_without_an_answer_there_is_no_first_byte() -> None:
    found = parse_line(line(first_byte_ms=-1, connect_ms=-1, status=503, end="SC"))
    assert found is not None
    assert found.first_byte_ms is None


def test_a_line_that_is_cut_in_the_path_is_read() -> None:
    whole = line(path="/" + "x" * 3000)
    assert parse_line(whole[: LINE_BYTES - 1]) == parse_line(line())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[NOTICE] (1) : New worker", "12 events dropped", line(status="x"), line()[:80], "\ufffd\x00" * 40],
)
def test_what_is_no_line_is_none(text: str) -> None:
    assert parse_line(text) is None


def test_lines_that_say_the_same_are_one_saying_and_others_are_kept_apart() -> None:
    lines = [line(), "[NOTICE] (1) : New worker", line(time=1790000000001, path="/v1/chat"), "", line(status=500)]
    sayings, others = tally("".join(f"{item}\n" for item in lines).encode())
    assert sorted(sayings.values()) == [1, 2]
    assert others == [b"[NOTICE] (1) : New worker\n", b"\n"]


def test_what_is_no_saying_is_refused() -> None:
    with pytest.raises(ValueError, match="no saying"):
        parse_saying(b"12 events dropped")


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        (b"2866 events dropped\n", 2866),
        (b"1 event dropped\n", 1),
        (b"events dropped\n", None),
        (b"7 events dropped by me\n", None),
    ],
)
def test_haproxy_tells_what_it_dropped(text: bytes, dropped: int | None) -> None:
    assert parse_dropped(text) == dropped


def test_a_client_cannot_write_another_line_s_fields() -> None:
    found = parse_line(line(route='ml/bot","end":"--"', path='","status":200,"slot":"be_l600_9'))
    assert found is not None
    assert (found.slot, found.route) == ("be_l600_0", "ml/bot\\")


def test_headers_query_and_body_are_not_logged() -> None:
    assert not any(word in log_format() for word in ("hdr", "query", "url", "body", "cook", "src", "%hr", "%HU", "%HQ"))
