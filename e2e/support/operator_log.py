"""Everything that Nightshift's own processes log while stories run, and the errors in it."""

import re
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2e.support.client import Client

SELECTOR = "app.kubernetes.io/name=nightshift,app.kubernetes.io/component=operator"
CONTAINER = "operator"
_STATUS = "{.status.containerStatuses[0]"
_EACH = (
    "jsonpath={.metadata.namespace} {.metadata.name} "
    f'{_STATUS}.containerID}} {_STATUS}.state.running.startedAt}} {{.metadata.deletionTimestamp}}{{"\\n"}}'
)
"""One line whenever a pod changes; it has four words where its container runs, and five where it is to end besides:
one that is first seen then belongs to the release that was upgraded away."""

ALLOWED: dict[str, str] = {}
"""Patterns of error lines that any story may show, each with the reason."""

_ERROR = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (ERROR|CRITICAL) ")
_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
_TRACE = "Traceback (most recent call last)"


def error_lines(text: str) -> list[str]:
    """Lines of level ERROR and above, and the beginnings of tracebacks that belong to no line of the log.

    Worked example: a logged exception is one line, its traceback below it is part of it; a traceback at the end of a
    process, below a line of level INFO, is one.
    """
    found, within_error = [], False
    for line in text.splitlines():
        if _LINE.match(line):
            within_error = bool(_ERROR.match(line))
            if within_error:
                found.append(line)
        elif line.startswith(_TRACE) and not within_error:
            found.append(line)
    return found


def unexpected(lines: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Error lines that match no pattern."""
    patterns = [re.compile(pattern) for pattern in expected]
    return [line for line in lines if not any(pattern.search(line) for pattern in patterns)]


class OperatorLogs:
    """Follows each operator container from its start to its end, one file for each."""

    def __init__(self, client: Client, directory: Path, since: str) -> None:
        """Follow into a directory.

        Args:
            client: The cluster.
            directory: Where the files go; made if it is missing.
            since: What was logged earlier is left out (RFC 3339).
        """
        self._client = client
        self._directory = directory
        self._since = since
        self._followers: dict[str, subprocess.Popen[bytes]] = {}
        self._watch: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._read: dict[str, int] = {}
        """How many errors of a file were handed out."""

    def start(self) -> None:
        """Begin."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for old in self._directory.glob("*.log"):
            old.unlink()
        self._thread.start()

    def close(self) -> None:
        """End every process that was started, and start none any more."""
        with self._lock:
            self._closed.set()
        if self._watch is not None:
            self._watch.terminate()
        for follower in self._followers.values():
            follower.terminate()
            follower.wait(10)
        self._thread.join(10)

    def new_errors(self) -> list[str]:
        """Error lines since the last call, each with the name of its file."""
        found = []
        for path in sorted(self._directory.glob("*.log")):
            lines = error_lines(path.read_text(errors="replace"))
            found += [f"{path.stem}: {line}" for line in lines[self._read.get(path.name, 0) :]]
            self._read[path.name] = len(lines)
        return found

    def _run(self) -> None:
        command = [str(self._client.access.kubectl), "get", "pods", "-A", "-l", SELECTOR, "--watch", "-o", _EACH]
        while (watch := self._start(command)) is not None:  # the API server ends every watch now and then
            with watch:
                for line in watch.stdout or ():
                    words = line.split()
                    if len(words) == 4:
                        self._follow(*words[:3])
            self._closed.wait(1)

    def _start(self, command: Sequence[str]) -> "subprocess.Popen[str] | None":
        with self._lock:
            if self._closed.is_set():
                return None
            environment = self._client.access.environment()
            self._watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            return self._watch

    def _follow(self, namespace: str, pod: str, container: str) -> None:
        short = container.rpartition("/")[2][:8]
        command = [str(self._client.access.kubectl), "logs", "-n", namespace, pod, "-c", CONTAINER, "--follow"]
        with self._lock, (self._directory / f"{namespace}.{pod}.{short}.log").open("ab") as file:
            if container not in self._followers and not self._closed.is_set():
                self._followers[container] = subprocess.Popen(
                    [*command, f"--since-time={self._since}"],
                    stdout=file,
                    stderr=subprocess.DEVNULL,
                    env=self._client.access.environment(),
                )
