"""A misfit, from the model's files to the status and back, through the real reconciler."""

from datetime import UTC, datetime
from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.config import AcceleratorProfile
from nightshift.api.fetch import Downloaded, Failed, FetchOutcome, FetchReason, Inspected, Resolved
from tests.core.fit.fit_models import facts_of
from tests.support.api_server import deployment_reference
from tests.support.builders import HUB_MODEL, SHA, config
from tests.support.harness import Harness

H100 = AcceleratorProfile(resource_name="nvidia.com/gpu", memory_gib=79.3, compute_capability="9.0")
LARGE = facts_of("llama-3.1-70b")
MODELS: dict[str, dict[str, Any]] = {
    "a branch": {"uri": HUB_MODEL},
    "a commit": {"uri": HUB_MODEL, "revision": SHA},
    "a claim": {"uri": "pvc://models/llama"},
}


def on(count: int, model: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "hardware": {"candidates": [{"accelerator": "h100", "count": count}]}}


def harness(spec: dict[str, Any]) -> Harness:
    made = Harness(spec, config(accelerators={"h100": H100}))

    def answer(job: dict[str, Any]) -> FetchOutcome:
        command = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
        if command == "inspect":
            return Inspected(facts=LARGE)
        found = Resolved(sha=SHA, files=3, bytes=1000, facts=LARGE)
        return found if command == "resolve" else Downloaded(sha=SHA, files=3, bytes=1000)

    made.world.answer = answer
    # The operator waits for an answer by the real clock.
    made.server.timestamp = lambda: datetime.now(UTC).isoformat()  # type: ignore[method-assign]
    return made


def made_of(harness: Harness, kind: str) -> int:
    return len(harness.server.of_kind(kind))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
async def test_a_misfit_is_told_and_heals_when_corrected(model: dict[str, Any]) -> None:
    world = await harness(on(1, model)).settle()
    assert world.condition("Stalled") == ("True", "DoesNotFit")
    assert made_of(world, "ReplicaSet") == made_of(world, "ControllerRevision") == 0
    asked = made_of(world, "Job")
    writes = world.writes()
    await world.reconcile()
    assert (world.writes(), made_of(world, "Job")) == (writes, asked), "nobody asks again and again"
    world.change_spec(**on(4, model))
    await world.settle()
    assert world.condition("Ready") == ("True", "Serving")
    fit = world.status().fit
    assert fit is not None
    assert (fit.source, fit.longest_context) == ("Estimated", 131072)


async def test_a_misfit_over_what_serves_takes_nothing_down_and_a_new_process_says_the_same() -> None:
    world = await harness(on(4, MODELS["a commit"])).settle()
    serving = world.status().revision
    world.change_spec(**on(1, MODELS["a commit"]))
    await world.settle()
    for _ in range(2):
        assert world.condition("Available") == ("True", "Serving")
        assert world.condition("Ready") == ("False", "DoesNotFit")
        assert (world.status().revision, made_of(world, "ReplicaSet")) == (serving, 1)
        world.restart()
        await world.settle()
    world.change_spec(**on(4, MODELS["a commit"]))
    await world.settle()
    assert (world.condition("Ready"), world.status().revision) == (("True", "Serving"), serving)


async def test_the_annotation_is_followed_at_once() -> None:
    world = await harness(on(1, MODELS["a commit"])).settle()
    note = {names.ANNOTATION_FIT_CHECK: "off"}
    world.server.change(deployment_reference(), lambda raw: raw["metadata"].update(annotations=note))
    await world.settle()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status().fit is None, "nothing is promised of it"
    world.server.change(deployment_reference(), lambda raw: raw["metadata"].update(annotations={}))
    await world.settle()
    assert world.condition("Ready") == ("True", "Serving"), "what was made is not judged again"


async def test_a_hub_that_is_away_does_not_hold_a_pinned_model_back() -> None:
    world = harness(on(1, MODELS["a commit"]))
    world.world.answer = lambda job: Failed(reason=FetchReason.HUB_UNREACHABLE, message="No answer. Check the network.")
    await world.settle()
    assert made_of(world, "ReplicaSet") == 1
