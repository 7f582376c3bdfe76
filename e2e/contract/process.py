"""Cases about an engine's whole life: how it starts, drains, aborts, and refuses to start.

Each needs engines of its own, so they run apart from the cases that share one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp

from e2e.contract.engine import Client, Running, connect, take_line
from e2e.contract.engine import Stream as FoundStream
from e2e.contract.observe import Observation, numbers_out, shape

CHAT = "/v1/chat/completions"
LOG_LINES = (
    "Starting to load model",
    "Loading weights took",
    "KV cache size:",
    "Maximum concurrency for",
    "init engine (profile, create kv cache, warmup model) took",
    "Starting vLLM server on",
)


class Launcher(Protocol):
    """Starts engines of one kind and version."""

    async def start(self, *more: str) -> Running:
        """An engine that answers, with the usual arguments and some more."""

    async def fail(self, *more: str) -> tuple[int | None, str]:
        """An engine that is expected to end by itself: exit code and log."""


@asynccontextmanager
async def _started(launcher: Launcher, *more: str) -> AsyncIterator[Running]:
    running = await launcher.start(*more)
    try:
        yield running
    finally:
        await running.kill()


async def start(launcher: Launcher) -> Observation:
    """Connections are refused until the engine is ready; the log names the phases of a start."""
    async with _started(launcher) as running:
        logs = await running.logs()
        return {"connecting": list(running.startup), "log": {line: line in logs for line in LOG_LINES}}


async def drain(launcher: Launcher) -> Observation:
    """SIGTERM with a shutdown timeout: what runs finishes, /health stays 200, new work fails, exit 0."""
    async with _started(launcher, "--shutdown-timeout", "30") as running:
        wanted = running.engine.max_model_len - 60
        async with connect(running.engine) as client:
            body = {**client.chat_body(max_tokens=wanted, ignore_eos=True), "stream": True}
            found, during = await _terminated_in_flight(client, running, body, lambda: _probe_draining(client))
        code = await running.exit_code(60)
    return {
        "in_flight_finished": found.done and _ends(found) == ["length"],
        "during": during,
        "exit_code": code,
    }


async def abort(launcher: Launcher) -> Observation:
    """SIGTERM without a shutdown timeout: no new connection, a stream does not finish, exit 0 once it is closed.

    Whether the stream ends with the reason `abort`, with an error, or falls silent until its client gives up is a
    race in vLLM (its engine process is told to stop and killed in the same breath): any of them is as observed.
    """
    async with _started(launcher, "--shutdown-timeout", "0") as running:
        wanted = running.engine.max_model_len - 60

        async def probe() -> Observation:
            await asyncio.sleep(2)
            try:
                return {"new_connection": (await client.get("/health")).status}
            except (aiohttp.ClientError, TimeoutError):
                return {"new_connection": "none"}

        async with connect(running.engine, seconds=6) as client:
            body = {**client.chat_body(max_tokens=wanted, ignore_eos=True), "stream": True}
            found, during = await _terminated_in_flight(client, running, body, probe)
        code = await running.exit_code(60)
    failed = bool(found.events) and "error" in found.events[-1]
    aborted = _ends(found) == ["abort"]
    return {
        "finished": "length" in _ends(found),
        "aborted_failed_or_silent": (aborted or failed) == found.done,
        "during": during,
        "exit_code": code,
    }


async def unknown_flag(launcher: Launcher) -> Observation:
    """A flag nobody knows: argparse's refusal."""
    code, log = await launcher.fail("--no-such-flag", "1")
    return {"exit_code": code, "says": "unrecognized arguments: --no-such-flag" in log, "usage": "usage:" in log}


async def bad_value(launcher: Launcher) -> Observation:
    """A value that is no number: argparse's refusal."""
    code, log = await launcher.fail("--max-model-len", "abc")
    wanted = "argument --max-model-len: invalid human_readable_int_or_auto value: 'abc'"
    return {"exit_code": code, "says": wanted in log}


async def no_memory(launcher: Launcher) -> Observation:
    """Too little memory for one request of full length: vLLM's own words, exit code 1."""
    code, log = await launcher.fail("--kv-cache-memory-bytes", "262144")
    wanted = "To serve at least one request with the model's max seq len"
    return {"exit_code": code, "says": wanted in log, "estimate": "the estimated maximum model length is" in log}


PROCESS_CASES: dict[str, Callable[[Launcher], Awaitable[Observation]]] = {
    "process.start": start,
    "process.drain": drain,
    "process.abort": abort,
    "process.unknown-flag": unknown_flag,
    "process.bad-value": bad_value,
    "process.no-memory": no_memory,
}


async def run_process_cases(
    launcher: Launcher, names: Sequence[str], progress: Callable[[str], None] = lambda line: None
) -> dict[str, dict[str, Any]]:
    """Run the chosen process cases one after the other."""
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        started = time.monotonic()
        try:
            result: dict[str, Any] = {"observed": await PROCESS_CASES[name](launcher)}
        except (aiohttp.ClientError, TimeoutError, AssertionError, RuntimeError) as error:
            said = numbers_out(str(error)).splitlines() or [""]
            result = {"failed": f"{type(error).__name__}: {said[0][:100]}"}
        results[name] = {**result, "seconds": round(time.monotonic() - started, 2)}
        progress(f"{name} {'FAILED' if 'failed' in result else 'ok'} {results[name]['seconds']}s")
    return results


Probe = Callable[[], Awaitable[Any]]


async def _terminated_in_flight(
    client: Client, running: Running, body: dict[str, Any], probe: Probe
) -> tuple[FoundStream, Any]:
    """Open a stream, terminate the engine at its first token, probe it, read the stream to its end."""
    found = FoundStream(0, {})
    seen: asyncio.Future[Any] | None = None
    try:
        async with client.open(CHAT, body) as response:
            async for line in response.content:
                take_line(found, line.decode("utf-8", errors="replace"))
                if seen is None and len(found.events) == 2:
                    await running.terminate()
                    seen = asyncio.ensure_future(probe())
    except (aiohttp.ClientError, TimeoutError) as error:
        found.stray.append(type(error).__name__)
    return found, await seen if seen is not None else None


def _ends(found: FoundStream) -> list[str]:
    choices = (choice for event in found.events for choice in event.get("choices", []))
    return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]


async def _probe_draining(client: Client) -> Observation:
    """What a terminating engine says, once it has noticed."""
    deadline = time.monotonic() + 3
    while True:
        new = await client.post(CHAT, client.chat_body(max_tokens=1))
        if new.status != 200 or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    health = await client.get("/health")
    models = await client.get("/v1/models")
    tokens = await client.post("/tokenize", {"model": client.engine.model, "prompt": "a"})
    metrics = await client.get("/metrics")
    return {
        "new_request": {"status": new.status, "body": shape(new.json())},
        "health": health.status,
        "models": models.status,
        "tokenize": tokens.status,
        "metrics": metrics.status,
    }
