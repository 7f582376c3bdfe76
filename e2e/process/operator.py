"""Running the operator of this checkout as a process, and starting it anew when it ends, as a kubelet does."""

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.support.lane import ROOT

RESTART_SECONDS = 1.0
STOP_SECONDS = 20.0


def kubeconfig_of(server: str, token: str) -> dict[str, Any]:
    """A kubeconfig for a server that is spoken to by a bearer token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {"token": token}}],
    }


class OperatorProcess:
    """A context in which the operator runs; what it logged stays readable."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        kill: str = "",
        hurry: int = 1,
        identity: str = "beside",
    ) -> None:
        """Prepare one.

        Args:
            directory: Where its configuration, its log and the list of its writes lie.
            config: Its configuration, as the chart would mount it.
            environment: Its environment, KUBECONFIG included.
            kill: VERB KIND before|after of the write at which the first process ends; empty for never.
            hurry: How many times sooner than in a cluster engines are found that hang.
            identity: In place of the pod's name.
        """
        self.log = directory / "operator.log"
        self.told = directory / "writes.txt"
        self.ends: list[int] = []
        """How its processes ended: exit codes, negative for signals. The killed one runs first, once."""
        self._config = directory / "config.yaml"
        self._config.write_text(yaml.safe_dump(dict(config)))
        self._environment = {**environment, "NIGHTSHIFT_CONFIG": str(self._config), "POD_NAME": identity}
        self._kill = kill
        self._hurry = hurry
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> "OperatorProcess":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(STOP_SECONDS + 5)

    def lines(self, level: str = "") -> list[str]:
        """What it logged, of a level such as ERROR."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if f" {level} " in line] if level else text.splitlines()

    def writes(self) -> list[str]:
        """Verb and kind of its writes, in order."""
        return self.told.read_text().splitlines() if self.told.exists() else []

    def _supervise(self) -> None:
        kill = self._kill
        while not self._stop.is_set():
            command = [sys.executable, "-m", "e2e.process", "--told", str(self.told), "--kill", kill]
            command += ["--hurry", str(self._hurry)]
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                self._wait()
            if not self._stop.is_set():
                self.ends.append(self._process.returncode)
                kill = "" if self._process.returncode == -signal.SIGKILL else kill
                self._stop.wait(RESTART_SECONDS)

    def _wait(self) -> None:
        """Until the process ends; one that does not end when it was told to is killed."""
        assert self._process is not None
        while not self._stop.wait(0.2):
            if self._process.poll() is not None:
                return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
