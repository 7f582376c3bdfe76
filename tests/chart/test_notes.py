"""What the chart tells after its installation: commands that work for these values."""

import re

import pytest
import yaml

from nightshift.api.resource import parse
from tests.chart.rendering import IMAGE
from tools.helm import notes

VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "default values": ((IMAGE,), "default"),
    "two namespaces": ((IMAGE, "crds.enabled=false", "watchNamespaces={team-a,team-b}"), "team-a"),
}
rows = pytest.mark.parametrize(("settings", "namespace"), VALUES.values(), ids=VALUES)


@rows
def test_the_example_is_one_that_the_operator_understands_and_looks_at(
    settings: tuple[str, ...], namespace: str
) -> None:
    text = notes(settings).partition("<<END\n")[2].partition("  END\n")[0]
    example = yaml.safe_load(text)
    assert example["metadata"]["namespace"] == namespace
    example["metadata"] |= {"uid": "1", "generation": 1, "resourceVersion": "1"}
    assert parse(example).spec.model.uri.startswith("hf://")


@rows
def test_every_command_names_the_namespace_and_the_last_asks_the_model(
    settings: tuple[str, ...], namespace: str
) -> None:
    told = notes(settings)
    commands = [line for line in told.splitlines() if line.startswith("  kubectl") and "explain" not in line]
    namespaces = {match[1] for line in commands if (match := re.search(r" -n (\S+)", line)) and "svc/" not in line}
    assert namespaces == {namespace}
    assert [line for line in commands if " -n " not in line] == [
        "  kubectl apply -f - <<END",
        f"  kubectl label namespace {namespace} nightshift.dev/gateway-access=true",
    ]
    (forward,) = [line for line in commands if "svc/" in line]
    assert forward == "  kubectl port-forward -n nightshift-system-gateway svc/nightshift-gateway 8000:80 &"
    assert f"http://127.0.0.1:8000/{namespace}/qwen/v1/chat/completions" in told


def test_without_the_gateway_the_model_is_asked_by_its_own_service() -> None:
    told = notes((IMAGE, "gateway.enabled=false"))
    assert "kubectl port-forward -n default svc/qwen 8000:80 &" in told
    assert "gateway" not in told


def test_who_is_let_in_is_told_with_the_remedy_where_it_is_nobody() -> None:
    nobody = (IMAGE, "gateway.admitNamespaces.nightshift\\.dev/gateway-access=null")
    assert "lets in nobody: set gateway.admitNamespaces" in notes(nobody)
    assert "lets in nobody" not in notes((*nobody, "gateway.admitPeers[0].ipBlock.cidr=10.0.0.0/8"))
    assert "label namespace" not in notes((IMAGE, "networkPolicy.enabled=false"))


def test_the_address_in_the_cluster_has_the_services_port() -> None:
    assert "http://nightshift-gateway.models:8080/default/qwen/v1" in notes(
        (IMAGE, "gateway.namespace=models", "gateway.service.port=8080")
    )


def test_labels_that_are_needed_are_named() -> None:
    assert "team=ml (labelSelector)" in notes((IMAGE, "labelSelector=team=ml"))
    assert "labelSelector" not in notes((IMAGE,))
