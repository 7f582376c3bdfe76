"""What the gateway is told of a deployment."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from nightshift.adapters.kube import reference
from nightshift.api import names
from nightshift.api.model_facts import ModelFacts
from nightshift.api.route import Route, RouteAdapter, parse_route
from nightshift.core.adapter_sight import AdapterSight
from nightshift.core.cause import Cause
from nightshift.core.facts import Known, Unknown
from nightshift.core.naming import adapter_names
from nightshift.core.observed import Observed, ReplicaSetFacts
from nightshift.core.planning import Plan
from nightshift.core.revisions import Revision
from nightshift.core.routes import primary, route, weights
from tests.support.api_server import deployment_reference
from tests.support.builders import NOW, SHA, deployment, gateway, model_spec, pod, revision, with_gateway
from tests.support.simulation import Simulation
from tests.support.world import Fate

REFUNDS = {"name": "refunds", "uri": "hf://acme/refunds"}


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        pytest.param({"a": 1}, {"a": 100}, id="one revision gets everything"),
        pytest.param({"a": 2, "b": 1}, {"a": 67, "b": 33}, id="by ready replicas"),
        pytest.param({"a": 1, "b": 1, "c": 1}, {"a": 34, "b": 33, "c": 33}, id="what is left by rounding goes to one"),
        pytest.param({"a": 500, "b": 1}, {"a": 99, "b": 1}, id="whoever is ready gets 1 at least"),
        pytest.param({"a": 1000, "b": 1, "c": 1}, {"a": 98, "b": 1, "c": 1}, id="which the largest one gives"),
        pytest.param({"a": 0, "b": 0}, {"x": 100}, id="nobody is ready: the first one's slot holds the requests"),
        pytest.param(
            {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1},
            {"a": 36, "b": 29, "c": 21, "d": 14},
            id="four at most, those with most replicas",
        ),
    ],
)
def test_the_share_of_each_revision(ready: Mapping[str, int], expected: dict[str, int]) -> None:
    assert weights(ready, "x") == expected


def test_without_any_revision_nothing_has_a_share() -> None:
    assert weights({}, None) == {}


def test_shares_add_up_to_100_for_any_numbers() -> None:
    for first in range(1, 40):
        for second in range(7):
            for third in (0, 1, 13, 400):
                found = weights({"a": first, "b": second, "c": third}, "x")
                assert sum(found.values()) == 100
                assert min(found.values()) >= 1


def routed(simulation: Simulation) -> Route:
    (raw,) = simulation.server.of_kind("ConfigMap")
    assert raw["metadata"]["namespace"] == "nightshift-gateway"
    return parse_route(raw)


def shares(simulation: Simulation) -> list[int]:
    return [item.weight for item in routed(simulation).revisions]


def test_a_new_deployment_is_known_before_it_serves_so_that_requests_can_wait() -> None:
    simulation = Simulation(
        model_spec(traffic={"queue": {"maxRequests": 7, "timeoutSeconds": 30}}), chosen=with_gateway()
    )
    simulation.tell_all()
    simulation.reconcile()
    found = routed(simulation)
    assert (found.state, [item.weight for item in found.revisions], found.start.failure) == ("On", [100], None)
    assert (found.queue.max_requests, found.queue.timeout_seconds, found.affinity) == (7, 30, "None")
    assert (found.key, found.uid, found.served_name) == ("ml/bot", simulation.body["metadata"]["uid"], "bot")


def test_weights_follow_ready_replicas_and_end_at_the_target_alone() -> None:
    simulation = Simulation(model_spec(replicas=3), chosen=with_gateway()).settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    seen: list[list[int]] = []
    for _ in simulation.in_turn():
        current = shares(simulation)
        if not seen or seen[-1] != current:
            seen.append(current)
    assert seen[:4] == [[100], [100, 0], [75, 25], [67, 33]], "its image is asked first"
    assert seen[-2:] == [[0, 100], [100]]
    assert all(first >= 0 for first, *_ in seen)
    assert [first for first, *rest in seen if rest] == sorted((f for f, *r in seen if r), reverse=True)


def test_off_by_hand_is_off_for_the_gateway_and_zero_keeps_a_slot() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    simulation.change_spec(replicas=0)
    simulation.settle()
    assert (routed(simulation).state, shares(simulation)) == ("Off", [100])
    assert simulation.condition("Ready") == ("True", "Off")


def test_a_start_that_fails_for_good_is_told_with_its_reason_until_it_is_mended() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway())
    simulation.world.fate = lambda pod: Fate.CRASHES
    simulation.settle()
    failure = routed(simulation).start.failure
    assert failure is not None
    assert failure.reason == "EngineArgsRejected"
    simulation.world.fate = lambda pod: Fate.SERVES
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.settle()
    assert routed(simulation).start.failure is None


def test_while_something_serves_a_new_revision_that_fails_is_no_reason_to_refuse_anybody() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    good = simulation.status().target_revision
    simulation.world.fate = lambda pod: (
        Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES
    )
    simulation.change_spec(engine={"args": ["--speed=ludicrous"]})
    simulation.settle()
    found = routed(simulation)
    assert found.start.failure is None
    assert [(item.hash, item.weight) for item in found.revisions] == [(good, 100)]


def test_replicas_of_a_revision_that_nobody_can_read_any_more_go_on_getting_requests() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    old = str(simulation.status().target_revision)
    stored = next(raw for raw in simulation.server.of_kind("ControllerRevision"))
    simulation.server.remove(reference(stored))
    simulation.server.change(deployment_reference(), lambda raw: raw["spec"].update(engine={"args": ["--seed=1"]}))
    simulation.tell_all()
    simulation.reconcile()
    assert [(item.hash, item.weight) for item in routed(simulation).revisions if item.weight] == [(old, 100)]
    simulation.settle()
    assert [item.hash for item in routed(simulation).revisions] == [simulation.status().target_revision]


def test_nothing_is_written_while_nothing_changes() -> None:
    simulation = Simulation(model_spec(replicas=2), chosen=with_gateway()).settle()
    writes = simulation.writes
    for _ in range(3):
        simulation.pass_time(600)
        simulation.settle()
    assert simulation.writes == writes


def running(*counts: tuple[str, int]) -> tuple[ReplicaSetFacts, ...]:
    return tuple(ReplicaSetFacts(f"bot-{name}", name, count, 0, True, None) for name, count in counts)


OLD, NEW = revision(number=1), revision(model_spec(engine={"args": ["--seed=1"]}), number=2)


@pytest.mark.parametrize(
    ("plan", "sets", "expected"),
    [
        pytest.param(Plan(target=NEW, counts={NEW.hash: 1, OLD.hash: 3}), (), OLD, id="of which most are planned"),
        pytest.param(Plan(target=NEW, counts={NEW.hash: 0, OLD.hash: 0}), (), NEW, id="of none: the leading one"),
        pytest.param(Plan(), running((OLD.hash, 1)), OLD, id="nothing is planned: what runs"),
        pytest.param(Plan(target=NEW), running((OLD.hash, 1)), OLD, id="also while a new one cannot begin"),
        pytest.param(Plan(target=NEW), running((OLD.hash, 0)), NEW, id="nothing runs: the target"),
        pytest.param(Plan(), running((OLD.hash, 0)), OLD, id="no target can be named: what ran last"),
        pytest.param(Plan(), (), None, id="nothing at all"),
    ],
)
def test_whose_slot_holds_requests(plan: Plan, sets: Any, expected: Revision | None) -> None:
    observed = Observed(revisions=(OLD, NEW), replica_sets=sets)
    assert primary(plan, observed) == (expected.hash if expected is not None else None)


def made(spec: dict[str, Any], observed: Observed, plan: Plan, before: Route | None = None) -> Route:
    return route(deployment(spec), observed, plan, gateway(short_names=("ml/bot",)), before)


def facts(architecture: str) -> Callable[[Revision], Revision]:
    def with_facts(stored: Revision) -> Revision:
        record = stored.record.model_copy(update={"facts": ModelFacts(architecture=architecture)})
        return replace(stored, record=record)

    return with_facts


@pytest.mark.parametrize(
    ("architecture", "args", "task"),
    [
        pytest.param("LlamaForCausalLM", [], "Chat", id="a language model"),
        pytest.param("", [], "Chat", id="what is not known"),
        pytest.param("BertModel", [], "Embedding", id="an encoder"),
        pytest.param("XLMRobertaForSequenceClassification", [], "Rerank", id="a cross-encoder"),
        pytest.param("Qwen3ForCausalLM", ["--runner=pooling"], "Embedding", id="a language model that is to embed"),
        pytest.param(
            "Qwen3ForCausalLM", ["--task", "score"], "Rerank", id="one that is to rank, as older versions say"
        ),
    ],
)
def test_the_task_decides_which_paths_there_are(architecture: str, args: list[str], task: str) -> None:
    stored = facts(architecture)(revision(model_spec(engine={"args": args})))
    assert made(model_spec(), Observed(), Plan(target=stored, counts={stored.hash: 1})).task == task


@pytest.mark.parametrize("task", ["Chat", "Completion", "Embedding", "Rerank"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "BertModel"])
def test_a_task_that_the_spec_names_comes_before_the_architecture(architecture: str, task: str) -> None:
    spec = {"model": {**model_spec()["model"], "task": task}}
    stored = facts(architecture)(revision(spec))
    assert made(spec, Observed(), Plan(target=stored, counts={stored.hash: 1})).task == task


def sight(loaded: Any) -> AdapterSight:
    return AdapterSight("start", loaded)


ALL_NAMES = {"refunds": "/adapters/a", "ml/bot:refunds": "/adapters/a", "bot:refunds": "/adapters/a"}
KNOWN_BEFORE = Route(
    namespace="ml", name="bot", served_name="bot", adapters=(RouteAdapter(name="refunds", pods=("bot-r1-a",)),)
)


@pytest.mark.parametrize(
    ("loaded", "before", "pods"),
    [
        pytest.param(Known(ALL_NAMES, NOW), None, ("bot-r1-a",), id="an engine that has it under all names"),
        pytest.param(Known({"refunds": "/adapters/a"}, NOW), KNOWN_BEFORE, (), id="not one that lacks a name"),
        pytest.param(Unknown("silence"), KNOWN_BEFORE, ("bot-r1-a",), id="of one that is silent the last word stands"),
        pytest.param(Unknown("silence"), None, (), id="of which there may be none"),
    ],
)
def test_which_pods_have_an_adapter(loaded: Any, before: Route | None, pods: tuple[str, ...]) -> None:
    observed = Observed(pods=(pod("r1", ready=True),), adapters={"bot-r1-a": sight(loaded)})
    found = made(model_spec(adapters=[REFUNDS]), observed, Plan(), before)
    assert found.adapters == (RouteAdapter(name="refunds", pods=pods),)


def test_names_of_an_adapter() -> None:
    found = deployment(model_spec(adapters=[REFUNDS]))
    assert adapter_names(found, "refunds", None) == ("refunds",)
    assert adapter_names(found, "refunds", gateway()) == ("refunds", "ml/bot:refunds")
    assert adapter_names(found, "refunds", gateway(short_names=("ml/bot",)))[2:] == ("bot:refunds",)


def test_short_names_are_the_administrators_to_give() -> None:
    spec = {"model": {"uri": "hf://acme/tiny", "revision": SHA, "servedName": "acme/tiny"}}
    assert made(spec, Observed(), Plan()).short_names == ("acme/tiny",)
    assert route(deployment(spec), Observed(), Plan(), gateway(), None).short_names == ()


def test_a_served_name_of_any_allowed_form_makes_a_route() -> None:
    spec = {"model": {"uri": "hf://acme/tiny", "revision": SHA, "servedName": "a" * 127 + "-"}}
    assert made(spec, Observed(), Plan()).served_name.endswith("-")


def test_a_message_of_any_length_makes_a_route() -> None:
    failed = Plan(blocker=Cause("R" * 90, "m" * 5000, definite=True))
    failure = made(model_spec(), Observed(), failed).start.failure
    assert failure is not None
    assert (len(failure.reason), len(failure.message)) == (64, 2048)


def test_what_may_pass_by_itself_is_no_failure() -> None:
    waiting = Plan(blocker=Cause("NoGpuCapacity", "No node has a free accelerator.", definite=False))
    assert made(model_spec(), Observed(), waiting).start.failure is None
