"""Engines as processes on this machine: the simulator and llm-d-inference-sim."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from e2e.contract.engine import Engine, Kind, Running

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ("--max-model-len", "512", "--max-num-seqs", "16")
LORA = ("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8")


def write_adapter(folder: Path) -> str:
    """A LoRA adapter's directory as far as the simulator looks at it; its path."""
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}\n', encoding="utf-8")
    return str(folder)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def watch_start(url: str, seconds: float, gone: asyncio.Event) -> tuple[str, ...]:
    """Ask /health until it answers 200; what connecting gave on the way, repeats left out.

    Raises:
        RuntimeError: the engine ended, or did not answer in time.
    """
    seen: list[str] = []
    deadline = time.monotonic() + seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while time.monotonic() < deadline and not gone.is_set():
            try:
                async with session.get(f"{url}/health") as response:
                    found = str(response.status)
            except (aiohttp.ClientError, TimeoutError):
                found = "refused"
            if not seen or seen[-1] != found:
                seen.append(found)
            if found == "200":
                return tuple(seen)
            await asyncio.sleep(0.05)
    raise RuntimeError(f"no answer at {url}: {seen}")


@dataclass
class ProcessLauncher:
    """Starts an engine as a child process.

    Attributes:
        command: program and arguments that come before the suite's own.
        arguments: the suite's own arguments; `{port}` is filled in.
        environment: added to this process's.
    """

    name: str
    kind: Kind
    version: str
    command: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    adapter_path: str = ""
    ready_seconds: float = 120.0

    async def start(self, *more: str) -> Running:
        """An engine that answers."""
        port = free_port()
        process, log = await self._spawn(port, more)
        gone = asyncio.Event()
        waiter = asyncio.create_task(process.wait())
        waiter.add_done_callback(lambda _: gone.set())
        url = f"http://127.0.0.1:{port}"
        try:
            startup = await watch_start(url, self.ready_seconds, gone)
        except RuntimeError as error:
            with suppress(ProcessLookupError):
                process.kill()
            raise RuntimeError(f"{error}\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}") from error

        async def terminate() -> None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

        async def exit_code(seconds: float) -> int | None:
            try:
                return await asyncio.wait_for(asyncio.shield(waiter), seconds)
            except TimeoutError:
                return None

        async def kill() -> None:
            with suppress(ProcessLookupError):
                process.kill()
            await waiter
            log.unlink(missing_ok=True)

        async def logs() -> str:
            return log.read_text(encoding="utf-8", errors="replace")

        return Running(self._engine(url), terminate, exit_code, kill, logs, startup)

    async def fail(self, *more: str) -> tuple[int | None, str]:
        """An engine that ends by itself."""
        process, log = await self._spawn(free_port(), more)
        try:
            code: int | None = await asyncio.wait_for(process.wait(), self.ready_seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            code = None
        said = log.read_text(encoding="utf-8", errors="replace")
        log.unlink()
        return code, said

    async def _spawn(self, port: int, more: Sequence[str]) -> tuple[asyncio.subprocess.Process, Path]:
        arguments = [part.format(port=port) for part in (*self.command, *self.arguments)]
        with tempfile.NamedTemporaryFile(prefix=f"{self.name}-", suffix=".log", delete=False) as log:
            process = await asyncio.create_subprocess_exec(
                *arguments, *more, stdout=log, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **self.environment}
            )
        return process, Path(log.name)

    def _engine(self, url: str) -> Engine:
        return Engine(self.name, self.kind, self.version, url, adapter_path=self.adapter_path)


def simulator(version: str, adapter_path: str, *, settings: Mapping[str, str] | None = None) -> ProcessLauncher:
    """The simulator in this interpreter, as one vLLM version."""
    environment = {
        "PYTHONPATH": str(ROOT / "images" / "vllm-sim"),
        "VLLM_SIM_VERSION": version,
        "VLLM_SIM_LOAD_SECONDS": "0.2",
        "VLLM_SIM_STEP_SECONDS": "0.004",
        "VLLM_SIM_KV_BYTES_PER_TOKEN": "1024",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        **(settings or {}),
    }
    served = ("/models/tiny", "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", "{port}")
    arguments = (
        *served,
        *ARGUMENTS,
        "--kv-cache-memory-bytes",
        "67108864",
        "--block-size",
        "128",
        "--enforce-eager",
        *LORA,
    )
    return ProcessLauncher(
        f"sim-{version}", "sim", version, (sys.executable, "-m", "vllm_sim"), arguments, environment, adapter_path
    )


def llm_d(binary: Path) -> ProcessLauncher:
    """llm-d-inference-sim, an independent simulator written in Go."""
    arguments = ("--model", "tiny", "--served-model-name", "tiny", "--port", "{port}", "--mode", "echo")
    return ProcessLauncher(
        "llm-d-0.10.2", "llm-d", "0.32.0", (str(binary),), (*arguments, *ARGUMENTS, "--max-loras", "2"), {}
    )
