"""What fits: told before anything is started, and compared with what engines measure."""

import re
from functools import partial

import pytest

from e2e.stories.test_rollout import offer_gpus
from e2e.stories.world import CPU_ARGS, World
from e2e.support.client import Object
from nightshift.api.model_facts import ModelFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.kv import kv_cache
from nightshift.core.fit.settings import engine_settings
from nightshift.core.fit.shape import model_shape
from nightshift.core.fit.traits import memory_traits

SMALL_GPU = {"candidates": [{"accelerator": "small-gpu"}]}
TINY = "hf://nightshift/tiny"


def stored_facts(world: World, name: str) -> ModelFacts:
    """What is stored of the model with the newest revision."""
    found = world.client.list("controllerrevisions", world.namespace, f"nightshift.dev/deployment={name}")
    newest = max(found, key=lambda item: int(item["revision"]))
    return ModelFacts.model_validate(newest["data"]["facts"])


@pytest.mark.engine("simulator")
def test_what_does_not_fit_is_told_and_heals_while_the_old_revision_serves(world: World) -> None:
    offer_gpus(world, 2)
    world.given("a simulated engine that serves on an accelerator of 4 GiB")

    def asking(*arguments: str, **model: str) -> Object:
        wanted = world.simulated(hardware=SMALL_GPU, model={"uri": TINY, **model})
        wanted["spec"]["engine"]["args"] = ["--max-model-len=512", *arguments]
        return wanted

    world.apply(asking())
    world.becomes_ready(seconds=120)
    assert stored_facts(world, "tiny").model_type == "llama"
    old = world.read()["status"]["revision"]
    before = {pod["metadata"]["name"] for pod in world.engine_pods()}
    for reason, mistake in (
        ("DoesNotFit", asking("--kv-cache-memory-bytes=8G")),
        ("QuantizationUnsupported", asking(quantization="awq")),
    ):
        world.when(f"a spec is applied that is refused with {reason}")
        world.apply(mistake)
        found = world.eventually("the status names the reason", partial(world.expect, "Ready", "False", reason), 60)
        world.tell("", found["message"])
        world.expect("Stalled", "True", reason)
        world.expect("Available", "True")
        assert reason in world.client.kubectl("get", "lld", "tiny", "-n", world.namespace)
        assert world.read()["status"]["revision"] == old
        assert {pod["metadata"]["name"] for pod in world.engine_pods()} == before, "nothing was started for it"
    world.when("it is corrected")
    world.apply(asking("--kv-cache-memory-bytes=1G"))
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["revision"] != old


@pytest.mark.engine("simulator")
def test_a_model_on_a_claim_is_looked_at_before_it_is_served(world: World) -> None:
    offer_gpus(world, 1)
    world.given("a claim with a model, filled by another deployment")
    world.apply(world.simulated("filler", model={"uri": TINY, "cache": {"type": "Claim", "size": "1Gi"}}))
    world.becomes_ready("filler", seconds=180)
    commit = world.read("filler")["status"]["model"]["revision"]
    world.when("it is to be served with more memory for KV than the accelerator has")
    wanted = world.simulated(model={"uri": f"pvc://filler-models/{commit}"}, hardware=SMALL_GPU)
    wanted["spec"]["engine"]["args"] = ["--kv-cache-memory-bytes=8G"]
    world.apply(wanted)
    found = world.eventually("the status says so", lambda: world.expect("Ready", "False", "DoesNotFit"), 90)
    world.tell("", found["message"])
    assert world.engine_pods() == []
    world.when("that is corrected")
    wanted["spec"]["engine"]["args"] = ["--max-model-len=512"]
    world.apply(wanted)
    world.becomes_ready(seconds=120)
    facts = stored_facts(world, "tiny")
    assert facts.tensors.bytes_by_dtype, "on a claim the headers of the weights are read"


@pytest.mark.engine("real vLLM 0.32.0")
def test_the_kv_cache_is_as_large_as_computed_and_as_vllm_logs(world: World) -> None:
    world.given("the tiny model on real vLLM")
    world.apply(world.deployment())
    world.becomes_ready()
    fit = world.eventually("the status says what the engine measured", lambda: world.read()["status"].get("fit"), 90)
    world.tell("", str(fit))
    pod = world.engine_pods()[0]["metadata"]["name"]
    log = world.client.kubectl("logs", pod, "-c", "engine", "-n", world.namespace)
    said = re.search(r"KV cache size: ([\d,]+) tokens", log)
    assert said is not None, "vLLM logs the size of its KV cache"
    logged = int(said[1].replace(",", ""))
    facts = stored_facts(world, "tiny")
    shape = model_shape(facts)
    assert not isinstance(shape, Unknown)
    settings = engine_settings([*CPU_ARGS, "--block-size=128"])  # the processor's
    cache = kv_cache(facts, shape, settings, memory_traits("0.32.0"), 1, 2048)
    assert not isinstance(cache, Unknown)
    assert settings.kv_cache_memory_bytes is not None
    capacity = cache.capacity(settings.kv_cache_memory_bytes, 512)
    world.then(f"computed {capacity.tokens}, logged {logged}, measured {fit['kvTokens']} tokens")
    assert (capacity.tokens, int(capacity.concurrent_requests)) == (logged, fit["concurrentRequests"])
    assert (fit["source"], fit["kvTokens"], fit["longestContext"]) == ("Measured", logged, 512)
