"""Through the gateway or straight to the pods: what leads there, and what happens when that changes."""

from typing import Any

import pytest

from nightshift.adapters.kube import Object, reference
from nightshift.api.config import OperatorConfig
from nightshift.core import access
from nightshift.core.access import traffic_mode, url
from tests.support.builders import config, deployment, gateway, model_spec, with_gateway
from tests.support.simulation import Simulation

SERVICE, GATEWAY = {"mode": "Service"}, {"mode": "Gateway"}


@pytest.mark.parametrize(
    ("traffic", "chosen", "mode"),
    [
        pytest.param({}, config(), "Service", id="nothing is said, and there is no gateway"),
        pytest.param({}, with_gateway(), "Gateway", id="nothing is said, and there is one"),
        pytest.param(SERVICE, with_gateway(), "Service", id="straight to the pods beside a gateway"),
        pytest.param(GATEWAY, with_gateway(), "Gateway", id="by the gateway"),
        pytest.param(GATEWAY, config(), None, id="by a gateway that there is none of"),
    ],
)
def test_the_mode(traffic: dict[str, Any], chosen: OperatorConfig, mode: str | None) -> None:
    assert traffic_mode(deployment(model_spec(traffic=traffic)), chosen) == mode


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param(config(), "http://bot.ml.svc.cluster.local/v1", id="straight to the pods"),
        pytest.param(
            with_gateway(),
            "http://nightshift-gateway.nightshift-gateway.svc.cluster.local/ml/bot/v1",
            id="by the gateway",
        ),
        pytest.param(
            config(gateway=gateway(service="llm", namespace="edge", port=8080), cluster_domain="corp"),
            "http://llm.edge.svc.corp:8080/ml/bot/v1",
            id="by a gateway with another name, port and domain",
        ),
    ],
)
def test_the_address(chosen: OperatorConfig, expected: str) -> None:
    assert url(deployment(), chosen) == expected


def service(simulation: Simulation, name: str = "bot") -> Object:
    return next(raw for raw in simulation.server.of_kind("Service") if raw["metadata"]["name"] == name)


def kinds(simulation: Simulation, kind: str) -> list[str]:
    return sorted(raw["metadata"]["name"] for raw in simulation.server.of_kind(kind))


def pods(simulation: Simulation) -> set[str]:
    return {raw["metadata"]["uid"] for raw in simulation.server.of_kind("Pod")}


def peers(simulation: Simulation) -> list[str]:
    """Who is let in besides the operator and golden Jobs."""
    (policy,) = simulation.server.of_kind("NetworkPolicy")
    found = policy["spec"]["ingress"][0]["from"][2:]
    names = [peer.get("namespaceSelector", {}).get("matchLabels", {}).values() for peer in found]
    return [next(iter(name), "the namespace") for name in names]


def test_what_is_applied_for_each_mode_names_no_address_so_that_the_api_server_gives_and_takes_it() -> None:
    """Sent to the API server of Kubernetes 1.34 in turn, both ways, it made of each what its mode needs."""
    found = deployment()
    straight, alias = access.service(found), access.alias(found, gateway(), with_gateway())
    assert straight["metadata"] == alias["metadata"]
    assert straight["spec"] == {
        "type": "ClusterIP",
        "selector": {"nightshift.dev/deployment": "bot", "app.kubernetes.io/component": "engine"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }
    assert alias["spec"] == {
        "type": "ExternalName",
        "externalName": "nightshift-gateway.nightshift-gateway.svc.cluster.local",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def test_by_the_gateway_there_is_an_alias_and_a_headless_service_with_the_replicas_labels() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    revision = str(simulation.status().revision)
    (pod,) = simulation.server.of_kind("Pod")
    headless = service(simulation, f"bot-{revision}")
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert headless["spec"]["selector"]["nightshift.dev/revision"] == revision
    assert headless["metadata"]["ownerReferences"][0]["uid"] == simulation.body["metadata"]["uid"]
    assert service(simulation)["spec"]["type"] == "ExternalName"
    assert simulation.status().url == "http://nightshift-gateway.nightshift-gateway.svc.cluster.local/ml/bot/v1"
    assert peers(simulation) == ["nightshift-gateway"]


def test_from_the_pods_to_the_gateway_and_back_restarts_nothing_and_leaves_nothing() -> None:
    simulation = Simulation(model_spec(traffic=SERVICE, replicas=2), chosen=with_gateway()).settle()
    revision, before = simulation.status().revision, pods(simulation)
    assert (kinds(simulation, "ConfigMap"), kinds(simulation, "Service")) == ([], ["bot"])
    simulation.change_spec(traffic=GATEWAY)
    order = []
    for _ in simulation.in_turn():
        straight = service(simulation)["spec"]["type"] == "ClusterIP"
        order.append((straight, bool(kinds(simulation, "ConfigMap")), "the namespace" in peers(simulation)))
        if straight:
            assert simulation.condition("Ready")[0] == "False", "not routable as the spec says"
    assert order[0] == (True, True, True), "the gateway is told first, and clients still come the old way"
    assert order[-1] == (False, True, False)
    assert simulation.condition("Ready") == ("True", "Serving")
    simulation.change_spec(traffic=SERVICE)
    simulation.settle()
    assert (kinds(simulation, "ConfigMap"), kinds(simulation, "Service")) == ([], ["bot"])
    assert "clusterIP" in service(simulation)["spec"]
    assert peers(simulation) == ["the namespace"]
    assert (simulation.status().revision, pods(simulation)) == (revision, before)


@pytest.mark.parametrize(
    "traffic",
    [
        pytest.param({"queue": {"maxRequests": 3}}, id="another queue"),
        pytest.param({"affinity": "Prefix"}, id="another affinity"),
        pytest.param({**GATEWAY, "drainSeconds": 600}, id="what is so anyway, written out"),
    ],
)
def test_nothing_of_traffic_makes_a_new_revision(traffic: dict[str, Any]) -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    revision, before = simulation.status().revision, pods(simulation)
    simulation.change_spec(traffic=traffic)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
    assert (simulation.status().revision, pods(simulation)) == (revision, before)


def test_ready_only_while_the_gateway_knows_the_way() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    (told,) = simulation.server.of_kind("ConfigMap")
    simulation.server.remove(reference(told))
    simulation.tell_all()
    simulation.reconcile()
    assert simulation.condition("Ready") == ("False", "Routing")
    assert simulation.condition("Available") == ("True", "Serving"), "the replicas are there"
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


def test_without_the_gateway_that_is_asked_for_what_serves_goes_on_and_scales() -> None:
    simulation = Simulation(model_spec(traffic=SERVICE)).settle()
    before = service(simulation)
    simulation.change_spec(traffic=GATEWAY, replicas=2)
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "GatewayMissing")
    assert simulation.condition("Stalled") == ("True", "GatewayMissing")
    assert simulation.condition("Available") == ("True", "Serving")
    assert service(simulation)["spec"] == before["spec"]
    assert peers(simulation) == ["the namespace"], "those who came go on coming"
    assert simulation.status().ready_replicas == 2


def test_without_the_gateway_that_is_asked_for_a_new_deployment_is_open_to_nobody() -> None:
    simulation = Simulation(model_spec(traffic=GATEWAY)).settle()
    assert (peers(simulation), kinds(simulation, "Service")) == ([], [])
    simulation.change_config(gateway=gateway())
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")


def test_paused_the_way_stays_whatever_the_spec_says() -> None:
    simulation = Simulation(model_spec(traffic=SERVICE), chosen=with_gateway()).settle()
    writes = simulation.server.version
    simulation.change_spec(paused=True, traffic=GATEWAY)
    simulation.settle()
    assert (kinds(simulation, "ConfigMap"), kinds(simulation, "Service")) == ([], ["bot"])
    assert simulation.condition("Ready") == ("False", "Paused")
    assert simulation.server.version <= writes + 2, "the edit and the status"
    simulation.change_spec(paused=False)
    simulation.settle()
    assert kinds(simulation, "ConfigMap") == ["ml.bot"]


def test_paused_it_is_not_ready_while_the_alias_leads_elsewhere() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    simulation.change_spec(paused=True)
    edited = reference(service(simulation))
    simulation.server.change(edited, lambda raw: raw["spec"].update(externalName="elsewhere.example.com"))
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "ServiceChanged")


def test_a_route_of_the_deployment_by_another_name_goes() -> None:
    simulation = Simulation(model_spec(), chosen=with_gateway()).settle()
    (raw,) = simulation.server.of_kind("ConfigMap")
    stray = {**raw, "metadata": {key: raw["metadata"][key] for key in ("namespace", "labels")} | {"name": "stray"}}
    simulation.server.create(stray)
    simulation.settle()
    assert kinds(simulation, "ConfigMap") == ["ml.bot"]
