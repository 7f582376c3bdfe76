"""examples/: each is what the API server accepts and the operator understands."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nightshift.api.resource import LLMDeployment, SpecError, parse
from nightshift.api.schema import custom_resource_definition
from tests.chart.rendering import operator_config, rendered
from tools.repository import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def schema() -> dict[str, Any]:
    found: dict[str, Any] = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parsed(body: dict[str, Any]) -> LLMDeployment:
    return parse({**body, "metadata": {"namespace": "default", "uid": "1", **body["metadata"]}})


def test_there_is_one_for_each_size() -> None:
    assert {path.stem for path in EXAMPLES} == {"tiny", "llama-8b", "llama-70b"}


@every_example
def test_an_example_fits_the_schema_and_is_understood(path: Path) -> None:
    body = load(path)
    jsonschema.Draft4Validator(schema()).validate(body)
    assert parsed(body).spec.model.uri.startswith("hf://")


@every_example
def test_an_example_asks_for_an_accelerator_that_the_chart_offers(path: Path) -> None:
    hardware = parsed(load(path)).spec.hardware
    assert hardware is not None
    assert hardware.candidates[0].accelerator in operator_config(rendered("default values")).accelerators


@every_example
def test_an_example_says_what_to_change(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert "Change" in path.read_text() or "change" in path.read_text()


def test_the_checks_find_a_broken_example() -> None:
    body = load(EXAMPLES[0])
    body["spec"]["model"].pop("uri")
    with pytest.raises(jsonschema.ValidationError, match="uri"):
        jsonschema.Draft4Validator(schema()).validate(body)
    body = load(EXAMPLES[0])
    body["spec"]["replica"] = 1
    with pytest.raises(SpecError, match="replica"):
        parsed(body)
