"""A server's life: refuse connections while loading, serve, drain on SIGTERM, exit with vLLM's codes."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web

from vllm_sim import admin, server
from vllm_sim.adapters import Adapters
from vllm_sim.cache_config import cache_facts
from vllm_sim.engine import Engine
from vllm_sim.faults import AT_START, KILLED, Faults
from vllm_sim.logs import line
from vllm_sim.memory import CUDA_OUT_OF_MEMORY, Memory, OutOfMemoryError, fill_container, kv_blocks
from vllm_sim.metrics import EngineMetrics
from vllm_sim.protocol import LoadAdapter
from vllm_sim.scheduler import Scheduler
from vllm_sim.settings import Settings
from vllm_sim.state import State
from vllm_sim.versions import GPU_MEMORY_DEFAULT_092

BLOCK = 16


async def serve(
    settings: Settings, arguments: argparse.Namespace, environment: Mapping[str, str], faults: Faults
) -> int:
    """Run until told to stop; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Bound but not listening while loading, so that connections are refused, as with vLLM.
    with _bound(arguments.host or settings.host, arguments.port) as listener:
        line(
            "APIServer", "api_utils.py:339", f"vLLM server version {settings.version}, serving model {arguments.model}"
        )
        try:
            state = build(settings, arguments, environment, faults)
        except OutOfMemoryError as error:
            _report_failure(error)
            return 1
        code = await _load(state, stop)
        if code is not None:
            return code
        return await _serve(state, listener, stop)


def build(settings: Settings, arguments: argparse.Namespace, environment: Mapping[str, str], faults: Faults) -> State:
    """Put a server together.

    Raises:
        OutOfMemoryError: the KV cache does not fit, in vLLM's words.
    """
    block = arguments.block_size or BLOCK
    wanted = arguments.max_model_len
    max_model_len = settings.max_model_len if wanted in (None, -1) else wanted
    blocks = arguments.num_gpu_blocks_override or kv_blocks(_memory(settings, arguments, faults, block), max_model_len)
    names = arguments.served_model_name or [arguments.model]
    log_stats = not arguments.disable_log_stats
    metrics = EngineMetrics(settings.release, names[0], max_model_len, log_stats=log_stats)
    metrics.cache_config(cache_facts(settings.release, arguments, block, blocks, max_model_len))
    if arguments.enable_lora:
        metrics.enable_lora(arguments.max_loras)
    scheduler = Scheduler(
        max_seqs=arguments.max_num_seqs,
        token_budget=arguments.max_num_batched_tokens,
        blocks=blocks,
        block=block,
        prefix_caching=arguments.enable_prefix_caching,
    )
    engine = Engine(
        scheduler,
        settings.latency,
        metrics,
        max_queued=arguments.max_num_queued_reqs,
        max_queued_tokens=arguments.max_num_queued_tokens,
    )
    engine.inject(faults)
    adapters = Adapters(
        enabled=bool(arguments.enable_lora), max_rank=arguments.max_lora_rank, any_path=settings.lora_any_path
    )
    for module in arguments.lora_modules or []:
        name, _, path = module.partition("=")
        adapters.load(LoadAdapter(lora_name=name, lora_path=path), list(names))
    return State(settings, arguments, environment, max_model_len, engine, adapters)


def _memory(settings: Settings, arguments: argparse.Namespace, faults: Faults, block: int) -> Memory:
    default = 0.92 if settings.release >= GPU_MEMORY_DEFAULT_092 else 0.90
    utilization = arguments.gpu_memory_utilization or default
    free = settings.device_memory if settings.free_memory < 0 else settings.free_memory
    kv_bytes, weights = arguments.kv_cache_memory_bytes, settings.weight_memory
    if faults.oom in AT_START:
        kv_bytes = None
        free = settings.device_memory // 100 if faults.oom == "not-free" else settings.device_memory
        spare = {"no-blocks": 0, "max-model-len": 3 * block * settings.kv_bytes_per_token}.get(faults.oom, 0)
        weights = int(settings.device_memory * utilization) - spare
    return Memory(
        device=settings.device_memory,
        free=free,
        weights=weights,
        utilization=utilization,
        kv_bytes=kv_bytes,
        bytes_per_token=settings.kv_bytes_per_token,
        block=block,
    )


def _report_cuda() -> None:
    line(
        "EngineCore",
        "gpu_model_runner.py:5146",
        "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory for "
        "weights, increasing --tensor-parallel-size, or using --quantization. See "
        "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more tips. (original error: "
        f"{CUDA_OUT_OF_MEMORY})",
        "ERROR",
    )


def _report_failure(error: Exception, kind: str = "ValueError") -> None:
    for message in (
        "EngineCore failed to start.",
        "Traceback (most recent call last):",
        f"{kind}: {error}",
    ):
        line("EngineCore", "core.py:1267", message, "ERROR")
    line(
        "APIServer",
        "core_client.py:1",
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "ERROR",
    )


async def _load(state: State, stop: asyncio.Event) -> int | None:
    """Take the time a start takes and log its phases; the exit code where it ends meanwhile."""
    seconds = state.settings.load_seconds
    pool = state.engine.scheduler.pool
    tokens = pool.blocks * state.engine.scheduler.block
    concurrency = tokens / state.max_model_len
    weights = state.settings.weight_memory / (1 << 30)
    phases = (
        (0.5, "gpu_model_runner.py:5040", f"Starting to load model {state.arguments.model}..."),
        (0.3, "default_loader.py:502", f"Loading weights took {0.3 * seconds:.2f} seconds"),
        (
            0.1,
            "gpu_model_runner.py:5150",
            f"Model loading took {weights:.2f} GiB memory and {0.4 * seconds:.6f} seconds",
        ),
        (
            0.0,
            "kv_cache_utils.py:2327",
            f"GPU KV cache size: {tokens:,} tokens, "
            f"Maximum concurrency for {state.max_model_len:,} tokens per request: {concurrency:.2f}x",
        ),
        (0.1, "core.py:403", f"init engine (profile, create kv cache, warmup model) took {0.1 * seconds:.2f} s"),
    )
    for share, source, message in phases:
        if await _stopped_within(stop, share * seconds):
            return 0
        line("EngineCore", source, message)
        if state.engine.faults.stuck_loading:
            await stop.wait()
            return 0
        if state.engine.faults.oom == "cuda":
            _report_cuda()
            _report_failure(MemoryError(CUDA_OUT_OF_MEMORY), "torch.OutOfMemoryError")
            return 1
        if state.engine.faults.oom == "killed":
            fill_container()
            return KILLED
    return None


async def _serve(state: State, listener: socket.socket, stop: asyncio.Event) -> int:
    engine = asyncio.create_task(state.engine.run())

    def die(faults: Faults) -> None:
        asyncio.get_running_loop().create_task(_die(state, faults))

    runners = [web.AppRunner(server.application(state), handler_cancellation=True, access_log=None)]
    if state.settings.admin_port:
        runners.append(web.AppRunner(admin.application(state), access_log=None))
    for runner in runners:
        await runner.setup()
    line(
        "APIServer",
        "entry.py:140",
        f"Starting vLLM server on http://{state.arguments.host or '0.0.0.0'}:{state.arguments.port}",
    )
    site = web.SockSite(runners[0], listener)
    await site.start()
    if len(runners) > 1:
        await web.TCPSite(runners[1], state.settings.host, state.settings.admin_port).start()
    state.engine.on_death = die
    if state.engine.faults.death is not None:
        die(state.engine.faults)
    await stop.wait()
    await _shut_down(state)
    await site.stop()
    # vLLM waits for its clients to hang up, however long they take.
    await state.quiet()
    engine.cancel()
    with suppress(asyncio.CancelledError):
        await engine
    for runner in runners:
        await runner.cleanup()
    return 0


async def _shut_down(state: State) -> None:
    timeout = int(state.arguments.shutdown_timeout)
    line("APIServer", "launcher.py:258", "[shutdown] API server: shutdown triggered")
    mode = "drain" if timeout else "abort"
    line(
        "APIServer", "launcher.py:275", f"[shutdown] API server: stopping engine client mode={mode} timeout={timeout}s"
    )
    await state.engine.stop(timeout)
    line("APIServer", "launcher.py:284", "[shutdown] API server: engine client stopped")


async def _die(state: State, faults: Faults) -> None:
    """The engine process dies: the server knows it for a while, then goes as well."""
    how = faults.death
    if how is None:
        return
    if faults.oom == "killed":
        fill_container()
    else:
        line("EngineCore", "core.py:1311", "EngineCore encountered a fatal error.", "ERROR")
        if faults.oom == "cuda":
            line("EngineCore", "core.py:1311", f"torch.OutOfMemoryError: {CUDA_OUT_OF_MEMORY}", "ERROR")
        state.dead = True
        state.engine.die()
        await asyncio.sleep(how.unhealthy_seconds)
    os._exit(how.exit_code)


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
