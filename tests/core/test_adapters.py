"""From spec.adapters to pins, revisions, and what engines should hold; told with a process that may end at any time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api import names
from nightshift.api.adapters import AdapterPin, AdapterSpec, AdapterState
from nightshift.api.fetch import AdapterResolved, Failed, FetchOutcome, FetchReason
from nightshift.core.adapter_sight import TRIES, path_of
from nightshift.core.adapters import RESOLVE_SECONDS, Entry, lora_rank
from nightshift.core.adoption import adoption_message
from nightshift.core.plan import plan
from nightshift.core.revisions import find, parse_revision, same_but_place
from tests.support.api_server import deployment_reference
from tests.support.builders import NOW, OTHER_SHA, config, deployment, model_spec, revision, wanted_of, with_gateway
from tests.support.mortal import Mortal
from tests.support.simulation import Simulation
from tests.support.tales import REFUNDS
from tests.support.world import is_ready, usual_answer

GREETINGS = {"name": "greetings", "uri": "hf://acme/greetings"}
GONE = Failed(reason=FetchReason.ADAPTER_NOT_FOUND, message="The Hub has no acme/refunds.")


def settled(spec: Mapping[str, Any]) -> Mortal:
    simulation = Mortal(spec)
    simulation.settle()
    return simulation


def answered(simulation: Simulation, outcome: FetchOutcome, uri: str = "hf://acme/refunds") -> None:
    """What resolving an adapter of this address comes to from now on."""

    def answer(job: Object) -> FetchOutcome:
        asked = job["metadata"]["annotations"].get(names.ANNOTATION_MODEL_REQUEST, "")
        return outcome if asked.partition("@")[0] == uri else usual_answer(job)

    simulation.world.answer = answer


def adapter(simulation: Simulation, name: str = "refunds") -> tuple[str | None, int, str]:
    """What the status says of an adapter: commit, ready replicas, reason."""
    found = next(item for item in simulation.status().adapters or () if item.name == name)
    return found.revision, found.ready_replicas, found.reason


def pins(simulation: Simulation) -> list[Object]:
    return [raw for raw in simulation.server.of_kind("ControllerRevision") if "sha" in raw["data"]]


def revisions(simulation: Simulation) -> list[Any]:
    found = [parse_revision(raw) for raw in simulation.server.of_kind("ControllerRevision")]
    return [item for item in found if item is not None]


def entry(rank: int | None, name: str = "x") -> Entry:
    pin = None
    if rank is not None:
        pin = AdapterPin(name=name, uri="hf://a/b", revision="main", sha="a" * 40, rank=rank)
    return Entry(AdapterSpec(name=name, uri="hf://a/b"), {}, pin)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        pytest.param((), None, id="no adapters need none"),
        pytest.param((8,), 16, id="never less than vLLM's default"),
        pytest.param((8, 24), 32, id="the next that vLLM knows above the highest"),
        pytest.param((512,), 512, id="the highest there is"),
        pytest.param((600, 8), 16, id="one that is above all does not count"),
        pytest.param((None,), 16, id="nor does one that is not known"),
    ],
)
def test_the_rank_that_engines_must_take(ranks: tuple[int | None, ...], expected: int | None) -> None:
    assert lora_rank(map(entry, ranks)) == expected


def test_without_adapters_a_revision_is_what_it_was() -> None:
    plain, wide = revision(), revision(lora_rank=16)
    assert "loraRank" not in plain.record.inputs.to_json()["resolved"]
    assert plain.hash != wide.hash
    assert not same_but_place(plain, wide)


@pytest.mark.parametrize(
    ("rank", "found"),
    [(None, "wide"), (8, "wide"), (16, "wide"), (64, None)],
    ids=["none asked for", "a lower one", "the same", "a higher one"],
)
def test_a_revision_that_takes_enough_is_kept(rank: int | None, found: str | None) -> None:
    plain, wide = revision(number=1), revision(number=2, lora_rank=16)
    kept = find((plain, wide), wanted_of(model_spec()), rank)
    assert kept == {"wide": wide, None: None}[found]


def test_the_first_adapter_is_pinned_before_a_revision_is_made_for_it() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    made = [
        raw["kind"] for raw in simulation.server.everything() if raw["kind"] in ("ControllerRevision", "ReplicaSet")
    ]
    assert (len(pins(simulation)), len(revisions(simulation)), made.count("ReplicaSet")) == (1, 1, 1)
    assert revisions(simulation)[0].resolved.lora_rank == 16
    sha = pins(simulation)[0]["data"]["sha"]
    assert adapter(simulation) == (sha, 1, "Loaded")
    assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.condition("AdaptersReady") == ("True", "Loaded")


def test_a_branch_that_moves_moves_nothing_and_an_entry_that_comes_back_is_resolved_anew() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    before = adapter(simulation)
    answered(simulation, AdapterResolved(sha=OTHER_SHA, bytes=1, rank=8))
    simulation.begin()
    simulation.change_spec(replicas=2)
    simulation.settle()
    assert adapter(simulation) == (before[0], 2, "Loaded")
    for adapters in ([], [REFUNDS]):
        simulation.change_spec(adapters=adapters)
        simulation.settle()
    assert adapter(simulation)[0] == OTHER_SHA
    assert len(pins(simulation)) == 1


def test_names_addresses_revisions_and_removals_make_no_new_revision() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    target = simulation.status().target_revision
    for adapters in ([REFUNDS, GREETINGS], [{**REFUNDS, "revision": "v2"}], [{**REFUNDS, "name": "claims"}], []):
        simulation.change_spec(adapters=adapters)
        simulation.settle()
        assert simulation.status().target_revision == target
        held = [set(engine.loaded) for engine in simulation.engines.by_ip.values()]
        assert held == [{item["name"] for item in adapters}]
        assert simulation.condition("Ready") == ("True", "Serving")
    assert simulation.condition("AdaptersReady") == ("True", "NoAdapters")


def test_the_next_revision_after_the_last_adapter_takes_none() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    simulation.change_spec(adapters=[], engine={"args": ["--seed=1"]})
    simulation.settle()
    assert [item.resolved.lora_rank for item in revisions(simulation)] == [16, None]
    assert "AdaptersReady" not in {item.type for item in simulation.status().conditions}
    assert clients(simulation) == [{"podSelector": {}}]


def clients(simulation: Simulation) -> list[Object]:
    """Who besides the operator and golden Jobs reaches the engines' port."""
    (policy,) = simulation.server.of_kind("NetworkPolicy")
    peers: list[Object] = policy["spec"]["ingress"][0]["from"]
    return peers[2:]


def test_nobody_else_reaches_engines_that_take_adapters_from_before_they_are_made_until_they_are_gone() -> None:
    simulation = settled(model_spec())
    assert clients(simulation) == [{"podSelector": {}}]

    def takes_adapters() -> bool:
        pods = [raw["spec"]["template"]["spec"] for raw in simulation.server.of_kind("ReplicaSet")]
        return any(item["name"] == names.ADAPTERS_CONTAINER for pod in pods for item in pod.get("initContainers", ()))

    steps: tuple[dict[str, Any], ...] = ({"adapters": [REFUNDS]}, {"adapters": []}, {"engine": {"args": ["--seed=1"]}})
    for change in steps:
        simulation.change_spec(**change)
        for _ in simulation.in_turn():
            assert not (takes_adapters() and clients(simulation))
    assert clients(simulation) == [{"podSelector": {}}], "open again once none is left"


def test_a_missing_adapter_is_named_and_the_model_serves() -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS, GREETINGS]))
    answered(simulation, GONE)
    simulation.settle()
    assert adapter(simulation) == (None, 0, "AdapterNotFound")
    assert adapter(simulation, "greetings")[1:] == (1, "Loaded")
    assert simulation.condition("Available") == ("True", "Serving")
    assert simulation.condition("Ready") == ("False", "AdapterNotFound")
    assert simulation.condition("Stalled") == ("True", "AdapterNotFound")
    assert simulation.condition("AdaptersReady") == ("False", "AdapterNotFound")
    said = next(item.message for item in simulation.status().conditions if item.type == "Stalled")
    assert said == "Adapter refunds: The Hub has no acme/refunds."


def test_a_rank_above_all_is_refused_by_name_and_makes_no_new_revision() -> None:
    simulation = settled(model_spec(adapters=[GREETINGS]))
    target = simulation.status().target_revision
    answered(simulation, AdapterResolved(sha=OTHER_SHA, bytes=1, rank=1024))
    simulation.change_spec(adapters=[GREETINGS, REFUNDS])
    simulation.settle()
    assert simulation.status().target_revision == target
    assert adapter(simulation) == (OTHER_SHA, 0, "AdapterRankTooHigh")
    assert simulation.condition("Stalled") == ("True", "AdapterRankTooHigh")
    ready = next(item for item in simulation.status().conditions if item.type == "Ready")
    assert "Adapter refunds has rank 1024, and vLLM serves adapters up to rank 512." in ready.message
    assert all(set(engine.loaded) == {"greetings"} for engine in simulation.engines.by_ip.values())


def test_a_higher_rank_makes_a_new_revision_and_the_others_serve_meanwhile() -> None:
    simulation = settled(model_spec(adapters=[GREETINGS], replicas=2))
    answered(simulation, AdapterResolved(sha=OTHER_SHA, bytes=1, rank=64))
    simulation.change_spec(adapters=[GREETINGS, REFUNDS])
    for _ in simulation.in_turn():
        assert sum(map(is_ready, simulation.server.of_kind("Pod"))) >= 2
    assert [item.resolved.lora_rank for item in revisions(simulation)] == [16, 64]
    assert simulation.condition("Ready") == ("True", "Serving")
    assert adapter(simulation) == (OTHER_SHA, 2, "Loaded")


def test_what_serves_is_not_held_up_by_a_job_that_finds_no_node() -> None:
    simulation = Simulation(model_spec(adapters=[REFUNDS]))
    simulation.tell_all()
    first = simulation.reconcile()
    assert [item.manifest["kind"] for item in first.apply][-1] == "Job"
    assert simulation.reconcile().target is None, "its rank decides how engines are started"
    simulation.pass_time(RESOLVE_SECONDS)
    simulation.tell_all()
    decided = simulation.reconcile()
    assert decided.target is not None
    assert decided.target.resolved.lora_rank == 16


def test_an_unknown_rank_does_not_lower_that_of_the_next_revision() -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS]))
    answered(simulation, AdapterResolved(sha=OTHER_SHA, bytes=1, rank=64))
    simulation.settle()
    answered(simulation, GONE)
    simulation.change_spec(adapters=[{**REFUNDS, "revision": "v2"}], engine={"args": ["--seed=1"]})
    simulation.settle()
    assert [item.resolved.lora_rank for item in revisions(simulation)] == [64, 64]


def test_a_version_that_cannot_be_resolved_leaves_the_old_one_loaded() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    sha = adapter(simulation)[0]
    answered(simulation, GONE)
    simulation.change_spec(adapters=[{**REFUNDS, "revision": "v2"}])
    simulation.settle()
    assert adapter(simulation) == (None, 0, "AdapterNotFound")
    assert [engine.loaded for engine in simulation.engines.by_ip.values()] == [{"refunds": path_of(str(sha))}]


def test_an_engine_that_refuses_is_named_after_so_many_tries() -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS, GREETINGS]))
    simulation.settle()
    sha = str(adapter(simulation)[0])
    simulation.engines_refuse[path_of(sha)] = "it has hf_abcdefghijklmnopqrstuvwxyz in it"
    for pod in simulation.server.of_kind("Pod"):
        if is_ready(pod):
            simulation.world.crash(pod)
    simulation.settle()
    assert adapter(simulation) == (sha, 0, "LoadingAdapter"), "one refusal says little"
    assert simulation.condition("Stalled") == ("False", "NotStalled")
    assert simulation.condition("Reconciling")[0] == "True"
    (name,) = {pod["metadata"]["name"] for pod in simulation.server.of_kind("Pod") if is_ready(pod)}
    observed = simulation.observed()
    sights = simulation.tender.sights(("ml", "bot"))
    refusal = sights[name].refusals["refunds"]
    final = replace(sights[name], refusals={"refunds": replace(refusal, tries=TRIES)})
    decided = plan(
        deployment(simulation.body["spec"], uid="uid-1"), replace(observed, adapters={name: final}), config(), NOW
    )
    views = {view.name: view for view in decided.adapters}
    assert (views["refunds"].cause.reason, views["refunds"].cause.definite) == ("AdapterLoadRefused", True)
    assert f"refused commit {sha[:12]} 3 times: it has" in views["refunds"].cause.message
    assert "hf_abc" not in views["refunds"].cause.message
    assert views["greetings"].done


@pytest.mark.parametrize(
    ("reason", "definite"),
    [
        (FetchReason.ADAPTER_BASE_MISMATCH, True),
        (FetchReason.ADAPTER_UNUSABLE, True),
        (FetchReason.ADAPTER_DOWNLOAD_FAILED, False),
        (FetchReason.HUB_UNREACHABLE, False),
    ],
)
def test_what_a_sidecar_cannot_fetch_is_named(reason: FetchReason, definite: bool) -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS]))
    (sha,) = {item.sha for item in [usual_answer(_job("hf://acme/refunds@main"))] if isinstance(item, AdapterResolved)}
    failed = AdapterState(sha=sha, phase="Failed", reason=reason, message="It was made for another base.")
    simulation.sidecars.says[sha] = failed
    simulation.settle()
    assert adapter(simulation) == (sha, 0, reason.value)
    assert simulation.condition("Available") == ("True", "Serving")
    assert simulation.condition("AdaptersReady") == ("False", reason.value)
    assert simulation.condition("Stalled")[0] == ("True" if definite else "False")
    assert simulation.condition("Reconciling")[0] == ("False" if definite else "True")


def _job(asked: str) -> Object:
    labels = {names.LABEL_COMPONENT: names.COMPONENT_ADAPTER}
    return {"metadata": {"labels": labels, "annotations": {names.ANNOTATION_MODEL_REQUEST: asked}}}


def test_while_paused_nothing_is_pinned_or_unloaded_and_what_was_lost_is_loaded_again() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    (pod,) = [pod for pod in simulation.server.of_kind("Pod") if is_ready(pod)]
    simulation.change_spec(paused=True, adapters=[GREETINGS])
    simulation.settle()
    assert [engine.loaded.keys() for engine in simulation.engines.by_ip.values()] == [{"refunds"}]
    simulation.change_spec(adapters=[REFUNDS])
    simulation.world.crash(pod)
    simulation.settle()
    assert simulation.engines.by_ip.popitem()[1].loaded.keys() == {"refunds"}
    assert simulation.condition("Ready")[0] == "True"
    assert len(pins(simulation)) == 1


def test_a_pin_without_an_owner_is_taken_up_and_a_strangers_is_not() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    before = adapter(simulation)
    (raw,) = pins(simulation)
    answered(simulation, AdapterResolved(sha=OTHER_SHA, bytes=1, rank=8))
    simulation.server.change(reference(raw), lambda item: item["metadata"].pop("ownerReferences"))
    simulation.tell_all()
    observed = simulation.observed()
    decided = plan(deployment(simulation.body["spec"], uid="uid-1"), observed, config(), NOW)
    message = adoption_message(decided, observed)
    assert message is not None
    assert raw["metadata"]["name"] in message
    simulation.settle()
    assert adapter(simulation) == before
    simulation.server.change(reference(raw), lambda item: item["metadata"].pop("ownerReferences"))
    simulation.server.change(reference(raw), lambda item: item["data"].update(name="other"))
    simulation.tell_all()
    assert simulation.observed().pins == (), "its name is not made of what it holds"


def test_a_resource_that_is_deleted_is_tended_no_more() -> None:
    simulation = settled(model_spec(adapters=[REFUNDS]))
    assert simulation.tender.sights(("ml", "bot"))
    simulation.server.delete(deployment_reference())
    simulation.settle()
    assert simulation.tender.sights(("ml", "bot")) == {}


def test_with_a_gateway_a_replica_counts_once_its_engine_knows_an_adapter_by_all_names() -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS]), chosen=with_gateway())
    simulation.settle()
    (engine,) = [found for found in simulation.engines.by_ip.values() if found.loaded]
    assert set(engine.loaded) == {"refunds", "ml/bot:refunds"}
    assert len(set(engine.loaded.values())) == 1, "of the same commit"
    assert adapter(simulation)[1:] == (1, "Loaded")
    ready = {item.type: item.message for item in simulation.status().conditions}["AdaptersReady"]
    assert "Until there is a gateway" not in ready
    engine.loaded.pop("ml/bot:refunds")
    simulation.begin()
    simulation.reconcile()
    assert adapter(simulation)[1:] == (0, "LoadingAdapter")
    simulation.settle()
    assert adapter(simulation)[1:] == (1, "Loaded")


def test_the_names_of_the_shared_address_go_with_the_gateway() -> None:
    simulation = Mortal(model_spec(adapters=[REFUNDS]), chosen=with_gateway())
    simulation.settle()
    (engine,) = [found for found in simulation.engines.by_ip.values() if found.loaded]
    simulation.change_config(gateway=None)
    simulation.settle()
    assert set(engine.loaded) == {"refunds"}
