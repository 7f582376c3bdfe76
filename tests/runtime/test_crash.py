"""The process ends before or after any write; a new one with an empty memory finishes the work."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nightshift.adapters.kube import Object
from nightshift.api import names
from tests.support.builders import HUB_MODEL, SHA, model_spec
from tests.support.fake_kube import Crash
from tests.support.harness import Harness

Scenario = Callable[[Harness], Awaitable[None]]
_VOLATILE = ("resourceVersion", "uid", "creationTimestamp", "generation")


async def first_start(harness: Harness) -> None:
    await harness.settle()


async def change_of_an_argument(harness: Harness) -> None:
    await harness.settle()
    if "engine" not in harness.body["spec"]:
        harness.change_spec(engine={"args": ["--seed=1"]})
    await harness.settle()


async def there_and_back(harness: Harness) -> None:
    for number, args in enumerate((None, ["--seed=1"], [])):
        if harness.body["metadata"]["generation"] == number and args is not None:
            harness.change_spec(engine={"args": args})
        await harness.settle()


async def scaled_and_off(harness: Harness) -> None:
    for number, replicas in enumerate((None, 3, 0)):
        if harness.body["metadata"]["generation"] == number and replicas is not None:
            harness.change_spec(replicas=replicas)
        await harness.settle()


SPECS: dict[str, tuple[Scenario, dict[str, Any]]] = {
    "the first start from a branch": (first_start, {"model": {"uri": HUB_MODEL}, "replicas": 2}),
    "the first start with a cache claim": (
        first_start,
        {"model": {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "9Gi"}}},
    ),
    "the first start of a pinned model that is looked at": (
        first_start,
        {"model": {"uri": HUB_MODEL, "revision": SHA, "quantization": "fp8"}},
    ),
    "the first start of a claim's model that is looked at": (
        first_start,
        {"model": {"uri": "pvc://models/tiny", "quantization": "fp8"}},
    ),
    "a change of an argument": (change_of_an_argument, model_spec(replicas=2)),
    "a change and its taking back": (there_and_back, model_spec(revisionHistoryLimit=1)),
    "scaling up and off": (scaled_and_off, model_spec()),
}


def end_state(harness: Harness) -> list[Any]:
    """All objects without what differs from run to run; pods by revision and readiness."""
    uids = {raw["metadata"]["uid"]: (raw["kind"], raw["metadata"]["name"]) for raw in harness.server.everything()}
    found: list[Any] = []
    for raw in harness.server.everything():
        if raw["kind"] == "Event":
            continue
        if raw["kind"] == "Pod":
            labels = raw["metadata"]["labels"]
            found.append(("Pod", labels.get(names.LABEL_REVISION), raw["status"]["phase"], raw["spec"]))
        else:
            found.append(without_volatile(raw, uids))
    return sorted(found, key=repr)


def without_volatile(raw: Object, uids: dict[str, tuple[str, str]]) -> Object:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in _VOLATILE}
    owners = [uids[owner["uid"]] for owner in metadata.pop("ownerReferences", ())]
    annotations = {k: v for k, v in metadata.pop("annotations", {}).items() if k != names.ANNOTATION_APPLIED}
    status = dict(raw.get("status") or {})
    status["conditions"] = [
        {key: value for key, value in item.items() if key not in ("lastTransitionTime", "message")}
        for item in status.get("conditions", ())
    ]
    return {**raw, "metadata": {**metadata, "annotations": annotations}, "owners": owners, "status": status}


async def run_with_crash(scenario: Scenario, spec: dict[str, Any], where: str, index: int) -> Harness:
    harness = Harness(spec)
    setattr(harness.kube, where, index)
    try:
        await scenario(harness)
    except Crash:
        harness.restart()
        await scenario(harness)
    return harness


@pytest.mark.parametrize("where", ["crash_before", "crash_after"], ids=["before the write", "after it"])
@pytest.mark.parametrize("name", SPECS)
async def test_a_crash_at_any_write_heals_in_a_new_process(name: str, where: str) -> None:
    scenario, spec = SPECS[name]
    undisturbed = Harness(spec)
    await scenario(undisturbed)
    expected, writes = end_state(undisturbed), undisturbed.kube.attempted_writes
    assert undisturbed.condition("Ready")[0] == "True"
    assert writes >= 8
    for index in range(writes):
        harness = await run_with_crash(scenario, spec, where, index)
        at = undisturbed.server.writes[index]
        assert end_state(harness) == expected, f"the process ended at write {index}, {at}"
        written = harness.kube.attempted_writes
        await harness.reconcile()
        assert harness.kube.attempted_writes == written, f"never at rest after the process ended at {at}"


def test_a_crash_is_caught_by_nobody() -> None:
    assert not issubclass(Crash, Exception)
