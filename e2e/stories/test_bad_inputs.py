"""The table of bad inputs on a real cluster: each is refused or named, endured, and healed by its correction."""

import json
from collections.abc import Callable

import pytest

from e2e.stories.bad_inputs import ARGUMENTS, FIT, FOREIGN, IMAGES, MEMORY, MODELS, PLACEMENT, PODS, RECORDED
from e2e.stories.enduring import Enduring
from e2e.stories.refused_inputs import REFUSED
from e2e.stories.test_rollout import offer_gpus
from e2e.stories.world import World
from e2e.support.client import KubectlError, Object


@pytest.mark.engine("simulator")
def test_what_admission_refuses_is_told_at_once_and_touches_nothing_that_serves(world: World) -> None:
    world.given("a simulated engine that serves")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    world.eventually("its engine was looked at, which the status tells", world.engine_was_looked_at, 90)
    before, pods = world.read(), [pod["metadata"]["uid"] for pod in world.engine_pods()]

    def create(manifest: Object) -> None:
        world.client.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    def refused(what: str, words: str, how: Callable[[Object], None], manifest: Object) -> None:
        with pytest.raises(KubectlError) as refusal:
            how(manifest)
        assert words in str(refusal.value), f"{what}: {refusal.value}"

    for what, (spec, words) in REFUSED.items():
        refused(what, words, create, world.simulated("fresh", **spec))
        refused(what, words, world.apply, world.simulated(**spec))
        world.then(f"{what} is refused, new and over what serves")
    assert world.client.get("llmdeployment", "fresh", world.namespace) is None
    after = world.read()
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"] == before["status"]
    assert [pod["metadata"]["uid"] for pod in world.engine_pods()] == pods


@pytest.mark.engine("simulator")
def test_bad_models_and_images_are_named_and_heal_in_place(world: World) -> None:
    Enduring(world, (*MODELS, *IMAGES)).tell()


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_engines_that_cannot_start_are_named_and_heal_in_place(world: World) -> None:
    Enduring(world, (*ARGUMENTS, *MEMORY, *RECORDED)).tell()


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_what_cannot_fit_or_be_placed_is_named_and_heals_in_place(world: World) -> None:
    offer_gpus(world, 1)
    Enduring(world, (*FIT, *PLACEMENT)).tell()


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_bad_pod_templates_and_foreign_objects_are_named_and_heal_in_place(world: World) -> None:
    Enduring(world, (*PODS, *FOREIGN)).tell()
