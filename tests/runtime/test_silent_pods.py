"""Pods and Jobs whose status is silent, told by the real reconciler from their Events, also by a new process."""

from nightshift.adapters.kube import Object, reference
from tests.support.builders import HUB_MODEL, model_spec
from tests.support.clock import Clock
from tests.support.harness import Harness

NO_CONFIG = 'MountVolume.SetUp failed for volume "settings" : configmap "settings" not found'
QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0'


def silent(pod: Object) -> None:
    """A pod that has a node and no containers."""
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    waits = {"name": "engine", "state": {"waiting": {"reason": "ContainerCreating"}}}
    pod["spec"]["nodeName"] = "n"
    pod["status"] = {"phase": "Pending", "conditions": [placed], "containerStatuses": [waits]}


def tell(harness: Harness, about: Object, reason: str, message: str = "") -> None:
    """What a kubelet or controller records."""
    harness.server.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['metadata']['name']}.{reason}", "namespace": "ml"},
            "involvedObject": {"uid": about["metadata"]["uid"]},
            "reason": reason,
            "message": message,
            "type": "Warning",
            "lastTimestamp": harness.clock().isoformat(),
        }
    )


async def begun(harness: Harness, kind: str) -> Object:
    """Until there is an object of a kind; the world does no more than that."""
    while not harness.server.of_kind(kind):
        if harness.dirty:
            await harness.reconcile()
        else:
            harness.world.pending()[0].act()
    found: Object = harness.server.of_kind(kind)[0]
    return found


async def test_a_volume_that_cannot_be_mounted_is_told_after_half_a_minute_and_until_it_can() -> None:
    clock = Clock()
    harness = Harness(model_spec(), clock=clock)
    pod = await begun(harness, "Pod")
    harness.server.change(reference(pod), silent)
    tell(harness, pod, "FailedMount", NO_CONFIG)
    assert await harness.reconcile() == 30
    assert harness.condition("Ready") == ("False", "PodStarting")
    clock.pass_by(30)
    harness.restart()
    assert await harness.reconcile() == 30, "a new process asks too, and asks again"
    assert harness.condition("Ready") == ("False", "VolumeNotMounted")
    assert harness.condition("Stalled") == ("True", "VolumeNotMounted")
    requests = harness.kube.requests
    assert await harness.reconcile() == 30
    assert harness.kube.requests == requests, "an answer is good for half a minute"
    clock.pass_by(30)
    tell(harness, pod, "Pulling")
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "PodStarting")
    assert harness.condition("Stalled") == ("False", "NotStalled")


async def test_a_job_that_gets_no_pod_says_so() -> None:
    clock = Clock()
    harness = Harness({"model": {"uri": HUB_MODEL, "revision": "main"}}, clock=clock)
    job = await begun(harness, "Job")
    tell(harness, job, "FailedCreate", QUOTA)
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "Preparing")
    clock.pass_by(30)
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "QuotaExceeded")
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


async def test_a_paused_deployment_is_told_what_holds_its_pods_up_too() -> None:
    clock = Clock()
    harness = Harness(model_spec(), clock=clock)
    pod = await begun(harness, "Pod")
    harness.server.change(reference(pod), silent)
    tell(harness, pod, "FailedMount", NO_CONFIG)
    harness.change_spec(paused=True)
    clock.pass_by(30)
    await harness.reconcile()
    assert harness.condition("Ready") == ("False", "VolumeNotMounted")
