"""The chart with watchNamespaces: nothing cluster-scoped, and the same rights in the named namespaces only."""

from functools import cache
from typing import Any

import pytest

from tests.chart.rendering import IMAGE, MONITORED, only, operator_config, rendered
from tests.chart.test_chart import needed_permissions, permissions
from tests.chart.validation import ONLY_WITH_OPERATOR, invalid
from tools.helm import HelmError, render

CLUSTER_SCOPED = frozenset({"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"})
HOME = "team-a"
WATCHED = {"team-a", "team-a-test"}
GATEWAY = "team-a-gateway"
SETTINGS = (IMAGE, "crds.enabled=false", "watchNamespaces={team-a,team-a-test}", "labelSelector=team=a", *MONITORED)


@cache
def namespaced() -> tuple[dict[str, Any], ...]:
    return tuple(render(SETTINGS, release="second", namespace=HOME))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [item for item in namespaced() if item["kind"] == kind]


def test_nothing_is_cluster_scoped() -> None:
    assert [item for item in namespaced() if item["kind"] in CLUSTER_SCOPED] == []
    assert {item["kind"] for item in rendered("default values")} & CLUSTER_SCOPED, "or else the check sees nothing"


def test_every_object_lies_in_a_namespace_of_the_team_and_is_valid() -> None:
    assert {item["metadata"]["namespace"] for item in namespaced()} == WATCHED | {GATEWAY}
    assert [found for item in namespaced() if item["kind"] not in ONLY_WITH_OPERATOR and (found := invalid(item))] == []


def test_the_operator_is_allowed_in_each_namespace_what_it_does_and_nothing_else() -> None:
    roles = [item for item in of_kind("Role") if item["metadata"]["name"].endswith("nightshift-deployments")]
    assert {item["metadata"]["namespace"] for item in roles} == WATCHED
    for role in roles:
        assert permissions(role) == needed_permissions()
    lease = only(namespaced(), "Role", "nightshift")
    assert {resource for _, resource, _ in permissions(lease)} == {"leases"}


def test_each_role_is_bound_to_the_operators_account_and_to_no_other() -> None:
    for binding in of_kind("RoleBinding"):
        metadata = binding["metadata"]
        suffix = "-gateway" if metadata["labels"]["app.kubernetes.io/component"] == "gateway" else "nightshift"
        account = only(namespaced(), "ServiceAccount", suffix)["metadata"]
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": GATEWAY if suffix == "-gateway" else HOME}
        ]
        assert binding["roleRef"]["kind"] == "Role"
        referred = [item["metadata"] for item in of_kind("Role")]
        assert (binding["roleRef"]["name"], metadata["namespace"]) in {(m["name"], m["namespace"]) for m in referred}


def test_the_operator_is_told_where_to_look_and_at_what() -> None:
    config = operator_config(namespaced())
    assert set(config.watch_namespaces) == WATCHED
    assert config.label_selector == "team=a"
    assert operator_config(rendered("default values")).watch_namespaces == ()


def test_releases_do_not_share_a_lease_and_each_may_use_its_own() -> None:
    leases = set()
    for objects in (namespaced(), rendered("default values")):
        config = operator_config(objects)
        roles = [item for item in objects if item["kind"] == "Role"]
        named = [rule["resourceNames"] for role in roles for rule in role["rules"] if "resourceNames" in rule]
        assert named == [[config.lease_name]]
        leases.add(config.lease_name)
    assert len(leases) == 2


def test_the_engines_monitor_looks_where_the_operator_does() -> None:
    assert set(only(namespaced(), "PodMonitor", "-engines")["spec"]["namespaceSelector"]["matchNames"]) == WATCHED
    anywhere = only(rendered("metrics scraped"), "PodMonitor", "-engines")
    assert anywhere["spec"]["namespaceSelector"] == {"any": True}


@pytest.mark.parametrize("setting", ["watchNamespaces={Team A}", "watchNamespaces={a,a}", "labelSelector=team\\=$a"])
def test_names_and_selectors_that_cannot_be_are_refused(setting: str) -> None:
    with pytest.raises(HelmError):
        render((IMAGE, setting))
