"""What others added to our objects, and the patch that takes it away."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift.core.additions import additions, merged
from tests.support.api_server import copied, held_fields

ENGINE = {
    "name": "engine",
    "image": "vllm",
    "env": [{"name": "A", "value": "1"}],
    "ports": [{"containerPort": 8000, "name": "http"}],
}
DESIRED: dict[str, Any] = {
    "kind": "ReplicaSet",
    "metadata": {"name": "bot", "namespace": "ml"},
    "spec": {
        "replicas": 1,
        "template": {
            "metadata": {"labels": {"app": "bot"}},
            "spec": {"serviceAccountName": "bot", "containers": [ENGINE]},
        },
    },
}
POD = ".spec.template.spec"
CONTAINER = f"{POD}.containers[name=engine]"


def edited(change: Any, **entry: Any) -> dict[str, Any]:
    """The object as somebody changed it, and who holds what then."""
    raw: dict[str, Any] = copied(DESIRED)
    change(raw["spec"]["template"]["spec"], raw)
    fields = held_fields(DESIRED, raw)
    raw["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    raw["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields, **entry},
        {"manager": "nightshift", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}}},
    ]
    return raw


def engine(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["containers"][0]
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda pod, raw: None, [], id="nothing"),
        pytest.param(lambda pod, raw: pod.update(hostNetwork=True), [f"{POD}.hostNetwork"], id="the host's network"),
        pytest.param(
            lambda pod, raw: pod.update(nodeSelector={"zone": "a"}), [f"{POD}.nodeSelector"], id="a selector of nodes"
        ),
        pytest.param(
            lambda pod, raw: raw["spec"]["template"]["metadata"].update(annotations={"a": "b"}),
            [".spec.template.metadata.annotations"],
            id="an annotation of later pods",
        ),
        pytest.param(
            lambda pod, raw: raw["spec"]["template"]["metadata"]["labels"].update(team="a"),
            [".spec.template.metadata.labels.team"],
            id="a label beside ours",
        ),
        pytest.param(
            lambda pod, raw: pod["containers"].append({"name": "spy", "image": "spy"}),
            [f"{POD}.containers[name=spy]"],
            id="a container",
        ),
        pytest.param(
            lambda pod, raw: engine(pod)["env"].append({"name": "B", "value": "2"}),
            [f"{CONTAINER}.env[name=B]"],
            id="a variable of a container of ours",
        ),
        pytest.param(
            lambda pod, raw: (pod.update(hostPID=True), engine(pod).update(image="other", tty=True)),
            [f"{CONTAINER}.tty", f"{POD}.hostPID"],
            id="several, beside a field that is changed",
        ),
        pytest.param(lambda pod, raw: engine(pod).update(image="other"), [], id="a changed field is no addition"),
        pytest.param(
            lambda pod, raw: pod.update(dnsPolicy="ClusterFirst", serviceAccount="bot", hostIPC=False),
            [],
            id="what means the same as nothing",
        ),
        pytest.param(lambda pod, raw: raw["metadata"].update(labels={"a": "b"}), [], id="a label of the object itself"),
        pytest.param(lambda pod, raw: raw["spec"].update(clusterIP="10.0.0.9"), [], id="what the API server allocates"),
    ],
)
def test_what_others_added_is_named_and_taken_away(change: Any, expected: list[str]) -> None:
    raw = edited(change)
    found = additions(DESIRED, raw)
    assert sorted(found.fields if found else ()) == expected
    if found is None:
        return
    assert found.managers == ("kubectl-edit",)
    assert found.patch["metadata"] == {"uid": "u", "resourceVersion": "7"}
    after = merged(raw, found.patch)
    assert additions(DESIRED, after) is None
    unchanged = {**after, "spec": copied(after["spec"])}
    unchanged["spec"]["template"]["spec"]["containers"][0]["image"] = "vllm"
    assert unchanged["spec"]["template"]["spec"] == DESIRED["spec"]["template"]["spec"], "and nothing else is"


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"manager": "nightshift"}, id="ours"),
        pytest.param({"subresource": "status"}, id="the status's"),
        pytest.param({"fieldsV1": None}, id="without fields"),
        pytest.param({"fieldsV1": {"f:metadata": {}}}, id="of no spec"),
    ],
)
def test_an_entry_that_is_no_rivals_counts_for_nothing(entry: dict[str, Any]) -> None:
    assert additions(DESIRED, edited(lambda pod, raw: pod.update(hostNetwork=True), **entry)) is None


def test_what_is_noted_on_the_object_comes_in_the_same_write() -> None:
    noted = {
        **DESIRED,
        "metadata": {**DESIRED["metadata"], "annotations": {"nightshift.dev/template-corrected": "now"}},
    }
    found = additions(noted, edited(lambda pod, raw: pod.update(hostNetwork=True)))
    assert found is not None
    assert found.patch["metadata"]["annotations"] == {"nightshift.dev/template-corrected": "now"}


def test_two_managers_are_named_and_both_additions_go_at_once() -> None:
    raw = edited(lambda pod, raw: pod.update(hostNetwork=True, hostPID=True))
    held: list[dict[str, Any]] = [
        {"f:spec": {"f:template": {"f:spec": {f"f:{name}": {}}}}} for name in ("hostNetwork", "hostPID")
    ]
    raw["metadata"]["managedFields"] = [
        {"manager": who, "fieldsV1": fields} for who, fields in zip("ab", held, strict=True)
    ]
    found = additions(DESIRED, raw)
    assert found is not None
    assert (found.managers, len(found.fields)) == (("a", "b"), 2)
    assert found.patch["spec"] == {"template": {"spec": {"hostNetwork": None, "hostPID": None}}}


def test_an_item_is_known_by_its_keys_also_where_ours_leaves_a_default_out() -> None:
    raw = edited(lambda pod, raw: engine(pod)["ports"][0].update(protocol="TCP", hostPort=8000))
    key = 'k:{"containerPort":8000,"protocol":"TCP"}'
    ports: dict[str, Any] = {"f:ports": {key: {".": {}, "f:containerPort": {}, "f:protocol": {}, "f:hostPort": {}}}}
    held = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"engine"}': ports}}}}}
    raw["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": held}]
    found = additions(DESIRED, raw)
    assert found is not None
    assert found.fields == (f"{CONTAINER}.ports[containerPort=8000,protocol=TCP].hostPort",)


@pytest.mark.parametrize(
    ("value", "patch", "expected"),
    [
        pytest.param({"a": 1}, {"a": None}, {}, id="null takes away"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}, id="below"),
        pytest.param({"a": [1]}, {"a": [2]}, {"a": [2]}, id="a list as a whole"),
        pytest.param(1, {"a": 1}, {"a": 1}, id="anything becomes an object"),
    ],
)
def test_a_merge_patch(value: Any, patch: Any, expected: Any) -> None:
    assert merged(value, patch) == expected


FILLED: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "live_objects.json").read_text())
"""Our golden objects as Kubernetes 1.34 answers their creation, from `kubectl create --dry-run=server -o json`."""


@pytest.mark.parametrize("name", FILLED)
def test_whoever_applies_what_the_api_server_filled_in_added_nothing(name: str) -> None:
    """As after a restore from a backup, whose tool holds every field of every object."""
    golden = Path(__file__).parent / "golden" / f"{name}.out.yaml"
    ours = yaml.safe_load_all(golden.read_text().replace("<revision>", "r1").replace("<hash>", "h1"))
    desired = {item["kind"]: item for item in ours}
    for filled in FILLED[name]:
        entry = {"manager": "a-backup", "operation": "Apply", "fieldsV1": held_fields({}, filled)}
        metadata = {"uid": "u", "resourceVersion": "7", "managedFields": [entry]}
        assert "clusterIP" in str(entry) or filled["kind"] != "Service", "or else nothing is held"
        assert "dnsPolicy" in str(entry) or filled["kind"] != "ReplicaSet"
        assert additions(desired[filled["kind"]], {**filled, "metadata": metadata}) is None
