"""Which crash points there are, and when two end states count as the same."""

import copy
from typing import Any

import pytest

from e2e.crash.end_state import differences, end_state
from e2e.crash.tales import TALES
from e2e.crash.walk import Point, Told, complaints, points
from nightshift.api import names

UID = "01234567-89ab-cdef-0123-456789abcdef"


def test_every_kind_of_write_is_tried_before_and_after_in_the_first_tale_that_makes_it() -> None:
    found = points({"first": ["create Lease", "apply Job", "apply Job"], "second": ["apply Job", "delete Pod"]})
    assert [(point.tale, point.kill) for point in found] == [
        ("first", "create Lease before"),
        ("first", "create Lease after"),
        ("first", "apply Job before"),
        ("first", "apply Job after"),
        ("second", "delete Pod before"),
        ("second", "delete Pod after"),
    ]


def objects(namespace: str = "story-a") -> list[dict[str, Any]]:
    labels = {names.LABEL_DEPLOYMENT: "tiny", names.LABEL_COMPONENT: names.COMPONENT_ENGINE}
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "message": f"in {namespace}"}
    return [
        {
            "kind": names.KIND,
            "metadata": {"name": "tiny", "namespace": namespace, "uid": UID, "resourceVersion": "7", "generation": 2},
            "spec": {"replicas": 1},
            "status": {"conditions": [condition], "url": f"http://tiny.{namespace}.svc/v1", "readyReplicas": 1},
        },
        {
            "kind": "Pod",
            "metadata": {
                "name": "tiny-abc-x1",
                "labels": labels,
                "ownerReferences": [{"kind": "R", "name": "tiny-abc"}],
            },
            "spec": {"nodeName": "a", "containers": [{"image": "vllm"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        },
        {"kind": "Service", "metadata": {"name": "tiny"}, "spec": {"clusterIP": "10.1.1.1", "ports": [{"port": 80}]}},
        {
            "kind": "ControllerRevision",
            "metadata": {"name": "tiny-abc", "annotations": {names.ANNOTATION_HUNG: f"2026-01-01T00:00:00Z {UID}"}},
            "data": {"container": "vllm"},
        },
        {"kind": "Pod", "metadata": {"name": "tiny-resolve-1-z"}, "spec": {}, "status": {"phase": "Succeeded"}},
    ]


def test_names_by_chance_times_uids_and_addresses_count_for_nothing() -> None:
    other = objects("story-b")
    other[0]["metadata"] |= {"uid": UID.replace("0", "9"), "resourceVersion": "9999"}
    other[0]["status"]["conditions"][0]["message"] = "said otherwise"
    other[1]["metadata"]["name"], other[1]["spec"]["nodeName"] = "tiny-abc-zz", "b"
    other[2]["spec"]["clusterIP"] = "10.1.1.2"
    other[3]["metadata"]["annotations"][names.ANNOTATION_HUNG] = f"2027-01-01T00:00:00Z {UID.replace('1', '7')}"
    assert end_state(other[:-1], "story-b") == end_state(objects(), "story-a")


def finished_job(**spec: Any) -> dict[str, Any]:
    job = copy.deepcopy(objects()[2]) | {
        "kind": "Job",
        "spec": spec,
        "status": {"completionTime": "2026-01-01T00:00:00Z"},
    }
    job["metadata"]["name"] = "tiny-resolve"
    return job


def test_a_finished_job_that_the_cluster_deletes_by_itself_counts_for_nothing() -> None:
    passing = finished_job(ttlSecondsAfterFinished=300)
    assert end_state([*objects(), passing], "story-a") == end_state(objects(), "story-a")
    for staying in (finished_job(), {**passing, "status": {}}):
        assert end_state([*objects(), staying], "story-a") != end_state(objects(), "story-a")


def changed(path: tuple[Any, ...], value: Any) -> list[dict[str, Any]]:
    found = copy.deepcopy(objects())
    part: Any = found
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return found


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([*objects(), objects()[1]], id="one pod too many"),
        pytest.param(objects()[1:], id="an object that is missing"),
        pytest.param(changed((0, "status", "conditions", 0, "status"), "False"), id="another condition"),
        pytest.param(changed((1, "metadata", "deletionTimestamp"), "2026-01-01T00:00:00Z"), id="a pod that is leaving"),
        pytest.param(
            changed((1, "metadata", "ownerReferences", 0, "name"), "tiny-old"), id="a pod of another revision"
        ),
        pytest.param(changed((2, "spec", "ports", 0, "port"), 81), id="another spec"),
        pytest.param(changed((3, "data", "container"), "other"), id="another stored render"),
        pytest.param(changed((3, "metadata", "annotations"), {}), id="a note that is lost"),
    ],
)
def test_what_is_wrong_is_seen(other: list[dict[str, Any]]) -> None:
    expected, found = end_state(objects(), "story-a"), end_state(other, "story-a")
    assert expected != found
    assert differences(expected, found)


def test_a_telling_that_ended_otherwise_or_was_not_killed_is_complained_of() -> None:
    tale = next(iter(TALES))
    undisturbed = Told(Point(tale, ""), 1.0, ("apply Job",), ("a", "b"))
    same = Told(Point(tale, "apply Job", "before"), 1.0, (), ("a", "b"))
    other = Told(Point(tale, "apply Job", "after"), 1.0, (), ("a", "b", "b"))
    alive = Told(Point(tale, "delete Job", "after"), 1.0, (), ("a", "b"), wrong="its processes ended with []")
    assert complaints([undisturbed], [same]) == []
    found = complaints([undisturbed], [same, other, alive])
    assert ["killed apply Job after" in found[0], "killed delete Job after" in found[1], len(found)] == [True, True, 2]
