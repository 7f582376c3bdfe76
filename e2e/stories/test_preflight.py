"""A new revision's own image is asked before anything of it is started."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from e2e.stories.rolling import generation, labelled, watching
from e2e.stories.world import CPU_ARGS, REAL_CHANGE_SECONDS, World, simulator_repository
from e2e.support.client import Object

SELECTOR = "nightshift.dev/deployment=tiny"
REMOVED = "--swap-space=4"
"""vLLM 0.18.0 removed it."""
PREFLIGHT_SECONDS = 300.0
"""On two cores vLLM's imports alone take up to a minute."""


def revisions(world: World) -> list[Object]:
    """Stored revisions, the oldest first."""
    found = world.client.list("controllerrevisions", world.namespace, SELECTOR)
    return sorted(found, key=lambda item: int(item["revision"]))


def jobs(world: World) -> list[Object]:
    """Jobs that ask an image."""
    return world.client.list("jobs", world.namespace, f"{SELECTOR},app.kubernetes.io/component=preflight")


def real(world: World, *arguments: str) -> Object:
    """The tiny model on real vLLM."""
    return labelled(world.deployment(engine={"args": [*CPU_ARGS, *arguments]}))


@pytest.mark.engine("real vLLM 0.32.0")
def test_a_removed_flag_is_stopped_before_anything_is_started(world: World) -> None:
    """Failed client requests: 0."""
    world.given("one replica that serves on real vLLM")
    world.apply(real(world))
    world.becomes_ready()
    assert jobs(world) == [], "nothing serves that a first revision could harm, so its image is not asked"
    pods = {pod["metadata"]["uid"] for pod in world.engine_pods()}
    stored = [item["metadata"]["name"] for item in revisions(world)]
    with (
        watching(world) as seen,
        world.watching(lambda: world.asked() is not None) as answers,
        world.following_engine_pods() as history,
    ):
        world.when(f"an argument is added that this vLLM has no more: {REMOVED}")
        world.apply(real(world, REMOVED))
        changed = generation(world)
        told = world.eventually(
            "the status names the flag",
            partial(world.expect, "Ready", "False", "EngineArgsRejected"),
            PREFLIGHT_SECONDS,
        )
        world.tell("", told["message"])
        assert f"unrecognized arguments: {REMOVED}. vLLM 0.18.0 removed --swap-space." in told["message"]
        world.expect("Stalled", "True", "EngineArgsRejected")
        world.expect("Reconciling", "False")
        world.expect("Available", "True")
        (job,) = jobs(world)
        (inside,) = job["spec"]["template"]["spec"]["containers"]
        assert inside["image"] == world.engine_pods()[0]["spec"]["containers"][0]["image"], "the candidate's own image"
        assert "limits" not in inside["resources"]
        world.when("that is taken back")
        world.apply(real(world))
        world.becomes_ready(seconds=60)
        world.eventually("its Job is gone", lambda: True if jobs(world) == [] else None, 60)
        there = {pod["metadata"]["uid"] for found in history() for pod in found.values()}
    world.then("no engine was started for it, and nothing of it is stored")
    assert there <= pods
    assert [item["metadata"]["name"] for item in revisions(world)] == stored
    assert seen.told(changed, ["InProgress", "Failed", "InProgress", "Current"]) == []
    answered(world, answers)


def answered(world: World, answers: Sequence[tuple[float, bool]]) -> None:
    """All of those who asked got their answers."""
    failed = [at for at, came in answers if not came]
    world.then(f"{len(answers)} requests were sent meanwhile, {len(failed)} failed")
    assert answers
    assert not failed


@pytest.mark.long
@pytest.mark.engine("real vLLM 0.32.0")
def test_what_an_image_says_of_a_sound_change_is_kept_with_the_revision(world: World) -> None:
    """Failed client requests: 0."""
    world.given("one replica that serves on real vLLM")
    world.apply(real(world))
    world.becomes_ready()
    old = world.read()["status"]["revision"]
    with watching(world) as seen, world.watching(lambda: world.asked() is not None) as answers:
        world.when("an argument is changed")
        world.apply(real(world, "--max-num-batched-tokens=512"))
        changed = generation(world)
        world.becomes_ready(seconds=REAL_CHANGE_SECONDS)
    assert world.read()["status"]["revision"] != old
    told_by_image = revisions(world)[-1]["data"]["preflight"]["outcome"]
    world.tell("", str(told_by_image))
    assert told_by_image["vllm"].startswith("0.32.0")
    results = {item["check"]: item["result"] for item in told_by_image["checks"]}
    assert results["arguments"] == "Passed"
    assert "Refused" not in results.values()
    world.eventually("its Job is gone", lambda: True if jobs(world) == [] else None, 60)
    assert seen.told(changed, ["InProgress", "Current"]) == []
    answered(world, answers)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_an_image_that_cannot_be_asked_holds_nothing_back(world: World) -> None:
    """The simulator holds no vLLM."""
    world.given("a simulated replica")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    world.when("an argument is changed")
    engine = {"image": simulator_repository(), "version": "0.32.0", "args": ["--max-model-len=256"]}
    world.apply(world.simulated(engine=engine))
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["revision"] != old
    outcome = revisions(world)[-1]["data"]["preflight"]["outcome"]
    world.tell("", str(outcome))
    assert [item["result"] for item in outcome["checks"]] == ["Unknown"]


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_pool_without_a_node_is_found_while_the_old_one_serves(world: World) -> None:
    world.given("a simulated replica")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    pods = {pod["metadata"]["uid"] for pod in world.engine_pods()}
    world.when("it is to run where there is no node")
    nowhere: dict[str, Any] = {
        "podTemplate": {"nodeSelector": {"story": "nowhere"}},
        "rollout": {"placementTimeoutSeconds": 15},
    }
    world.apply(world.simulated(**nowhere))
    found = world.eventually(
        "the status says that the look finds no node", partial(world.expect, "Ready", "False", "Unschedulable"), 60
    )
    world.tell("", found["message"])
    world.expect("Available", "True")
    world.then("the engine tries after placementTimeoutSeconds, and what serves goes on")
    world.eventually("a replica of it waits for a node", lambda: len(world.engine_pods()) == 2 or None, 90)
    assert pods <= {pod["metadata"]["uid"] for pod in world.engine_pods()}
    world.when("that is taken back")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    assert {pod["metadata"]["uid"] for pod in world.engine_pods()} == pods
