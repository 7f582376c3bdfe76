"""Whether a JSON value fits a schema, for the part of JSON Schema that golden sets may use."""

from collections.abc import Mapping, Sequence
from typing import Any


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits a schema that `api.golden_schema.schema_problem` found nothing against.

    Worked example: `{"n": 1}` fits `{"type": "object", "required": ["n"]}`, and `{}` does not.
    """
    if "type" in schema and not _is_of(value, schema["type"]):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if "enum" in schema and not any(same(value, item) for item in schema["enum"]):
        return False
    return _parts_fit(value, schema)


def _parts_fit(value: Any, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, dict):
        known: Mapping[str, Any] = schema.get("properties", {})
        required: Sequence[str] = schema.get("required", ())
        return all(name in value for name in required) and all(
            fits(value[name], inner) for name, inner in known.items() if name in value
        )
    if isinstance(value, list) and "items" in schema:
        return all(fits(item, schema["items"]) for item in value)
    return True


def _is_of(value: Any, kinds: str | list[str]) -> bool:
    return any(_is(value, kind) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _is(value: Any, kind: str) -> bool:
    """JSON Schema's types: a truth value is no number, and 1.0 is an integer."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and (isinstance(value, int) or value.is_integer()))
    return {dict: "object", list: "array", str: "string", type(None): "null"}.get(type(value)) == kind


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
