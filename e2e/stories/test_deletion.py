"""Deletion ends: without the operator, with pods that will not go, in the middle of a rollout, with the namespace."""

import time

import pytest

from e2e.images import image
from e2e.stories.test_operators import helm
from e2e.stories.world import World
from e2e.support.install import RELEASE, SYSTEM

DELETE_SECONDS = 60.0
FINALIZER = "example.com/somebodys"
REMOVE = '[{"op":"remove","path":"/metadata/finalizers"}]'
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
"""Ended by the kubelet after the grace period: drainSeconds and 30 s."""


def delete(world: World, name: str = "tiny") -> None:
    """kubectl delete, which waits for the end of finalizers; there are none."""
    world.when("it is deleted")
    world.client.kubectl("delete", "lld", name, "-n", world.namespace, "--wait=true", "--timeout=20s")
    world.then("kubectl delete came back")


def nothing_left(world: World, but: frozenset[str] = frozenset()) -> None:
    world.eventually("nothing of it is left", lambda: set(world.owned()) <= but or None, DELETE_SECONDS)


@pytest.mark.engine("simulator")
def test_deletion_with_the_operator_uninstalled(world: World) -> None:
    world.given("a deployment serves, and Nightshift is uninstalled")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    world.client.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "2m")
    try:
        assert world.client.get("deployment", "nightshift", SYSTEM) is None
        world.then("its engine serves on")
        (engine,) = world.engine_pods()
        assert world.proxied(f"pods/{engine['metadata']['name']}:8000", "/v1/models") is not None
        delete(world)
        nothing_left(world)
    finally:
        helm(world, RELEASE, SYSTEM)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_deletion_with_a_pod_that_somebody_holds(world: World) -> None:
    world.given("somebody's finalizer holds one of two engine pods")
    world.apply(world.simulated(replicas=2))
    world.becomes_ready(seconds=120)
    held = world.engine_pods()[0]["metadata"]["name"]
    patch = f'{{"metadata":{{"finalizers":["{FINALIZER}"]}}}}'
    world.client.kubectl("patch", "pod", held, "-n", world.namespace, "--type=merge", "-p", patch)
    delete(world)
    nothing_left(world, but=frozenset({f"Pod/{held}"}))
    world.when("the same is applied again, while the pod is still held")
    world.apply(world.simulated())
    world.becomes_ready(seconds=90)
    world.then("it serves beside the pod that is held")
    assert held in [pod["metadata"]["name"] for pod in world.engine_pods()]
    world.when("the finalizer is taken away")
    world.client.kubectl("patch", "pod", held, "-n", world.namespace, "--type=json", "-p", REMOVE)
    delete(world)
    nothing_left(world)


@pytest.mark.engine("simulator")
def test_deletion_in_the_middle_of_a_rollout(world: World) -> None:
    world.given("a rollout whose new pods never become ready, beside one that serves")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    broken = world.simulated()
    broken["spec"]["podTemplate"] = {"nodeSelector": {"example.com/nowhere": "true"}}
    broken["spec"]["rollout"]["placementTimeoutSeconds"] = 3
    world.apply(broken)
    world.eventually("two revisions have pods", lambda: len(revisions(world)) == 2 or None, 60)
    delete(world)
    nothing_left(world)


def revisions(world: World) -> set[str]:
    return {pod["metadata"]["labels"]["nightshift.dev/revision"] for pod in world.engine_pods()}


@pytest.mark.engine("simulator")
def test_deletion_of_the_namespace(world: World) -> None:
    world.given("one deployment serves, one cannot, and one downloads into a claim")
    cache = {"type": "Claim", "size": "1Gi"}
    world.apply(world.simulated(), world.simulated("lost", model={"uri": "hf://nightshift/absent"}))
    world.apply(world.simulated("claimed", model={"uri": "hf://nightshift/tiny", "cache": cache}))
    world.becomes_ready(seconds=120)
    world.when("the namespace is deleted")
    began = time.monotonic()
    world.client.kubectl("delete", "namespace", world.namespace, "--wait=true", "--timeout=90s", timeout=100)
    world.then(f"it is gone after {time.monotonic() - began:.0f} s")
    since = f"--since={int(time.monotonic() - began) + 5}s"
    logs = world.client.kubectl("logs", "-n", SYSTEM, f"deployment/{RELEASE}", "--all-pods=true", "--tail=-1", since)
    wrong = [line for line in logs.splitlines() if world.namespace in line and " ERROR " in line]
    assert wrong == [], wrong
    world.open()


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_deletion_of_a_pod_that_does_not_listen(world: World) -> None:
    world.given("a pod with a container that goes on when it is told to end")
    command = ["/opt/nightshift/bin/python", "-c", DEAF]
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    deaf = {"name": "deaf", "image": image("operator"), "command": command, "securityContext": security}
    world.apply(world.simulated(podTemplate={"sidecars": [deaf]}))
    world.becomes_ready(seconds=120)
    delete(world)
    world.eventually("its pod is still leaving", lambda: bool(world.engine_pods()) or None, 5)
    nothing_left(world)
