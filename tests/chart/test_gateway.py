"""The gateway in the chart: its pods, what they may do, how they end, and what the operator is told of them."""

import json
import os
import re
from typing import Any

import pytest
import yaml

from nightshift.api.config import GatewayConfig
from nightshift.core.gateway.observed import LABEL_GATEWAY
from nightshift.core.gateway.settings import Settings
from nightshift.gateway.activator import Settings as ActivatorSettings
from nightshift.gateway.activator import settings_from
from nightshift.gateway.agent import Setup, setup_from
from nightshift.gateway.cluster import GATEWAYS
from tests.chart.pod_security import restricted_violations
from tests.chart.rendering import DIGEST, IMAGE, VARIANTS, only, operator_config, rendered
from tests.chart.test_chart import permissions
from tests.chart.test_namespaced import namespaced
from tools.helm import CHART, HelmError, render
from tools.repository import ROOT

Object = dict[str, Any]

WITH_GATEWAY = sorted(set(VARIANTS) - {"everything optional off"})
every_variant = pytest.mark.parametrize("variant", WITH_GATEWAY)
WATCHED = {("", "pods", "list"), ("", "pods", "watch")} | {
    ("discovery.k8s.io", "endpointslices", verb) for verb in ("list", "watch")
}


def deployment(objects: tuple[Object, ...]) -> Object:
    return only(objects, "Deployment", "-gateway")


def pod(objects: tuple[Object, ...]) -> Object:
    spec: Object = deployment(objects)["spec"]["template"]["spec"]
    return spec


def container(objects: tuple[Object, ...], name: str) -> Object:
    (found,) = [item for item in pod(objects)["containers"] if item["name"] == name]
    return dict(found)


def environment(objects: tuple[Object, ...], name: str) -> dict[str, str]:
    return {item["name"]: item.get("value", "from the pod") for item in container(objects, name)["env"]}


def sleep(objects: tuple[Object, ...], name: str) -> int:
    seconds: int = container(objects, name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    return seconds


@every_variant
def test_its_pods_keep_the_restricted_standard_with_nothing_to_write_but_what_they_share(variant: str) -> None:
    spec = pod(rendered(variant))
    assert restricted_violations(spec) == []
    for found in spec["containers"]:
        assert found["securityContext"]["readOnlyRootFilesystem"]
        assert "memory" in found["resources"]["limits"]
        assert "/run/nightshift" in {mount["mountPath"] for mount in found["volumeMounts"]}
        assert "securityContext" not in found or "runAsUser" not in found["securityContext"], "one user for all three"


@every_variant
def test_haproxy_has_no_token_of_the_account(variant: str) -> None:
    spec = pod(rendered(variant))
    assert spec["automountServiceAccountToken"] is False
    having = {item["name"] for item in spec["containers"] for mount in item["volumeMounts"] if mount["name"] == "token"}
    assert having == {"agent", "activator"}


@every_variant
def test_the_operator_is_told_where_it_is(variant: str) -> None:
    objects = rendered(variant)
    config, service = operator_config(objects).gateway, only(objects, "Service", "-gateway")
    assert config is not None
    assert (config.namespace, config.service) == (service["metadata"]["namespace"], service["metadata"]["name"])
    assert config.port == service["spec"]["ports"][0]["port"]
    assert config.labels == service["spec"]["selector"]
    template = deployment(objects)["spec"]["template"]["metadata"]["labels"]
    assert config.labels.items() <= template.items()
    assert config.labels == deployment(objects)["spec"]["selector"]["matchLabels"]
    assert config.labels != operator_config(objects).operator_labels
    assert config.replicas == deployment(objects)["spec"]["replicas"]
    assert [port["containerPort"] for port in container(objects, "agent")["ports"]] == [config.agent_port]


def test_every_field_of_what_it_is_told_can_be_set() -> None:
    config = operator_config(rendered("everything optional set")).gateway
    assert config is not None
    assert set(config.model_fields_set) == set(GatewayConfig.model_fields)
    assert (config.namespace, config.port, config.short_names) == ("models", 8080, ("ml/bot",))


def test_without_it_nothing_of_it_is_made_and_the_operator_knows_of_none() -> None:
    objects = rendered("everything optional off")
    assert operator_config(objects).gateway is None
    assert [item for item in objects if "gateway" in item["metadata"]["name"]] == []


@every_variant
def test_the_processes_read_what_the_pod_says(variant: str) -> None:
    objects = rendered(variant)
    agent = setup_from({**environment(objects, "agent"), "POD_NAME": "g", "POD_NAMESPACE": "n"})
    domain = operator_config(objects).cluster_domain
    assert domain == ("corp.internal" if variant == "everything optional set" else "cluster.local")
    assert agent == Setup(settings=Settings(cluster_domain=domain), namespace="n", pod="g", gateway_pods=2)
    activator = settings_from({**environment(objects, "activator"), "POD_NAME": "g", "POD_NAMESPACE": "n"})
    assert (activator.namespace, activator.pod, activator.gateway_pods) == ("n", "g", 2)
    assert activator.directory == ActivatorSettings().directory
    ports = {port["name"]: port["containerPort"] for item in pod(objects)["containers"] for port in item["ports"]}
    assert ports == {
        "http": int(Settings().binds[0].rpartition(":")[2]),
        "metrics": int(Settings().metrics_bind.rpartition(":")[2]),
        "agent": agent.probe_port,
        "activator": activator.probe_port,
    }


def test_only_where_namespaces_are_named_the_agent_looks_there_only() -> None:
    assert setup_from(environment(namespaced(), "agent")).watch_namespaces == ("team-a", "team-a-test")


@every_variant
def test_a_pod_that_ends_listens_until_the_activator_has_given_back_what_it_held_and_then_lets_streams_end(
    variant: str,
) -> None:
    objects = rendered(variant)
    activator = settings_from(environment(objects, "activator"))
    assert sleep(objects, "activator") > 0, "it holds on until nobody is sent here any more"
    assert sleep(objects, "activator") + activator.drain_seconds <= sleep(objects, "haproxy")
    assert sleep(objects, "haproxy") < sleep(objects, "agent"), "an engine that ends meanwhile is honoured"
    left = pod(objects)["terminationGracePeriodSeconds"] - sleep(objects, "haproxy")
    drain = 60 if variant == "everything optional set" else 600
    assert drain <= left <= drain + 10
    assert drain <= Settings().hard_stop_seconds


@every_variant
def test_no_pod_goes_before_another_one_is_ready(variant: str) -> None:
    assert deployment(rendered(variant))["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = only(rendered(variant), "PodDisruptionBudget", "-gateway")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@every_variant
def test_no_probe_restarts_haproxy_or_takes_it_away_for_want_of_agent_or_activator(variant: str) -> None:
    objects = rendered(variant)
    assert "livenessProbe" not in container(objects, "haproxy"), "a restart would cut every stream"
    assert container(objects, "haproxy")["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    for name, path in {"agent": "/healthz", "activator": "/readyz"}.items():
        found = container(objects, name)
        assert "readinessProbe" not in found, "HAProxy serves on without it"
        assert "livenessProbe" not in found, "it would end the container, and with it the pod's readiness"
        assert found["startupProbe"]["httpGet"] == {"path": path, "port": name}, "a new pod waits for it once"
        assert found["command"] == ["/opt/nightshift/bin/gateway-keep", name], "a crash does not end the container"


def test_the_images_programs_are_where_the_pods_look_for_them() -> None:
    copied = re.findall(r"^COPY (images/gateway/\S+) (\S+)$", (ROOT / "images/gateway/Dockerfile").read_text(), re.M)
    objects = rendered(WITH_GATEWAY[0])
    assert {target for _, target in copied} == {item["command"][0] for item in pod(objects)["containers"]}
    assert all(os.access(ROOT / source, os.X_OK) for source, _ in copied)


@every_variant
def test_the_service_carries_the_label_by_which_the_agents_count_each_other(variant: str) -> None:
    assert GATEWAYS[2] == LABEL_GATEWAY
    assert LABEL_GATEWAY in only(rendered(variant), "Service", "-gateway")["metadata"]["labels"]


@every_variant
def test_its_account_may_do_what_agent_and_activator_do_and_nothing_else(variant: str) -> None:
    objects = rendered(variant)
    everywhere = only(objects, "ClusterRole", "-gateway")
    assert permissions(everywhere) == WATCHED
    at_home = permissions(only(objects, "Role", "-gateway"))
    assert at_home == {
        ("", "configmaps", "list"),
        ("", "configmaps", "watch"),
        ("discovery.k8s.io", "endpointslices", "list"),
        ("discovery.k8s.io", "endpointslices", "watch"),
        *(("coordination.k8s.io", "leases", verb) for verb in ("list", "create", "patch", "delete")),
    }
    account = only(objects, "ServiceAccount", "-gateway")["metadata"]
    assert pod(objects)["serviceAccountName"] == account["name"]
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        binding = only(objects, kind, "-gateway")
        expected = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        assert binding["subjects"] == [expected]
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]


def test_in_named_namespaces_it_may_watch_there_and_nowhere_else() -> None:
    roles = [item for item in namespaced() if item["kind"] == "Role"]
    watching = [item for item in roles if item["metadata"]["name"].endswith("-gateway-deployments")]
    assert {item["metadata"]["namespace"] for item in watching} == {"team-a", "team-a-test"}
    assert all(permissions(item) == WATCHED for item in watching)
    assert [item for item in namespaced() if item["kind"] in ("ClusterRole", "Namespace")] == []


@every_variant
def test_the_operator_may_publish_routes_there_and_read_who_waits_and_nothing_else(variant: str) -> None:
    objects = rendered(variant)
    role, binding = only(objects, "Role", "-gateway-operator"), only(objects, "RoleBinding", "-gateway-operator")
    config = operator_config(objects).gateway
    assert config is not None
    assert role["metadata"]["namespace"] == config.namespace
    assert permissions(role) == {
        *(("", "configmaps", verb) for verb in ("list", "watch", "create", "patch", "delete")),
        ("coordination.k8s.io", "leases", "list"),
        ("coordination.k8s.io", "leases", "watch"),
        ("", "pods", "list"),
        ("", "pods", "watch"),
    }
    account = only(objects, "ServiceAccount", "nightshift")["metadata"]
    expected = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    assert (binding["subjects"], binding["roleRef"]["name"]) == ([expected], role["metadata"]["name"])


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        pytest.param((), True, id="a namespace of its own is made"),
        pytest.param(("gateway.createNamespace=false",), False, id="not where told not to"),
        pytest.param(("gateway.enabled=false",), False, id="nor without a gateway"),
        pytest.param(("watchNamespaces={ml}",), False, id="nor where nothing cluster-scoped is made"),
    ],
)
def test_the_namespace(settings: tuple[str, ...], made: bool) -> None:
    found = [item for item in render((IMAGE, *settings)) if item["kind"] == "Namespace"]
    assert bool(found) == made
    for item in found:
        assert item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        pytest.param((IMAGE,), "registry.example.com/nightshift/gateway:0.1.0", id="beside the operator's"),
        pytest.param((IMAGE, "image.tag=t"), "registry.example.com/nightshift/gateway:t", id="with its tag"),
        pytest.param(
            (IMAGE, "gateway.image.tag=u", "image.tag=t"), "registry.example.com/nightshift/gateway:u", id="or"
        ),
        pytest.param(
            (IMAGE, f"image.digest={DIGEST}"), "registry.example.com/nightshift/gateway:0.1.0", id="not its digest"
        ),
        pytest.param(
            (IMAGE, "gateway.image.repository=r.example/g", f"gateway.image.digest={DIGEST}"),
            f"r.example/g@{DIGEST}",
            id="its own by digest",
        ),
    ],
)
def test_which_image_runs(settings: tuple[str, ...], image: str) -> None:
    images = {item["image"] for item in pod(tuple(render(settings)))["containers"]}
    assert images == {image}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("gateway.replicas=0", "replicas"),
        ("gateway.drainSeconds=1801", "drainSeconds"),
        ("gateway.shortNames={bot}", "shortNames"),
        ("gateway.service.type=ExternalName", "type"),
        ("gateway.replica=3", "replica"),
        ("gateway.namespace=Models", "namespace"),
    ],
)
def test_values_that_cannot_work_are_refused(settings: str, named: str) -> None:
    with pytest.raises(HelmError, match=named):
        render((IMAGE, settings))


def test_beside_the_operators_leader_lease_it_is_not_installed() -> None:
    there = (IMAGE, "gateway.namespace=nightshift-system")
    with pytest.raises(HelmError, match="leave it empty, or name another one"):
        render(there)
    assert not [item for item in render((*there, "gateway.enabled=false")) if "gateway" in item["metadata"]["name"]]


def test_every_value_of_it_stands_in_the_schema_and_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["gateway"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())["gateway"]
    assert set(schema["properties"]) == set(values)


def test_its_metrics_are_scraped_from_all_three_processes() -> None:
    monitor = only(rendered("metrics scraped"), "PodMonitor", "-gateway")["spec"]
    assert [item["port"] for item in monitor["podMetricsEndpoints"]] == ["metrics", "agent", "activator"]
    labels = deployment(rendered("metrics scraped"))["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
