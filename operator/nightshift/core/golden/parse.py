"""From the text of a golden set to its questions, or to what is wrong with it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nightshift.api.golden import (
    MAX_LINE_BYTES,
    MAX_QUESTIONS,
    MAX_SET_BYTES,
    GoldenQuestion,
)
from nightshift.core.canonical import short_hash

_TOLD = 3
"""So many faults are told at once."""
_SHOWN = 60
"""Characters that are shown of a wrong value."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_REMEDIES = {
    "missing": "Add it.",
    "extra_forbidden": "Remove it, or correct its name.",
    "union_tag_invalid": "Use exact, contains, regex, jsonSchema, numeric or choice.",
    "union_tag_not_found": "Add type: exact, contains, regex, jsonSchema, numeric or choice.",
}
_BRANCHES = frozenset({"exact", "contains", "regex", "jsonSchema", "numeric", "choice", "str", "int", "float"})
"""Names that pydantic puts into the place of a fault for the branch that it tried."""


@dataclass(frozen=True)
class GoldenSet:
    """Questions in the order of their lines."""

    questions: tuple[GoldenQuestion, ...]
    digest: str
    """Of their content: sets with the same questions have the same."""


@dataclass(frozen=True)
class SetFault:
    """Why a text is no golden set: what is wrong, where, and what to do."""

    message: str


def parse_set(content: bytes) -> GoldenSet | SetFault:
    """Read a golden set: one JSON object per line, empty lines aside.

    Worked example: `{"prompt": "2 + 2 =", "expected": 4}` is question 1, answered rightly by `It is 4.`
    """
    if len(content) > MAX_SET_BYTES:
        return SetFault(
            f"The set has {len(content)} bytes, and {MAX_SET_BYTES} are read. Leave out questions, or shorten them."
        )
    lines = content.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        return SetFault("The set holds no question. Write one JSON object with a prompt per line.")
    if len(numbered) > MAX_QUESTIONS:
        return SetFault(f"The set has {len(numbered)} questions, and {MAX_QUESTIONS} are asked. Leave out some.")
    questions, faults = [], []
    for number, line in numbered:
        found = _question(number, line)
        if isinstance(found, GoldenQuestion):
            questions.append((number, found))
        else:
            faults.append(found)
    faults = faults or list(_repeated(questions))
    if faults:
        more = f" {len(faults) - _TOLD} more lines are wrong." if len(faults) > _TOLD else ""
        return SetFault(" ".join(faults[:_TOLD]) + more)
    return golden_set(tuple(question for _, question in questions))


def golden_set(questions: tuple[GoldenQuestion, ...]) -> GoldenSet:
    """A set and the digest of its content."""
    return GoldenSet(questions, short_hash([question.to_json() for question in questions]))


def _question(number: int, line: bytes) -> GoldenQuestion | str:
    if len(line) > MAX_LINE_BYTES:
        return f"Line {number} has {len(line)} bytes, and {MAX_LINE_BYTES} are read. Shorten it."
    try:
        found = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_refused)
    except UnicodeDecodeError:
        return f"Line {number} is no UTF-8. Save the set as UTF-8."
    except RecursionError:
        return f"Line {number} is nested too deep. Simplify it."
    except ValueError as error:
        return f"Line {number} is no JSON: {str(error)[:200]}. Correct it."
    if not isinstance(found, dict):
        return f"Line {number} is no JSON object. Write {{...}} with a prompt on one line."
    try:
        return GoldenQuestion.model_validate({"id": str(number), **found})
    except ValidationError as error:
        return _sentence(number, error.errors(include_url=False, include_context=False)[0])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} stands there twice")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _sentence(number: int, detail: ErrorDetails) -> str:
    """One fault with its line, field, value and remedy."""
    field = ".".join(str(part) for part in detail["loc"] if part not in _BRANCHES)
    where = f"Line {number}, {field}" if field else f"Line {number}"
    said = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":
        value = f" (got {_shown(detail.get('input'))})" if field else ""
        return f"{where}: {said}{value}."
    value = "" if detail["type"] == "missing" else f" (got {_shown(detail.get('input'))})"
    return f"{where}: {said}{value}. {_REMEDIES.get(detail['type'], 'Correct it.')}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _repeated(questions: list[tuple[int, GoldenQuestion]]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, question in questions:
        first = seen.setdefault(question.id, number)
        if first != number:
            yield f"Line {number}, id: line {first} has the id {_shown(question.id)} as well. Give each its own."
