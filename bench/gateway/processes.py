"""Processes that a measurement is made of."""

import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.repository import ROOT

READY_SECONDS = 60.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def raise_file_limit() -> int:
    """Let this process, and those that it starts, open as many files as they may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def environment(**more: str) -> dict[str, str]:
    """Of a process of ours: the checkout's code, no cluster, no proxy."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("KUBERNETES_") and not key.lower().endswith("_proxy")
    }
    return kept | {"PYTHONPATH": os.pathsep.join((str(ROOT / "operator"), str(ROOT)))} | more


class Processes:
    """Children with what they write kept, a context: they end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*reversed(self._started.values()), *self._logs):
            process.kill()
            process.wait()

    def python(self, name: str, module: str, *arguments: str, **variables: str) -> None:
        """Start a module of the checkout."""
        self.start(name, [sys.executable, "-m", module, *arguments], environment(**variables))

    def start(self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Start a program. What it writes passes through a pipe, as from a container, into a file."""
        process = subprocess.Popen(
            command,
            env=environment() if variables is None else variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with self._log(name).open("wb") as log:
            self._logs.append(subprocess.Popen(["cat"], stdin=process.stdout, stdout=log))
        assert process.stdout is not None
        process.stdout.close()
        self._started[name] = process

    def _log(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.log"

    def pids(self, name: str) -> list[int]:
        """The process that was started by this name, and its descendants."""
        return descendants(self._started[name].pid)

    def check(self) -> None:
        """Whether all are alive.

        Raises:
            RuntimeError: One has ended.
        """
        for name, process in self._started.items():
            if (status := process.poll()) is not None:
                tail = self._log(name).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} ended with {status}; the end of what it wrote:\n{tail}")

    def wait(self, what: str, port: int, path: str) -> None:
        """Wait until something answers.

        Raises:
            RuntimeError: It ended.
            TimeoutError: It does not answer.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self.check()
            try:
                get(port, path)
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{what} does not answer at port {port}, path {path}") from None
                time.sleep(0.05)
            else:
                return


def descendants(pid: int) -> list[int]:
    """A process with its children and theirs."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [pid, *(found for child in children for found in descendants(child))]


def get(port: int, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """Ask on loopback.

    Raises:
        OSError: There is no answer, or it is none of success.
    """
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=dict(headers or {}))
    with _OPENER.open(request, timeout=10) as answer:
        return str(answer.read().decode())
