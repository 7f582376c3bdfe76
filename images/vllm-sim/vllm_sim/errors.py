"""Errors of the HTTP surface, in vLLM's bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

_MAX_REPORTED = 10
_MAX_INPUT = 200


class ApiError(Exception):
    """An error answered with vLLM's body: ``{"error": {message, type, param, code}}``."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


def json_response(body: Any, status: int = 200) -> web.Response:
    """JSON the way vLLM's framework writes it: compact, UTF-8, no charset in the content type."""
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")
    return web.Response(body=raw, status=status, headers={"Content-Type": "application/json"})


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """A request vLLM understood and refuses; field and value follow the message in brackets."""
    known = {"parameter": param, "value": value}
    extras = ", ".join(f"{name}={item}" for name, item in known.items() if item is not None)
    return ApiError(400, "BadRequestError", f"{message} ({extras})" if extras else message, param)


def not_found(message: str, param: str | None = None) -> ApiError:
    """A model or adapter that is not served."""
    return ApiError(404, "NotFoundError", message, param)


def internal(message: str) -> ApiError:
    """A failure inside the server."""
    return ApiError(500, "InternalServerError", message)


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """A body that does not validate: the first ten problems as vLLM prints them."""
    label = "error" if len(errors) == 1 else "errors"
    shown = "".join(f"  {_show(error)}\n" for error in errors[:_MAX_REPORTED])
    more = len(errors) - _MAX_REPORTED
    rest = f"  ...and {more} more {label}\n" if more > 0 else ""
    where = _location(errors[0]["loc"])
    return ApiError(400, "Bad Request", f"{len(errors)} validation {label}:\n{shown}{rest}".rstrip(), where)


def _show(error: Mapping[str, Any]) -> str:
    shown = dict(error)
    shown["loc"] = _location(shown["loc"])
    if "input" in shown:
        shown["input"] = _summary(shown["input"])
    return str(shown)


def _summary(value: object) -> object:
    if isinstance(value, (list, tuple, set, dict)):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = str(value)
    if len(text) > _MAX_INPUT:
        return text[:_MAX_INPUT] + "...[truncated]"
    return value if isinstance(value, str) else text


def _location(loc: Sequence[object]) -> str:
    return ".".join(str(part) for part in loc if not set("[](){}") & set(str(part)))
