"""The clients of the stories of zero tell apart what they must: answers, refusals, errors in streams, and cut ones."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from e2e.stories.zero import Crowd

BODY = {"error": {"message": "no", "type": "server_error", "code": "start_failed", "param": None}}
DELTA = {"index": 0, "delta": {"content": "Paris"}, "finish_reason": None}
LAST = {"index": 0, "delta": {}, "finish_reason": "stop"}


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(choice: dict[str, Any]) -> bytes:
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]})


COMMENT = b": waiting for a replica of ml/tiny, 10 s so far\n\n"
STREAMS = {
    "whole": [COMMENT, chunk(DELTA), chunk(LAST), b"data: [DONE]\n\n", b""],
    "failed": [COMMENT, event(BODY), b""],
    "cut": [COMMENT],
    "half": [chunk(DELTA)],
}
"""Each ends as HTTP wants it where the last part is empty."""


class Handler(BaseHTTPRequestHandler):
    """The path says what is answered."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        what = self.path.split("/")[1]
        if what not in STREAMS:
            self._refuse()
            return
        self.send_response(200)
        for name, value in (
            ("content-type", "text/event-stream"),
            ("transfer-encoding", "chunked"),
            ("x-nightshift-cold-start", "true"),
        ):
            self.send_header(name, value)
        self.end_headers()
        for part in STREAMS[what]:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.close_connection = True

    def _refuse(self) -> None:
        body = json.dumps(BODY).encode()
        self.send_response(503)
        for name, value in (("content-length", str(len(body))), ("x-should-retry", "false")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def base() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        pytest.param("whole", (200, "Paris", "stop", True, False), id="a stream that comes to its end"),
        pytest.param("failed", (0, "", None, True, False), id="one that ends with an error event"),
        pytest.param("cut", (0, "", None, True, True), id="one whose connection ends before its first token"),
        pytest.param("half", (200, "Paris", None, True, True), id="one whose connection ends after it"),
        pytest.param("refused", (503, "", None, False, False), id="a refusal"),
    ],
)
def test_a_client_of_the_stories_sees(base: str, what: str, seen: tuple[Any, ...]) -> None:
    crowd = Crowd()
    asked = crowd.ask(f"{base}/{what}", stream=True)
    crowd.join(20)
    assert (asked.status, asked.text, asked.finish, asked.cold, asked.cut) == seen
    if what in ("failed", "refused"):
        assert asked.body["code"] == "start_failed"
        assert isinstance(asked.error, openai.APIStatusError) is (what == "refused")


def test_nobody_there_is_a_connection_that_ends() -> None:
    crowd = Crowd()
    asked = crowd.ask("http://127.0.0.1:9/v1")
    crowd.join(20)
    assert (asked.cut, asked.status) == (True, 0)
