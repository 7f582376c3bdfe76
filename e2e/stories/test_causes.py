"""Causes that stand in no pod's status, and those of quotas and tokens: each is named, and mended in place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.stories.bad_inputs import SMALL
from e2e.stories.test_models import GATED, TOKEN
from e2e.stories.world import World
from e2e.support.client import Object
from e2e.support.install import STORY_LABEL
from e2e.support.rights import used

ABSENT = "story-absent"
SMALL_POD: Mapping[str, Any] = {"podTemplate": SMALL}


@dataclass(frozen=True)
class Case:
    """A deployment that something outside of it keeps from serving."""

    reason: str
    says: Sequence[str]
    """Words that the sentence must hold: what is wrong, and the remedy."""
    stalled: bool
    """Whether a person is called."""
    bad: Mapping[str, Any] = field(default_factory=dict)
    """Parts of the spec."""
    good: Mapping[str, Any] | None = None
    """The same once they are corrected; None where something else is."""


def _pod(**more: Any) -> dict[str, Any]:
    return {"podTemplate": {**SMALL, **more}}


def _gated(secret: str) -> dict[str, Any]:
    return {"model": {"uri": GATED, "tokenSecretRef": {"name": secret}}}


def _cases(world: World) -> dict[str, Case]:
    volume = {"name": "settings", "configMap": {"name": "settings"}}
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    beside = {
        "name": "beside",
        "image": f"{world.client.access.image_prefix}/{ABSENT}:1",
        "securityContext": security,
    }
    return {
        "volume": Case(
            "VolumeNotMounted",
            ['configmap "settings" not found', "Create the configmap settings", "podTemplate.volumes"],
            True,
            _pod(volumes=[volume], volumeMounts=[{"name": "settings", "mountPath": "/settings"}]),
        ),
        "runtime": Case(
            "PodSandboxFailed",
            [f'no runtime for "{ABSENT}" is configured', "podTemplate.runtimeClassName"],
            True,
            _pod(runtimeClassName=world.namespace),
            {},
        ),
        "pull-secret": Case(
            "ImagePullFailed",
            ["container beside", f"not in this namespace: {ABSENT}.", "podTemplate.imagePullSecrets"],
            True,
            _pod(imagePullSecrets=[{"name": ABSENT}], sidecars=[beside]),
            {},
        ),
        "quota": Case(
            "QuotaExceeded",
            ["requests.nvidia.com/gpu=1", "Raise the ResourceQuota"],
            False,
            {"hardware": {"candidates": [{"accelerator": "fake-gpu"}]}},
            {},
        ),
        "token": Case("ModelAccessDenied", ["tokenSecretRef"], True, _gated("wrong"), _gated("right")),
        "key": Case("PodConfigInvalid", ["Add the key token to the Secret", "/keyless"], True, _gated("keyless")),
    }


def _secret(world: World, name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": world.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def _quota(world: World, hard: Mapping[str, str]) -> Object:
    metadata = {"name": "narrow", "namespace": world.namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": dict(hard)}}


def _settings(world: World) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": world.namespace}}


@contextmanager
def _runtime_class(world: World) -> Iterator[None]:
    """A RuntimeClass whose handler no node has."""
    world.apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": world.namespace, "labels": {STORY_LABEL: "true"}},
            "handler": ABSENT,
        }
    )
    try:
        yield
    finally:
        world.client.kubectl("delete", "runtimeclass", world.namespace, "--ignore-not-found")


@contextmanager
def _crowded(world: World) -> Iterator[World]:
    """A second namespace, whose quota lets in no pod at all: not even the one that looks for the model's commit."""
    crowded = World(world.client, f"{world.namespace}-full", world.audit)
    crowded.open()
    try:
        crowded.apply(_quota(crowded, {"pods": "0"}))
        yield crowded
    finally:
        crowded.close()


def _named(world: World, case: Case, name: str) -> None:
    def look() -> Object:
        found = world.expect("Ready", "False", case.reason, name)
        assert [part for part in case.says if part not in found["message"]] == [], found["message"]
        return found

    world.tell("", world.eventually(f"{name}: {case.reason}", look, 90, every=1)["message"])
    assert world.condition("Stalled", name)["status"] == str(case.stalled), "whether a person is called"


def _all_ready(waiting: list[tuple[World, str]], seconds: float) -> None:
    """Wait for all side by side, so that the story says when each was."""

    def look() -> bool | None:
        for story, name in list(waiting):
            with suppress(AssertionError):
                story.expect("Ready", "True", name=name)
                story.then(f"{name} is Ready")
                waiting.remove((story, name))
        return None if waiting else True

    waiting[0][0].eventually("all serve", look, seconds)


@pytest.mark.engine("simulator")
def test_what_no_pod_tells_is_named_and_mended_in_place(world: World) -> None:
    mark = world.audit.mark() if world.audit else None
    cases = _cases(world)
    with _runtime_class(world), _crowded(world) as crowded:
        world.given("one LLMDeployment for each cause, side by side, and a namespace without room for a pod")
        secrets = (_secret(world, "wrong", token="hf_wrong"), _secret(world, "right", token=TOKEN))
        world.apply(*secrets, _secret(world, "keyless", other="x"), _quota(world, {"requests.nvidia.com/gpu": "0"}))
        crowded.apply(crowded.simulated(**SMALL_POD))
        world.apply(*(world.simulated(name, **{**SMALL_POD, **case.bad}) for name, case in cases.items()))
        for name, case in cases.items():
            _named(world, case, name)
        full = Case("QuotaExceeded", ["The API server refuses the pod of Job", "Raise the namespace's"], False)
        _named(crowded, full, "tiny")

        world.when("each is corrected in place")
        crowded.client.kubectl("delete", "resourcequota", "narrow", "-n", crowded.namespace)
        world.apply(_settings(world), _secret(world, "keyless", token=TOKEN))
        mended = {name: case.good for name, case in cases.items() if case.good is not None}
        world.apply(*(world.simulated(name, **{**SMALL_POD, **good}) for name, good in mended.items()))
        _all_ready([(world, name) for name in cases] + [(crowded, "tiny")], 150)
    if world.audit and mark:
        asked = used(request for request in world.audit.since(mark) if request.of_an_operator)
        assert ("", "events", "list") in asked, "the right to list Events is there to be used"
