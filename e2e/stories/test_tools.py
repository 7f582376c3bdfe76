"""What other tools see: Helm waits for the truth, the API server refuses nonsense, a second operator takes over."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.stories.world import World, is_ready
from e2e.support.client import KubectlError
from e2e.support.install import SYSTEM
from e2e.support.killing import kill_container

TAKEOVER_SECONDS = 20.0
LOAD_SECONDS = 6
"""How long engines load that somebody waits for: one that returns too early is seen."""


@pytest.mark.engine("simulator")
def test_helm_wait_returns_when_a_deployment_serves(world: World, tmp_path: Path) -> None:
    world.given("a chart that holds an LLMDeployment")
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "mine", "version": "1.0.0"}))
    manifest = world.simulated()
    (tmp_path / "templates" / "tiny.yaml").write_text(yaml.safe_dump(manifest))
    world.when("helm install --wait")
    world.client.helm("install", "mine", str(tmp_path), "-n", world.namespace, "--wait", "--timeout", "180s")
    world.expect("Ready", "True")
    world.then("it came back when the model served")

    world.when("helm upgrade --wait to a model that does not exist")
    manifest["spec"]["model"]["uri"] = "hf://nightshift/absent"
    (tmp_path / "templates" / "tiny.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(KubectlError, match="Failed") as refusal:
        world.client.helm("upgrade", "mine", str(tmp_path), "-n", world.namespace, "--wait", "--timeout", "40s")
    world.tell("", str(refusal.value).splitlines()[-1])
    world.then("it failed, as it should")
    world.expect("Available", "True")


def slow(world: World, length: int) -> dict[str, Any]:
    """A deployment whose engine takes its time, with an argument that tells its revision."""
    manifest = world.simulated()
    manifest["spec"]["engine"] |= {
        "args": [f"--max-model-len={length}"],
        "env": [{"name": "VLLM_SIM_LOAD_SECONDS", "value": str(LOAD_SECONDS)}],
    }
    return manifest


def serves(world: World, length: int) -> bool:
    """Whether the pods with this argument are ready, and there are no others but those that are leaving."""
    pods = [pod for pod in world.engine_pods() if "deletionTimestamp" not in pod["metadata"]]
    right = [f"--max-model-len={length}" in pod["spec"]["containers"][0]["args"] for pod in pods]
    return bool(pods) and all(right) and all(is_ready(pod) for pod in pods)


def watch_the_wait(world: World, waiting: "subprocess.Popen[str]", length: int, seconds: float) -> bool:
    """Whether kubectl wait returned within some seconds; that it did so before the truth fails the story."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        returned = waiting.poll()
        true_now = serves(world, length)  # looked at after kubectl was: what it said was true then, is still
        if returned is not None:
            said = waiting.communicate()[0]
            assert returned == 0, f"kubectl wait failed: {said}"
            assert true_now, f"kubectl wait returned before the truth: {said}"
            return True
        time.sleep(0.1)
    return False


@pytest.mark.engine("simulator")
def test_kubectl_wait_returns_with_the_truth_and_not_before(world: World) -> None:
    arguments = ("wait", "-n", world.namespace, "--for=condition=Ready", "lld/tiny", "--timeout=180s")
    world.when("a deployment is applied, and kubectl wait started at once")
    world.apply(slow(world, 512))
    with world.client.background(*arguments) as waiting:
        assert watch_the_wait(world, waiting, 512, 120), "it did not return"
    world.then("it returned when the engine served")

    world.when("an argument is changed, and kubectl wait started at once")
    world.apply(slow(world, 256))
    with world.client.background(*arguments) as waiting:
        assert watch_the_wait(world, waiting, 256, 120), "it did not return"
    world.then("it returned when the new revision served, and the old one took no requests any more")

    world.when("Nightshift is away, an argument is changed, and kubectl wait started at once")
    world.scale_operator(0)
    try:
        world.apply(slow(world, 128))
        resource, ready = world.read(), world.condition("Ready")
        assert ready["status"] == "True", "nobody is there to take it back"
        assert ready["observedGeneration"] < resource["metadata"]["generation"], "and it says of what it speaks"
        with world.client.background(*arguments) as waiting:
            assert not watch_the_wait(world, waiting, 128, LOAD_SECONDS), "it returned though nobody acted"
            world.then(f"it still waits after {LOAD_SECONDS} s")
            world.when("Nightshift is back")
            world.scale_operator(2)
            assert watch_the_wait(world, waiting, 128, 120), "it did not return"
    finally:
        world.scale_operator(2)
    world.then("it returned when the new revision served, and the old one took no requests any more")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an argument that Nightshift owns": ({"engine": {"args": ["--port=1"]}}, "--port"),
    "an argument that carries a secret, spelled with underscores": ({"engine": {"args": ["--api_key=x"]}}, "--api-key"),
    "a variable that opens the engine": (
        {"engine": {"env": [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]}},
        "VLLM_SERVER_DEV_MODE",
    ),
    "a version that is none": ({"engine": {"version": "newest"}}, "spec.engine.version"),
    "a model address that is none": ({"model": {"uri": "ftp://a/b"}}, "spec.model.uri"),
    "a revision of a claim": ({"model": {"uri": "pvc://a/b", "revision": "main"}}, "belong to hf:// models"),
    "a cache claim without a size": (
        {"model": {"uri": "hf://a/b", "cache": {"type": "Claim"}}},
        "cache type Claim needs a size",
    ),
    "a field that does not exist": ({"sclaing": {}}, "sclaing"),
    "fewer replicas than none": ({"replicas": -1}, "spec.replicas"),
    "a volume name of Nightshift's": ({"podTemplate": {"volumes": [{"name": "models"}]}}, "belong to Nightshift"),
}


@pytest.mark.engine("none")
def test_the_api_server_refuses_nonsense_with_the_remedy(world: World) -> None:
    for what, (spec, expected) in REFUSED.items():
        with pytest.raises(KubectlError) as refusal:
            world.client.kubectl(
                "create", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(world.deployment(**spec))
            )
        assert expected in str(refusal.value), f"{what}: {refusal.value}"
        world.then(f"{what} is refused")
    with pytest.raises(KubectlError, match="at most 40 characters"):
        world.apply(world.deployment("a" * 41))
    with pytest.raises(KubectlError, match="must begin with a letter"):
        world.apply(world.deployment("1a"))


def fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Paths of all fields below a schema, as kubectl explain takes them."""
    for name, inner in schema.get("items", schema).get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(inner, f"{path}.{name}")


@pytest.mark.engine("none")
def test_kubectl_explain_reads_like_documentation(world: World) -> None:
    text = " ".join(world.client.kubectl("explain", "lld.spec.engine.args").split())
    assert "restarts the pods" in text
    assert "Flags that Nightshift" in text
    definition = world.client.get("crd", "llmdeployments.nightshift.dev", "default")
    assert definition is not None
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    paths = list(fields(spec, "lld.spec"))
    told = world.client.kubectl("explain", "lld.spec", "--recursive")
    missing = [path for path in paths if f"{path.rpartition('.')[2]}\t<" not in told]
    assert missing == []
    world.then(f"kubectl explain tells of {len(paths)} fields")
    parents = sorted({path.rpartition(".")[0] for path in paths})
    silent = [path for path in parents if "<no description>" in world.client.kubectl("explain", path)]
    assert silent == []
    world.then("and says of each what it is")


@pytest.mark.engine("simulator")
def test_the_other_operator_takes_over(world: World) -> None:
    leader = world.eventually("one operator leads", world.leader, 30)
    name = leader.rpartition("_")[0]
    pod = world.client.get("pod", name, SYSTEM)
    assert pod is not None, f"the lease names {leader}, and there is no such pod"
    done = kill_container(world.client, pod, "operator")
    killed = time.monotonic()
    world.when(f"the leader {done}")
    assert world.leader() == leader, "nobody gave the lease up: it has to run out"
    world.apply(world.simulated())
    world.eventually("another acts", lambda: world.expect("Ready", "False"), TAKEOVER_SECONDS, every=0.2)
    seconds = time.monotonic() - killed
    world.then(f"that was {seconds:.1f} s after the kill")
    assert seconds <= TAKEOVER_SECONDS
    new = world.leader()
    assert new is not None
    assert new.rpartition("_")[0] != name, "the standby took over, not the container that was started again"
    if world.client.access.local:
        before = pod["status"]["containerStatuses"][0]["restartCount"]
        world.eventually("the kubelet started it again", lambda: _restarts(world, name) == before + 1, 60)
    world.becomes_ready(seconds=120)


def _restarts(world: World, pod: str) -> int:
    found = world.client.get("pod", pod, SYSTEM)
    assert found is not None
    return int(found["status"]["containerStatuses"][0]["restartCount"])
