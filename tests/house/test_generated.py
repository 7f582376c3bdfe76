"""Generated files are what would be generated now."""

from pathlib import Path

import pytest

from nightshift.api.schema import custom_resource_definition
from tools.generate import GENERATED, Generated, is_current, write
from tools.metrics_reference import activator_metrics, agent_metrics
from tools.reference import fields, restarting_paths, restarts


@pytest.mark.parametrize("what", GENERATED)
def test_a_generated_file_is_current(what: str) -> None:
    assert is_current(GENERATED[what]), f"{GENERATED[what].path} is not current; run: make generate"


def test_the_page_of_metrics_has_the_gateway_s() -> None:
    page = GENERATED["metrics"].text()
    found = [*agent_metrics(), *activator_metrics()]
    assert {"nightshift_gateway_request_seconds", "nightshift_gateway_held"} <= {metric.name for metric in found}
    assert [metric.name for metric in found if metric.row not in page] == []
    bounded = {"namespace", "name", "revision", "result", "reason", "phase", "version"}
    assert {label for metric in found for label in metric.labels} <= bounded
    assert [metric.name for metric in found if not metric.meaning.endswith(".")] == []


def test_an_edited_or_missing_file_is_not_current(tmp_path: Path) -> None:
    item = Generated(Path("below/file.txt"), lambda: "text\n")
    assert not is_current(item, tmp_path)
    write(item, tmp_path)
    assert is_current(item, tmp_path)
    (tmp_path / item.path).write_text("edited\n")
    assert not is_current(item, tmp_path)


def test_what_a_description_says_of_restarts_is_true() -> None:
    spec = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    described = {path: field.get("description", "") for path, field in fields(spec)}
    assert restarting_paths() < set(described)
    wrong = [
        path
        for path, text in described.items()
        if ("A change restarts the pods" in text and not restarts(path)) or ("No restart" in text and restarts(path))
    ]
    assert wrong == []
