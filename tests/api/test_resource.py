from typing import Any

import pytest

from nightshift.api.base import StoredModel
from nightshift.api.resource import SpecError, parse, parse_status
from nightshift.api.revision import RevisionRecord
from nightshift.api.spec import Spec
from nightshift.api.status import Status
from tests.support.builders import HUB_MODEL, NOW, SHA, UID, body, deployment, model_spec


def test_only_the_models_uri_is_required() -> None:
    parsed = deployment({"model": {"uri": HUB_MODEL}})
    assert (parsed.name, parsed.namespace, parsed.uid, parsed.generation) == ("bot", "ml", UID, 1)
    assert not parsed.deleting
    assert parsed.spec.replicas == 1
    assert parsed.spec.model.revision is None
    assert parsed.status == Status()


def test_a_deployment_with_a_deletion_timestamp_is_being_deleted() -> None:
    raw = body()
    raw["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert parse(raw).deleting


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        pytest.param({}, "spec.model: Field required. ", None, id="no model"),
        pytest.param(model_spec(replicas=-1), "spec.replicas: ", "'-1'", id="a negative number of replicas"),
        pytest.param(model_spec(replicas="many"), "spec.replicas: ", "'many'", id="a word for a number"),
        pytest.param(model_spec(engine={"version": "latest"}), "spec.engine.version: ", "'latest'", id="a channel"),
        pytest.param({"model": {"uri": "s3://x/y"}}, "spec.model.uri: ", "'s3://x/y'", id="a scheme that is not known"),
        pytest.param(model_spec(replica=2), "spec.replica: Extra inputs", "'2'", id="a misspelt field"),
        pytest.param(
            model_spec(engine={"startDeadlineSeconds": 1}),
            "spec.engine.startDeadlineSeconds: ",
            "'1'",
            id="a field by the name that users know",
        ),
        pytest.param(
            model_spec(hardware={"candidates": [{"accelerator": "gpu", "count": 99}]}),
            "spec.hardware.candidates.0.count: ",
            "'99'",
            id="a field inside a list",
        ),
    ],
)
def test_a_spec_that_is_not_understood_names_field_value_and_remedy(
    spec: dict[str, Any], field: str, value: str | None
) -> None:
    with pytest.raises(SpecError) as caught:
        parse(body(spec))
    message = str(caught.value)
    assert message.startswith(field)
    assert ("(got " in message) == (value is not None)
    assert value is None or f"(got {value})" in message
    assert message.endswith("Correct the field and apply again; what serves now goes on serving.")


def test_at_most_three_mistakes_are_told_and_long_values_are_cut() -> None:
    with pytest.raises(SpecError) as caught:
        parse(body(model_spec(replicas="x" * 500, a=1, b=2, c=3, d=4)))
    assert str(caught.value).count("(got ") == 3
    assert len(str(caught.value)) < 600


def test_a_spec_without_any_field_is_refused_and_not_a_crash() -> None:
    raw = body()
    del raw["spec"]
    with pytest.raises(SpecError, match=r"spec\.model"):
        parse(raw)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="none"),
        pytest.param({"replicas": "many"}, id="one with a value of another kind"),
        pytest.param({"conditions": [{"type": "Ready"}]}, id="one with half a condition"),
        pytest.param({"replicas": -1}, id="one that is out of bounds"),
    ],
)
def test_an_unreadable_status_counts_as_none(status: dict[str, Any] | None) -> None:
    assert parse_status({"status": status}) == Status()


def test_a_status_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "Yes.",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
        "severity": "None",
    }
    raw = {"replicas": 2, "forecast": {"replicas": 3}, "conditions": [condition], "model": {"uri": "x", "size": 1}}
    found = parse_status({"status": raw})
    assert (found.replicas, found.conditions[0].last_transition_time) == (2, NOW)
    assert found.model is not None


def test_what_is_written_comes_back_the_same() -> None:
    spec = Spec.model_validate(
        model_spec(
            engine={"args": ["--seed=1"], "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
            podTemplate={"nodeSelector": {"a": "b"}, "sidecars": [{"name": "s", "image": "i"}]},
        )
    )
    assert Spec.model_validate(spec.to_json()) == spec
    assert Spec.model_validate(spec.to_sparse_json()) == spec


def test_sparse_means_only_what_its_writer_set() -> None:
    written = model_spec(
        engine={"args": ["--seed=1"]}, podTemplate={"sidecars": [{"name": "s", "image": "i"}]}, traffic={}
    )
    assert Spec.model_validate(written).to_sparse_json() == written


def test_fields_are_written_in_camel_case_and_without_unset_values() -> None:
    assert Spec.model_validate(model_spec(podTemplate={})).to_json()["podTemplate"] == {
        "nodeSelector": {},
        "tolerations": [],
        "topologySpreadConstraints": [],
        "imagePullSecrets": [],
        "volumes": [],
        "volumeMounts": [],
        "sidecars": [],
    }


def test_a_quantity_may_be_written_as_a_number() -> None:
    resources = {"requests": {"cpu": 4, "memory": "8Gi"}}
    spec = Spec.model_validate(model_spec(podTemplate={"resources": resources}))
    assert spec.pod_template is not None
    assert spec.pod_template.resources is not None
    assert spec.pod_template.resources.requests == {"cpu": "4", "memory": "8Gi"}


def test_what_is_parsed_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        deployment().spec.replicas = 5  # type: ignore[misc]


def test_records_and_status_pass_over_what_a_newer_version_wrote() -> None:
    assert issubclass(Status, StoredModel)
    assert issubclass(RevisionRecord, StoredModel)
    assert not issubclass(Spec, StoredModel), "a mistake in a spec is told, not passed over"


def test_a_model_is_identified_by_its_commit() -> None:
    assert deployment().spec.model.revision == SHA
