"""What the stories of bad inputs judge by: each judgement with a case that it must find."""

from collections.abc import Mapping
from typing import Any

import pytest

from e2e.stories.bad_inputs import BadInput
from e2e.stories.enduring import (
    REQUESTS_IN_QUIET,
    WRITES_IN_QUIET,
    Trial,
    by_deployment,
    interruptions,
    not_ready,
    restless,
    unsettled,
)
from e2e.support.audit import Request

NAMES = ["bad-01", "bad-02"]


def request(name: str, verb: str = "patch", resource: str = "llmdeployments/status") -> Request:
    return Request(("nightshift-system", "nightshift"), verb, "", resource, "story", name, 200, forbidden=False)


def deployment(
    conditions: Mapping[str, tuple[str, str]] | None = None, generation: int = 2, observed: int = 2
) -> dict[str, Any]:
    told = {
        "Ready": ("False", "ModelNotFound"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "ModelNotFound"),
        "Reconciling": ("False", "ModelNotFound"),
        "Stalled": ("True", "ModelNotFound"),
    } | dict(conditions or {})
    listed = [
        {"type": kind, "status": status, "reason": reason, "message": "The Hub has no a/b. Correct model.uri."}
        for kind, (status, reason) in told.items()
    ]
    return {
        "metadata": {"name": "bad-01", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": listed, "readyReplicas": 1},
    }


def trial(*, says: str = "model.uri", over: bool = True, passes: bool = False) -> Trial:
    row = BadInput("a row", "ModelNotFound", [says], {"model": {}}, passes=passes)
    return Trial("bad-01", row, {}, {}, (), over)


PASSING = {"Stalled": ("False", "NotStalled"), "Reconciling": ("True", "ModelNotFound")}


@pytest.mark.parametrize(
    ("tried", "resource", "found"),
    [
        pytest.param(trial(), deployment(), None, id="all is said, and a person is called"),
        pytest.param(trial(passes=True), deployment(PASSING), None, id="all is said, and it goes on by itself"),
        pytest.param(trial(), deployment(generation=3), "not looked at", id="it speaks of the spec before"),
        pytest.param(trial(), deployment({"Ready": ("True", "Serving")}), "Ready is True", id="it is called ready"),
        pytest.param(
            trial(),
            deployment({"Ready": ("False", "EngineCrashed")}),
            "Ready is False EngineCrashed",
            id="another reason",
        ),
        pytest.param(
            trial(),
            deployment({"Progressing": ("True", "ModelNotFound")}),
            "Progressing is True",
            id="it still progresses",
        ),
        pytest.param(trial(says="tokenSecretRef"), deployment(), "tokenSecretRef", id="the remedy is missing"),
        pytest.param(
            trial(),
            deployment({"Available": ("False", "NoReadyReplicas")}),
            "Available is False",
            id="what served is gone",
        ),
        pytest.param(
            trial(over=False), deployment({"Available": ("False", "NoReadyReplicas")}), None, id="nothing served before"
        ),
        pytest.param(trial(), deployment(PASSING), "Stalled is False", id="nobody is called"),
        pytest.param(trial(passes=True), deployment(), "Reconciling is False", id="a person is called for nothing"),
        pytest.param(
            trial(),
            deployment({"Reconciling": ("True", "ModelNotFound")}),
            "both True",
            id="it is stalled and goes on at once",
        ),
    ],
)
def test_what_a_status_must_say_of_a_bad_input(tried: Trial, resource: dict[str, Any], found: str | None) -> None:
    said = unsettled(tried, resource)
    assert (said is None) if found is None else (said is not None and found in said)


def test_a_deployment_is_healed_when_its_present_spec_is_ready() -> None:
    assert not_ready(trial(), deployment({"Ready": ("True", "Serving")})) is None
    assert not_ready(trial(), deployment({"Ready": ("True", "Serving")}, 3)) is not None
    assert not_ready(trial(), deployment()) is not None


def pod(uid: str, *, ready: bool, leaving: bool = False) -> dict[str, Any]:
    metadata = {"name": f"pod-{uid}", "uid": uid} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"conditions": conditions}}


STAYS = ("ADDED", pod("a", ready=True))


@pytest.mark.parametrize(
    ("pods", "deployments", "found"),
    [
        pytest.param(
            [STAYS, ("ADDED", pod("b", ready=False)), ("DELETED", pod("b", ready=False))],
            [("ADDED", deployment())],
            [],
            id="a candidate comes and goes beside it",
        ),
        pytest.param([STAYS, ("MODIFIED", pod("a", ready=False))], [], ["not any more"], id="it is not ready"),
        pytest.param(
            [STAYS, ("MODIFIED", pod("a", ready=True, leaving=True))], [], ["not any more"], id="it is told to leave"
        ),
        pytest.param([STAYS, ("DELETED", pod("a", ready=True))], [], ["DELETED"], id="it is gone"),
        pytest.param(
            [STAYS],
            [("MODIFIED", deployment({"Available": ("False", "NoReadyReplicas")}))],
            ["unavailable"],
            id="the status says for a moment that it does not serve",
        ),
    ],
)
def test_an_interruption_is_found(pods: list[Any], deployments: list[Any], found: list[str]) -> None:
    said = interruptions(pods, deployments)
    assert len(said) == len(found)
    assert all(words in line for words, line in zip(found, said, strict=True))


def test_requests_are_counted_by_the_names_of_objects() -> None:
    asked = [request("bad-01"), request("bad-01-abc", resource="replicasets"), request("bad-012"), request("")]
    assert by_deployment(asked, NAMES) == {"bad-01": 2, "": 2}


@pytest.mark.parametrize(
    ("requests", "found"),
    [
        pytest.param([request("bad-01")] * WRITES_IN_QUIET, [], id="a few writes"),
        pytest.param(
            [request("bad-01")] * (WRITES_IN_QUIET + 1), [f"{WRITES_IN_QUIET + 1} writes for bad-01"], id="a write more"
        ),
        pytest.param(
            [request("bad-02", "get", "pods/log")] * (REQUESTS_IN_QUIET + 1),
            [f"{REQUESTS_IN_QUIET + 1} requests for bad-02"],
            id="a log read over and over",
        ),
        pytest.param(
            [request("", "create", "events")] * (2 * WRITES_IN_QUIET + 1),
            [f"{2 * WRITES_IN_QUIET + 1} writes without a name, for 2 deployments"],
            id="a flood of Events, which are created without a name",
        ),
    ],
)
def test_a_hot_loop_is_found(requests: list[Request], found: list[str]) -> None:
    assert restless(requests, NAMES) == found
