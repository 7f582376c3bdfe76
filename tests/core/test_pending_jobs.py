"""Jobs whose pod waits for what a corrected spec gives: they make way for the corrected one."""

from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from tests.support.builders import HUB_MODEL, OTHER_SHA, SHA
from tests.support.simulation import Simulation

BRANCH = {"uri": HUB_MODEL, "revision": "main"}
ON_CLAIM = {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "20Gi"}}
BACK_OFF = {"reason": "ImagePullBackOff", "message": "Back-off pulling image: unauthorized"}
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}


def waits_in_vain(simulation: Simulation) -> None:
    """Every fetch Job that is there now has a pod that neither runs nor fails."""
    for _ in range(8):
        simulation.tell_all()
        simulation.reconcile()
        for step in simulation.world.pending():
            if step.name.startswith("job ") and step.name.endswith("makes a pod"):
                step.act()
                for raw in simulation.server.of_kind("Pod"):
                    simulation.server.change(reference(raw), lambda pod: pod.update(status=stuck(pod)))


def stuck(pod: Object) -> Object:
    container = {"name": pod["spec"]["containers"][0]["name"], "state": {"waiting": BACK_OFF}}
    return {"phase": "Pending", "containerStatuses": [container], "conditions": [UNPLACED]}


def jobs(simulation: Simulation) -> list[str]:
    return [raw["metadata"]["name"] for raw in simulation.server.of_kind("Job")]


def inside(simulation: Simulation) -> dict[str, Any]:
    (job,) = simulation.server.of_kind("Job")
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


SECRET = {"imagePullSecrets": [{"name": "pull"}]}
TOKEN = {"tokenSecretRef": {"name": "hub"}}


@pytest.mark.parametrize(
    ("model", "change"),
    [
        pytest.param(BRANCH, {"podTemplate": SECRET}, id="resolving: a pull secret is named"),
        pytest.param(BRANCH, {"model": BRANCH | TOKEN}, id="resolving: a token is named"),
        pytest.param(BRANCH, {"model": BRANCH | {"uri": "hf://acme/other"}}, id="resolving: another model"),
        pytest.param(BRANCH, {"model": BRANCH | {"revision": "v2"}}, id="resolving: another branch"),
        pytest.param(ON_CLAIM, {"podTemplate": SECRET}, id="downloading: a pull secret is named"),
        pytest.param(ON_CLAIM, {"model": ON_CLAIM | TOKEN}, id="downloading: a token is named"),
        pytest.param(ON_CLAIM, {"podTemplate": {"tolerations": [{"key": "a"}]}}, id="downloading: a toleration"),
        pytest.param(ON_CLAIM, {"model": ON_CLAIM | {"revision": OTHER_SHA}}, id="downloading: another commit"),
    ],
)
def test_a_job_that_waits_makes_way_for_the_corrected_one(model: dict[str, Any], change: dict[str, Any]) -> None:
    simulation = Simulation({"model": model})
    waits_in_vain(simulation)
    (first,) = jobs(simulation)
    assert simulation.condition("Ready") == ("False", "ImagePullFailed")
    simulation.change_spec(**change)
    waits_in_vain(simulation)
    assert jobs(simulation) != [first]
    assert len(jobs(simulation)) == 1, "nobody waits for the first any more"
    assert inside(simulation).get("imagePullSecrets", []) == change.get("podTemplate", {}).get("imagePullSecrets", [])
    for raw in list(simulation.server.of_kind("Pod")):
        simulation.server.remove(reference(raw))
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_download_that_nobody_needs_any_more_is_ended() -> None:
    simulation = Simulation({"model": ON_CLAIM})
    waits_in_vain(simulation)
    simulation.change_spec(model={"uri": HUB_MODEL, "revision": SHA})
    simulation.settle()
    assert jobs(simulation) == []
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_download_that_moves_bytes_goes_on_through_an_upgrade() -> None:
    simulation = Simulation({"model": ON_CLAIM})
    waits_in_vain(simulation)
    before = jobs(simulation)
    pod = simulation.server.of_kind("Pod")[0]
    simulation.server.change(reference(pod), lambda raw: raw.update(status={"phase": "Running"}))
    chosen: OperatorConfig = simulation.config
    simulation.change_config(fetch_image=f"{chosen.fetch_image}2")
    for _ in range(3):
        simulation.tell_all()
        simulation.reconcile()
    assert jobs(simulation) == before


def test_one_that_only_waits_is_made_anew_by_an_upgrade() -> None:
    simulation = Simulation({"model": ON_CLAIM})
    waits_in_vain(simulation)
    before = jobs(simulation)
    simulation.change_config(fetch_image="registry.example/nightshift/operator:2")
    waits_in_vain(simulation)
    assert jobs(simulation) != before
    assert inside(simulation)["containers"][0]["image"] == "registry.example/nightshift/operator:2"


def test_jobs_of_others_and_those_that_ended_are_left_alone() -> None:
    simulation = Simulation({"model": BRANCH}).settle()
    (done,) = jobs(simulation)
    owner = simulation.server.of_kind("Job")[0]["metadata"]["ownerReferences"]
    labels = {names.LABEL_DEPLOYMENT: "bot", names.LABEL_COMPONENT: "someone's"}
    other = {"name": "other", "namespace": "ml", "labels": labels, "ownerReferences": owner}
    template: dict[str, Any] = {"metadata": {}, "spec": {"containers": []}}
    simulation.server.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": other, "spec": {"template": template}}
    )
    for _ in range(3):
        simulation.tell_all()
        simulation.reconcile()
    assert jobs(simulation) == [done, "other"]
