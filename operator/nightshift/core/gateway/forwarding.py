"""Which headers go on, in both directions, and whether a client awaits a stream."""

import json
from collections.abc import Iterable

HEADER_ROUTE = "x-nightshift-route"
"""Set by HAProxy: NAMESPACE/NAME of the deployment that a request is for."""

HEADER_RELEASED = "x-nightshift-released"
"""On a request that has waited: its route, for which HAProxy must not ask again whether a replica is usable."""

HEADER_COLD_START = "x-nightshift-cold-start"
"""On every answer to a request that had to wait for a replica: ``true``."""

OWN_PREFIX = "x-nightshift-"

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, section 7.6.1, and what was used before it."""

_STREAMING_ENDINGS = ("/chat/completions", "/completions")
"""Paths whose answers are events in which OpenAI's clients find errors; other clients get the engine's own status."""

_LOOKED_AT_BYTES = 4 * 1024 * 1024
"""A larger body is not parsed: its client waits in silence. Parsing takes up to eight times as many bytes for a moment,
beside the byte budget, and everybody else waits meanwhile."""

_LOOKED_AT_MARKS = 100_000
"""Nor is one with more of what begins or parts values: four bytes may become a value of a hundred and more."""

Headers = Iterable[tuple[str, str]]


def request_headers(headers: Headers, route: str, length: int) -> list[tuple[str, str]]:
    """The headers of a request that is handed back to HAProxy.

    Args:
        headers: As they came.
        route: NAMESPACE/NAME.
        length: Bytes of its body, which is sent as a whole.
    """
    pairs = list(headers)
    dropped = _hop_by_hop(pairs) | {"content-length", "expect"}
    kept = [(name, value) for name, value in pairs if not _dropped(name, dropped)]
    had_length = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs)
    if length or had_length:
        kept.append(("Content-Length", str(length)))
    return [*kept, (HEADER_RELEASED, route)]


def answer_headers(headers: Headers) -> list[tuple[str, str]]:
    """The headers of an engine's answer as the client gets them."""
    pairs = list(headers)
    dropped = _hop_by_hop(pairs)
    kept = [(name, value) for name, value in pairs if not _dropped(name, dropped)]
    return [*kept, (HEADER_COLD_START, "true")]


def _dropped(name: str, dropped: frozenset[str]) -> bool:
    return name.lower() in dropped or name.lower().startswith(OWN_PREFIX)


def _hop_by_hop(pairs: Headers) -> frozenset[str]:
    named = {part.strip().lower() for name, value in pairs if name.lower() == "connection" for part in value.split(",")}
    return _HOP_BY_HOP | (named - {"host"})


def awaits_stream(path: str, body: bytes | bytearray) -> bool:
    """Whether a client asked for an answer in server-sent events.

    Args:
        path: Without a query.
        body: The whole body; whatever a client sent.
    """
    if not path.endswith(_STREAMING_ENDINGS) or len(body) > _LOOKED_AT_BYTES or b'"stream"' not in body:
        return False
    if sum(body.count(mark) for mark in (b'"', b"\\", b"{", b"[", b",")) > _LOOKED_AT_MARKS:
        return False
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("stream") is True
