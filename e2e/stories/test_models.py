"""Where models come from: the Hub's protocol, gated models, cache claims."""

import pytest

from e2e.stories.world import World
from e2e.support.client import Object

GATED = "hf://nightshift/gated"
TOKEN = "hf_nightshift_story"


def secret(world: World, token: str) -> Object:
    """The Secret `hub` with a token."""
    metadata = {"name": "hub", "namespace": world.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}


@pytest.mark.engine("simulator")
def test_a_gated_model_says_so_and_heals_with_a_token(world: World) -> None:
    world.given("a gated model and no token")
    world.apply(world.simulated(model={"uri": GATED}))
    found = world.eventually(
        "the status names the reason", lambda: world.expect("Ready", "False", "ModelAccessDenied"), 90
    )
    world.tell("", found["message"])
    assert "tokenSecretRef" in found["message"]
    world.expect("Stalled", "True", "ModelAccessDenied")
    world.when("a Secret with a token is named")
    world.apply(secret(world, TOKEN), world.simulated(model={"uri": GATED, "tokenSecretRef": {"name": "hub"}}))
    world.becomes_ready(seconds=120)
    engine = world.engine_pods()[0]["spec"]["containers"][0]
    assert not [entry for entry in engine["env"] if "valueFrom" in entry], "the engine never sees the token"
    assert TOKEN not in world.dump()


@pytest.mark.engine("simulator")
def test_a_token_that_is_corrected_is_tried_by_itself(world: World) -> None:
    world.given("a gated model, and a Secret with a token that the Hub does not know")
    world.apply(secret(world, "hf_wrong"), world.simulated(model={"uri": GATED, "tokenSecretRef": {"name": "hub"}}))
    world.eventually("the status names the reason", lambda: world.expect("Ready", "False", "ModelAccessDenied"), 90)
    world.when("the Secret is corrected, and nothing else")
    world.apply(secret(world, TOKEN))
    world.becomes_ready(seconds=150)


@pytest.mark.engine("simulator")
def test_a_missing_model_says_so_and_heals_with_the_right_name(world: World) -> None:
    world.given("a model that the Hub does not have")
    world.apply(world.simulated(model={"uri": "hf://nightshift/absent"}))
    found = world.eventually("the status names the reason", lambda: world.expect("Ready", "False", "ModelNotFound"), 90)
    world.tell("", found["message"])
    world.when("the name is corrected")
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    commit = world.read()["status"]["model"]["revision"]
    assert len(commit) == 40, "the branch is pinned to a commit"


@pytest.mark.engine("simulator")
def test_a_cache_claim_is_filled_once_for_all_replicas(world: World) -> None:
    world.given("a cache claim of the cluster's default storage class, and two replicas")
    cache = {"type": "Claim", "size": "1Gi"}
    world.apply(world.simulated(model={"uri": "hf://nightshift/tiny", "cache": cache}, replicas=2))
    world.becomes_ready(seconds=180)
    jobs = [name for name in world.owned() if name.startswith("Job/tiny-download")]
    assert len(jobs) == 1
    for pod in world.engine_pods():
        assert "initContainers" not in pod["spec"], "a replica's restart downloads nothing"


@pytest.mark.engine("simulator")
def test_an_image_that_does_not_exist_says_so(world: World) -> None:
    world.given("a version that the registry does not have")
    world.apply(world.simulated(version="9.9.9"))
    found = world.eventually(
        "the status names the reason", lambda: world.expect("Ready", "False", "ImagePullFailed"), 60
    )
    world.tell("", found["message"])
    assert world.engine_pods() == [], "no pod was made for an image that is not there"
    world.when("the version is corrected")
    world.apply(world.simulated(version="0.31.0"))
    world.becomes_ready(seconds=120)
    assert world.read()["status"]["version"] == "0.31.0"
