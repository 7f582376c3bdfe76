"""A simulated server in this process, on a loopback port, with its engine running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from vllm_sim import admin, server
from vllm_sim.faults import Faults
from vllm_sim.flags import parse
from vllm_sim.lifecycle import build
from vllm_sim.settings import load
from vllm_sim.state import State

USUAL = ("m", "--served-model-name", "tiny", "--max-model-len", "512", "--kv-cache-memory-bytes", "1G")
FAST = {"VLLM_SIM_STEP_SECONDS": "0.001", "VLLM_SIM_STEP_SECONDS_PER_SEQUENCE": "0", "VLLM_SIM_LOAD_SECONDS": "0"}


@dataclass
class Simulated:
    """A running simulator: its HTTP client, its control client, its insides."""

    http: TestClient[Any, Any]
    control: TestClient[Any, Any]
    state: State
    deaths: list[Faults]
    """Faults that would have ended the process."""

    async def chat(self, question: str = "What is the capital of France?", **more: Any) -> dict[str, Any]:
        """A chat's answer, whatever its status."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": question}], **more}
        async with self.http.post("/v1/chat/completions", json=body) as response:
            answer: dict[str, Any] = await response.json()
            return {"status": response.status, **answer}

    async def metrics(self) -> dict[str, float]:
        """Samples of the metrics by their line up to the value."""
        async with self.http.get("/metrics") as response:
            lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    async def metric(self, name: str, extra: str = "") -> float:
        """One engine metric of the served model."""
        inner = f'engine="0",{extra}' if extra and extra < "model" else 'engine="0",'
        tail = f",{extra}" if extra and extra > "model" else ""
        return (await self.metrics())[f'vllm:{name}{{{inner.rstrip(",")},model_name="tiny"{tail}}}']

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
        """Wait for something, and fail when it does not come."""
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 - the other side is a server
                await asyncio.sleep(0.01)


Start = Callable[..., Awaitable[Simulated]]


@asynccontextmanager
async def simulated(arguments: tuple[str, ...], faults: Faults, settings: dict[str, str]) -> AsyncIterator[Simulated]:
    """A simulator with the usual arguments and some more."""
    environment = {**FAST, **{f"VLLM_SIM_{name.upper()}": value for name, value in settings.items()}}
    environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    loaded = load({name: value for name, value in environment.items() if name.startswith("VLLM_SIM_")})
    state = build(loaded, parse([*USUAL, *arguments], loaded.release), environment, faults)
    deaths: list[Faults] = []
    state.engine.on_death = deaths.append
    engine = asyncio.create_task(state.engine.run())
    try:
        async with (
            TestClient(TestServer(server.application(state))) as http,
            TestClient(TestServer(admin.application(state))) as control,
        ):
            yield Simulated(http, control, state, deaths)
    finally:
        engine.cancel()
