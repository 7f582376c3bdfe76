"""What a client is told whose request was not served: in OpenAI's shape, as an answer or as an event of a stream.

Source of the shape: the error objects of OpenAI's API, which the official clients parse; of server-sent events: the
HTML standard, section 9.2.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Why(StrEnum):
    """Why a request was not served; each is the value of a metric's label as it stands."""

    QUEUE_FULL = "QueueFull"
    NO_MEMORY = "NoMemory"
    TOO_LARGE = "TooLarge"
    SLOW_BODY = "SlowBody"
    OFF = "Off"
    START_FAILED = "StartFailed"
    TIMED_OUT = "TimedOut"
    UNKNOWN_ROUTE = "UnknownRoute"
    NOT_FORWARDED = "NotForwarded"
    STOPPING = "Stopping"


_TYPES = {408: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error"}
_CODES = {
    Why.QUEUE_FULL: "queue_full",
    Why.NO_MEMORY: "queue_full",
    Why.TOO_LARGE: "body_too_large",
    Why.SLOW_BODY: "request_timeout",
    Why.OFF: "model_off",
    Why.START_FAILED: "start_failed",
    Why.TIMED_OUT: "start_timeout",
    Why.UNKNOWN_ROUTE: "model_not_found",
    Why.NOT_FORWARDED: "no_replica",
    Why.STOPPING: "gateway_stopping",
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served, and what to do about it."""

    why: Why
    status: int
    message: str
    """What happened, why, and what to do next."""
    retry_after: int | None = None
    """Seconds after which another try may succeed; none where somebody has to do something first."""

    def to_json(self) -> dict[str, Any]:
        """The body in OpenAI's shape."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "code": _CODES[self.why], "param": None}}

    def body(self) -> bytes:
        """The body as it is sent."""
        return json.dumps(self.to_json()).encode()

    def headers(self) -> dict[str, str]:
        """The headers beside it. `x-should-retry` keeps OpenAI's clients from trying again in vain."""
        found = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if self.retry_after is not None:
            return {**found, "Retry-After": str(self.retry_after)}
        return {**found, "x-should-retry": "false"}


def comment(text: str) -> bytes:
    """A comment in a stream of events: keeps connections alive, and every client passes over it."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"


def event(body: bytes) -> bytes:
    """A whole body as one event of a stream. OpenAI's clients raise an error where it is one, and then end.

    Worked example: the two lines ``{`` and ``}`` become ``data: {``, ``data: }`` and an empty line.
    """
    lines = body.splitlines() or [b""]
    return b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def engine_error_event(status: int, body: bytes) -> bytes:
    """An engine's refusal of a request whose stream has begun already, as an event with its own words.

    Args:
        status: The engine's status code, 400 or more.
        body: What it answered; not always JSON.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        return event(body)
    text = body[:500].decode(errors="replace").strip() or "the engine gave no reason"
    error = {
        "message": f"HTTP {status}: {text}",
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "code": status,
        "param": None,
    }
    return event(json.dumps({"error": error}).encode())
