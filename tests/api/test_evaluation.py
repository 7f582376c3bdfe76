"""The part `evaluation` of the spec, ready to enter it."""

from typing import Any

import pytest
from pydantic import ValidationError

from nightshift.api.evaluation import EvaluationSpec, GoldenSetRef
from nightshift.api.schema import structural

RAW = EvaluationSpec.model_json_schema(by_alias=True, mode="validation")
SCHEMA = structural(RAW, RAW["$defs"])
REFERENCE: dict[str, Any] = SCHEMA["properties"]["goldenSetRef"]


def test_it_is_a_structural_schema_that_asks_for_the_name_alone() -> None:
    assert (SCHEMA["type"], SCHEMA["required"]) == ("object", ["goldenSetRef"])
    assert REFERENCE["required"] == ["name"]
    assert REFERENCE["properties"]["kind"]["enum"] == ["ConfigMap", "PersistentVolumeClaim"]
    assert REFERENCE["properties"]["key"]["default"] == "golden.jsonl"


def test_every_field_is_described_and_it_says_whether_pods_restart() -> None:
    fields = [SCHEMA["properties"]["goldenSetRef"], *REFERENCE["properties"].values()]
    assert all(field["description"] for field in fields)
    assert REFERENCE["description"].endswith("No restart.")


def test_its_rules_name_the_remedy() -> None:
    rules = REFERENCE["x-kubernetes-validations"]
    assert [set(rule) for rule in rules] == [{"rule", "message"}] * 2
    assert "a key of a ConfigMap has no '/'" in rules[0]["message"]
    assert "leads through '.' or '..'" in rules[1]["message"]


def test_what_a_user_writes_is_read() -> None:
    written = {"goldenSetRef": {"kind": "PersistentVolumeClaim", "name": "sets", "key": "support/golden.jsonl"}}
    assert EvaluationSpec.model_validate(written).to_json() == written
    assert GoldenSetRef(name="golden").kind == "ConfigMap"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({}, id="without a name"),
        pytest.param({"name": ""}, id="with an empty name"),
        pytest.param({"name": "Golden"}, id="with a name that no object has"),
        pytest.param({"name": "golden", "kind": "Secret"}, id="in a Secret"),
        pytest.param({"name": "golden", "key": "/etc/passwd"}, id="by a path from the root of the file system"),
        pytest.param({"name": "golden", "key": "a//b"}, id="by a path with an empty part"),
        pytest.param({"name": "golden", "namespace": "other"}, id="in another namespace"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GoldenSetRef.model_validate(wrong)
