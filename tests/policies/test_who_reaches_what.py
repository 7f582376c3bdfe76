"""Who may reach which port: the NetworkPolicies that Nightshift makes and installs, as a table."""

from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.adapters import AdapterSpec
from nightshift.core import access, children
from nightshift.runtime import health
from tests.chart.rendering import IMAGE, only, operator_config, rendered
from tests.support.builders import deployment, gateway, model_spec, revision, wanted_of
from tests.support.network_policy import Endpoint, allowed, pod_endpoint
from tools.helm import render

REFUNDS = {"name": "refunds", "uri": "hf://acme/refunds"}
BRANCH = {"model": {"uri": "hf://acme/tiny", "revision": "main"}}
OWN_PEERS = [{"podSelector": {"matchLabels": {"app": "chat"}}}]
MONITORING = Endpoint("monitoring", {"app": "prometheus"})
CHART = rendered("metrics scraped")
CONFIG = operator_config(CHART)
OPERATOR = pod_endpoint(only(CHART, "Deployment", "nightshift"))
RIVAL = Endpoint(CONFIG.namespace, {**OPERATOR.labels, "app.kubernetes.io/instance": "another release"})
SOURCES = {
    "the operator": OPERATOR,
    "another release in the operator's namespace": RIVAL,
    "an operator's namesake elsewhere": Endpoint("elsewhere", OPERATOR.labels),
    "the scraper": MONITORING,
    "a pod of the namespace": Endpoint("ml", {"app": "notebook"}),
    "the chat application": Endpoint("ml", {"app": "chat"}),
    "an engine of the deployment": Endpoint("ml", names.engine_labels("bot", "r1")),
    "a golden Job of the deployment": Endpoint("ml", names.component_labels("bot", names.COMPONENT_EVALUATION)),
    "a golden Job of another deployment": Endpoint("ml", names.component_labels("other", names.COMPONENT_EVALUATION)),
    "such a Job of another namespace": Endpoint("bank", names.component_labels("bot", names.COMPONENT_EVALUATION)),
    "a pod of another namespace": Endpoint("bank", {"app": "chat"}),
    "something outside": Endpoint(address="203.0.113.9"),
    "the kubelet": Endpoint(own_node=True),
}


def policies(spec: dict[str, Any], chart: tuple[dict[str, Any], ...] = CHART) -> list[dict[str, Any]]:
    made = access.network_policy(deployment(spec), operator_config(chart))
    return [made, *(item for item in chart if item["kind"] == "NetworkPolicy")]


def reach(rules: list[dict[str, Any]], target: Endpoint, port: int) -> set[str]:
    return {name for name, source in SOURCES.items() if allowed(rules, source, target, port)}


ENGINE = pod_endpoint(children.replica_set(deployment(), revision(), 1))
RESOLVE = pod_endpoint(children.resolve_job(deployment(BRANCH), wanted_of(BRANCH), CONFIG))
LORA_ENGINE = pod_endpoint(children.replica_set(deployment(), revision(lora_rank=16), 1))
ADAPTER_JOB = pod_endpoint(
    children.adapter_job(deployment(model_spec(adapters=[REFUNDS])), AdapterSpec.model_validate(REFUNDS), CONFIG)
)
GOLDEN = {"a golden Job of the deployment"}
NAMESPACE = {
    "a pod of the namespace",
    "the chat application",
    "an engine of the deployment",
    "a golden Job of another deployment",
}
ALWAYS = {"the kubelet"}
OURS = {"the operator", "the scraper"}
ASKERS = OURS | GOLDEN


@pytest.mark.parametrize(
    ("spec", "target", "port", "expected"),
    [
        pytest.param(
            model_spec(), ENGINE, names.ENGINE_PORT, ASKERS | NAMESPACE | ALWAYS, id="the engine's API: the namespace"
        ),
        pytest.param(
            model_spec(traffic={"mode": "Service", "allowFrom": OWN_PEERS}),
            ENGINE,
            names.ENGINE_PORT,
            ASKERS | {"the chat application"} | ALWAYS,
            id="the engine's API: whom traffic.allowFrom names",
        ),
        pytest.param(
            model_spec(traffic={"mode": "Service", "allowFrom": []}),
            ENGINE,
            names.ENGINE_PORT,
            ASKERS | ALWAYS,
            id="the engine's API: nobody else where it names nobody",
        ),
        pytest.param(
            model_spec(adapters=[REFUNDS]),
            LORA_ENGINE,
            names.ENGINE_PORT,
            ASKERS | ALWAYS,
            id="the API of an engine that takes adapters: neither the rest of the namespace nor anybody else",
        ),
        pytest.param(
            model_spec(adapters=[REFUNDS]),
            LORA_ENGINE,
            names.ADAPTERS_PORT,
            {"the operator"} | ALWAYS,
            id="the port on which its sidecar is told what to fetch: the operator",
        ),
        pytest.param(
            model_spec(), ENGINE, names.ADAPTERS_PORT, ALWAYS, id="that port of an engine without adapters: nobody"
        ),
        pytest.param(
            model_spec(adapters=[REFUNDS]), ADAPTER_JOB, 22, ALWAYS, id="a Job that resolves an adapter: nobody"
        ),
        pytest.param(model_spec(), ENGINE, 22, ALWAYS, id="any other port of an engine: nobody"),
        pytest.param(model_spec(), RESOLVE, 22, ALWAYS, id="a Job that fetches: nobody"),
        pytest.param(
            model_spec(), OPERATOR, health.PORT, {"the scraper"} | ALWAYS, id="the operator's metrics: the scraper"
        ),
        pytest.param(model_spec(), OPERATOR, 22, ALWAYS, id="any other port of the operator: nobody"),
    ],
)
def test_who_reaches(spec: dict[str, Any], target: Endpoint, port: int, expected: set[str]) -> None:
    assert reach(policies(spec), target, port) == expected


GATEWAY = gateway()
THROUGH = Endpoint(GATEWAY.namespace, {**GATEWAY.labels, "pod-template-hash": "abc"})


@pytest.mark.parametrize(
    ("spec", "target", "port", "expected"),
    [
        pytest.param(
            model_spec(), ENGINE, names.ENGINE_PORT, ASKERS | ALWAYS, id="the engine's API: not the namespace"
        ),
        pytest.param(
            model_spec(adapters=[REFUNDS]),
            LORA_ENGINE,
            names.ENGINE_PORT,
            ASKERS | ALWAYS,
            id="the API of an engine that takes adapters: neither",
        ),
        pytest.param(
            model_spec(adapters=[REFUNDS]),
            LORA_ENGINE,
            names.ADAPTERS_PORT,
            {"the operator"} | ALWAYS,
            id="the port on which its sidecar is told what to fetch: the operator",
        ),
        pytest.param(model_spec(), ENGINE, 22, ALWAYS, id="any other port of an engine: nobody"),
    ],
)
def test_who_reaches_in_mode_gateway(spec: dict[str, Any], target: Endpoint, port: int, expected: set[str]) -> None:
    """The gateway's own pods reach the engines' API and nothing else; a pod that only bears their labels does not."""
    made = [access.network_policy(deployment(spec), CONFIG, clients=False, gateway=GATEWAY)]
    assert reach(made, target, port) == expected
    assert allowed(made, THROUGH, target, port) is (port == names.ENGINE_PORT)
    assert not allowed(made, Endpoint("elsewhere", THROUGH.labels), target, port)
    assert not allowed(made, Endpoint(GATEWAY.namespace, {"app": "other"}), target, port)


def test_while_engines_that_take_adapters_are_left_nobody_else_is_let_in() -> None:
    """Also where the last adapter was removed: whoever reaches such an engine can make it load any."""
    left = access.network_policy(deployment(model_spec()), CONFIG, takes_adapters=True)
    assert reach([left], LORA_ENGINE, names.ENGINE_PORT) == ASKERS | ALWAYS


def test_without_scrapers_nobody_reads_metrics() -> None:
    chart = rendered("default values")
    assert reach(policies(model_spec(), chart), OPERATOR, health.PORT) == ALWAYS
    assert "the scraper" not in reach(policies(model_spec(), chart), ENGINE, names.ENGINE_PORT)


def test_other_deployments_and_pods_of_the_namespace_are_left_open() -> None:
    rules = policies(model_spec())
    for labels in ({"app": "notebook"}, names.engine_labels("other", "r1")):
        assert reach(rules, Endpoint("ml", labels), 80) == set(SOURCES)


def test_without_its_policy_the_operator_is_open_and_the_check_would_see_it() -> None:
    chart = tuple(render((IMAGE, "networkPolicy.enabled=false")))
    assert reach(policies(model_spec(), chart), OPERATOR, health.PORT) == set(SOURCES)


GATEWAY_POD = pod_endpoint(only(CHART, "Deployment", "-gateway"))
SETTLED = {
    **SOURCES,
    "a pod of an admitted namespace": Endpoint("shop", {"app": "web"}, {"nightshift.dev/gateway-access": "true"}),
    "a pod of a namespace that is labelled otherwise": Endpoint("shop", {}, {"nightshift.dev/gateway-access": "no"}),
    "a pod of the gateway": GATEWAY_POD,
    "a client of the load balancer": Endpoint(address="198.51.100.7"),
}
ADMITTED = {"a pod of an admitted namespace"}
BALANCED = tuple(render((IMAGE, "gateway.admitPeers[0].ipBlock.cidr=198.51.100.0/24")))
CLOSED = tuple(render((IMAGE, "gateway.admitNamespaces.nightshift\\.dev/gateway-access=null")))


@pytest.mark.parametrize(
    ("chart", "port", "expected"),
    [
        pytest.param(CHART, 8000, ADMITTED, id="the gateway's address: pods of namespaces that carry the label"),
        pytest.param(
            BALANCED, 8000, ADMITTED | {"a client of the load balancer"}, id="and whom gateway.admitPeers names"
        ),
        pytest.param(CLOSED, 8000, set(), id="nobody, where the label was taken away"),
        pytest.param(CHART, 8081, OURS, id="its agent, which tells the demand: the operator, and the scraper"),
        pytest.param(CHART, 8082, {"the scraper"}, id="its activator's metrics: the scraper"),
        pytest.param(CHART, 9101, {"the scraper"}, id="HAProxy's metrics: the scraper"),
        pytest.param(BALANCED, 8081, {"the operator"}, id="its agent without scrapers: the operator"),
        pytest.param(CHART, 22, set(), id="any other port: nobody"),
    ],
)
def test_who_reaches_the_gateway(chart: tuple[dict[str, Any], ...], port: int, expected: set[str]) -> None:
    rules = [item for item in chart if item["kind"] == "NetworkPolicy"]
    reaching = {name for name, source in SETTLED.items() if allowed(rules, source, GATEWAY_POD, port)}
    assert reaching == expected | ALWAYS
