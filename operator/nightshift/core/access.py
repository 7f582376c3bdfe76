"""The objects by which requests reach the engines: Services, the route object, and the NetworkPolicy."""

from typing import Any

from nightshift.api import names
from nightshift.api.config import GatewayConfig, OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.route import LABEL_ROUTE, ROUTE_KEY, Route
from nightshift.api.traffic import TrafficMode
from nightshift.core.canonical import canonical_json
from nightshift.core.children import Manifest, engine_selector, evaluation_selector, own_metadata

SERVICE_PORT = 80


def traffic_mode(owner: LLMDeployment, config: OperatorConfig) -> TrafficMode | None:
    """How requests reach the engines; None: by a gateway, and there is none.

    Worked example: where spec.traffic.mode says nothing it is Gateway with a gateway and Service without one.
    """
    asked = owner.spec.traffic.mode
    if config.gateway is None:
        return None if asked == "Gateway" else "Service"
    return asked or "Gateway"


def gateway_host(gateway: GatewayConfig, config: OperatorConfig) -> str:
    """The gateway's name in the cluster."""
    return f"{gateway.service}.{gateway.namespace}.svc.{config.cluster_domain}"


def url(owner: LLMDeployment, config: OperatorConfig) -> str:
    """Base URL of the deployment's OpenAI-compatible API.

    Worked example: ``http://nightshift-gateway.nightshift-gateway.svc.cluster.local/ml/bot/v1`` by the gateway,
    ``http://bot.ml.svc.cluster.local/v1`` straight to the pods.
    """
    gateway = config.gateway
    if gateway is None or traffic_mode(owner, config) != "Gateway":
        return f"http://{owner.name}.{owner.namespace}.svc.{config.cluster_domain}/v1"
    port = "" if gateway.port == SERVICE_PORT else f":{gateway.port}"
    return f"http://{gateway_host(gateway, config)}{port}/{owner.namespace}/{owner.name}/v1"


def service(owner: LLMDeployment) -> Manifest:
    """The Service that leads straight to the engine pods (traffic.mode Service).

    No cluster IP is named: the API server gives one when the type was another before, and takes it back when the type
    becomes another (dropTypeDependentFields in pkg/registry/core/service/strategy.go, Kubernetes 1.34).
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own_metadata(owner, owner.name, names.deployment_labels(owner.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": engine_selector(owner.name),
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def alias(owner: LLMDeployment, gateway: GatewayConfig, config: OperatorConfig) -> Manifest:
    """The same Service as another name of the gateway (traffic.mode Gateway).

    A name in the DNS and nothing else: it works while operator and kube-proxy are away. The port has to be the
    gateway's own, for nobody translates it; it is written down for people.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own_metadata(owner, owner.name, names.deployment_labels(owner.name)),
        "spec": {
            "type": "ExternalName",
            "externalName": gateway_host(gateway, config),
            "ports": [{"name": "http", "port": gateway.port, "protocol": "TCP"}],
        },
    }


def revision_service(owner: LLMDeployment, revision: str) -> Manifest:
    """The headless Service of one revision, whose EndpointSlices tell the gateway which replicas there are."""
    labels = {**names.deployment_labels(owner.name), names.LABEL_REVISION: revision}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own_metadata(owner, names.revision_name(owner.name, revision), labels),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": names.engine_labels(owner.name, revision),
            "ports": [{"name": "http", "port": names.ENGINE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def route_object(route: Route, gateway: GatewayConfig) -> Manifest:
    """The route as the gateway reads it. It lies in the gateway's namespace, so no owner reference frees it."""
    labels = {
        LABEL_ROUTE: "true",
        names.LABEL_NAMESPACE: route.namespace,
        names.LABEL_DEPLOYMENT: route.name,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.route_name(route.namespace, route.name),
            "namespace": gateway.namespace,
            "labels": labels,
        },
        "data": {ROUTE_KEY: canonical_json(route.to_json())},
    }


def network_policy(
    owner: LLMDeployment,
    config: OperatorConfig,
    *,
    takes_adapters: bool = False,
    clients: bool = True,
    gateway: GatewayConfig | None = None,
) -> Manifest:
    """Who may reach the engines: vLLM leaves several paths open even with an API key, so the network decides.

    It selects the pods of the deployment's Jobs too; they serve nothing, so nobody reaches anything there. The Jobs
    that ask golden questions come to the engines past the gateway.

    Args:
        owner: The deployment.
        config: Who operator and scrapers are.
        takes_adapters: Some engines load any adapter that they are told to. Who reaches such an engine could make it
            read any file of its pod as an adapter, so clients do not; the gateway does, which lets through inference.
        clients: Whether clients come by themselves: the peers of traffic.allowFrom, by default the namespace.
        gateway: Whose pods come for them.
    """
    closed = takes_adapters or bool(owner.spec.adapters)
    allowed = () if closed or not clients else owner.spec.traffic.allow_from
    peers: list[Any] = [{"podSelector": {}}] if allowed is None else list(allowed)
    if gateway is not None:
        peers.insert(0, _pods(gateway.namespace, gateway.labels))
    operator = _pods(config.namespace, config.operator_labels)
    golden = {"podSelector": {"matchLabels": evaluation_selector(owner.name)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": own_metadata(owner, owner.name, names.deployment_labels(owner.name)),
        "spec": {
            "podSelector": {"matchLabels": {names.LABEL_DEPLOYMENT: owner.name}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [operator, golden, *config.scrapers, *peers],
                    "ports": [{"port": names.ENGINE_PORT, "protocol": "TCP"}],
                },
                *(
                    [{"from": [operator], "ports": [{"port": names.ADAPTERS_PORT, "protocol": "TCP"}]}]
                    if closed
                    else []
                ),
            ],
        },
    }


def _pods(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }
