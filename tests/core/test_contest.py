from typing import Any

import pytest

from nightshift.core.contest import (
    FORGET_SECONDS,
    LAST_HOLD_SECONDS,
    Quarrel,
    Taken,
    corrected,
    hold_seconds,
    taken_fields,
    taken_note,
)
from tests.support.api_server import copied

DESIRED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "bot", "namespace": "ml", "labels": {"a": "1"}},
    "spec": {
        "type": "ClusterIP",
        "selector": {"app": "bot"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
    },
}
PORT = 'k:{"port":80,"protocol":"TCP"}'


def live(changes: dict[str, Any], fields: dict[str, Any], **entry: Any) -> dict[str, Any]:
    """The object as somebody changed it, with what the API server then says about who holds what."""
    found: dict[str, Any] = copied(DESIRED)
    for key, value in changes.items():
        found[key] = {**found[key], **value}
    ours = {
        "manager": "nightshift",
        "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:type": {}, "f:ports": {PORT: {}}}},
    }
    theirs = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields, **entry}
    found["metadata"] = {**found["metadata"], "managedFields": [ours, theirs]}
    return found


OTHER_PORT = {"ports": [{**DESIRED["spec"]["ports"][0], "targetPort": 9}]}
MORE_PORTS = {"ports": [*DESIRED["spec"]["ports"], {"port": 81, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("changes", "fields", "entry", "expected"),
    [
        pytest.param({}, {"f:spec": {"f:type": {}}}, {}, [], id="it holds what is as desired"),
        pytest.param({"spec": {"type": "NodePort"}}, {"f:spec": {"f:type": {}}}, {}, [".spec.type"], id="one field"),
        pytest.param(
            {"spec": {"externalName": "x"}}, {"f:spec": {"f:externalName": {}}}, {}, [], id="a field that is not ours"
        ),
        pytest.param(
            {"spec": OTHER_PORT},
            {"f:spec": {"f:ports": {PORT: {".": {}, "f:port": {}, "f:targetPort": {}}}}},
            {},
            [".spec.ports[port=80,protocol=TCP].targetPort"],
            id="a field of an item of a list",
        ),
        pytest.param(
            {"spec": MORE_PORTS},
            {"f:spec": {"f:ports": {'k:{"port":81,"protocol":"TCP"}': {".": {}, "f:port": {}}}}},
            {},
            [],
            id="an item added to a list is told by nobody's field of ours",
        ),
        pytest.param(
            {"spec": {"selector": {"app": "mine"}}},
            {"f:spec": {"f:selector": {}}},
            {},
            [".spec.selector"],
            id="a map as a whole",
        ),
        pytest.param(
            {"spec": {"type": "NodePort"}}, {"f:spec": {"f:type": {}}}, {"subresource": "status"}, [], id="the status"
        ),
        pytest.param(
            {"spec": {"type": "NodePort"}},
            {"f:spec": {"f:type": {}}},
            {"subresource": "scale"},
            [".spec.type"],
            id="another subresource is a rival like any",
        ),
        pytest.param({"spec": {"type": "NodePort"}}, {"f:metadata": {}}, {}, [], id="nobody holds what differs"),
        pytest.param(
            {"spec": {"type": "NodePort"}}, {"f:spec": {"f:type": {}}}, {"manager": "nightshift"}, [], id="we ourselves"
        ),
    ],
)
def test_whose_fields_are_named(
    changes: dict[str, Any], fields: dict[str, Any], entry: dict[str, Any], expected: list[str]
) -> None:
    found = taken_fields(DESIRED, live(changes, fields, **entry))
    assert (list(found.fields) if found else []) == expected
    if found:
        assert found.managers == ("kubectl-edit",)


def test_an_object_without_managed_fields_names_nobody() -> None:
    assert taken_fields(DESIRED, {**DESIRED, "spec": {}}) is None


def test_two_managers_are_both_named_and_a_field_once() -> None:
    raw = live({"spec": {"type": "NodePort"}}, {"f:spec": {"f:type": {}}})
    raw["metadata"]["managedFields"].append({"manager": "helm", "fieldsV1": {"f:spec": {"f:type": {}}}})
    found = taken_fields(DESIRED, raw)
    assert found is not None
    assert found.fields == (".spec.type",)


@pytest.mark.parametrize(
    ("quarrel", "now", "expected"),
    [
        pytest.param(Quarrel(), 0.0, 0.0, id="nobody ever changed it"),
        pytest.param(Quarrel(2, 5.0), 5.0, 0.0, id="the third correction comes at once"),
        pytest.param(Quarrel(3, 5.0), 5.0, 10.0, id="the fourth 10 s after the third"),
        pytest.param(Quarrel(3, 5.0), 16.0, 0.0, id="and then it may"),
        pytest.param(Quarrel(4, 5.0), 10.0, 15.0, id="the fifth 20 s after the fourth"),
        pytest.param(Quarrel(9, 5.0), 5.0, LAST_HOLD_SECONDS, id="the tenth 600 s after the one before"),
        pytest.param(Quarrel(4000, 5.0), 5.0, LAST_HOLD_SECONDS, id="and never later than that"),
        pytest.param(Quarrel(9, 5.0), 5.0 + FORGET_SECONDS, 0.0, id="an old quarrel is over"),
    ],
)
def test_a_quarrel_slows_down(quarrel: Quarrel, now: float, expected: float) -> None:
    assert hold_seconds(quarrel, now) == expected


def test_corrections_are_counted_until_the_quarrel_is_over() -> None:
    assert corrected(corrected(Quarrel(), 1.0), 2.0) == Quarrel(2, 2.0)
    assert corrected(Quarrel(9, 2.0), 2.0 + FORGET_SECONDS) == Quarrel(1, 2.0 + FORGET_SECONDS)


def test_what_is_said_of_it() -> None:
    fields = tuple(f".spec.f{number}" for number in range(7))
    note = taken_note(Taken("Service", "bot", ("kubectl-edit",), fields), Quarrel(1, 0.0))
    assert (note.type, note.reason) == ("Warning", "FieldsTakenBack")
    assert note.message.startswith("kubectl-edit changed .spec.f0, ")
    assert ".spec.f4 and 2 more of Service bot; Nightshift set it back." in note.message
    assert (
        taken_note(Taken("Service", "bot", ("argocd",), (".spec.type",)), Quarrel(3, 0.0)).reason == "FieldsContested"
    )
