"""Turns answers into observations: structure and fixed texts are kept, what varies by nature is named. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from e2e.contract.engine import Reply, Stream

Observation = dict[str, Any]

LITERAL = frozenset(
    {"object", "role", "type", "code", "param", "finish_reason", "stop_reason", "owned_by", "index", "parent"}
)
_HEADERS = ("Content-Type", "Server", "Transfer-Encoding", "Allow")
_IDENTIFIER = re.compile(r"^(chatcmpl|cmpl|modelperm)-[0-9a-f-]{8,}$")
_FINGERPRINT = re.compile(r"^vllm-(\d+\.\d+\.\d+)-[0-9a-f]{8}$")


def shape(value: Any, key: str = "", version: str = "") -> Any:
    """A value's structure: types in place of values, except for the fields whose value is the contract."""
    if isinstance(value, dict):
        return {name: shape(item, name, version) for name, item in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in value:
            found = shape(item, key, version)
            if found not in shapes:
                shapes.append(found)
        return shapes
    if key in LITERAL:
        return value
    if key == "message" and isinstance(value, str):
        return numbers_out(value)
    if isinstance(value, str):
        return _text(value, version)
    return _type(value)


def _text(value: str, version: str) -> str:
    if match := _IDENTIFIER.match(value):
        return f"{match.group(1)}-ID"
    if match := _FINGERPRINT.match(value):
        return "vllm-VERSION-HASH" if match.group(1) == version else f"vllm-{match.group(1)}-HASH"
    return "str"


def _type(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "bool", int: "int", float: "float"}.get(type(value), type(value).__name__)


def numbers_out(text: str) -> str:
    """A message without its numbers and the values a request sent."""
    return re.sub(r"\d+(\.\d+)?", "N", text)


def headers(found: Mapping[str, str]) -> dict[str, str]:
    """The headers that are part of the contract."""
    lower = {name.lower(): value for name, value in found.items()}
    return {name: lower[name.lower()] for name in _HEADERS if name.lower() in lower}


def reply(answer: Reply, version: str = "") -> Observation:
    """A whole answer: status, headers, structure of the body."""
    body = answer.json()
    seen: Any = shape(body, version=version) if isinstance(body, (dict, list)) else _plain(answer.text)
    return {"status": answer.status, "headers": headers(answer.headers), "body": seen}


def _plain(text: str) -> str:
    return "empty" if not text else "html" if text.lstrip().lower().startswith("<!doctype") else text[:200].strip()


def error(answer: Reply) -> Observation:
    """An error: status, content type, and the body with its message."""
    return {"status": answer.status, "type": answer.headers.get("Content-Type", ""), "body": shape(answer.json())}


def stream(found: Stream, version: str = "") -> Observation:
    """A stream: framing, and the distinct shapes of its events in the order they first come."""
    shapes: list[Any] = []
    for event in found.events:
        one = shape(event, version=version)
        if one not in shapes:
            shapes.append(one)
    return {
        "status": found.status,
        "headers": headers(found.headers),
        "events": shapes,
        "ends_with_done": found.done,
        "stray_lines": found.stray,
        "same_id": len({event.get("id") for event in found.events if isinstance(event, dict)}) == 1,
    }


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of an observation by path, such as ``body.choices[0].index``."""
    if isinstance(value, dict) and value:
        leaves: dict[str, Any] = {}
        for name, item in value.items():
            leaves.update(flatten(item, f"{path}.{name}" if path else name))
        return leaves
    if isinstance(value, list) and value:
        leaves = {}
        for index, item in enumerate(value):
            leaves.update(flatten(item, f"{path}[{index}]"))
        return leaves
    return {path: value}
