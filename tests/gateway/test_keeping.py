"""What keeps the agent and the activator in their containers, and the watchdog that ends them when they hang."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.states import KEY
from tests.gateway.test_process import Process, running
from tools.repository import ROOT

KEEP = (shutil.which("dash") or "sh", str(ROOT / "images" / "gateway" / "keep.sh"), "activator")


def kept(process: Process, what: bytes = b"nightshift.gateway") -> int | None:
    """The process that is kept, or another child; None where there is none at present."""
    parent = process.child.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next((int(child) for child in children if what in command_of(child)), None)


def command_of(process: str) -> bytes:
    """Empty where it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_process_that_is_killed_is_started_anew_in_a_container_that_never_ends(tmp_path: Path) -> None:
    async with running(tmp_path, KEEP) as process:
        former = kept(process)
        assert former is not None
        os.kill(former, signal.SIGKILL)

        async def again() -> bool:
            return kept(process) not in (None, former) and await process.ready()

        await process.until(again)
        asking = asyncio.create_task(process.ask(KEY))
        await process.until(process.held)
        process.child.send_signal(signal.SIGTERM)
        status, text = await asking
        assert (status, "gateway_stopping" in text) == (503, True), "it ends as the process without it does"
        assert await asyncio.to_thread(process.child.wait, 20) == 0


async def test_told_to_end_while_none_runs_it_starts_none(tmp_path: Path) -> None:
    async with running(tmp_path, KEEP) as process:
        former = kept(process)
        assert former is not None
        os.kill(former, signal.SIGKILL)

        async def pauses() -> bool:
            return kept(process, b"sleep") is not None

        await process.until(pauses)
        process.child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.child.wait, 20) == 0


HANGING = """
import asyncio, time
from nightshift.gateway.watchdog import watch

async def main():
    watching = asyncio.create_task(watch(lambda: {problem}, hang_seconds=1.0))
    await asyncio.sleep(3)
    {then}

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("problem", "then", "status", "says"),
    [
        pytest.param("None", "time.sleep(60)", 1, "in main", id="whose event loop stands still"),
        pytest.param("'nobody follows'", "await asyncio.sleep(60)", 1, "nobody follows", id="that is not well"),
        pytest.param("None", "watching.cancel(); await asyncio.sleep(2)", 0, "", id="that is well goes on, and"),
    ],
)
def test_a_process_ends_itself(problem: str, then: str, status: int, says: str) -> None:
    script = HANGING.format(problem=problem, then=then)
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=40, cwd=ROOT / "operator", check=False
    )
    assert found.returncode == status
    assert says in found.stderr
