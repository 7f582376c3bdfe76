"""`python -m bench.activator`: what 500 held requests cost, and how soon they go on once a replica is usable.

The activator runs as a process of its own. HAProxy, the engine behind it and the API server are stand-ins in this
process, so that what is measured is the activator's. Half of the clients await streams and get comments.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from bench.operator_process import cpu_seconds, memory_mib
from bench.support import Claim, Measured, run
from nightshift.gateway.activator import RELEASED_SOCKET, SOCKET, STATE_FILE
from tools.repository import ROOT

KEY = "ml/bot"
PORT = 18082
BODY_BYTES = 4096
CAPACITY = 64


def _state(directory: Path, usable: int, requests: int) -> None:
    route = {"namespace": "ml", "name": "bot", "queue": {"maxRequests": requests, "timeoutSeconds": 600}}
    entry = {"route": route, "usable": {"be_0": usable}, "capacity": CAPACITY * usable, "inFlight": None}
    beside = directory / "state.new"
    written = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    beside.write_text(json.dumps({"written": written, "routes": {KEY: entry}}))
    beside.rename(directory / STATE_FILE)


async def _stand_ins(directory: Path, order: list[str]) -> tuple[web.ServerRunner, web.ServerRunner, str]:
    """HAProxy with an engine, and an API server that agrees with everything."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # the activator waits for it, as for HAProxy's
        await request.read()
        order.append(request.headers["x-id"])
        return web.json_response({"choices": []})

    async def agree(request: web.BaseRequest) -> web.StreamResponse:
        found = {"items": []} if request.method == "GET" else await request.json()
        return web.json_response(found)

    haproxy = web.ServerRunner(web.Server(answer, access_log=None))
    await haproxy.setup()
    await web.UnixSite(haproxy, str(directory / RELEASED_SOCKET), backlog=1024).start()
    api = web.ServerRunner(web.Server(agree, access_log=None))
    await api.setup()
    await web.TCPSite(api, "127.0.0.1", 0).start()
    return haproxy, api, f"http://127.0.0.1:{api.addresses[0][1]}"


def _start(directory: Path, url: str) -> "subprocess.Popen[bytes]":
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")},
        "KUBECONFIG": str(directory / "kubeconfig"),
        "PYTHONPATH": str(ROOT / "operator"),
        "NIGHTSHIFT_RUN_DIRECTORY": str(directory),
        "NIGHTSHIFT_ACTIVATOR_PORT": str(PORT),
    }
    return subprocess.Popen([sys.executable, "-m", "nightshift.gateway", "activator"], env=environment)


async def _metric(session: aiohttp.ClientSession, name: str) -> float | None:
    """A metric; None where nobody answers yet."""
    try:
        async with session.get(f"http://127.0.0.1:{PORT}/metrics") as answer:
            lines = (await answer.text()).splitlines()
    except aiohttp.ClientError:
        return None
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


async def _until(session: aiohttp.ClientSession, name: str, value: float) -> None:
    async with asyncio.timeout(120):
        while await _metric(session, name) != value:  # noqa: ASYNC110 - another process's metric
            await asyncio.sleep(0.1)


async def _ask(clients: aiohttp.ClientSession, number: int) -> tuple[int, int]:
    """One client; its status, and how many comments it got."""
    body = json.dumps({"stream": number % 2 == 0, "prompt": "x" * BODY_BYTES}).encode()
    headers = {"x-nightshift-route": KEY, "x-id": f"{number:05}", "Content-Type": "application/json"}
    async with clients.post("http://bot.ml/v1/completions", data=body, headers=headers) as answer:
        return answer.status, (await answer.read()).count(b": waiting")


async def _measure(requests: int, seconds: float, directory: Path) -> Measured:
    order: list[str] = []
    _state(directory, 0, requests)
    haproxy, api, url = await _stand_ins(directory, order)
    child = await asyncio.to_thread(_start, directory, url)
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.UnixConnector(str(directory / SOCKET), limit=0)
    try:
        async with (
            aiohttp.ClientSession(trust_env=False) as probes,
            aiohttp.ClientSession(connector=connector, timeout=timeout) as clients,
        ):
            await _until(probes, "nightshift_gateway_held_budget_bytes", 256 * 1024 * 1024)
            found = await _hold(child.pid, requests, seconds, directory, probes, clients, order)
    finally:
        child.terminate()
        await asyncio.to_thread(child.wait)
        await haproxy.cleanup()
        await api.cleanup()
    return _judged(found, requests, seconds)


async def _hold(
    pid: int,
    requests: int,
    seconds: float,
    directory: Path,
    probes: aiohttp.ClientSession,
    clients: aiohttp.ClientSession,
    order: list[str],
) -> dict[str, Any]:
    idle_mib, idle_cpu = memory_mib(pid, "VmRSS"), cpu_seconds(pid)
    await asyncio.sleep(10)
    idle_percent = 10 * (cpu_seconds(pid) - idle_cpu)
    print(f"idle: {idle_mib:.1f} MiB, {idle_percent:.1f} % of a core; {requests} clients come")
    before = cpu_seconds(pid)
    asking = []
    for number in range(requests):
        asking.append(asyncio.create_task(_ask(clients, number)))
        await asyncio.sleep(0)
    await _until(probes, "nightshift_gateway_held{", requests)
    arrived_cpu = cpu_seconds(pid) - before
    counted = await _metric(probes, "nightshift_gateway_held_bytes")
    before = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    holding_percent = 100 * (cpu_seconds(pid) - before) / seconds
    held_mib = memory_mib(pid, "VmRSS")
    print(f"held for {seconds:.0f} s: {held_mib:.1f} MiB, {holding_percent:.1f} % of a core; a replica comes up")
    before, began = cpu_seconds(pid), time.monotonic()
    _state(directory, 1, requests)
    answers = await asyncio.gather(*asking)
    return {
        "idle_memory_mib": idle_mib,
        "idle_cpu_percent_of_a_core": idle_percent,
        "held_memory_mib": held_mib,
        "held_kib_per_request": (held_mib - idle_mib) * 1024 / requests,
        "budget_kib_per_request": (counted or 0) / 1024 / requests,
        "arrival_cpu_ms_per_request": 1000 * arrived_cpu / requests,
        "holding_cpu_percent_of_a_core": holding_percent,
        "release_seconds": time.monotonic() - began,
        "release_cpu_ms_per_request": 1000 * (cpu_seconds(pid) - before) / requests,
        "answered": sum(status == 200 for status, _ in answers),
        "comments": sum(comments for _, comments in answers),
        "in_order": order == sorted(order),
    }


def _judged(found: dict[str, Any], requests: int, seconds: float) -> Measured:
    inputs = {
        "requests": requests,
        "body_bytes": BODY_BYTES,
        "streams": (requests + 1) // 2,
        "seconds_held": seconds,
        "replica_capacity": CAPACITY,
        "stand_ins": "HAProxy, engine and API server: aiohttp in the benchmark's own process",
    }
    claims = [
        Claim("Memory per held request, body of 4 KiB.", found["held_kib_per_request"], "KiB", 64, "lower"),
        Claim("Processor while they are held.", found["holding_cpu_percent_of_a_core"], "% of a core", 5, "lower"),
        Claim("Held requests that were answered.", found["answered"], "requests", requests, "higher"),
        Claim("They were released in order.", float(found["in_order"]), "yes", 1, "higher"),
        Claim("From a usable replica to the last answer.", found["release_seconds"], "s", 5, "lower"),
    ]
    return Measured(inputs, found, claims)


def main() -> int:
    """The command line."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--requests", type=int, default=500, help="how many are held at the same time")
        parser.add_argument("--seconds", type=float, default=60, help="for how long")

    def measure(options: argparse.Namespace) -> Measured:
        with tempfile.TemporaryDirectory() as directory:
            return asyncio.run(_measure(options.requests, options.seconds, Path(directory)))

    return run("activator", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
