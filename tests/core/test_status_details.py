"""What else the status says: what serves, what starts, what was refused."""

from datetime import timedelta
from typing import Any

import pytest

from nightshift.adapters.kube import reference
from nightshift.api import names
from nightshift.api.conditions import Condition
from nightshift.api.fetch import Progress
from nightshift.api.status import Status
from nightshift.core.causes import Cause
from nightshift.core.observed import Observed
from nightshift.core.planning import Plan
from nightshift.core.status import description, refused_status, status
from tests.support.builders import (
    DIGEST,
    HUB_MODEL,
    NOW,
    SHA,
    config,
    container,
    deployment,
    model_spec,
    pod,
    revision,
)
from tests.support.simulation import Simulation
from tests.support.states import (
    SERVES,
    UNPAUSED,
    draining,
    first_step,
    rolling,
    serving,
)


def test_the_status_of_a_deployment_that_serves() -> None:
    simulation = serving()
    target = simulation.status().target_revision
    assert simulation.status().to_json() | {"conditions": []} == {
        "observedGeneration": 1,
        "conditions": [],
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "app.kubernetes.io/component=engine,nightshift.dev/deployment=bot",
        "url": "http://bot.ml.svc.cluster.local/v1",
        "version": "0.32.0",
        "revision": target,
        "targetRevision": target,
        "model": {"uri": HUB_MODEL, "revision": SHA},
        "image": {"reference": "registry.example/vllm:v0.32.0", "digest": DIGEST},
        "effective": {
            "engineVersion": "0.32.0",
            "engineImage": "registry.example/vllm",
            "accelerator": "nvidia-gpu",
            "acceleratorCount": 1,
        },
    }


def test_during_a_rollout_the_revision_with_most_ready_replicas_is_told_to_serve() -> None:
    simulation = rolling()
    assert simulation.status().revision != simulation.status().target_revision
    over = draining()
    assert over.status().revision == over.status().target_revision
    assert over.status().ready_replicas == 3


def test_while_a_new_model_is_asked_for_the_status_still_tells_the_old_one() -> None:
    simulation = serving()
    simulation.change_spec(model={"uri": "hf://acme/other"})
    simulation.tell_all()
    simulation.reconcile()
    assert simulation.status().target_revision is None
    assert simulation.status().model is not None
    assert simulation.status().image is not None
    assert simulation.condition("Available") == ("True", "Serving")


def test_a_missing_service_is_not_ready() -> None:
    simulation = serving()
    simulation.server.remove(reference(simulation.server.of_kind("Service")[0]))
    simulation.tell_all()
    simulation.reconcile()
    assert simulation.condition("Ready") == ("False", "Scaling")
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


RUNS = "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("containers", "reason", "says"),
    [
        pytest.param((), "PodStarting", "scheduling, pulling the image", id="a pod without containers"),
        pytest.param(
            (container(names.DOWNLOAD_CONTAINER, running_since=RUNS),),
            "DownloadingModel",
            "Downloading the model: 50 % of 2.0 GB.",
            id="a pod that downloads",
        ),
        pytest.param((container(running_since=RUNS),), "EngineStarting", "is loading the model", id="a pod that loads"),
    ],
)
def test_what_a_starting_pod_does(containers: tuple[Any, ...], reason: str, says: str) -> None:
    simulation = first_step()
    target = revision(model_spec(replicas=2))
    progress = Progress(bytes_done=1_000_000_000, bytes_total=2_000_000_000, files_done=0, files_total=1)
    observed = simulation.observed()
    changed = type(observed)(
        **{
            **vars(observed),
            "pods": (pod(target.hash, containers=containers),),
            "progress": {"bot-r1-a": progress},
        }
    )
    found = status(deployment(model_spec(replicas=2)), changed, Plan(target=target), config(), NOW)
    ready = next(item for item in found.conditions if item.type == "Ready")
    assert ready.reason == reason
    assert says in ready.message
    assert ready.message.startswith(f"0 of 2 replicas of revision {target.hash} are ready. ")


def test_a_plan_without_a_note_still_says_that_it_prepares() -> None:
    observed = Simulation(model_spec()).observed()
    found = status(deployment(), observed, Plan(), config(), NOW)
    assert (found.conditions[0].reason, found.conditions[0].message) == ("Preparing", "Preparing the revision.")


def test_a_refusal_of_the_api_server_stalls_a_deployment_that_would_be_complete() -> None:
    simulation = serving()
    blocker = Cause("NameTaken", "Service bot exists already.", definite=True)
    decided = simulation.reconcile()
    found = status(
        deployment(model_spec(replicas=2)),
        simulation.observed(),
        Plan(target=decided.target, blocker=blocker),
        config(),
        NOW,
    )
    assert {item.type: item.status for item in found.conditions} == {
        "Ready": "False",
        "Available": "True",
        "Progressing": "False",
        "Reconciling": "False",
        "Stalled": "True",
        "Paused": "False",
    }


def test_a_refused_spec_stalls_and_what_serves_goes_on_serving() -> None:
    simulation = serving()
    before = simulation.status()
    later = NOW + timedelta(minutes=1)
    after = refused_status(7, before, simulation.observed(), "InvalidSpec", "spec.replicas: too many.", later)
    found = {item.type: item for item in after.conditions}
    assert {kind: (item.status, item.reason) for kind, item in found.items()} == {
        "Ready": ("False", "InvalidSpec"),
        "Available": SERVES,
        "Progressing": ("False", "InvalidSpec"),
        "Reconciling": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
        "Paused": UNPAUSED,
    }
    assert (found["Ready"].last_transition_time, found["Available"].last_transition_time) == (later, NOW)
    assert (after.observed_generation, after.ready_replicas, after.revision) == (7, 2, before.revision)


def test_a_spec_that_was_refused_from_the_beginning_serves_nothing() -> None:
    after = refused_status(1, Status(), Observed(), "InvalidSpec", "spec.model: missing.", NOW)
    found: dict[str, Condition] = {item.type: item for item in after.conditions}
    assert (found["Available"].status, found["Available"].reason) == ("False", "InvalidSpec")


def test_after_a_refused_spec_what_dies_is_not_called_available() -> None:
    simulation = serving()
    for raw in list(simulation.server.of_kind("Pod")):
        simulation.world.crash(raw)
    simulation.tell_all()
    after = refused_status(7, simulation.status(), simulation.observed(), "InvalidSpec", "spec.replicas: no.", NOW)
    found = {item.type: item for item in after.conditions}
    assert (found["Available"].status, found["Available"].reason) == ("False", "NoReadyReplicas")
    assert (after.replicas, after.ready_replicas) == (2, 0)


def test_a_revision_in_one_line() -> None:
    assert (
        description(revision()) == f"registry.example/vllm:v0.32.0@{DIGEST} serving {HUB_MODEL} at commit 0123456789ab"
    )
    on_claim = revision({"model": {"uri": "pvc://models"}}, model_revision=None, image_digest=None)
    assert description(on_claim) == "registry.example/vllm:v0.32.0 serving pvc://models"
