"""Pods with our labels that are nobody's replicas."""

from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.observed import observe
from nightshift.core.stray import stray_message, strays
from tests.support.builders import revision

REVISION = revision()
SET: dict[str, Any] = {
    "kind": "ReplicaSet",
    "metadata": {
        "name": names.revision_name("bot", REVISION.hash),
        "uid": "uid-of-set",
        "labels": names.engine_labels("bot", REVISION.hash),
    },
}
OURS = {"kind": "ReplicaSet", "name": SET["metadata"]["name"], "uid": "uid-of-set", "controller": True}


def a_pod(owner: dict[str, Any] | None = OURS, **labels: str) -> dict[str, Any]:
    metadata = {"name": "bot-1", "labels": {**names.engine_labels("bot", REVISION.hash), **labels}}
    return {"kind": "Pod", "metadata": {**metadata, "ownerReferences": [owner] if owner else []}}


@pytest.mark.parametrize(
    ("pod", "sets", "newest", "expected"),
    [
        pytest.param(a_pod(), [SET], REVISION.hash, False, id="of our ReplicaSet"),
        pytest.param(a_pod(None), [SET], REVISION.hash, False, id="without owner, and selected by a ReplicaSet"),
        pytest.param(
            a_pod(None),
            [],
            REVISION.hash,
            False,
            id="without owner, of the newest revision, whose ReplicaSet is remade",
        ),
        pytest.param(a_pod(None), [], None, True, id="without owner, and nobody would take it"),
        pytest.param(
            a_pod(None, **{names.LABEL_REVISION: "debug"}),
            [SET],
            REVISION.hash,
            True,
            id="with another revision's label",
        ),
        pytest.param(
            a_pod(None, **{names.LABEL_MANAGED_BY: "me"}),
            [SET],
            REVISION.hash,
            True,
            id="with another label that its ReplicaSet selects by",
        ),
        pytest.param(
            a_pod(None, **{names.LABEL_COMPONENT: "debug"}), [SET], REVISION.hash, False, id="no engine by its label"
        ),
        pytest.param(a_pod({**OURS, "uid": "gone"}), [], None, False, id="of a ReplicaSet of ours that was deleted"),
        pytest.param(
            a_pod({"kind": "ReplicaSet", "name": "shop", "uid": "other", "controller": True}),
            [SET],
            REVISION.hash,
            True,
            id="of somebody else's ReplicaSet",
        ),
        pytest.param(
            a_pod({**OURS, "controller": False}),
            [SET],
            REVISION.hash,
            False,
            id="owned by ours, which takes it up again",
        ),
    ],
)
def test_whose_replica_it_is(
    pod: dict[str, Any], sets: list[dict[str, Any]], newest: str | None, expected: bool
) -> None:
    assert strays([pod], sets, newest) == ({"bot-1"} if expected else frozenset())


def test_a_stray_is_observed_and_no_replica() -> None:
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    objects = {
        ("Pod", "bot-1"): a_pod(None, **{names.LABEL_REVISION: "debug"}) | ready,
        ("Pod", "bot-2"): {**a_pod(), **ready, "metadata": {**a_pod()["metadata"], "name": "bot-2"}},
        ("ReplicaSet", SET["metadata"]["name"]): {
            **SET,
            "metadata": {**SET["metadata"], "ownerReferences": [{"uid": "uid-of-bot", "controller": True}]},
        },
        ("ControllerRevision", SET["metadata"]["name"]): REVISION.manifest,
    }
    observed = observe("uid-of-bot", objects, {}, {})
    assert {pod.name: pod.stray for pod in observed.pods} == {"bot-1": True, "bot-2": False}
    assert [pod.name for pod in observed.engine_pods()] == ["bot-2"]
    assert observed.ready() == 1


def test_what_is_said_of_them() -> None:
    assert stray_message([]) is None
    assert stray_message(["b", "a"]) == (
        "Pods a, b bear the deployment's labels and belong to no ReplicaSet of it, so each of them still gets "
        "requests: delete them, or remove label nightshift.dev/deployment from them."
    )
    assert stray_message(["a"]) == (
        "Pod a bears the deployment's labels and belongs to no ReplicaSet of it, so it still gets requests: delete it, "
        "or remove label nightshift.dev/deployment from it."
    )
