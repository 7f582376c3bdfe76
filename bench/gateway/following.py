"""What the agent costs with many deployments, and how soon HAProxy knows of what happens to a pod."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.gateway.cluster import Cluster, route
from bench.gateway.ours import GATEWAY_PORT, GatewayPod
from bench.gateway.peers import ENGINE_PORT
from bench.gateway.processes import Processes, get
from bench.operator_process import cpu_seconds, memory_mib
from bench.support import percentiles
from nightshift.adapters.haproxy import ServerRow

SETTLE_SECONDS = 10.0
LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 20.0
MODELS = '{"model": "ml/%s", "messages": [{"role": "user", "content": "Hello!"}]}'


def address(number: int, *, second: bool = False) -> str:
    """A loopback address for each pod."""
    return f"127.{3 if second else 2}.{number // 250}.{number % 250 + 1}"


@contextmanager
def fleet(
    directory: Path, run: Path, binary: str, threads: int, deployments: int
) -> Iterator[tuple[Cluster, GatewayPod]]:
    """A gateway with so many deployments, each of one ready replica."""
    with Cluster() as cluster, Processes(directory) as processes:
        processes.python("engine", "bench.gateway.engine", str(ENGINE_PORT))
        processes.wait("the engine", ENGINE_PORT, "/health")
        for number in range(deployments):
            name = f"m{number}"
            cluster.route(route(name))
            cluster.pod(name, f"{name}-a", address(number))
            cluster.endpoints(name, {f"{name}-a": (address(number), True)})
        gateway = GatewayPod(processes, run, binary, threads)
        gateway.start(cluster)
        yield cluster, gateway


def rest(gateway: GatewayPod, seconds: float) -> dict[str, Any]:
    """What is used while nothing happens."""
    time.sleep(SETTLE_SECONDS)
    (agent,) = gateway.agent_pids()
    pids = {"agent": [agent], "haproxy": gateway.haproxy_pids()}
    before = {name: sum(map(cpu_seconds, found)) for name, found in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    used = {name: 100 * (sum(map(cpu_seconds, found)) - before[name]) / passed for name, found in pids.items()}
    return {
        **{f"{name}_cpu_percent_of_a_core": percent for name, percent in used.items()},
        "agent_memory_mib": memory_mib(agent, "VmRSS"),
        "agent_peak_memory_mib": memory_mib(agent),
        "haproxy_memory_mib": sum(memory_mib(pid, "VmRSS") for pid in pids["haproxy"]),
    }


def follow(cluster: Cluster, gateway: GatewayPod, samples: int, deployments: int) -> dict[str, Any]:
    """Let a second replica of one deployment after the other become ready, serve, be deleted and go."""
    ready, deleted, served = [], [], 0
    for sample in range(samples):
        number = sample % deployments
        name = f"m{number}"
        old, new = f"{name}-a", f"{name}-b"
        server = f"s-{new}-0000-4000-8000-000000000000"[:20]
        slot = gateway.slot(f"ml/{name}")
        cluster.pod(name, new, address(number, second=True))
        both = {old: (address(number), True), new: (address(number, second=True), False)}
        cluster.endpoints(name, both)
        # Not in step with the rounds that the agent makes each second.
        time.sleep(0.4 + sample * 37 % 100 / 100)
        both[new] = (address(number, second=True), True)
        act = time.monotonic()
        cluster.endpoints(name, both)
        ready.append(_seconds(gateway, slot, server, act, lambda row: row is not None and row.up and row.weight == 100))
        asked = get(GATEWAY_PORT, f"/ml/{name}/v1/chat/completions", (MODELS % name).encode())
        served += "chat.completion" in asked
        time.sleep(0.4 + sample * 53 % 100 / 100)
        act = time.monotonic()
        cluster.pod(name, new, address(number, second=True), deleting=True)
        deleted.append(
            _seconds(gateway, slot, server, act, lambda row: row is None or row.maintenance or row.weight == 0)
        )
        cluster.endpoints(name, {old: (address(number), True)})
        cluster.remove_pod(new)
    return {
        "samples": samples,
        **{f"readiness_{name}_ms": 1000 * value for name, value in percentiles(ready).items()},
        **{f"deletion_{name}_ms": 1000 * value for name, value in percentiles(deleted).items()},
        "served_after_readiness": served,
    }


def _seconds(
    gateway: GatewayPod, slot: str, server: str, since: float, happened: Callable[[ServerRow | None], bool]
) -> float:
    """How long it took until HAProxy's process shows it.

    Raises:
        TimeoutError: It did not.
    """
    while not happened(gateway.servers(slot).get(server)):
        if time.monotonic() - since > PATIENCE_SECONDS:
            raise TimeoutError(f"HAProxy does not show it: {server} in {slot}: {gateway.servers(slot)}")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - since
