"""The operator as a process of this machine, run from the checkout: what it costs, and what it says of itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from e2e.cluster import ClusterAccess
from tools.repository import ROOT

METRICS = "http://127.0.0.1:8080/metrics"
_TICKS = os.sysconf("SC_CLK_TCK")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of a process: at its peak, or now with ``VmRSS``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


class OperatorProcess:
    """One process of the operator."""

    def __init__(self, access: ClusterAccess, kubeconfig: Path, config: Path, log: Path) -> None:
        self.started = time.time()
        environment = access.environment() | {
            "KUBECONFIG": str(kubeconfig),
            "NIGHTSHIFT_CONFIG": str(config),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        self._log = log.open("ab")
        command = [sys.executable, "-m", "nightshift"]
        self._process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, cwd=ROOT)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def metric(self, name: str) -> float:
        """A metric by its name and labels as served; 0 where it is not served (yet)."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the operator ended with {self._process.returncode}; see {self._log.name}")
        with contextlib.suppress(OSError, urllib.error.URLError), _OPENER.open(METRICS, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def wait(self, name: str, least: float, seconds: float, every: float = 1.0) -> None:
        """Wait until a metric has reached a value.

        Raises:
            TimeoutError: It did not.
        """
        deadline = time.monotonic() + seconds
        while (seen := self.metric(name)) < least:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is {seen:.0f} after {seconds:.0f} s, not {least:.0f}")
            time.sleep(every)

    def stop(self) -> None:
        """Tell it to end, as a kubelet does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
