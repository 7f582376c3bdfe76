"""Running setup steps side by side, each with a name, a time and a log line prefix."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StepError(RuntimeError):
    """A setup step failed; the message names it."""


@dataclass
class Lane:
    """Steps that run one after another, beside other lanes."""

    name: str
    commands: Sequence[Sequence[str]]
    """Arguments of `python`, one sequence each."""
    failed: str | None = None
    seconds: float = 0.0
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin in the background."""
        self._thread = threading.Thread(target=self._run, name=self.name)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end.

        Raises:
            StepError: A step failed.
        """
        if self._thread is not None:
            self._thread.join()
        if self.failed:
            raise StepError(self.failed)

    def _run(self) -> None:
        started = time.monotonic()
        for command in self.commands:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for line in process.stdout or ():
                print(f"{self.name:>8} | {line.rstrip()}", flush=True)
            if process.wait() != 0:
                self.failed = f"`python {' '.join(command)}` failed with code {process.returncode}; see above"
                break
        self.seconds = time.monotonic() - started


def run_lanes(*lanes: Lane) -> None:
    """Run lanes side by side.

    Raises:
        StepError: One of them failed; the others were let finish.
    """
    for lane in lanes:
        lane.start()
    errors = []
    for lane in lanes:
        try:
            lane.join()
        except StepError as error:
            errors.append(str(error))
    if errors:
        raise StepError("; ".join(errors))
