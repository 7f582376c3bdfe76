"""Runs the cases against one engine and gathers what they observed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import aiohttp

from e2e.contract import cases
from e2e.contract.engine import Client, Engine, connect
from e2e.contract.registry import CASES, Case

assert cases.__all__, "importing the package registers the cases"

Results = dict[str, dict[str, Any]]
_BREAKS = (
    AssertionError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    aiohttp.ClientError,
    TimeoutError,
)


def chosen(engine: Engine, pattern: str = "*") -> list[Case]:
    """The cases an engine can run whose names match."""
    return [
        case
        for case in CASES.values()
        if fnmatchcase(case.name, pattern) and (engine.adapter_path or not case.needs_adapter)
    ]


async def run_case(client: Client, case: Case) -> dict[str, Any]:
    """One case's result: what it observed, or how it failed, and the seconds it took."""
    started = time.monotonic()
    try:
        result: dict[str, Any] = {"observed": await case.run(client)}
    except _BREAKS as error:
        result = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    return {**result, "seconds": round(time.monotonic() - started, 2)}


async def run_all(
    engine: Engine, wanted: Iterable[Case], progress: Callable[[str], None] = lambda line: None
) -> Results:
    """Run cases one after the other against one engine."""
    results: Results = {}
    async with connect(engine) as client:
        for case in wanted:
            results[case.name] = await run_case(client, case)
            mark = "FAILED" if "failed" in results[case.name] else "ok"
            progress(f"{engine.name} {case.name} {mark} {results[case.name]['seconds']}s")
    return results
