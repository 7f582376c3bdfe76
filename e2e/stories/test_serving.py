"""The main job: apply, serve, delete; with the operator away in between."""

import json
import time

import pytest

from e2e.stories.world import World
from e2e.support.install import SYSTEM
from e2e.support.kstatus import verdict

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
HEALTH_TO_READY_SECONDS = 10.0
DELETE_SECONDS = 60.0


@pytest.mark.engine("real vLLM 0.32.0")
def test_apply_serves_and_delete_leaves_nothing(world: World) -> None:
    world.given("Nightshift, installed by its chart into a restricted namespace")
    for namespace in (SYSTEM, world.namespace):
        labels = json.loads(world.client.kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    world.when("the tiny model is applied")
    world.apply(world.deployment())
    world.eventually("the status speaks of it at once", lambda: world.expect("Ready", "False"), 15)
    assert verdict(world.read()) == "InProgress"

    pod = world.eventually("Nightshift makes an engine pod", lambda: next(iter(world.engine_pods()), None), 60)
    name = pod["metadata"]["name"]
    verdicts: set[str] = set()

    def healthy() -> float | None:
        resource = world.read()
        if world.proxied(f"pods/{name}:8000", "/health") is not None:
            return time.monotonic()
        verdicts.add(verdict(resource))
        return None

    health = world.eventually("the engine answers /health", healthy, 300)
    world.becomes_ready(seconds=60)
    lag = time.monotonic() - health
    world.then(f"Ready came {lag:.1f} s after the first healthy answer")
    assert lag <= HEALTH_TO_READY_SECONDS
    assert verdicts == {"InProgress"}, "kstatus called it ready before the engine answered"
    assert verdict(world.read()) == "Current"
    world.client.kubectl("wait", "-n", world.namespace, "--for=condition=Ready", "lld/tiny", "--timeout=5s")

    answer = world.client.chat(world.namespace, "tiny", QUESTION)
    world.then(f"it answers: {answer}")
    assert answer.strip() == ANSWER

    table = world.client.kubectl("get", "lld", "-n", world.namespace, "-o", "wide")
    world.tell("", table)
    header, row = table.splitlines()[:2]
    assert " ".join(header.split()) == "NAME READY VERSION REPLICAS REASON AGE MODEL REVISION IMAGE DIGEST"
    status = world.read()["status"]
    assert status["model"]["revision"] in row
    assert status["image"]["digest"] in row
    running = world.engine_pods()[0]["status"]["containerStatuses"][0]["imageID"]
    assert status["image"]["digest"] in running, "the pod runs the digest that the status names"

    world.when("it is deleted")
    deleted = time.monotonic()
    world.client.kubectl("delete", "lld", "tiny", "-n", world.namespace, "--wait=true", "--timeout=20s")
    world.eventually("nothing of it is left", lambda: True if not world.owned() else None, DELETE_SECONDS)
    world.then(f"that took {time.monotonic() - deleted:.0f} s")


@pytest.mark.engine("real vLLM 0.32.0")
def test_applied_while_the_operator_is_away(world: World) -> None:
    world.given("Nightshift is not running")
    world.scale_operator(0)
    try:
        world.when("the tiny model is applied")
        world.apply(world.deployment())
        assert world.condition("Ready")["status"] == "Unknown"
        assert verdict(world.read()) == "InProgress", "kstatus called it ready before anyone looked at it"
        assert world.owned() == []
    finally:
        world.when("Nightshift starts")
        world.scale_operator(2)
    world.becomes_ready()
    assert world.client.chat(world.namespace, "tiny", QUESTION).strip() == ANSWER


@pytest.mark.engine("simulator")
def test_deleted_while_the_operator_is_away(world: World) -> None:
    world.given("a simulated engine serves")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    world.when("Nightshift is stopped, then the deployment deleted")
    world.scale_operator(0)
    try:
        world.client.kubectl("delete", "lld", "tiny", "-n", world.namespace, "--wait=true", "--timeout=20s")
        world.eventually("nothing of it is left", lambda: True if not world.owned() else None, DELETE_SECONDS)
    finally:
        world.scale_operator(2)
