"""A changed argument: the new revision serves before the old one goes, when an accelerator is free."""

import subprocess
import sys
import time
from functools import partial

import pytest

from e2e.stories.world import CPU_ARGS, World, is_ready, revision_of, simulator_repository
from e2e.support.kstatus import verdict
from e2e.support.lane import ROOT

GPU = {"candidates": [{"accelerator": "fake-gpu"}]}


def offer_gpus(world: World, count: int) -> None:
    """Let the node offer so many accelerators; they are counted, not there."""
    if not world.client.access.local:
        pytest.skip("the node of a cluster given by KUBECONFIG is not ours to change: no fake accelerators there")
    subprocess.run([sys.executable, "-m", "e2e.cluster", "gpus", str(count)], cwd=ROOT, check=True)


@pytest.mark.engine("real vLLM 0.32.0")
def test_a_changed_argument_rolls_without_a_gap(world: World) -> None:
    offer_gpus(world, 2)
    world.given("a node with two accelerators, and one replica that serves on one of them")
    world.apply(world.deployment(hardware=GPU))
    world.becomes_ready()
    old = world.read()["status"]["revision"]

    def look() -> tuple[str, bool]:
        return verdict(world.read()), world.proxied("services/tiny:80", "/v1/models") is not None

    with world.following_engine_pods() as history, world.watching(look) as seen:
        world.when("an argument is changed")
        world.apply(world.deployment(hardware=GPU, engine={"args": [*CPU_ARGS, "--max-num-batched-tokens=512"]}))
        world.becomes_ready()
        finished = time.monotonic()
        new = world.read()["status"]["revision"]
        assert new != old

        def until_the_end() -> list[set[str]] | None:
            found = [{revision_of(pod) for pod in pods.values() if is_ready(pod)} for pods in history()]
            return found if found[-1] == {new} else None

        serving = world.eventually("only the new revision serves", until_the_end)
    serving = serving[serving.index({old}) :]
    assert set() not in serving, "there was a moment without a ready replica that stays"
    assert {old, new} in serving, "the old one went first"
    during = [entry for moment, entry in seen if moment < finished]
    failed = [entry for entry in during if not entry[1]]
    world.then(f"{len(during)} requests were sent meanwhile, {len(failed)} failed")
    assert during
    assert not failed
    calls = [kind for kind, _ in during]
    assert "Failed" not in calls
    assert calls.count("InProgress") > len(calls) // 2, "kstatus called a rollout done before it was"
    served = [pod for pod in world.engine_pods() if is_ready(pod)]
    assert [revision_of(pod) for pod in served] == [new]
    assert "--max-num-batched-tokens=512" in served[0]["spec"]["containers"][0]["args"]


@pytest.mark.engine("simulator")
def test_without_a_free_accelerator_the_old_revision_goes_on_serving(world: World) -> None:
    offer_gpus(world, 1)
    world.given("a node with one accelerator, and one replica that serves on it")
    base = world.simulated()
    base["spec"]["hardware"] = GPU
    world.apply(base)
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    world.when("an argument is changed")
    changed = world.simulated()
    changed["spec"]["hardware"] = GPU
    changed["spec"]["engine"]["args"] = ["--max-model-len=256"]
    world.apply(changed)
    found = world.eventually(
        "the status says that no accelerator is free", lambda: world.expect("Progressing", "False", "NoGpuCapacity"), 60
    )
    world.tell("", found["message"])
    world.expect("Ready", "False", "NoGpuCapacity")
    world.expect("Available", "True")
    assert world.read()["status"]["revision"] == old
    world.when("a second accelerator is added")
    offer_gpus(world, 2)
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["revision"] != old


@pytest.mark.engine("simulator")
def test_scaling_by_kubectl_scale(world: World) -> None:
    world.given("one simulated replica")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    revision = world.read()["status"]["revision"]
    for count in (3, 1, 0):
        world.when(f"kubectl scale --replicas={count}")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, f"--replicas={count}")
        world.eventually(f"{count} replicas serve", partial(_serves, world, count), 90)
    world.expect("Ready", "True", "Off")
    world.expect("Available", "False")
    assert world.read()["status"]["targetRevision"] == revision, "scaling makes no new revision"


def _serves(world: World, count: int) -> bool | None:
    world.expect("Ready", "True")
    return True if sum(is_ready(pod) for pod in world.engine_pods()) == count else None


@pytest.mark.engine("none")
def test_revisions_beyond_the_limit_are_freed(world: World) -> None:
    world.given("a deployment that is switched off and keeps one earlier revision")

    def change(length: int) -> str:
        engine = {"image": simulator_repository(), "version": "0.32.0", "args": [f"--max-model-len={length}"]}
        world.apply(world.deployment(engine=engine, replicas=0, revisionHistoryLimit=1))
        world.eventually(f"revision {length} is the present one", lambda: world.expect("Ready", "True", "Off"), 60)
        return str(world.read()["status"]["targetRevision"])

    made = [change(length) for length in (512, 256, 128)]
    expected = {f"tiny-{name}" for name in made[1:]}

    def kept() -> bool | None:
        found = world.client.list("controllerrevisions", world.namespace, "nightshift.dev/deployment=tiny")
        return {item["metadata"]["name"] for item in found} == expected or None

    world.eventually("the present revision and the one before are kept", kept, 30)
