"""What every benchmark shares: its command line, and the file that it leaves in bench/results."""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, Literal

from tools.repository import ROOT

RESULTS = ROOT / "bench" / "results"
_RESULTS_SPEC = ":(exclude)bench/results"
_TOLD = Decimal("0.001")
"""The last decimal place that a claim's value is told with."""


@dataclass(frozen=True)
class Claim:
    """One promise in numbers."""

    claim: str
    """As a user would read it."""
    value: float
    """As it was measured, not rounded."""
    unit: str
    bound: float
    better: Literal["lower", "higher"]

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the bound, or on it."""
        return self.value <= self.bound if self.better == "lower" else self.value >= self.bound

    @property
    def told(self) -> float:
        """The value rounded to its worse side, so that a number that misses its bound by a hair is not told as kept.

        Worked example: 0.3797, of which more is better, is told as 0.379; 0.2501, of which less is, as 0.251.
        """
        worse = ROUND_CEILING if self.better == "lower" else ROUND_FLOOR
        return float(Decimal(str(self.value)).quantize(_TOLD, worse))

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "claim": self.claim,
            "value": self.told,
            "unit": self.unit,
            "bound": self.bound,
            "better": self.better,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Measured:
    """What came of a benchmark."""

    inputs: Mapping[str, Any]
    """What was measured on: sizes, settings, and what stands in for something else."""
    results: Mapping[str, Any]
    """Everything that was measured, with units in the names, not rounded: the file does that."""
    claims: Sequence[Claim]


def percentiles(values: Sequence[float], percents: Sequence[int] = (50, 95, 99)) -> dict[str, float]:
    """Percentiles by nearest rank: the smallest value that so many percent of all values do not exceed.

    Worked example: of 1, 2, 3, 4 the 50th is 2, the 95th and 99th are 4.
    """
    ordered = sorted(values)
    return {f"p{percent}": ordered[math.ceil(percent * len(ordered) / 100) - 1] for percent in percents}


def rounded(found: Any) -> Any:
    """Numbers with a point to four digits that count, at any depth of mappings and lists; the rest as it is.

    Worked example: 12345.6 is written as 12350.0, 0.00123456 as 0.001235, 12345 as 12345.
    """
    if isinstance(found, float):
        return float(f"{found:.4g}")
    if isinstance(found, Mapping):
        return {name: rounded(value) for name, value in found.items()}
    return [rounded(value) for value in found] if isinstance(found, list | tuple) else found


def commit() -> str:
    """The checked out commit; `+` at its end says that the tree differs from it, older results aside."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", _RESULTS_SPEC)
    return git("rev-parse", "HEAD") + ("+" if changed else "")


def machine() -> str:
    """The machine in one line: processor, cores, memory, kernel, Python."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}"
    return (
        f"{os.cpu_count()} x {model or platform.machine()}, {gib:.0f} GiB, {system}, Python {platform.python_version()}"
    )


def report(bench: str, took_seconds: float, measured: Measured) -> dict[str, Any]:
    """The content of a results file."""
    return {
        "bench": bench,
        "commit": commit(),
        "machine": machine(),
        "took_seconds": round(took_seconds, 1),
        "inputs": dict(measured.inputs),
        "results": rounded(measured.results),
        "claims": [claim.to_json() for claim in measured.claims],
    }


def run(
    bench: str,
    measure: Callable[[argparse.Namespace], Measured],
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """The command line of a benchmark.

    Args:
        bench: Its name; results lie in bench/results/NAME.json unless --out names another file.
        measure: Does it. What it prints is progress.
        arguments: Adds options of its own.

    Returns:
        The exit status: 0 where every claim holds. The file is written in either case.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{bench}")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{bench}.json", help="where the results are written")
    arguments(parser)
    options = parser.parse_args()
    started = time.monotonic()
    measured = measure(options)
    written = report(bench, time.monotonic() - started, measured)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(written, indent=2) + "\n")
    for claim in measured.claims:
        sign = "<=" if claim.better == "lower" else ">="
        holds = "holds" if claim.holds else "DOES NOT HOLD"
        print(f"{holds:>13}: {claim.claim}: {claim.told} {claim.unit} ({sign} {claim.bound})")
    print(f"{options.out} written", file=sys.stderr)
    return 0 if all(claim.holds for claim in measured.claims) else 1
