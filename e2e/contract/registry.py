"""The list of cases: a name, what it shows, what it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from e2e.contract.engine import Client

CaseFunction = Callable[[Client], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Case:
    """One case of the contract.

    Attributes:
        name: ``group.what``.
        shows: one line, from the function's docstring.
        needs_adapter: only run against engines with a LoRA adapter to load.
    """

    name: str
    shows: str
    run: CaseFunction
    needs_adapter: bool = False


CASES: dict[str, Case] = {}


def case(name: str, *, needs_adapter: bool = False) -> Callable[[CaseFunction], CaseFunction]:
    """Register a case under a name; its docstring says what it shows."""

    def register(function: CaseFunction) -> CaseFunction:
        if name in CASES:
            raise ValueError(f"two cases are called {name}")
        shows = (function.__doc__ or "").strip().splitlines()[0]
        CASES[name] = Case(name, shows, function, needs_adapter)
        return function

    return register


def require(holds: bool, what: str) -> None:
    """State what must hold for every engine, whatever was recorded.

    Raises:
        AssertionError: it does not.
    """
    if not holds:
        raise AssertionError(what)
