"""Recorded results: one JSON file per engine under tests/contract/results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.contract.engine import Kind
from e2e.contract.local import ROOT

FOLDER = ROOT / "tests" / "contract" / "results"
NEWEST_REFERENCE = "0.32.0"


@dataclass(frozen=True)
class Record:
    """What one engine did in every case.

    Attributes:
        cases: by case name: ``observed`` or ``failed``.
    """

    name: str
    kind: Kind
    version: str
    cases: dict[str, dict[str, Any]]

    @property
    def failed(self) -> list[str]:
        """Cases that could not be observed."""
        return [name for name, result in self.cases.items() if "failed" in result]


def path(name: str) -> Path:
    """Where an engine's results are kept."""
    return FOLDER / f"{name}.json"


def save(record: Record, target: Path) -> None:
    """Write results, without the times, so that a repetition changes nothing."""
    cases = {
        name: {key: value for key, value in result.items() if key != "seconds"}
        for name, result in sorted(record.cases.items())
    }
    body = {"engine": record.name, "kind": record.kind, "version": record.version, "cases": cases}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def load(source: Path) -> Record:
    """Read results."""
    body = json.loads(source.read_text(encoding="utf-8"))
    return Record(body["engine"], body["kind"], body["version"], body["cases"])


def merged(record: Record) -> Record:
    """A record with what was recorded before for the cases that it did not run."""
    known = path(record.name)
    before = load(known).cases if known.exists() else {}
    return Record(record.name, record.kind, record.version, {**before, **record.cases})


def recorded() -> dict[str, Record]:
    """Every recorded engine by name."""
    found = (load(source) for source in sorted(FOLDER.glob("*.json")))
    return {record.name: record for record in found}


def reference(version: str) -> Record:
    """Real vLLM's recorded behaviour: of this version, or the newest recorded one.

    Raises:
        FileNotFoundError: none is recorded.
    """
    own = path(f"vllm-{version}")
    return load(own if own.exists() else path(f"vllm-{NEWEST_REFERENCE}"))
