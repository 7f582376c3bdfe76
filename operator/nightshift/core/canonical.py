"""Comparing and identifying objects by value."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(1000),
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Z]*)")

_SCALARS = frozenset({str, int, float, bool, type(None)})
_SELECTORS = frozenset({"matchLabels", "namespaceSelector", "nodeSelector", "podSelector", "selector"})
"""Maps that the API server replaces as a whole (``mapType=atomic``). Source: k8s.io/api, v1.34."""

_TRUE_WHEN_ABSENT = frozenset({"allowPrivilegeEscalation", "automountServiceAccountToken", "enableServiceLinks"})
"""Fields that the API server takes as true where they are missing."""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: Any, length: int = 10) -> str:
    """A hash of a value that fits in an object's name; letters without vowels, so that it spells nothing."""
    number = int.from_bytes(hashlib.sha256(canonical_json(value).encode()).digest(), "big")
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def quantity(text: str | int | float) -> Decimal | None:
    """The number that a Kubernetes quantity stands for, or None where it is none.

    Worked examples: ``500m`` is 0.5, ``1Gi`` is 1073741824, ``2`` is 2, ``1e3`` is 1000.
    Source: k8s.io/apimachinery/pkg/api/resource, quantity.go.
    """
    match = _NUMBER.fullmatch(str(text))
    if match is None or match[2] not in _SUFFIXES:
        return None
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def difference(desired: Any, live: Any) -> str | None:
    """Where a live object lacks what is desired of it: the first path that differs, or None.

    The API server adds defaults to what was applied, so a live object may hold more than was desired. It
    leaves out fields that are empty, zero or false, and may write quantities in another way (``1000m``
    for ``1``). To selectors it adds nothing: one more label in them selects less.
    """
    found = _difference(desired, live, "")
    return None if found is None else found or "."


def _difference(desired: Any, live: Any, name: str) -> str | None:
    """The path below a field of that name, empty where the field itself differs; None where nothing does.

    Every field of every object is compared in every round, so scalars, the most of them, are told by
    their class and the path is put together only where something differs.
    """
    if desired.__class__ not in _SCALARS:
        if isinstance(desired, (dict, Mapping)):
            return _fields(desired, live, name)
        if isinstance(desired, list | tuple):
            return _items(desired, live)
    if live is None and not desired and name not in _TRUE_WHEN_ABSENT:
        return None
    return None if _same_scalar(desired, live) else ""


def _fields(desired: Mapping[str, Any], live: Any, name: str) -> str | None:
    if not isinstance(live, (dict, Mapping)):
        return None if not desired and live is None else ""
    for key, value in desired.items():
        there = live.get(key)
        if there.__class__ is value.__class__ and value.__class__ in _SCALARS and there == value:
            continue
        found = _difference(value, there, key)
        if found is not None:
            return f".{key}{found}"
    if name in _SELECTORS:
        return next((f".{key}" for key, there in live.items() if there and key not in desired), None)
    return None


def _items(desired: Sequence[Any], live: Any) -> str | None:
    if not desired and live is None:
        return None
    if not isinstance(live, list | tuple) or len(live) != len(desired):
        return ""
    for index, (left, right) in enumerate(zip(desired, live, strict=True)):
        found = _difference(left, right, "")
        if found is not None:
            return f"[{index}]{found}"
    return None


def _same_scalar(desired: Any, live: Any) -> bool:
    if desired == live and isinstance(desired, bool) == isinstance(live, bool):
        return True
    if desired is None and live == "":
        return True
    if isinstance(desired, bool) or isinstance(live, bool) or desired is None or live is None:
        return False
    left, right = quantity(desired), quantity(live)
    return left is not None and left == right
