"""The simulator as a process: its start, its end, and its exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from nightshift.core.engine_log import FailureKind, engine_failure

SOURCE = Path(__file__).resolve().parents[2] / "images" / "vllm-sim"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def _spawned(port: int, *arguments: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "VLLM_SIM_LOAD_SECONDS": "0.1",
        "VLLM_SIM_HOST": "127.0.0.1",
    }
    environment.update({f"VLLM_SIM_{name.upper()}": value for name, value in settings.items()})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vllm_sim", "m", "--port", str(port), *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _get(session: aiohttp.ClientSession, url: str) -> int | str:
    try:
        async with session.get(url) as response:
            return response.status
    except aiohttp.ClientConnectorError:
        return "refused"


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(90):
        while await _get(session, url) == "refused":  # noqa: ASYNC110 - the other side is a process
            await asyncio.sleep(0.02)


async def _ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ('{"oom": "no-blocks"}', "No available memory for the cache blocks."),
        ('{"oom": "max-model-len"}', "To serve at least one request with the model's max seq len (8192)"),
        ('{"oom": "not-free"}', "is less than desired GPU memory utilization (0.92"),
        ('{"oom": "cuda"}', "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB."),
    ],
)
async def test_out_of_memory_at_start(faults: str, message: str) -> None:
    async with _spawned(_free_port(), faults=faults) as process:
        code, log = await _ended(process)
    assert (code, message in log) == (1, True)


async def test_a_process_that_the_kernel_kills_ends_with_137_and_says_nothing() -> None:
    """Where there is no limit to run into, as here, it ends with the same code by itself."""
    async with _spawned(_free_port(), faults='{"oom": "killed"}') as process:
        code, log = await _ended(process)
    assert code in (137, -signal.SIGKILL)
    assert "ERROR" not in log


async def test_memory_of_the_accelerator_that_runs_out_while_it_serves_ends_it_in_vllm_s_words() -> None:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    faults = '{"oom": "cuda", "crash": {"unhealthy_seconds": 0.5}, "after": {"requests": 1}}'
    async with _spawned(port, faults=faults) as process, aiohttp.ClientSession() as session:
        await _answers(session, f"{url}/health")
        statuses = []
        for _ in range(2):
            async with session.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 1}) as response:
                statuses.append(response.status)
        assert statuses == [200, 500]
        assert await _get(session, f"{url}/health") == 503
        code, log = await _ended(process)
    assert code == 1
    found = engine_failure(log)
    assert found is not None
    assert (found.kind, found.numbers["free"]) == (FailureKind.GPU_MEMORY, "130.44 MiB")


async def test_a_wrong_setting_ends_with_two() -> None:
    async with _spawned(_free_port(), step_secs="1") as process:
        code, log = await _ended(process)
    assert (code, "unknown simulator settings: step_secs" in log) == (2, True)


async def test_never_ready_refuses_and_still_ends_on_sigterm() -> None:
    port = _free_port()
    async with _spawned(port, faults='{"stuck_loading": true}') as process, aiohttp.ClientSession() as session:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while b"Starting to load model" not in await process.stdout.readline():
                pass
        assert await _get(session, f"http://127.0.0.1:{port}/health") == "refused"
        process.send_signal(signal.SIGTERM)
        assert (await _ended(process))[0] == 0


async def test_a_crash_is_seen_on_health_before_the_end() -> None:
    port, control = _free_port(), _free_port()
    url = f"http://127.0.0.1:{port}/health"
    async with _spawned(port, admin_port=str(control)) as process, aiohttp.ClientSession() as session:
        await _answers(session, url)
        await _answers(session, f"http://127.0.0.1:{control}/sim/state")
        crash = {"crash": {"exit_code": 7, "unhealthy_seconds": 0.5}}
        async with session.put(f"http://127.0.0.1:{control}/sim/faults", json=crash) as response:
            assert response.status == 200
        assert await _get(session, url) == 503
        assert (await _ended(process))[0] == 7


async def test_the_access_log_can_be_silenced() -> None:
    port = _free_port()
    async with (
        _spawned(port, "--disable-access-log-for-endpoints", "/health") as process,
        aiohttp.ClientSession() as session,
    ):
        await _answers(session, f"http://127.0.0.1:{port}/health")
        await _get(session, f"http://127.0.0.1:{port}/version")
        process.send_signal(signal.SIGTERM)
        code, log = await _ended(process)
    assert code == 0
    assert '"GET /version HTTP/1.1" 200 OK' in log
    assert "GET /health" not in log
