"""What the story of a faulty API server is judged by, and that it finds what it should."""

from typing import Any

import pytest

from e2e.process.patience import impatience, most_at_once, pauses
from e2e.process.proxy import Request
from nightshift.api import names

STATUS = "/apis/nightshift.dev/v1alpha1/namespaces/ml/llmdeployments/{}/status"


def attempt(at: float, name: str = "a", method: str = "PATCH", path: str = STATUS) -> Request:
    return Request(at, method, path.format(name), watch=False, log=False)


def test_pauses_are_those_between_attempts_of_one_status() -> None:
    other = attempt(0.6, path="/apis/apps/v1/namespaces/ml/replicasets/{}")
    found = pauses([attempt(0.0), attempt(0.5), other, attempt(0.7, "b"), attempt(1.5), attempt(2.0, method="GET")])
    assert found == {"a": [0.5, 1.0], "b": []}


@pytest.mark.parametrize(
    ("waited", "patient"),
    [
        pytest.param([0.5, 1.0, 2.0, 4.0], True, id="twice as long each time"),
        pytest.param([1.0] * 60, False, id="once a second"),
        pytest.param([0.5, 1.0], False, id="too few attempts to tell"),
    ],
)
def test_who_is_patient(waited: list[float], patient: bool) -> None:
    assert (impatience({"a": waited}) == []) == patient


def event(kind: str, name: str, *, leaving: bool = False, owner: str = "a") -> tuple[str, dict[str, Any]]:
    metadata: dict[str, Any] = {"name": name, "labels": {names.LABEL_DEPLOYMENT: owner}}
    return kind, {"metadata": metadata | ({"deletionTimestamp": "now"} if leaving else {})}


@pytest.mark.parametrize(
    ("events", "most"),
    [
        pytest.param([event("ADDED", "x"), event("MODIFIED", "x"), event("DELETED", "x")], 1, id="one"),
        pytest.param([event("ADDED", "x"), event("ADDED", "y"), event("DELETED", "x")], 2, id="two for a moment"),
        pytest.param([event("ADDED", "x"), event("MODIFIED", "x", leaving=True), event("ADDED", "y")], 1, id="in turn"),
    ],
)
def test_the_most_pods_at_once(events: list[tuple[str, dict[str, Any]]], most: int) -> None:
    found = most_at_once([event("ADDED", "of-another", owner="b"), *events])
    assert (found["a"], found["b"]) == (most, 1)
