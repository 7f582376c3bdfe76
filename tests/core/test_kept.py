"""What the cache keeps of an object, and what it leaves out."""

import json
from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.kept import kept

OURS = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
STATUS = {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}}
RIVAL = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
MADE: dict[str, Any] = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "fieldsV1": {"f:metadata": {"f:ownerReferences": {}}, "f:spec": {"f:containers": {}}},
}


def service(**metadata: Any) -> dict[str, Any]:
    """An object as it is parsed: none of its strings is shared."""
    raw = {"kind": "Service", "metadata": {"name": "bot", **metadata}, "spec": {"ports": [{"port": 80}], "a": None}}
    parsed: dict[str, Any] = json.loads(json.dumps(raw))
    return parsed


@pytest.mark.parametrize(
    ("kind", "entries", "left"),
    [
        pytest.param("Service", [OURS, STATUS], None, id="ours and those of a status are left out"),
        pytest.param("Service", [OURS, RIVAL, STATUS], [RIVAL], id="a rival is kept"),
        pytest.param("Pod", [RIVAL, MADE], [RIVAL], id="of a pod only who edited its spec, not who made it"),
        pytest.param("Pod", [{**RIVAL, "subresource": "resize"}], None, id="nor what a subresource of a pod does"),
        pytest.param(names.KIND, [RIVAL], None, id="nor of the resource itself"),
    ],
)
def test_of_managers_only_rivals_are_kept(kind: str, entries: list[Any], left: list[Any] | None) -> None:
    assert kept(kind, service(managedFields=entries))["metadata"].get("managedFields") == left


def test_everything_else_is_as_it_was_and_the_original_untouched() -> None:
    raw = service(managedFields=[OURS], labels={"x": "y" * 100})
    before = json.dumps(raw)
    assert kept("Service", raw) == service(labels={"x": "y" * 100})
    assert json.dumps(raw) == before


def test_keys_and_short_strings_are_held_once() -> None:
    one, other = kept("Service", service()), kept("Service", service())
    for left, right in zip(one["spec"], other["spec"], strict=True):
        assert left is right
    assert one["metadata"]["name"] is other["metadata"]["name"]
