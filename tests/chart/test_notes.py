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
    namespaces = {match[1] for line in commands if (match := re.search(r" -n (\S+)", line))}
    assert namespaces == {namespace}
    assert [line for line in commands if " -n " not in line] == ["  kubectl apply -f - <<END"]
    assert "/v1/chat/completions" in told


def test_labels_that_are_needed_are_named() -> None:
    assert "team=ml (labelSelector)" in notes((IMAGE, "labelSelector=team=ml"))
    assert "labelSelector" not in notes((IMAGE,))
