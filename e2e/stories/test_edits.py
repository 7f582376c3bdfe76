"""Others at what Nightshift made: pods, the ReplicaSet's template, the Service."""

import json
import time
from typing import Any

import pytest

from e2e.stories.world import World, is_ready, simulator_repository
from e2e.support.client import Object

OTHER_IMAGE = f"{simulator_repository()}:v0.31.0"


def set_image(world: World, pod: Object) -> None:
    name = pod["metadata"]["name"]
    world.when(f"kubectl set image pod/{name} engine={OTHER_IMAGE}")
    world.client.kubectl("set", "image", f"pod/{name}", f"engine={OTHER_IMAGE}", "-n", world.namespace)


def edit(world: World, kind: str, name: str, change: Any) -> None:
    """What kubectl edit sends when the editor is closed."""
    world.when(f"kubectl edit {kind} {name}: {json.dumps(change)}")
    patch = ("--type=strategic", "--field-manager=kubectl-edit", "-p", json.dumps(change))
    world.client.kubectl("patch", kind, name, "-n", world.namespace, *patch)


def replaced(world: World, changed: Object, count: int) -> bool | None:
    """Whether so many others serve, and no more."""
    pods = world.engine_pods()
    gone = changed["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods if is_ready(pod)}
    world.expect("Ready", "True", "Serving")
    return True if gone and sum(map(is_ready, pods)) == count else None


def told(world: World, reason: str, *words: str) -> str | None:
    """The message of an Event with a reason and some words."""
    messages = [str(item["message"]) for item in world.events() if item["reason"] == reason]
    return next((message for message in messages if all(word in message for word in words)), None)


@pytest.mark.engine("simulator")
def test_what_somebody_edits_is_set_back_and_what_runs_otherwise_is_replaced(world: World) -> None:
    world.given("two simulated replicas that serve")
    world.apply(world.simulated(replicas=2))
    world.becomes_ready(seconds=120)
    digest = world.read()["status"]["image"]["digest"]
    with world.following_engine_pods() as history:
        changed = world.engine_pods()[0]
        set_image(world, changed)
        world.eventually("another one serves in its place", lambda: replaced(world, changed, 2), 60)
        of_two = [sum(map(is_ready, pods.values())) for pods in history()]
    assert min(of_two[of_two.index(2) :]) == 1, "more than one was away, or none"
    evicted = told(world, "ChangedPodEvicted", changed["metadata"]["name"], ".spec.containers[name=engine].image")
    assert evicted is not None
    world.tell("", evicted)
    the_only_one_is_replaced_without_a_gap(world)
    images = [pod["spec"]["containers"][0]["image"] for pod in world.engine_pods() if is_ready(pod)]
    assert [image.partition("@")[2] for image in images] == [digest]
    what_was_added_is_taken_away(world)
    one_that_was_taken_out_is_told(world)


def the_only_one_is_replaced_without_a_gap(world: World) -> None:
    world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=1")
    world.eventually("one replica is left", lambda: (len(world.engine_pods()) == 1) or None, 60)
    world.becomes_ready(seconds=30)
    (changed,) = world.engine_pods()
    began = time.monotonic()
    with world.following_engine_pods() as history:
        set_image(world, changed)
        world.eventually("another one serves in its place", lambda: replaced(world, changed, 1), 60)
        serving = [sum(map(is_ready, pods.values())) for pods in history()]
    world.then(f"that took {time.monotonic() - began:.0f} s")
    assert min(serving[serving.index(1) :]) == 1, "there was a moment without a ready replica that stays"
    assert told(world, "PodChanged", "A second replica is started, and this one goes when that serves.") is not None


def what_was_added_is_taken_away(world: World) -> None:
    (owner,) = world.client.list("replicasets", world.namespace, "nightshift.dev/deployment=tiny")
    pods = {pod["metadata"]["uid"] for pod in world.engine_pods() if is_ready(pod)}
    name = owner["metadata"]["name"]
    edit(world, "replicaset", name, {"spec": {"template": {"spec": {"hostNetwork": True, "nodeSelector": {"a": "b"}}}}})
    edit(world, "service", "tiny", {"spec": {"sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"]}})

    def set_back() -> bool | None:
        (found,) = world.client.list("replicasets", world.namespace, "nightshift.dev/deployment=tiny")
        service = world.client.get("service", "tiny", world.namespace)
        assert service is not None
        same = found["spec"]["template"]["spec"] == owner["spec"]["template"]["spec"]
        spec = service["spec"]
        return True if same and spec["sessionAffinity"] == "None" and "externalIPs" not in spec else None

    world.eventually("both are as they were", set_back, 30)
    for kind, field in (("ReplicaSet", ".spec.template.spec.hostNetwork"), ("Service", ".spec.externalIPs")):
        said = world.eventually(
            f"an Event names who added {field}",
            lambda kind=kind, field=field: told(world, "FieldsTakenBack", "kubectl-edit", field, kind),  # type: ignore[misc]
            15,
        )
        world.tell("", said)
    assert pods == {pod["metadata"]["uid"] for pod in world.engine_pods() if is_ready(pod)}, "no pod was restarted"
    world.becomes_ready(seconds=15)


def one_that_was_taken_out_is_told(world: World) -> None:
    (pod,) = [pod for pod in world.engine_pods() if is_ready(pod)]
    name = pod["metadata"]["name"]
    world.when(f"kubectl label pod {name} nightshift.dev/revision=debug")
    world.client.kubectl("label", "pod", name, "-n", world.namespace, "--overwrite", "nightshift.dev/revision=debug")
    found = world.eventually(
        "the status says that it still gets requests", lambda: world.expect("Progressing", "False", "StrayPod"), 60
    )
    world.tell("", found["message"])
    assert name in found["message"]
    world.expect("Ready", "True", "Serving")
    assert world.read()["status"]["replicas"] == 1
    world.client.kubectl("delete", "pod", name, "-n", world.namespace, "--wait=false")
    world.eventually("nothing is told of it any more", lambda: world.expect("Progressing", "False", "Complete"), 60)
