"""LoRA adapters: loaded into what runs, back before they are told ready, and never in the way of the model."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.stories.world import REAL_START_SECONDS, World, is_ready
from e2e.support.client import KubectlError, Object
from e2e.support.killing import kill_container

QUESTION = "What is the capital of France?"
ANSWERS = {"tiny": "Paris", "elsewhere": "Lyon", "rotated": "Berlin"}
"""What the model says, and what each adapter was trained to say instead."""


def adapter(name: str, repository: str | None = None) -> dict[str, str]:
    return {"name": name, "uri": f"hf://nightshift/{repository or f'tiny-lora-{name}'}"}


GOOD = [adapter("elsewhere"), adapter("rotated")]
BAD = [adapter("oversized"), adapter("foreign", "tiny-lora-wrong-shape")]
"""Of a rank that no vLLM takes, and made for another model."""


REFUSED = (
    ({"adapters": GOOD, "traffic": {"mode": "Service"}}, "adapters and traffic.mode Service exclude each other"),
    ({"adapters": [adapter("tiny")]}, "an adapter cannot have the model's own name"),
    ({"adapters": GOOD, "engine": {"args": ["--max-lora-rank=64"]}}, "follows from spec.adapters"),
    ({"engine": {"args": ["--enable-lora"]}}, "use spec.adapters"),
)
"""What the API server refuses, and the words that say why."""


def engine(world: World) -> Object:
    (pod,) = world.engine_pods()
    return pod


def started(pod: Object) -> tuple[str, int]:
    """Which start of which engine it is."""
    (status,) = [item for item in pod["status"]["containerStatuses"] if item["name"] == "engine"]
    return pod["metadata"]["uid"], status["restartCount"]


def served(world: World, pod: str) -> set[str] | None:
    """The names that an engine serves; None while it does not answer."""
    text = world.proxied(f"pods/{pod}:8000", "/v1/models")
    return {card["id"] for card in json.loads(text)["data"]} if text else None


def names_of(world: World, *adapters: str) -> set[str]:
    """The names that an engine with these adapters serves: short ones, and those that the gateway's clients send."""
    address = f"{world.namespace}/tiny"
    return {"tiny", address, *adapters, *(f"{address}:{adapter}" for adapter in adapters)}


@dataclass(frozen=True)
class Seen:
    """Which adapters are told to be served, and what the engine serves right after that."""

    told: set[str]
    serves: set[str] | None


def seen(world: World, pod: str) -> Seen:
    status = world.read()["status"]
    conditions = {item["type"]: item["status"] for item in status["conditions"]}
    told = {item["name"] for item in status["adapters"] if item["readyReplicas"]}
    if "True" in (conditions["AdaptersReady"], conditions["Ready"]):
        told |= {item["name"] for item in GOOD}
    return Seen(told, served(world, pod))


def asked(world: World) -> dict[str, str]:
    """What the model and each adapter answer."""
    return {name: world.client.chat(world.namespace, "tiny", QUESTION, model=name) for name in ANSWERS}


def by_name(world: World) -> dict[str, Any]:
    return {item["name"]: item for item in world.read()["status"]["adapters"]}


@pytest.mark.engine("real vLLM")
def test_adapters_are_back_before_they_are_told_ready_and_bad_ones_stop_nobody(world: World) -> None:
    for spec, why in REFUSED:
        with pytest.raises(KubectlError, match=why):
            world.apply(world.deployment(**spec))
    world.given("a model with two adapters on real vLLM")
    world.apply(world.deployment(adapters=GOOD))
    world.becomes_ready(seconds=REAL_START_SECONDS)
    for name, answer in asked(world).items():
        world.then(f"{name} answers: {answer}")
        assert ANSWERS[name] in answer
    pod = engine(world)
    begun, name = started(pod), pod["metadata"]["name"]

    world.when("an adapter of a rank that no vLLM takes, and one of another model are added")
    world.apply(world.deployment(adapters=[*GOOD, *BAD]))
    world.eventually("one is refused by name", lambda: world.expect("Stalled", "True", "AdapterRankTooHigh"), 60)
    world.eventually("so is the other", lambda: by_name(world)["foreign"]["reason"] == "AdapterBaseMismatch", 60)
    for item in by_name(world).values():
        world.tell("", f"{item['name']}: {item['reason']}: {item['message']}")
    world.expect("Available", "True")
    assert {key: item["reason"] for key, item in by_name(world).items() if item["readyReplicas"]} == {
        "elsewhere": "Loaded",
        "rotated": "Loaded",
    }
    assert ANSWERS["tiny"] in world.client.chat(world.namespace, "tiny", QUESTION)
    world.apply(world.deployment(adapters=GOOD))
    world.becomes_ready(seconds=30)
    assert started(engine(world)) == begun, "nothing of it restarted the engine"

    world.when("the engine is killed")
    with world.watching(lambda: seen(world, name), every=0.2) as looks:
        world.then(f"the engine of pod {kill_container(world.client, engine(world), 'engine')}")
        world.eventually("it starts anew", lambda: started(engine(world)) != begun, 30)
        world.eventually("this is told", lambda: world.expect("AdaptersReady", "False"), 30)
        world.becomes_ready(seconds=REAL_START_SECONDS)
    answered = [look for _, look in looks if look.serves is not None]
    lying = [look for look in answered if not look.told <= (look.serves or set())]
    early = [look for look in answered if look.serves == names_of(world)]
    world.then(f"of {len(looks)} looks {len(early)} found an engine without adapters; {len(lying)} were told otherwise")
    assert lying == []
    assert served(world, name) == names_of(world, "elsewhere", "rotated")
    assert asked(world)["rotated"] != asked(world)["elsewhere"]

    world.when("an adapter is removed")
    again = started(engine(world))
    world.apply(world.deployment(adapters=GOOD[:1]))
    world.eventually("it is served no more", lambda: served(world, name) == names_of(world, "elsewhere"), 60)
    world.becomes_ready(seconds=30)
    assert started(engine(world)) == again, "that took no restart"
    assert is_ready(engine(world))
