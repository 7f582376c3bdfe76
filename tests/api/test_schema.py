"""The generated CustomResourceDefinition is what a structural schema may be."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from nightshift.api import names
from nightshift.api.overlay import RESERVED_CONTAINERS, RESERVED_VOLUMES
from nightshift.api.schema import COLUMNS, custom_resource_definition, model_schema, structural
from nightshift.api.spec import OWNED_FLAGS, REFUSED_ENVIRONMENT, Spec
from nightshift.api.status import Status

CRD = custom_resource_definition()
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with its path."""
    yield path, schema
    for name, item in schema.get("properties", {}).items():
        yield from schemas(item, f"{path}.{name}")
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from schemas(schema["additionalProperties"], f"{path}.*")


ALL = dict(schemas(ROOT))
FIELDS = {path: schema for path, schema in ALL.items() if path.startswith((".spec", ".status"))}


@pytest.mark.parametrize("keyword", ["$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "discriminator"])
def test_nothing_that_a_structural_schema_cannot_say_is_left(keyword: str) -> None:
    assert [path for path, schema in ALL.items() if keyword in schema] == []


def test_every_schema_has_a_type_or_takes_integers_and_texts() -> None:
    untyped = [path for path, item in ALL.items() if "type" not in item and "x-kubernetes-int-or-string" not in item]
    assert untyped == []
    both = [path for path, item in ALL.items() if "type" in item and "x-kubernetes-int-or-string" in item]
    assert both == []


def test_defaults_are_scalars_only_so_that_stored_objects_stay_as_written() -> None:
    defaults = {path: item["default"] for path, item in FIELDS.items() if "default" in item}
    assert defaults[".spec.replicas"] == 1
    assert defaults[".spec.paused"] is False
    assert defaults[".spec.engine.startDeadlineSeconds"] == 1800
    pending = defaults.pop(".status")
    assert [(item["type"], item["status"]) for item in pending["conditions"]] == [
        ("Ready", "Unknown"),
        ("Reconciling", "True"),
    ], "a resource that nobody looked at is not taken for ready"
    assert [path for path, value in defaults.items() if not isinstance(value, str | int)] == []


def test_what_inherits_from_the_administrator_has_no_default() -> None:
    inherited = [".spec.engine.version", ".spec.engine.image", ".spec.hardware", ".spec.model.revision"]
    assert [path for path in inherited if "default" in FIELDS[path]] == []


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (".status.conditions", ["type"]),
        (".spec.engine.env", ["name"]),
        (".spec.podTemplate.volumes", ["name"]),
        (".spec.podTemplate.sidecars", ["name"]),
        (".spec.podTemplate.imagePullSecrets", ["name"]),
    ],
)
def test_lists_of_named_items_are_merged_by_name(path: str, keys: list[str]) -> None:
    schema = FIELDS[path]
    assert (schema["x-kubernetes-list-type"], schema["x-kubernetes-list-map-keys"]) == ("map", keys)
    item = schema["items"]
    assert all(key in item["required"] or "default" in item["properties"][key] for key in keys)


def test_every_other_list_is_replaced_as_a_whole() -> None:
    kinds = {path: item.get("x-kubernetes-list-type") for path, item in FIELDS.items() if item.get("type") == "array"}
    assert [path for path, kind in kinds.items() if kind not in ("map", "atomic")] == []
    assert kinds[".spec.engine.args"] == "atomic"


def test_lists_texts_and_maps_of_the_spec_are_bounded_so_that_rules_have_a_cost() -> None:
    lists = [path for path, item in FIELDS.items() if item.get("type") == "array" and "maxItems" not in item]
    assert lists == []
    maps = [
        path
        for path, item in FIELDS.items()
        if isinstance(item.get("additionalProperties"), dict) and "maxProperties" not in item
    ]
    assert maps == []


def test_every_field_says_what_it_means() -> None:
    items = re.compile(r"(\[\]|\.\*)$")
    silent = [path for path, item in FIELDS.items() if not item.get("description") and not items.search(path)]
    assert silent == []


def test_every_field_of_the_spec_that_restarts_pods_says_so() -> None:
    top = {
        path: item["description"] for path, item in FIELDS.items() if re.fullmatch(r"\.spec\.(model|engine)\.\w+", path)
    }
    silent = [path for path, text in top.items() if "restarts" not in text]
    assert silent == [".spec.model.cache"], "its own type says so"
    assert "restarts" in FIELDS[".spec.model.cache.type"]["description"]


def rules_of(path: str) -> str:
    return " ".join(rule["rule"] + rule["message"] for rule in FIELDS[path]["x-kubernetes-validations"])


@pytest.mark.parametrize("flag", OWNED_FLAGS)
def test_every_owned_flag_is_refused_with_what_to_use_instead(flag: str) -> None:
    assert f"argument {flag} is refused: {OWNED_FLAGS[flag]}" in rules_of(".spec.engine.args")


@pytest.mark.parametrize("flag", ["--task", "--runner"])
def test_what_the_model_is_for_is_said_once(flag: str) -> None:
    assert f"model.task and the argument {flag} say the same twice" in rules_of(".spec")


@pytest.mark.parametrize("name", REFUSED_ENVIRONMENT)
def test_every_dangerous_variable_is_refused(name: str) -> None:
    assert f"e.name == '{name}'" in rules_of(".spec.engine.env")


@pytest.mark.parametrize("name", [*RESERVED_VOLUMES, *RESERVED_CONTAINERS])
def test_names_of_nightshifts_own_volumes_and_containers_are_reserved(name: str) -> None:
    assert f"'{name}'" in rules_of(".spec.podTemplate")


def test_a_name_fits_into_the_names_that_are_made_from_it() -> None:
    rule = ROOT["x-kubernetes-validations"][0]
    assert rule["rule"] == f"self.metadata.name.size() <= {names.MAX_NAME_LENGTH}"
    longest = "x" * names.MAX_NAME_LENGTH
    assert len(names.revision_name(longest, "h" * 10) + "-abcde") <= 63
    assert len(names.download_job_name(longest, "h" * 8)) <= 63
    assert len(names.resolve_job_name(longest, "h" * 8)) <= 63
    assert len(names.service_account_name(longest)) <= 63
    assert len(names.claim_name(longest)) <= 63


def test_messages_are_sentences_that_fit_and_no_rule_is_said_twice() -> None:
    for path, schema in ALL.items():
        rules = schema.get("x-kubernetes-validations", [])
        texts = [rule["rule"] for rule in rules]
        assert len(set(texts)) == len(texts), path
        assert all(0 < len(rule["message"]) <= 2048 for rule in rules), path


def test_scale_reads_and_writes_fields_that_exist() -> None:
    scale = VERSION["subresources"]["scale"]
    assert {scale[key] for key in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")} <= set(FIELDS)
    assert FIELDS[scale["labelSelectorPath"]]["type"] == "string"


def test_columns_read_fields_that_exist() -> None:
    for column in COLUMNS:
        path = re.sub(r"\[\?\(.*\)\]", "[]", column["jsonPath"])
        assert path in FIELDS or path == ".metadata.creationTimestamp", path
    assert [column["name"] for column in COLUMNS if not column.get("priority")] == [
        "Ready",
        "Version",
        "Replicas",
        "Reason",
        "Age",
    ]


def test_free_form_objects_are_kept_as_they_are() -> None:
    affinity = FIELDS[".spec.podTemplate.affinity"]
    assert affinity["type"] == "object"
    assert affinity["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in affinity


def test_the_definition_names_its_resource() -> None:
    assert CRD["metadata"]["name"] == "llmdeployments.nightshift.dev"
    assert CRD["spec"]["names"]["shortNames"] == ["lld"]
    assert (VERSION["name"], VERSION["served"], VERSION["storage"]) == ("v1alpha1", True, True)
    assert VERSION["subresources"]["status"] == {}


@pytest.mark.parametrize("model", [Spec, Status], ids=["spec", "status"])
def test_every_field_of_the_models_is_in_the_schema(model: type[Spec] | type[Status]) -> None:
    fields = {field.alias or name for name, field in model.model_fields.items()}
    assert set(model_schema(model)["properties"]) == fields


class Union(BaseModel):
    """A field that is one of two things."""

    field: int | str


class Bounded(BaseModel):
    """Fields with keywords that need translation."""

    field: dict[str, int] | None = None


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"const": "A", "type": "string"}, {"type": "string", "enum": ["A"]}, id="a constant is a choice"),
        pytest.param(
            {"type": "integer", "exclusiveMinimum": 0},
            {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            id="an exclusive bound is written in two parts",
        ),
        pytest.param({"type": "array", "default": []}, {"type": "array"}, id="the default of a list is left out"),
        pytest.param({"type": "object", "default": {}}, {"type": "object"}, id="the default of a map is left out"),
        pytest.param({"type": "string", "default": None}, {"type": "string"}, id="no default is none"),
        pytest.param(
            {"type": "object", "additionalProperties": False}, {"type": "object"}, id="closed is what it is anyway"
        ),
        pytest.param({"type": "object", "additionalProperties": {}}, {"type": "object"}, id="open to anything"),
        pytest.param(
            {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "X", "description": "y"},
            {"type": "string", "description": "y"},
            id="an optional value is one that may be left out",
        ),
        pytest.param(
            {"$ref": "#/$defs/A", "description": "mine"},
            {"type": "string", "description": "mine"},
            id="a reference is filled in, and what stands beside it wins",
        ),
    ],
)
def test_json_schema_becomes_structural(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert structural(schema, {"A": {"type": "string", "description": "its own"}}) == expected


def test_a_union_is_refused_at_build_time() -> None:
    with pytest.raises(ValueError, match="no unions"):
        structural(Union.model_json_schema(), {})


def test_an_unknown_keyword_is_refused_at_build_time() -> None:
    with pytest.raises(ValueError, match="no 'patternProperties'"):
        structural({"type": "object", "patternProperties": {}}, {})


def test_a_map_of_values_keeps_the_schema_of_its_values() -> None:
    found = structural(Bounded.model_json_schema(), {})
    assert found["properties"]["field"]["additionalProperties"] == {"type": "integer"}


@pytest.mark.parametrize(
    ("path", "what", "remedy"),
    [
        pytest.param(".spec.scaling", "self.mode == 'Auto' || !", "set the mode to Auto", id="fields of Auto"),
        pytest.param(".spec.scaling", "has(self.maxReplicas) && has(self.target)", "such as 16", id="what Auto needs"),
        pytest.param(".spec.scaling", "self.minReplicas <= self.maxReplicas", "lower the one", id="bounds"),
        pytest.param(".spec.scaling", "self.minReplicas == 0", "remove idleSeconds", id="idle without zero"),
        pytest.param(".spec", "self.scaling.minReplicas > 0", "set minReplicas to 1", id="zero without the gateway"),
        pytest.param(".spec", "self.replicas == oldSelf.replicas", "Manual or External first", id="replicas in Auto"),
    ],
)
def test_what_scaling_refuses_and_the_remedy(path: str, what: str, remedy: str) -> None:
    found = [rule for rule in FIELDS[path]["x-kubernetes-validations"] if what in rule["rule"]]
    assert len(found) == 1
    assert remedy in found[0]["message"]
