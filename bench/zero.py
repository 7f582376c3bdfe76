"""`python -m bench.zero`: what the gateway adds to the start of a replica that somebody waits for.

On the local cluster, with everything real but the engine: ten deployments of the simulator are at zero, and one after
the other is asked by one client, who is held until its replica serves. Measured is the time from the first healthy
answer of the new pod's /health, which is asked every 10 ms from when the pod has an address, to the end of the client's
answer, less what the same request takes once the replica is up. In between lie the kubelet's probe, the pod's status,
its EndpointSlice, the agent, HAProxy and the activator.
"""

import argparse
import http.client
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.support import Claim, Measured, percentiles, run
from e2e.setup import DEMO_IMAGES, install_everything, prepare
from e2e.stories.world import World
from e2e.stories.zero import Crowd, falls_asleep, sleeper
from e2e.support.client import Client, Object, eventually

WAKES = 10
LOAD_SECONDS = 3.0
HEALTH_EVERY_SECONDS = 0.01
WARM_REQUESTS = 5
ADDED_BOUND_SECONDS = 1.0


def is_healthy(ip: str) -> bool:
    """Whether an engine says that it serves."""
    connection = http.client.HTTPConnection(ip, 8000, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def poll(look: Callable[[], Any], seconds: float = 60.0, every: float = HEALTH_EVERY_SECONDS) -> Any:
    """What was found, and it is found within a hundredth of a second."""
    return eventually("a phase of the start", look, seconds, every)


class Start(threading.Thread):
    """Follows the pod that a wake makes, and notes the moments, in seconds of the monotonic clock."""

    def __init__(self, history: Callable[[], list[dict[str, Object]]]) -> None:
        super().__init__(daemon=True)
        self._history = history
        self.created = self.addressed = self.healthy = 0.0

    def run(self) -> None:
        """Until /health is healthy."""
        poll(self._pod)
        self.created = time.monotonic()
        ip = poll(lambda: (self._pod() or {}).get("status", {}).get("podIP"))
        self.addressed = time.monotonic()
        poll(lambda: is_healthy(ip))
        self.healthy = time.monotonic()

    def _pod(self) -> Object | None:
        """The pod that comes; the one that went when the deployment fell asleep may still be there for a moment."""
        there = self._history()[-1].values()
        return next((pod for pod in there if "deletionTimestamp" not in pod["metadata"]), None)


def wake(world: World, base: str, name: str) -> dict[str, float]:
    """Wake one deployment; the parts of what its client waited for, in seconds."""
    url = f"{base}/{world.namespace}/{name}/v1"
    with world.following_engine_pods(name) as history:
        start = Start(history)
        start.start()
        crowd = Crowd()
        cold = crowd.ask(url, name)
        crowd.join(120)
        start.join(10)
    assert cold.error is None, repr(cold.error)
    assert cold.cold, "it was not held"
    assert start.healthy, "the pod's first healthy answer was not seen"
    warm = Crowd()
    for _ in range(WARM_REQUESTS):
        warm.ask(url, name)
        warm.join(30)
    own = statistics.median(asked.ended - asked.began for asked in warm.all)
    return {
        "asked_to_pod_seconds": start.created - cold.began,
        "pod_to_healthy_seconds": start.healthy - start.created,
        "healthy_to_answered_seconds": cold.ended - start.healthy,
        "own_seconds": own,
        "added_seconds": cold.ended - start.healthy - own,
        "waited_seconds": cold.ended - cold.began,
    }


def claims(wakes: Sequence[Mapping[str, float]]) -> list[Claim]:
    """What is promised of the wakes."""
    added = statistics.median(one["added_seconds"] for one in wakes)
    what = (
        f"What the gateway adds to the time from a pod's creation to its first healthy /health, the request's own time "
        f"excluded; median of {len(wakes)}."
    )
    return [Claim(what, added, "s", ADDED_BOUND_SECONDS, "lower")]


def judged(wakes: Sequence[Mapping[str, float]]) -> Measured:
    """The results file's content."""
    inputs = {
        "wakes": len(wakes),
        "engine": "simulator (images/vllm-sim)",
        "engine_load_seconds": LOAD_SECONDS,
        "health_asked_every_seconds": HEALTH_EVERY_SECONDS,
        "own_time": f"median of {WARM_REQUESTS} requests to the same replica by the gateway",
        "cluster": "the local cluster: one node; gateway, operator and engines on the machine's cores",
    }
    parts = {
        part: percentiles(values, (50, 95)) | {"worst": max(values)}
        for part, values in ((part, [one[part] for one in wakes]) for part in wakes[0])
    }
    results = {"each": wakes, **parts}
    return Measured(inputs, results, claims(wakes))


def measure(count: int) -> Measured:
    """Wake so many deployments."""
    client = prepare("the benchmark zero", (*DEMO_IMAGES, "vllm-sim:0.32.0"))
    install_everything(client)
    return asleep_and_woken(client, count)


def asleep_and_woken(client: Client, count: int) -> Measured:
    """With everything installed."""
    world = World(client, f"story-bench-zero-{int(time.time()) % 100000}")
    world.open()
    try:
        names = [f"zero-{number}" for number in range(count)]
        for name in names:
            world.apply(sleeper(world, name, load=LOAD_SECONDS))
            world.becomes_ready(name, seconds=120)
        falls_asleep(world, *names, gone=True)
        found = []
        with world.gateway() as base:
            for name in names:
                found.append(wake(world, base, name))
                world.tell("Then", f"{name}: the gateway added {found[-1]['added_seconds']:.2f} s")
        return judged(found)
    finally:
        world.close()


def main() -> int:
    """The command line."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--wakes", type=int, default=WAKES, help="how many deployments are woken")

    return run("zero", lambda options: measure(options.wakes), arguments)


if __name__ == "__main__":
    sys.exit(main())
