"""The chart: what it renders is valid, restricted, and what the operator reads and is allowed."""

import copy
import json
import re
from typing import Any

import pytest
import yaml

from nightshift.adapters.kube import CHILD_KINDS, plural
from nightshift.api import names
from nightshift.api.config import AcceleratorProfile, OperatorConfig
from nightshift.api.schema import custom_resource_definition
from nightshift.runtime import health
from tests.chart.pod_security import restricted_violations
from tests.chart.rendering import DIGEST, IMAGE, MONITORED, VARIANTS, only, operator_config, rendered
from tests.chart.validation import ONLY_WITH_OPERATOR, invalid
from tools.helm import CHART, HelmError, render, run_helm

Object = dict[str, Any]
MADE_FOR_US = frozenset({"Pod"})
"""Children that ReplicaSets and Jobs make: the operator marks, evicts and deletes them."""

DELETED = frozenset({"ControllerRevision", "Job", "Pod", "ReplicaSet", "Service"})
"""Children that plans delete; owner references take care of the others."""

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def pod_of(objects: tuple[Object, ...]) -> Object:
    template: Object = only(objects, "Deployment", "nightshift")["spec"]["template"]
    return template


def permissions(role: Object) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed_permissions() -> set[tuple[str, str, str]]:
    """What the operator's code asks of the API server for all namespaces."""
    needed = {
        (names.GROUP, names.PLURAL, "list"),
        (names.GROUP, names.PLURAL, "watch"),
        (names.GROUP, f"{names.PLURAL}/status", "patch"),
        ("", "pods/log", "get"),
        ("", "pods", "patch"),
        ("", "pods/eviction", "create"),
        ("", "events", "create"),
        ("", "events", "list"),
    }
    for api_version, kind in CHILD_KINDS:
        verbs = {"list", "watch"}
        if kind not in MADE_FOR_US:
            verbs |= {"create", "patch"}
        if kind in DELETED:
            verbs |= {"delete"}
        group = api_version.rpartition("/")[0]
        needed |= {(group, plural(api_version, kind), verb) for verb in verbs}
    return needed


def test_helm_finds_nothing_to_complain_of() -> None:
    assert "0 chart(s) failed" in run_helm("lint", str(CHART), "--strict", "--set", IMAGE)


@every_variant
def test_every_object_is_one_that_kubernetes_knows(variant: str) -> None:
    objects = rendered(variant)
    assert {item["kind"] for item in objects} >= {"ClusterRole", "ConfigMap", "Deployment", "Role", "ServiceAccount"}
    assert [found for item in objects if item["kind"] not in ONLY_WITH_OPERATOR and (found := invalid(item))] == []


def test_the_check_against_kubernetes_finds_a_wrong_type() -> None:
    broken = copy.deepcopy(only(rendered("default values"), "Deployment", "nightshift"))
    broken["spec"]["replicas"] = "two"
    assert invalid(broken) is not None


@every_variant
def test_the_operator_can_read_its_configuration(variant: str) -> None:
    objects = rendered(variant)
    config = operator_config(objects)
    container = pod_of(objects)["spec"]["containers"][0]
    assert config.defaults.accelerator in config.accelerators
    assert config.fetch_image == container["image"]
    assert config.namespace == only(objects, "Deployment", "nightshift")["metadata"]["namespace"]
    assert config.operator_labels.items() <= pod_of(objects)["metadata"]["labels"].items()


def test_every_field_of_the_configuration_can_be_set() -> None:
    text = only(rendered("everything optional set"), "ConfigMap")["data"]["config.yaml"]
    config = operator_config(rendered("everything optional set"))
    assert set(yaml.safe_load(text)) == {field.alias for field in OperatorConfig.model_fields.values()}
    assert config.hub_endpoint == "http://hub.example.com"
    assert config.insecure_registries == ("registry.example.com:5000",)
    assert config.scrapers == ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},)


def test_every_field_of_a_profile_can_be_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    offered = schema["properties"]["accelerators"]["additionalProperties"]["properties"]
    assert set(offered) == {field.alias for field in AcceleratorProfile.model_fields.values()}


def test_quantities_may_be_given_as_numbers_and_profiles_dropped() -> None:
    config = operator_config(
        tuple(render((IMAGE, "accelerators.nvidia-gpu.requests.cpu=6", "accelerators.nvidia-l4-24gb=null")))
    )
    assert config.accelerators["nvidia-gpu"].requests == {"cpu": "6", "memory": "8Gi"}
    assert "nvidia-l4-24gb" in operator_config(rendered("default values")).accelerators
    assert "nvidia-l4-24gb" not in config.accelerators


def test_every_known_card_says_its_memory_and_what_it_can_compute() -> None:
    profiles = operator_config(rendered("default values")).accelerators
    silent = {name for name, profile in profiles.items() if profile.memory_gib is None or profile.capability is None}
    assert silent == {"cpu", "nvidia-gpu"}, "of these it depends on the node"
    sizes = {name: int(match[1]) for name in profiles if (match := re.search(r"-(\d+)gb$", name))}
    assert len(sizes) >= 5
    for name, size in sizes.items():
        memory = profiles[name].memory_gib
        assert memory is not None
        assert 0.92 * size < memory < size, f"{name}: CUDA reports a little less than what a card is sold with"


def test_a_digest_wins_over_a_tag() -> None:
    container = pod_of(rendered("an image by digest"))["spec"]["containers"][0]
    assert container["image"] == f"registry.example.com/nightshift/operator@{DIGEST}"


def test_a_changed_configuration_restarts_the_operator() -> None:
    def checksum(*settings: str) -> str:
        return str(pod_of(tuple(render((IMAGE, *settings))))["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum("logLevel=DEBUG")
    assert checksum() != checksum("workers=9")


@every_variant
def test_the_operator_is_allowed_what_it_does_and_nothing_else(variant: str) -> None:
    objects = rendered(variant)
    role = only([item for item in objects if item["kind"] == "ClusterRole"], "ClusterRole", "nightshift")
    assert permissions(role) == needed_permissions()
    assert not any("resourceNames" in rule for rule in role["rules"])


@every_variant
def test_the_operator_may_hold_its_lease_and_no_other(variant: str) -> None:
    role = only(rendered(variant), "Role", "nightshift")
    named, unnamed = role["rules"]
    assert named == {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [operator_config(rendered(variant)).lease_name],
        "verbs": ["get", "update"],
    }
    assert unnamed["verbs"] == ["create"]


@every_variant
def test_bindings_name_the_account_that_the_pods_run_under(variant: str) -> None:
    objects = rendered(variant)
    account = only(objects, "ServiceAccount", "nightshift")["metadata"]
    assert pod_of(objects)["spec"]["serviceAccountName"] == account["name"]
    for binding in (only(objects, "ClusterRoleBinding", "nightshift"), only(objects, "RoleBinding", "nightshift")):
        expected = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        assert binding["subjects"] == [expected]
        referred = only(objects, binding["roleRef"]["kind"], "nightshift")
        assert referred["metadata"]["name"] == binding["roleRef"]["name"]
        assert referred["metadata"].get("namespace") == binding["metadata"].get("namespace")


def test_cluster_roles_let_editors_write_and_viewers_read() -> None:
    objects = rendered("default values")
    view, edit = only(objects, "ClusterRole", "-view"), only(objects, "ClusterRole", "-edit")
    assert {verb for _, _, verb in permissions(view)} == {"get", "list", "watch"}
    assert (names.GROUP, f"{names.PLURAL}/status", "patch") not in permissions(edit)
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]


@every_variant
def test_the_operators_pods_keep_the_restricted_standard(variant: str) -> None:
    pod = pod_of(rendered(variant))["spec"]
    assert restricted_violations(pod) == []
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
    assert all("memory" in container["resources"]["limits"] for container in pod["containers"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("securityContext", "runAsNonRoot"), False),
        (("containers", 0, "securityContext", "capabilities", "drop"), []),
        (("hostNetwork",), True),
        (("volumes", 1), {"name": "tmp", "hostPath": {"path": "/"}}),
    ],
)
def test_the_check_of_the_standard_finds(path: tuple[str | int, ...], value: object) -> None:
    pod = copy.deepcopy(pod_of(rendered("default values"))["spec"])
    place: Any = pod
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert restricted_violations(pod) != []


def test_probes_and_policies_meet_the_port_that_the_operator_serves() -> None:
    objects = rendered("metrics scraped")
    container = pod_of(objects)["spec"]["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": health.PORT, "protocol": "TCP"}]
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "http"
    }
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (rule,) = only(objects, "NetworkPolicy", "nightshift")["spec"]["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]


def test_nobody_reaches_the_operator_unless_scrapers_are_named() -> None:
    policy = only(rendered("default values"), "NetworkPolicy", "nightshift")["spec"]
    labels = pod_of(rendered("default values"))["metadata"]["labels"]
    assert policy["ingress"] == []
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_pod_monitors_select_the_operator_and_the_engines() -> None:
    objects = rendered("metrics scraped")
    own, engines = only(objects, "PodMonitor", "nightshift"), only(objects, "PodMonitor", "-engines")
    assert own["spec"]["selector"]["matchLabels"].items() <= pod_of(objects)["metadata"]["labels"].items()
    assert engines["spec"]["selector"]["matchLabels"].items() <= names.engine_labels("any", "hash").items()
    assert "PodMonitor" not in {item["kind"] for item in rendered("default values")}


def test_a_metric_s_label_namespace_stays_the_deployment_s_where_the_metric_is_ours() -> None:
    monitors = {item["metadata"]["name"]: item for item in rendered("metrics scraped") if item["kind"] == "PodMonitor"}
    kept = {
        name: {end.get("honorLabels", False) for end in item["spec"]["podMetricsEndpoints"]}
        for name, item in monitors.items()
    }
    assert kept == {"nightshift": {True}, "nightshift-gateway": {True}, "nightshift-engines": {False}}


def test_the_chart_carries_the_custom_resource_definition() -> None:
    found = only(rendered("default values"), "CustomResourceDefinition")
    assert found["spec"] == custom_resource_definition()["spec"]
    assert found["metadata"]["name"] == custom_resource_definition()["metadata"]["name"]


def test_the_definition_outlives_the_release_unless_told_otherwise() -> None:
    keep = only(rendered("default values"), "CustomResourceDefinition")
    drop = only(render((IMAGE, "crds.keep=false")), "CustomResourceDefinition")
    assert keep["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in drop["metadata"]
    assert "CustomResourceDefinition" not in {item["kind"] for item in rendered("everything optional off")}


def test_the_gateways_namespace_outlives_the_release() -> None:
    namespace = only(rendered("default values"), "Namespace")
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_everything_namespaced_follows_the_override() -> None:
    namespaces = {item["metadata"].get("namespace") for item in rendered("another namespace")}
    assert namespaces == {"elsewhere", "elsewhere-gateway", None}


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ((), "image.repository is not set"),
        ((IMAGE, "defaultAccelerator=tpu"), "defaultAccelerator tpu is not one of accelerators"),
        ((IMAGE, MONITORED[0]), "set scrapers"),
        ((IMAGE, "replica=3"), "replica"),
        ((IMAGE, "image.digest=sha256:12"), "digest"),
        ((IMAGE, "accelerators.mine.resource=nvidia.com/gpu"), "resource"),
        ((IMAGE, "accelerators.nvidia-gpu.computeCapability=sm_90"), "computeCapability"),
        ((IMAGE, "accelerators.nvidia-gpu.memoryGiB=0"), "memoryGiB"),
        ((IMAGE, "accelerators.cpu.memoryGiB=64"), "resourceName"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_remedy(settings: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(HelmError, match=remedy):
        render(settings)


def test_clusters_without_the_sleep_action_are_refused() -> None:
    with pytest.raises(HelmError, match="kubeVersion"):
        run_helm("template", str(CHART), "--set", IMAGE, "--kube-version", "1.29.9")
