"""What is passed on of requests and answers, and what clients find in a stream."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.gateway.forwarding import answer_headers, awaits_stream, request_headers
from nightshift.core.gateway.refusals import comment, engine_error_event, event


def test_a_request_goes_on_as_it_came_but_for_what_concerned_the_connection() -> None:
    came = [
        ("Host", "bot.ml"),
        ("Authorization", "Bearer abc"),
        ("Connection", "keep-alive, X-Once"),
        ("X-Once", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("X-Nightshift-Route", "ml/bot"),
        ("x-nightshift-released", "ml/other"),
        ("X-Session-Id", "7"),
        ("X-Session-Id", "8"),
    ]
    assert request_headers(came, "ml/bot", 12) == [
        ("Host", "bot.ml"),
        ("Authorization", "Bearer abc"),
        ("X-Session-Id", "7"),
        ("X-Session-Id", "8"),
        ("Content-Length", "12"),
        ("x-nightshift-released", "ml/bot"),
    ]


@pytest.mark.parametrize(
    ("came", "length", "says"),
    [
        pytest.param([], 0, None, id="a request without a body stays one"),
        pytest.param([("Content-Length", "0")], 0, "0", id="an empty body stays one"),
        pytest.param([("Transfer-Encoding", "chunked")], 0, "0", id="an empty body in chunks is an empty body"),
        pytest.param([("content-length", "5")], 5, "5", id="a body has its length"),
    ],
)
def test_how_long_a_body_is(came: list[tuple[str, str]], length: int, says: str | None) -> None:
    assert dict(request_headers(came, "ml/bot", length)).get("Content-Length") == says


def test_nobody_takes_the_host_away() -> None:
    came = [("Host", "bot.ml"), ("Connection", "host")]
    assert ("Host", "bot.ml") in request_headers(came, "ml/bot", 0)


def test_an_answer_goes_on_with_the_word_that_it_had_to_wait() -> None:
    came = [
        ("Content-Type", "text/event-stream"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
    ]
    assert answer_headers(came) == [
        ("Content-Type", "text/event-stream"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("x-nightshift-cold-start", "true"),
    ]


_LONG = b'{"stream": true, "prompt": "' + b"a" * 3 * 2**20


@pytest.mark.parametrize(
    ("path", "body", "streams"),
    [
        pytest.param("/v1/chat/completions", b'{"stream": true}', True, id="a chat in a stream"),
        pytest.param("/v1/completions", b'{"prompt": "a", "stream":true}', True, id="a completion in a stream"),
        pytest.param("/v1/chat/completions", b'{"stream": false}', False, id="not asked for"),
        pytest.param(
            "/v1/chat/completions", b'{"messages": [{"stream": true}]}', False, id="asked for in a message only"
        ),
        pytest.param("/v1/chat/completions", b'{"stream": "true"}', False, id="a word is no yes"),
        pytest.param("/v1/chat/completions", b'["stream"]', False, id="no object"),
        pytest.param("/v1/chat/completions", b'{"stream": true', False, id="broken JSON"),
        pytest.param("/v1/chat/completions", b'"stream"' + b"[" * 100_000, False, id="nested without end"),
        pytest.param("/v1/chat/completions", b'{"stream": true, "a": "\xff"}', False, id="no text"),
        pytest.param("/v1/completions", _LONG + b'"}', True, id="with three megabytes of an image"),
        pytest.param("/v1/completions", _LONG + b"a" * 2**20 + b'"}', False, id="with more than is looked at"),
        pytest.param("/v1/embeddings", b'{"stream": true}', False, id="embeddings come in one piece"),
        pytest.param("/v1/models", b"", False, id="no body"),
    ],
)
def test_who_awaits_a_stream(path: str, body: bytes, streams: bool) -> None:
    assert awaits_stream(path, body) is streams


@pytest.mark.parametrize(
    "piece", [b"{},", b"[],", b'"",', b"1,", b'"\\n",', b'"\\u0100",', b'"\xf0\x9f\x92\xa4",', b"9"]
)
def test_whatever_a_body_is_made_of_looking_takes_little_memory_beside_it(piece: bytes) -> None:
    begin, end = b'{"stream": true, "a": [', b"0]}"
    body = begin + piece * ((4 * 2**20 - len(begin) - len(end)) // len(piece)) + end
    tracemalloc.start()
    try:
        awaits_stream("/v1/completions", body)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


@given(st.binary())
def test_no_body_does_harm(body: bytes) -> None:
    assert awaits_stream("/v1/completions", b'"stream"' + body) in (True, False)


def test_a_comment_is_one_line_and_never_data() -> None:
    assert comment("a\nb") == b": a b\n\n"


@given(st.binary())
def test_a_body_becomes_one_event_whatever_is_in_it(body: bytes) -> None:
    sent = event(body)
    assert sent.endswith(b"\n\n")
    assert all(line.startswith(b"data: ") for line in sent[:-1].splitlines())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b'{"error": {"message": "too long", "code": 400}}', "too long", id="the engine's own words"),
        pytest.param(b"<html>", "HTTP 400: <html>", id="words that are no JSON"),
        pytest.param(b"", "HTTP 400: the engine gave no reason", id="no words"),
        pytest.param(b'{"error": "x"}', 'HTTP 400: {"error": "x"}', id="another shape"),
    ],
)
def test_an_engines_refusal_as_an_event(body: bytes, message: str) -> None:
    sent = engine_error_event(400, body)
    found: Any = json.loads(sent.removeprefix(b"data: "))
    assert found["error"]["message"] == message
