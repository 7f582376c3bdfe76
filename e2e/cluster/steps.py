"""Named steps with their times on the terminal and in a file."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO


@dataclass
class Step:
    """One step while it runs; ``note`` is printed behind its result."""

    name: str
    note: str = "ok"
    seconds: float = 0.0


@dataclass
class Steps:
    """Prints ``[ 12.3s] etcd ... ok (0.8 s)`` and remembers how long each step took."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    started: float = field(default_factory=time.monotonic)
    done: list[Step] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the first step could start."""
        return time.monotonic() - self.started

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Run a block as the step ``name``; an exception ends the step as failed and goes on."""
        current = Step(name)
        began = time.monotonic()
        self._print(f"[{self.elapsed:6.1f}s] {name} ... ")
        try:
            yield current
        except BaseException:
            self._print(f"FAILED ({time.monotonic() - began:.1f} s)\n")
            raise
        current.seconds = time.monotonic() - began
        self.done.append(current)
        self._print(f"{current.note} ({current.seconds:.1f} s)\n")

    def _print(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

    def write(self, path: Path, command: str) -> None:
        """Leave the times of all finished steps in a JSON file."""
        steps = [{"step": step.name, "result": step.note, "seconds": round(step.seconds, 2)} for step in self.done]
        record = {"command": command, "took_seconds": round(self.elapsed, 2), "steps": steps}
        path.write_text(json.dumps(record, indent=2) + "\n")
