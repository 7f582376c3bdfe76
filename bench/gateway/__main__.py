"""`python -m bench.gateway`: the gateway beside a direct call, bare HAProxy, aiohttp and vllm-router, and its agent.

All sides are asked the same in the same run, one after the other, several times; engine, sides and load are processes
of their own on loopback, in a network namespace of the benchmark's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import namespaces
from bench.gateway import judging, peers
from bench.gateway.cluster import Cluster, serving
from bench.gateway.following import fleet, follow, rest
from bench.gateway.judging import AIOHTTP, BARE, BY_BODY, BY_PATH, DIRECT, MISSED_LINES, OURS, ROUTER
from bench.gateway.load import SETTLE_SECONDS, WARM_SECONDS, Load
from bench.gateway.ours import GATEWAY_PORT, GatewayPod
from bench.gateway.processes import Processes, environment, raise_file_limit
from bench.support import Measured, rounded, run
from nightshift.core.gateway.settings import Settings

CLIENTS = 16
PATH = "/v1/chat/completions"
LOAD_SECONDS = 120.0
LOAD_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "67108864"}
"""Each read takes 256 KiB for a moment. Where the heap happened to end there, malloc gave it back and asked again each
time, and the load of one side took twice the processor time of another's."""
"""Within which a measurement ends, beyond its own seconds."""


@dataclass(frozen=True)
class Side:
    """What is measured."""

    name: str
    port: int
    pids: Callable[[], dict[str, list[int]]]
    """Its processes, without those of engine and load."""
    path: str = PATH
    model: str = "ml/all"
    only_answers: bool = False
    """Whether it is a variant that is only asked for requests per core."""


@contextmanager
def sides(
    options: argparse.Namespace, directory: Path, run_directory: Path
) -> Iterator[tuple[list[Side], dict[str, Any]]]:
    """All of them, running; and what was reproduced of documentations, left out, and at the end missed by the agent."""
    with Cluster() as cluster, Processes(directory) as processes:
        processes.python("engine", "bench.gateway.engine", str(peers.ENGINE_PORT))
        processes.wait("the engine", peers.ENGINE_PORT, "/health")
        examples: dict[str, str] = {}
        examples[BARE] = peers.bare_haproxy(processes, directory, options.haproxy, options.threads)
        examples[AIOHTTP] = peers.aiohttp_proxy(processes)
        serving(cluster)
        gateway = GatewayPod(processes, run_directory, options.haproxy, options.threads)
        gateway.start(cluster)

        def ours() -> dict[str, list[int]]:
            return {"haproxy": gateway.haproxy_pids(), "agent": gateway.agent_pids()}

        def of(name: str) -> Callable[[], dict[str, list[int]]]:
            return lambda: {name: processes.pids(name)}

        found = [
            Side(DIRECT, peers.ENGINE_PORT, dict),
            Side(BARE, peers.HAPROXY_PORT, of("haproxy")),
            Side(OURS, GATEWAY_PORT, ours),
            Side(AIOHTTP, peers.AIOHTTP_PORT, of("aiohttp")),
            Side(BY_BODY, GATEWAY_PORT, ours, model="ml/bot", only_answers=True),
            Side(BY_PATH, GATEWAY_PORT, ours, f"/ml/bot{PATH}", "ml/bot", only_answers=True),
        ]
        told: dict[str, Any] = {"documented_examples_reproduced": examples}
        if peers.router_program().exists():
            examples[ROUTER] = peers.vllm_router(processes)
            found.insert(3, Side(ROUTER, peers.ROUTER_PORT, of("vllm-router")))
        else:
            told["left_out"] = {ROUTER: "it could not be installed; what stood in the way was printed"}
        engine = processes.pids("engine")
        yield [replace(side, pids=_with_engine(side, engine)) for side in found], told
        told[MISSED_LINES] = gateway.missed_lines()


def _with_engine(side: Side, engine: list[int]) -> Callable[[], dict[str, list[int]]]:
    return lambda: {**side.pids(), "engine": engine}


def load(side: Side, clients: int, seconds: float, *, streams: bool = False) -> dict[str, Any]:
    """One measurement."""
    asked = Load("127.0.0.1", side.port, side.path, clients, seconds, side.model, streams, processes=side.pids())
    done = subprocess.run(
        asked.command(),
        env=environment(**LOAD_MEMORY),
        stdout=subprocess.PIPE,
        check=True,
        timeout=LOAD_SECONDS + 3 * seconds,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def once(found: Sequence[Side], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One run: every side, one after the other, for each of the measurements."""
    figures: dict[str, list[dict[str, float]]] = {side.name: [] for side in found}
    whole = [side for side in found if not side.only_answers]
    for side in found:
        figures[side.name].append(judging.of_answers(load(side, CLIENTS, options.answer_seconds)))
    for side in whole:
        figures[side.name].append(judging.of_one_client(load(side, 1, options.answer_seconds)))
    for side in whole:
        seen = load(side, options.streams, options.stream_seconds, streams=True)
        figures[side.name].append(judging.of_streams(seen))
    return judging.with_added({name: judging.merged(several) for name, several in figures.items()})


def traffic(options: argparse.Namespace, directory: Path) -> tuple[list[dict[str, dict[str, float]]], dict[str, Any]]:
    """All runs; and what is to be told beside them."""
    runs: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="nsb-") as short, sides(options, directory, Path(short)) as (found, told):
        for number in range(options.runs):
            runs.append(once(found, options))
            for name, figures in runs[-1].items():
                print(f"run {number + 1}, {name}: {rounded(figures)}", flush=True)
    return runs, told


def following(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The agent with many deployments."""
    with (
        tempfile.TemporaryDirectory(prefix="nsb-") as short,
        fleet(directory, Path(short), options.haproxy, options.threads, options.deployments) as (cluster, gateway),
    ):
        figures = rest(gateway, options.rest_seconds)
        print(f"at rest: {rounded(figures)}", flush=True)
        figures |= follow(cluster, gateway, options.samples, options.deployments)
        print(f"following: {rounded(figures)}", flush=True)
    return figures


def inputs(options: argparse.Namespace) -> dict[str, Any]:
    """What it was measured on."""
    return {
        "haproxy": peers.haproxy_version(options.haproxy),
        "haproxy_threads": options.threads,
        "runs": options.runs,
        "clients": CLIENTS,
        "answer_seconds": options.answer_seconds,
        "streams": options.streams,
        "stream_seconds": options.stream_seconds,
        "events_per_second": 20,
        "warm_seconds": {"answers": WARM_SECONDS, "streams": SETTLE_SECONDS},
        "deployments": options.deployments,
        "samples": options.samples,
        "rest_seconds": options.rest_seconds,
        "rules_on": "model in the body, two revisions with weights 95 and 5, an adapter that one replica has, affinity "
        "by prompts' beginnings, limits, allow-list, retries, health checks, a line of JSON for each request",
        "cores": "of all processes of a side but what reads its log; the gateway's are HAProxy's and the agent's",
        "stand_ins": "engine (two replicas) and load: processes of plain asyncio, whose cores stand in the results; "
        "API server: a thread of the benchmark's process",
    }


def measure(options: argparse.Namespace) -> Measured:
    """Everything."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    raise_file_limit()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        runs, told = traffic(options, directory)
        agent = following(options, directory)
    results = {**told, "median": judging.medians(runs), "agent": agent, "runs": runs}
    claims = judging.traffic_claims(runs, options.streams, told[MISSED_LINES])
    claims += judging.agent_claims(agent, options.deployments)
    return Measured(inputs(options), results, claims)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options besides --out."""
    parser.add_argument("--runs", type=int, default=5, help="how often all sides are measured")
    parser.add_argument("--answer-seconds", type=float, default=4, help="of each measurement of short answers")
    parser.add_argument("--streams", type=int, default=1000, help="how many are open at the same time")
    parser.add_argument("--stream-seconds", type=float, default=10, help="of each measurement of streams")
    parser.add_argument("--deployments", type=int, default=200, help="how many the agent follows")
    parser.add_argument("--rest-seconds", type=float, default=60, help="for how long nothing happens to them")
    parser.add_argument("--samples", type=int, default=100, help="pods that become ready and are deleted")
    parser.add_argument("--haproxy", default=peers.haproxy_binary(), help="the program, for both sides that have it")
    parser.add_argument("--threads", type=int, default=Settings().threads, help="of HAProxy, for both sides")


if __name__ == "__main__":
    namespaces.enter(peers.install_router)
    sys.exit(run("gateway", measure, arguments))
