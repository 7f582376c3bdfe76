"""Processes that end with the one that began them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.repository import ROOT

SUITE = """
import subprocess, sys
from e2e.support.parent import end_with_parent
end_with_parent()
subprocess.run([sys.executable, "-c", "import os, time; print(os.getppid(), os.getpid(), flush=True); time.sleep(60)"])
"""
MAKE = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def test_a_suite_ends_with_the_make_that_is_killed_and_so_do_its_stories() -> None:
    make = subprocess.Popen([sys.executable, "-c", MAKE, SUITE], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert make.stdout is not None
    with make.stdout:
        pids = [int(pid) for pid in make.stdout.readline().split()]
        os.kill(make.pid, signal.SIGKILL)
        make.wait(10)
        deadline = time.monotonic() + 20
        while not all(map(gone, pids)):
            assert time.monotonic() < deadline, f"still there: {pids}"
            time.sleep(0.05)
    assert len(pids) == 2
