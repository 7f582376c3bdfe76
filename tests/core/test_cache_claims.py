"""Models on a cache claim: what is downloaded when, and what of the claim is written."""

from dataclasses import replace
from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.fetch import Downloaded, Failed, FetchReason
from nightshift.core.objects import refused
from tests.support.builders import HUB_MODEL, OTHER_SHA, SHA
from tests.support.simulation import Simulation
from tests.support.world import Fate

LATER, LATER_STILL = "2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z"
FULL = Failed(reason=FetchReason.MODEL_CACHE_FULL, message="The model's cache is full.")
DOWNLOADED = Downloaded(sha=SHA, files=1, bytes=1)


def on_claim(revision: str = SHA, size: str = "20Gi", **more: Any) -> dict[str, Any]:
    return {"uri": HUB_MODEL, "revision": revision, "cache": {"type": "Claim", "size": size}} | more


def claim(simulation: Simulation) -> Object:
    return simulation.server.of_kind("PersistentVolumeClaim")[0]


def note(simulation: Simulation) -> list[str]:
    """The commits that the claim is noted to hold."""
    uid, *commits = claim(simulation)["metadata"]["annotations"][names.ANNOTATION_DOWNLOADED].split()
    assert uid == claim(simulation)["metadata"]["uid"]
    return list(commits)


def jobs(simulation: Simulation) -> list[str]:
    return [raw["metadata"]["name"] for raw in simulation.server.of_kind("Job")]


def downloads(simulation: Simulation) -> int:
    """How many were made so far."""
    return sum(line.startswith("operator: Downloading") for line in simulation.log)


def hour_passes(simulation: Simulation) -> None:
    """What has ended is deleted by its time to live."""
    for raw in list(simulation.server.of_kind("Job")):
        simulation.server.remove(reference(raw))
    simulation.settle()


def at(simulation: Simulation, moment: str) -> None:
    simulation.server.timestamp = lambda: moment  # type: ignore[method-assign]


def settled(**model: Any) -> Simulation:
    simulation = Simulation({"model": on_claim(**model)}).settle()
    at(simulation, LATER)
    return simulation


def test_a_claim_that_was_made_anew_is_filled_anew() -> None:
    """As the refusal of a smaller size says: type Pod, delete the claim, ask for another."""
    simulation = settled()
    simulation.change_spec(model={"uri": HUB_MODEL, "revision": SHA})
    simulation.settle()
    simulation.server.remove(reference(claim(simulation)))
    simulation.change_spec(model=on_claim(size="10Gi"))
    simulation.settle()
    assert downloads(simulation) == 2, "the Job of the first claim has succeeded, and says nothing of the second"
    assert note(simulation) == [SHA]
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_claim_that_was_deleted_under_its_replicas_is_filled_anew_beside_them() -> None:
    simulation = settled()
    simulation.world.fate = lambda raw: Fate.CRASHES
    simulation.world.answer = lambda job: FULL
    for raw in (claim(simulation), *simulation.server.of_kind("Pod")):
        simulation.server.remove(reference(raw))
    simulation.settle()
    assert downloads(simulation) == 2
    assert simulation.condition("Ready") == ("False", "ModelCacheFull")
    simulation.world.answer = lambda job: DOWNLOADED
    simulation.world.fate = lambda raw: Fate.SERVES
    hour_passes(simulation)
    for raw in list(simulation.server.of_kind("Pod")):
        simulation.server.remove(reference(raw))
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert note(simulation) == [SHA]


def test_replicas_without_their_model_say_so_while_it_is_downloaded() -> None:
    simulation = settled()
    for raw in (claim(simulation), *simulation.server.of_kind("Pod")):
        simulation.server.remove(reference(raw))
    for _ in range(3):
        simulation.tell_all()
        simulation.reconcile()
    assert simulation.condition("Ready") == ("False", "ModelCacheEmpty")
    assert "Claim bot-models does not hold hf://acme/tiny" in simulation.status().conditions[0].message


def test_a_restored_note_says_nothing_of_another_claim() -> None:
    simulation = settled()
    old = claim(simulation)
    simulation.change_spec(replicas=0)
    simulation.settle()
    simulation.server.remove(reference(old))
    simulation.server.create({**old, "metadata": {**old["metadata"], "uid": "ignored"}})
    simulation.settle()
    assert downloads(simulation) == 2
    assert note(simulation) == [SHA]


def test_a_commit_that_is_there_is_not_downloaded_again_for_another_revision() -> None:
    simulation = settled()
    hour_passes(simulation)
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.settle()
    assert downloads(simulation) == 1
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_claim_of_a_version_that_wrote_no_notes_is_noted_without_a_download() -> None:
    simulation = Simulation({"model": on_claim(), "replicas": 0}).settle()
    hour_passes(simulation)
    where = reference(claim(simulation))
    simulation.server.change(where, lambda raw: raw["metadata"]["annotations"].pop(names.ANNOTATION_DOWNLOADED))
    simulation.settle()
    assert (downloads(simulation), note(simulation)) == (1, [SHA])


def test_what_a_replica_that_serves_has_read_is_there() -> None:
    simulation = settled()
    hour_passes(simulation)
    at(simulation, LATER_STILL)
    where = reference(claim(simulation))
    simulation.server.change(where, lambda raw: raw["metadata"]["annotations"].pop(names.ANNOTATION_DOWNLOADED))
    simulation.server.change(where, lambda raw: raw["metadata"].update(creationTimestamp=LATER_STILL))
    simulation.settle()
    assert (downloads(simulation), note(simulation)) == (1, [SHA])


def test_a_job_is_told_what_may_go_and_the_note_forgets_it_before() -> None:
    simulation = settled()
    for revision in (OTHER_SHA, "2" * 40):
        simulation.change_spec(model=on_claim(revision))
        simulation.settle()
    arguments = simulation.server.of_kind("Job")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[-4:] == [
        "--in-use",
        ",".join(sorted((OTHER_SHA, "2" * 40))),
        "--kept",
        ",".join(sorted((SHA, OTHER_SHA, "2" * 40))),
    ]
    assert note(simulation) == sorted((OTHER_SHA, "2" * 40)), "the first commit may have made room"
    simulation.change_spec(model=on_claim())
    simulation.settle()
    assert downloads(simulation) == 4
    assert len(jobs(simulation)) == 1, "an earlier Job's success would not count for what was removed since"
    assert simulation.condition("Ready") == ("True", "Serving")


def test_nothing_goes_while_a_stored_revision_cannot_be_read() -> None:
    simulation = settled()
    stored = simulation.server.of_kind("ControllerRevision")[0]
    simulation.change_spec(model=on_claim(OTHER_SHA))
    simulation.settle()
    simulation.server.change(reference(stored), lambda raw: raw.update(data={"of": "a newer version"}))
    simulation.change_spec(model=on_claim("2" * 40))
    simulation.settle()
    arguments = simulation.server.of_kind("Job")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--in-use" not in arguments
    assert SHA in note(simulation)


def test_a_claim_that_is_being_deleted_is_waited_for() -> None:
    simulation = settled()
    simulation.server.change(reference(claim(simulation)), lambda raw: raw["metadata"].update(deletionTimestamp=LATER))
    simulation.change_spec(model=on_claim(OTHER_SHA))
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "ModelCacheLeaving")
    assert simulation.condition("Available") == ("True", "Serving")
    assert downloads(simulation) == 1


def bind(simulation: Simulation) -> None:
    simulation.server.change(reference(claim(simulation)), lambda raw: raw.update(status={"phase": "Bound"}))
    simulation.settle()


def size(simulation: Simulation) -> str:
    found: str = claim(simulation)["spec"]["resources"]["requests"]["storage"]
    return found


@pytest.mark.parametrize(
    ("given", "wanted", "bound", "expected"),
    [
        pytest.param("20Gi", "50Gi", True, "50Gi", id="a larger size enlarges the claim"),
        pytest.param("20Gi", "20480Mi", True, "20Gi", id="the same size in other words writes nothing"),
        pytest.param("60Gi", "50Gi", True, "60Gi", id="an administrator gave it more: that stays"),
        pytest.param("20Gi", "50Gi", False, "20Gi", id="a claim without a volume cannot be changed"),
    ],
)
def test_a_larger_size_is_asked_of_the_claim_and_restarts_nothing(
    given: str, wanted: str, bound: bool, expected: str
) -> None:
    simulation = settled()
    target = simulation.status().target_revision
    if bound:
        bind(simulation)
    requests = {"requests": {"storage": given}}
    simulation.server.change(reference(claim(simulation)), lambda raw: raw["spec"].update(resources=requests))
    simulation.change_spec(model=on_claim(size=wanted))
    simulation.settle()
    assert size(simulation) == expected
    assert (simulation.status().target_revision, note(simulation)) == (target, [SHA])
    assert simulation.condition("Ready") == ("True", "Serving")


def test_a_refused_enlargement_is_told_with_what_helps() -> None:
    simulation = settled()
    bind(simulation)
    simulation.change_spec(model=on_claim(size="50Gi"))
    simulation.tell_all()
    (item,) = simulation.reconcile().apply
    cause = refused(item, "only dynamically provisioned pvc can be resized.")
    assert (cause.reason, cause.definite) == ("ModelCacheNotEnlarged", True)
    assert "set model.cache.type to Pod, delete the claim" in cause.message
    assert refused(replace(item, create=True), "exceeded quota").reason == "ObjectRefused"
