"""The operator itself: beside others, upgraded, and after its objects lost their owner."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from e2e.images import image
from e2e.images.catalogue import NEXT_OPERATOR_VERSION
from e2e.stories.world import LEASE, World, is_ready
from e2e.support.client import Object
from e2e.support.install import CHART, RELEASE, SYSTEM, values
from nightshift import __version__

TEAM = "nightshift.dev/story-team"


def helm(world: World, release: str, namespace: str, **changes: Any) -> None:
    """Install or upgrade a release with the stories' values and some others; only the main one has a gateway."""
    gateway = image("gateway") if release == RELEASE else None
    settings = yaml.safe_dump(values(world.client, image("operator"), gateway) | changes)
    arguments = ["upgrade", "--install", release, str(CHART), "--namespace", namespace, "--wait", "--force-conflicts"]
    world.client.helm(*arguments, "--timeout", "3m", "--values", "-", stdin=settings, timeout=240)


@contextmanager
def main_release(world: World, **changes: Any) -> Iterator[None]:
    """The installation of all stories with other values; as it was, afterwards."""
    helm(world, RELEASE, SYSTEM, **changes)
    try:
        yield
    finally:
        helm(world, RELEASE, SYSTEM)


def uids(world: World, name: str = "tiny") -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.engine_pods(name) if is_ready(pod)}


def builds(world: World) -> set[str]:
    """Versions that the operators' pods say they are; the release has waited for them."""
    pods = world.client.list("pods", SYSTEM, "app.kubernetes.io/name=nightshift")
    here = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    logs = [world.client.kubectl("logs", "-n", SYSTEM, name, "--tail=-1") for name in here]
    return {match[1] for text in logs for match in re.finditer(r"Nightshift (\S+) starts", text)}


def labelled(manifest: Object, team: str) -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {TEAM: team}}}


@pytest.mark.engine("simulator")
def test_a_release_for_one_namespace_serves_beside_the_first_and_hands_over(world: World) -> None:
    world.given("the first release leaves the label of a second one alone")
    second = {"watchNamespaces": [world.namespace], "labelSelector": f"{TEAM}=second", "crds": {"enabled": False}}
    with main_release(world, labelSelector=f"{TEAM}!=second"):
        world.given("a second release, for this namespace and this label only")
        helm(world, "second", world.namespace, replicas=1, **second)
        own = world.client.list("clusterroles", "", "app.kubernetes.io/instance=second")
        assert own == [], "it has no rights beyond the namespace"
        world.when("a deployment with its label is applied")
        world.apply(labelled(world.simulated(), "second"))
        world.becomes_ready(seconds=120)
        logs = world.client.kubectl("logs", "-n", SYSTEM, f"deployment/{RELEASE}", "--all-pods=true", "--tail=-1")
        assert f"{world.namespace}/tiny" not in logs, "the first release did nothing for it"
        before = uids(world)
        world.when("its label is taken away")
        world.client.kubectl("label", "lld", "tiny", "-n", world.namespace, f"{TEAM}-")
        world.when("the second release is uninstalled, and the deployment scaled")
        world.client.helm("uninstall", "second", "--namespace", world.namespace, "--wait")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=2")
        world.eventually("the first release scales it", lambda: len(uids(world)) == 2 or None, 60)
        assert before < uids(world), "and the pod that was there is the same"
        world.becomes_ready(seconds=60)


@pytest.mark.engine("simulator")
def test_an_upgrade_to_another_build_with_other_defaults_restarts_no_engine(world: World) -> None:
    world.given("a deployment that says nothing of versions, on the simulator's image")
    manifest = world.simulated()
    del manifest["spec"]["engine"]["version"]
    world.apply(manifest)
    world.becomes_ready(seconds=120)
    before, status = uids(world), world.read()["status"]
    repository, _, tag = image("operator-next").rpartition(":")
    other = {"engine": {"version": "0.31.0", "image": "registry.example/other"}, "resyncSeconds": 60}
    with main_release(world, image={"repository": repository, "tag": tag}, **other):
        world.when("the chart was upgraded to a build of another version, and other defaults of the engine")
        assert builds(world) == {NEXT_OPERATOR_VERSION}
        world.client.kubectl("annotate", "lld", "tiny", "-n", world.namespace, "nightshift.dev/story=upgraded")
        world.client.kubectl("scale", "lld", "tiny", "-n", world.namespace, "--replicas=2")
        world.becomes_ready(seconds=90)
        assert before < uids(world)
        assert {key: world.read()["status"][key] for key in ("revision", "version", "image", "model")} == {
            key: status[key] for key in ("revision", "version", "image", "model")
        }
    world.when("and back")
    assert builds(world) == {__version__}
    world.becomes_ready(seconds=60)
    assert before < uids(world)


@pytest.mark.engine("simulator")
def test_restored_from_yaml_it_keeps_its_pins_and_its_pods(world: World) -> None:
    world.apply(world.simulated())
    world.becomes_ready(seconds=120)
    before, status = uids(world), world.read()["status"]
    world.when("it is deleted with --cascade=orphan, and its YAML applied without status")
    world.client.kubectl("delete", "lld", "tiny", "-n", world.namespace, "--cascade=orphan")

    def orphaned() -> bool | None:
        found = world.client.list("controllerrevisions,replicasets", world.namespace, "nightshift.dev/deployment=tiny")
        return all("ownerReferences" not in item["metadata"] for item in found) or None

    world.eventually("the owners are gone", orphaned, 60)
    world.apply(world.simulated())
    world.becomes_ready(seconds=60)
    assert uids(world) == before
    now = world.read()["status"]
    assert {key: now[key] for key in ("revision", "image", "model")} == {
        key: status[key] for key in ("revision", "image", "model")
    }
    assert "Adopted" in {event["reason"] for event in world.events()}


@pytest.mark.engine("simulator")
def test_a_leader_whose_lease_is_taken_says_so_and_another_acts(world: World) -> None:
    """The one error that Nightshift logs on purpose, which shows that the stories' check of its logs sees errors."""

    leader = world.eventually("one operator leads", world.leader, 30)
    world.when("a stranger takes the leader's Lease")
    patch = '{"spec": {"holderIdentity": "stranger", "renewTime": null}}'
    world.client.kubectl("patch", "lease", LEASE, "-n", SYSTEM, "--type=merge", "-p", patch)
    world.expected_errors += ["stranger holds the lease now", f"{leader} stops leading"]
    world.apply(world.simulated())
    world.eventually("another leads", lambda: world.leader() not in (None, leader, "stranger") or None, 30)
    world.becomes_ready(seconds=120)
