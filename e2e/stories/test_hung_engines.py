"""Engines that hang while /health says 200: one is replaced, a fleet is not."""

import json
import threading
import time
import urllib.request
from contextlib import ExitStack
from typing import Any

import pytest

from e2e.stories.world import World, is_ready
from e2e.support.client import Object
from e2e.support.kstatus import verdict

CONTROL_PORT = 9000
DETECTION_SECONDS = 195.0
"""185 s by design, and a reconcile and the API server."""

SLOW_ENGINE = [
    {"name": "VLLM_SIM_ADMIN_PORT", "value": str(CONTROL_PORT)},
    {"name": "VLLM_SIM_STEP_SECONDS", "value": "0.25"},
]
LONG = {"prompt": "Tell me a long story.", "max_tokens": 400, "ignore_eos": True}
"""100 s of work for the slow engine."""


def call(method: str, url: str, body: dict[str, Any]) -> None:
    """A request to this machine's end of a port-forward; how it ends does not matter."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=400).read()
    except OSError:
        return


class Engines:
    """Port-forwards to engines, for as long as a story needs them."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self._world, self._stack = world, stack

    def hang(self, deployment: str, pod: Object) -> None:
        """Give an engine a long request, and let it hang in the middle of it."""
        name = pod["metadata"]["name"]
        client, namespace = self._world.client, self._world.namespace
        served = self._stack.enter_context(client.forward(namespace, f"pod/{name}", 8000))
        control = self._stack.enter_context(client.forward(namespace, f"pod/{name}", CONTROL_PORT))
        body = {"model": deployment, **LONG}
        threading.Thread(target=call, args=("POST", f"{served}/v1/completions", body), daemon=True).start()
        self._world.eventually(f"{name} runs a request", lambda: self._running(name), 30)
        call("PUT", f"{control}/sim/faults", {"hang": True})

    def _running(self, name: str) -> bool | None:
        text = self._world.proxied(f"pods/{name}:8000", "/metrics") or ""
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
        return True if any(float(line.rpartition(" ")[2]) > 0 for line in lines) else None


def leaving(world: World, name: str) -> list[Object]:
    return [pod for pod in world.engine_pods(name) if "deletionTimestamp" in pod["metadata"]]


def fleet(world: World, name: str, replicas: int) -> Object:
    engine = world.simulated()["spec"]["engine"]
    return world.simulated(name, replicas=replicas, engine={**engine, "env": SLOW_ENGINE})


@pytest.mark.engine("simulator")
def test_one_hung_engine_is_replaced_and_a_hung_fleet_is_not_restarted_at_once(world: World) -> None:
    world.given("two replicas of tiny and three of wide, all of which serve")
    world.apply(fleet(world, "tiny", 2), fleet(world, "wide", 3))
    world.becomes_ready("tiny", seconds=120)
    world.becomes_ready("wide", seconds=120)
    sick, well = sorted(world.engine_pods("tiny"), key=lambda pod: str(pod["metadata"]["name"]))
    wide = world.engine_pods("wide")
    with ExitStack() as stack:
        engines = Engines(world, stack)
        world.when("one engine of tiny and all of wide hang, with requests running")
        for pod in wide:
            engines.hang("wide", pod)
        engines.hang("tiny", sick)
        began = time.monotonic()
        assert world.proxied(f"pods/{sick['metadata']['name']}:8000", "/health") is not None, "it says that it is well"
        found = world.eventually(
            "the hung engine of tiny is deleted", lambda: next(iter(leaving(world, "tiny")), None), DETECTION_SECONDS
        )
        world.then(f"that was {time.monotonic() - began:.0f} s after it hung")
    assert found["metadata"]["uid"] == sick["metadata"]["uid"]
    assert found["metadata"]["deletionGracePeriodSeconds"] == 30
    told = [item["message"] for item in world.events() if item["reason"] == "EngineHung"]
    about = [message for message in told if sick["metadata"]["name"] in message]
    world.tell("", about[0])
    assert "1 requests run" in about[0]

    def replaced() -> bool | None:
        pods = [pod for pod in world.engine_pods("tiny") if is_ready(pod)]
        return True if len(pods) == 2 and sick["metadata"]["uid"] not in [p["metadata"]["uid"] for p in pods] else None

    world.eventually("another takes its place", replaced, 90)
    world.expect("Ready", "True", name="tiny")
    assert well["metadata"]["uid"] in [pod["metadata"]["uid"] for pod in world.engine_pods("tiny")]
    assert world.client.chat(world.namespace, "tiny", "What is the capital of France?")
    said = world.eventually(
        "wide says that it hangs", lambda: world.expect("Stalled", "True", "EngineHung", "wide"), 90
    )
    world.tell("", said["message"])
    assert verdict(world.read("wide")) == "Failed"
    left = {pod["metadata"]["uid"] for pod in wide} & {pod["metadata"]["uid"] for pod in staying(world)}
    world.then(f"of the three hung engines of wide {len(left)} are left alone")
    assert len(left) == 2


def staying(world: World) -> list[Object]:
    return [pod for pod in world.engine_pods("wide") if "deletionTimestamp" not in pod["metadata"]]
