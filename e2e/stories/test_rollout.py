"""A changed argument: the new revision serves before the old one goes, when an accelerator is free."""

import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from e2e.stories.world import CPU_ARGS, REAL_CHANGE_SECONDS, World, is_ready, revision_of, simulator_repository
from e2e.support.client import Object
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
        return verdict(world.read()), world.asked() is not None

    with world.following_engine_pods() as history, world.watching(look) as seen:
        world.when("an argument is changed")
        world.apply(world.deployment(hardware=GPU, engine={"args": [*CPU_ARGS, "--max-num-batched-tokens=512"]}))
        world.becomes_ready(seconds=REAL_CHANGE_SECONDS)
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


@pytest.mark.long
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


def _on_gpus(world: World, *arguments: str, **spec: Any) -> Object:
    """The simulator on accelerators, which waits for room for three seconds only."""
    base = world.simulated(**({"hardware": GPU} | spec))
    base["spec"]["rollout"] = {"placementTimeoutSeconds": 3, **base["spec"].get("rollout", {})}
    base["spec"]["engine"]["args"] = ["--max-model-len=512", *arguments]
    return base


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_two_replicas_without_a_spare_accelerator_are_replaced_in_place(world: World) -> None:
    offer_gpus(world, 2)
    world.given("a node with two accelerators, and two replicas that serve on them")
    world.apply(_on_gpus(world, replicas=2))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with world.following_engine_pods() as history:

        def all_known() -> bool | None:
            return True if sum(is_ready(pod) for pod in history()[-1].values()) == 2 else None

        world.eventually("the watch tells of both", all_known)
        world.when("an argument is changed")
        world.apply(_on_gpus(world, "--seed=1", replicas=2))
        world.becomes_ready(seconds=180)

        def only_new() -> list[int] | None:
            states = history()
            there = {revision_of(pod) for pod in states[-1].values()}
            if old in there or len(states[-1]) != 2:
                return None
            counts = [sum(is_ready(pod) for pod in pods.values()) for pods in states]
            return counts[counts.index(2) :]

        counts = world.eventually("only the new revision is there", only_new)
    world.then(f"at least {min(counts)} of 2 replicas were ready at every change that the watch told of")
    assert min(counts) >= 1
    assert "ReplacingInPlace" in {event["reason"] for event in world.events()}


@pytest.mark.engine("simulator")
def test_the_only_replica_on_the_only_accelerator_goes_only_where_an_outage_is_allowed(world: World) -> None:
    offer_gpus(world, 1)
    world.given("a node with one accelerator, and one replica that serves on it")
    world.apply(_on_gpus(world))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    world.when("an argument is changed")
    world.apply(_on_gpus(world, "--seed=1"))

    def refused() -> Object | None:
        found = world.expect("Progressing", "False", "NoGpuCapacity")
        said = "goes on serving" in found["message"] and "A node may come" not in found["message"]
        return found if said else None

    found = world.eventually("the change is refused, with the remedies", refused, 90)
    world.tell("", found["message"])
    assert "rollout.allowOutage" in found["message"]
    world.expect("Ready", "False", "NoGpuCapacity")
    world.expect("Available", "True")
    assert world.read()["status"]["revision"] == old
    world.when("an outage is allowed")
    world.apply(_on_gpus(world, "--seed=1", rollout={"allowOutage": True}))
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["revision"] != old
    assert "OutageBegins" in {event["reason"] for event in world.events()}


@pytest.mark.engine("simulator")
def test_where_the_first_candidate_has_no_room_the_next_one_is_taken(world: World) -> None:
    offer_gpus(world, 1)
    world.given("a node with one accelerator, and a deployment that asks for two, or else for the processor")
    either = {"candidates": [{"accelerator": "fake-gpu", "count": 2}, {"accelerator": "cpu"}]}
    world.apply(_on_gpus(world, hardware=either))
    world.becomes_ready(seconds=120)
    status = world.read()["status"]
    assert status["effective"]["accelerator"] == "cpu"
    assert [revision_of(pod) for pod in world.engine_pods()] == [status["revision"]]


@pytest.mark.engine("simulator")
def test_a_revision_that_crashes_gives_way_to_the_last_good_one_and_a_correction_heals(world: World) -> None:
    world.given("one simulated replica")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    world.when("an argument that vLLM refuses is added")
    broken = world.simulated()
    broken["spec"]["engine"]["args"] = ["--max-model-len=512", "--speed=ludicrous"]
    world.apply(broken)
    found = world.eventually("it is rolled back", lambda: world.expect("Stalled", "True", "EngineArgsRejected"), 120)
    world.tell("", found["message"])
    assert found["message"].startswith(f"Rolled back to revision {old}: ")
    world.expect("Ready", "False", "EngineArgsRejected")
    world.expect("Reconciling", "False")
    world.expect("Available", "True")

    def only_old() -> bool | None:
        return True if [revision_of(pod) for pod in world.engine_pods()] == [old] else None

    world.eventually("only the good revision is there", only_old, 60)
    assert "RolledBack" in {event["reason"] for event in world.events()}
    world.when("the argument is corrected")
    broken["spec"]["engine"]["args"] = ["--max-model-len=512", "--seed=1"]
    world.apply(broken)
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["revision"] != old
