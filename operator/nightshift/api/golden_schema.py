"""The part of JSON Schema that golden sets may use: what a schema may hold, and why another one is refused."""

from typing import Any

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
KEYWORDS = ("type", "properties", "required", "enum", "items", "const")
"""Keywords that are checked. `title`, `description` and `$schema` say nothing of the answer and may stand there."""

_SILENT = ("title", "description", "$schema")
_DEEPEST = 16


def schema_problem(schema: Any, depth: int = 0) -> str | None:
    """Why a schema cannot be used, with the remedy; None where it can.

    Example: `{"type": "object", "minProperties": 1}` has a keyword that is not checked.
    """
    if not isinstance(schema, dict):
        return "a schema is an object with keywords such as type; correct it"
    if depth > _DEEPEST:
        return f"the schema is nested more than {_DEEPEST} deep; simplify it"
    unknown = [key for key in schema if key not in KEYWORDS and key not in _SILENT]
    if unknown:
        return f"the schema's keyword {unknown[0][:80]!r} is not checked; use only {', '.join(KEYWORDS)}"
    return _keyword_problem(schema) or _inner_problem(schema, depth)


def _keyword_problem(schema: dict[str, Any]) -> str | None:
    kinds = schema.get("type", "object")
    listed = kinds if isinstance(kinds, list) and kinds else [kinds]
    if not all(isinstance(kind, str) and kind in TYPES for kind in listed):
        return f"the schema's type {str(kinds)[:80]!r} is unknown; use {', '.join(TYPES)}, or a list of them"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        return "the schema's required is no list of names; correct it"
    if not isinstance(schema.get("enum", []), list):
        return "the schema's enum is no list; correct it"
    return None


def _inner_problem(schema: dict[str, Any], depth: int) -> str | None:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return "the schema's properties are no object; correct it"
    inner = [*properties.values(), *([schema["items"]] if "items" in schema else [])]
    problems = (schema_problem(item, depth + 1) for item in inner)
    return next((problem for problem in problems if problem is not None), None)
