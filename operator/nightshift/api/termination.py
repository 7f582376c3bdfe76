"""Lines of JSON by which a container says how it ended: in its termination message, or at the end of its log."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nightshift.api.base import StoredModel

T = TypeVar("T")

MESSAGE_LIMIT = 600
"""Characters of a sentence; even at four bytes each they fit a termination message."""

READ_LIMIT = 64 * 1024
"""Characters that are read from the end of a text."""


def one_short_line(message: str) -> str:
    """A sentence without line breaks and control characters, and not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"


def json_line(value: StoredModel) -> str:
    """The value as one line of JSON without line breaks."""
    return json.dumps(value.to_json(), separators=(",", ":"), ensure_ascii=False)


def load(line: str) -> dict[str, Any] | None:
    """The object that a line is; None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def last_of(text: str | None, outcome: TypeAdapter[T]) -> T | None:
    """The last line of a text that is an outcome; None where none is."""
    for line in reversed((text or "")[-READ_LIMIT:].splitlines()):
        found = load(line)
        if found is not None:
            try:
                return outcome.validate_python(found)
            except ValidationError:
                continue
    return None
