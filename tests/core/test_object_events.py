"""Events as kubelet, attach controller and Job controller write them: what they name, and what was overcome since."""

from datetime import timedelta
from typing import Any

import pytest

from nightshift.api.fetch import Downloaded
from nightshift.core.causes import job_cause, pod_cause, revision_cause
from nightshift.core.facts import Known, Unknown
from nightshift.core.object_events import (
    EventsAnswer,
    ObjectEvent,
    held_up,
    missing_pull_secrets,
    object_events,
    pod_refused,
)
from nightshift.core.observed import Observed, PodFacts
from tests.support.builders import NOW, SHA, container, pod

NO_CONFIG = 'MountVolume.SetUp failed for volume "settings" : configmap "settings" not found'
NO_RUNTIME = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: "
    'no runtime for "nvidia" is configured'
)
NO_NETWORK = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "
    f'"{"0a" * 32}": plugin type="bridge" failed (add): failed to allocate for range 0: no IP addresses available'
)
UNMOUNTED = "Unable to attach or mount volumes: unmounted volumes=[settings], unattached volumes=[]: "


def event(reason: str, message: str = "", second: float = 0) -> ObjectEvent:
    return ObjectEvent(reason, message, NOW + timedelta(seconds=second))


@pytest.mark.parametrize(
    ("message", "reason", "definite", "says"),
    [
        pytest.param(
            NO_CONFIG,
            "FailedMount",
            True,
            [NO_CONFIG, "Create the configmap settings", "podTemplate.volumes", "goes on by itself"],
            id="a ConfigMap that does not exist",
        ),
        pytest.param(
            'MountVolume.SetUp failed for volume "certs" : secret "certs" not found',
            "FailedMount",
            True,
            ["Create the secret certs in this namespace"],
            id="a Secret that does not exist",
        ),
        pytest.param(
            'MountVolume.SetUp failed for volume "settings" : configmap references non-existent config key: a.json',
            "FailedMount",
            True,
            ["Add the key a.json"],
            id="a key that the ConfigMap does not have",
        ),
        pytest.param(
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other-1',
            "FailedAttachVolume",
            False,
            ["one node at a time", "ReadWriteMany"],
            id="a disk that another node holds",
        ),
        pytest.param(
            "MapVolume.NodeAffinity check failed",
            "FailedMapVolume",
            False,
            ["storage driver", "kubectl describe pod bot-1"],
            id="words that nobody knows",
        ),
    ],
)
def test_a_volume_that_is_not_mounted(message: str, reason: str, definite: bool, says: list[str]) -> None:
    cause = held_up("bot-1", (event(reason, message),))
    assert cause is not None
    assert (cause.reason, cause.definite) == ("VolumeNotMounted", definite)
    assert [part for part in says if part not in cause.message] == []


@pytest.mark.parametrize(
    ("message", "definite", "says"),
    [
        pytest.param(
            NO_RUNTIME,
            True,
            ["no handler nvidia", "podTemplate.runtimeClassName", "podTemplate.nodeSelector", "container toolkit"],
            id="a runtime class whose handler the node lacks",
        ),
        pytest.param(NO_NETWORK, False, ["no IP addresses available", "network plugin (CNI)"], id="the network"),
        pytest.param(
            "Failed to create pod sandbox: rpc error: code = DeadlineExceeded", False, ["container runtime"], id="else"
        ),
    ],
)
def test_a_sandbox_that_is_not_made(message: str, definite: bool, says: list[str]) -> None:
    cause = held_up("bot-1", (event("FailedCreatePodSandBox", message),))
    assert cause is not None
    assert (cause.reason, cause.definite) == ("PodSandboxFailed", definite)
    assert [part for part in says if part not in cause.message] == []


@pytest.mark.parametrize(
    ("events", "says"),
    [
        pytest.param((), None, id="nothing was told"),
        pytest.param((event("FailedMount", NO_CONFIG, 5), event("Pulling", second=9)), None, id="overcome"),
        pytest.param(
            (event("FailedMount", NO_CONFIG, 5), event("Pulling", second=5)), None, id="overcome within a second"
        ),
        pytest.param(
            (event("FailedMount", NO_CONFIG, 5), event("Pulling", second=9), event("FailedMount", NO_CONFIG, 60)),
            NO_CONFIG,
            id="overcome, and there again: the worked example",
        ),
        pytest.param(
            (event("FailedMount", NO_CONFIG, 5), event("FailedCreatePodSandBox", NO_RUNTIME, 9)),
            "no handler nvidia",
            id="the later one counts",
        ),
        pytest.param(
            (event("FailedMount", NO_CONFIG, 5), event("FailedMount", UNMOUNTED, 120)),
            NO_CONFIG,
            id="the one that says which volume before the one that does not",
        ),
        pytest.param((event("FailedMount", UNMOUNTED, 120),), UNMOUNTED.strip(" :"), id="where there is no other"),
        pytest.param(
            (event("FailedAttachVolume", "Multi-Attach error", 5), event("SuccessfulAttachVolume", second=30)),
            None,
            id="attached since",
        ),
        pytest.param(
            (event("FailedMount", NO_CONFIG, 5), event("SuccessfulAttachVolume", second=30)),
            NO_CONFIG,
            id="that another volume is attached mounts none",
        ),
    ],
)
def test_only_what_was_not_overcome_counts(events: tuple[ObjectEvent, ...], says: str | None) -> None:
    cause = held_up("bot-1", events)
    assert (cause is None) == (says is None)
    if cause is not None and says is not None:
        assert says in cause.message


def raw(reason: str = "FailedMount", message: str = "m", **times: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "metadata": {}, **times}


@pytest.mark.parametrize(
    ("item", "found"),
    [
        pytest.param(raw(lastTimestamp="2026-03-01T12:00:00Z"), [event("FailedMount", "m")], id="of core/v1"),
        pytest.param(
            raw(lastTimestamp=None, eventTime="2026-03-01T12:00:00.000000Z"),
            [event("FailedMount", "m")],
            id="of events.k8s.io",
        ),
        pytest.param(
            raw(eventTime="2026-03-01T11:00:00Z", series={"lastObservedTime": "2026-03-01T12:00:00Z"}),
            [event("FailedMount", "m")],
            id="a series",
        ),
        pytest.param(
            raw() | {"metadata": {"creationTimestamp": "2026-03-01T12:00:00Z"}},
            [event("FailedMount", "m")],
            id="made then",
        ),
        pytest.param(raw(), [], id="without a time"),
        pytest.param(raw("Scheduled", lastTimestamp="2026-03-01T12:00:00Z"), [], id="that means nothing here"),
        pytest.param(
            raw(message="(combined from similar events): m", lastTimestamp="2026-03-01T12:00:00Z"),
            [event("FailedMount", "m")],
            id="of many that are alike",
        ),
        pytest.param(
            raw(
                message=f"sandbox {'0a' * 32} 1b2c3d4e-0000-1111-2222-333344445555",
                lastTimestamp="2026-03-01T12:00:00Z",
            ),
            [event("FailedMount", "sandbox … …")],
            id="with names that differ at each try",
        ),
        pytest.param(
            raw(message="mount -o password=hunter22 failed", lastTimestamp="2026-03-01T12:00:00Z"),
            [event("FailedMount", "mount -o password=[redacted] failed")],
            id="with a secret in it",
        ),
    ],
)
def test_reading_an_event(item: dict[str, Any], found: list[ObjectEvent]) -> None:
    assert list(object_events([item])) == found


def test_the_oldest_is_the_first() -> None:
    items = [raw("Pulling", lastTimestamp="2026-03-01T12:00:09Z"), raw(lastTimestamp="2026-03-01T12:00:05Z")]
    assert [item.reason for item in object_events(items)] == ["FailedMount", "Pulling"]


NO_SECRET = "Unable to retrieve some image pull secrets (pull, other); attempting to pull the image may not succeed."


@pytest.mark.parametrize(
    ("events", "names"),
    [
        pytest.param((), "", id="nothing was told"),
        pytest.param((event("FailedToRetrieveImagePullSecret", NO_SECRET),), "pull, other", id="two of them"),
        pytest.param((event("FailedToRetrieveImagePullSecret", "In other words."),), "", id="words that nobody knows"),
        pytest.param(
            (event("FailedToRetrieveImagePullSecret", NO_SECRET), event("Pulling", second=1)),
            "pull, other",
            id="the pull that follows at once is one without",
        ),
        pytest.param(
            (event("FailedToRetrieveImagePullSecret", NO_SECRET), event("Pulling", second=60)),
            "",
            id="a later one found them",
        ),
    ],
)
def test_pull_secrets_that_the_kubelet_did_not_find(events: tuple[ObjectEvent, ...], names: str) -> None:
    assert missing_pull_secrets(events) == names


def observed(*pods: PodFacts, told: tuple[ObjectEvent, ...], known: bool = True) -> Observed:
    answer = EventsAnswer(NOW, Known(told, NOW) if known else Unknown("no answer"))
    return Observed(pods=pods, events={item.uid: answer for item in pods})


CREATING = (container(waiting_reason="ContainerCreating"),)
MOUNT = (event("FailedMount", NO_CONFIG),)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(pod(node="n", containers=CREATING), "VolumeNotMounted", id="a pod without containers yet"),
        pytest.param(pod(node="n"), "VolumeNotMounted", id="a pod of which the kubelet told nothing yet"),
        pytest.param(
            pod(node="n", containers=(container("model-download", exit_code=0), *CREATING)),
            "VolumeNotMounted",
            id="a pod that is made anew after its download",
        ),
        pytest.param(
            pod(node="n", containers=(container("model-download", running_since="x"), *CREATING)),
            None,
            id="a pod that downloads has its volumes",
        ),
        pytest.param(pod(containers=CREATING), None, id="a pod without a node"),
        pytest.param(
            pod(node="n", containers=(container(waiting_reason="ContainerCreating", exit_code=1),)),
            "VolumeNotMounted",
            id="what is in the way now before the crash of the time before",
        ),
    ],
)
def test_events_speak_where_the_status_is_silent(item: PodFacts, reason: str | None) -> None:
    cause = revision_cause(observed(item, told=MOUNT), "r1")
    assert (cause and cause.reason) == reason


def test_events_that_cannot_be_read_mean_nothing() -> None:
    item = pod(node="n", containers=CREATING)
    assert revision_cause(observed(item, told=(), known=False), "r1") is None
    assert revision_cause(Observed(pods=(item,)), "r1") is None


REFUSED = "failed to authorize: authentication required"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        pytest.param(REFUSED, "not in this namespace: pull, other. Create that Secret", id="a login is asked for"),
        pytest.param("registry.example/vllm:v1: not found", "pull, other", id="or the image is hidden"),
        pytest.param("dial tcp: no such host", "reachable from the node", id="but not where nobody was asked"),
    ],
)
def test_an_image_that_is_not_pulled_for_want_of_a_pull_secret(message: str, says: str) -> None:
    waits = pod(node="n", containers=(container(waiting_reason="ImagePullBackOff", waiting_message=message),))
    told = observed(waits, told=(event("FailedToRetrieveImagePullSecret", NO_SECRET),))
    cause = revision_cause(told, "r1")
    assert cause is not None
    assert cause.reason == "ImagePullFailed"
    assert says in cause.message


QUOTA = 'Error creating: pods "bot-resolve-1-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0'


def test_a_job_without_a_pod_says_why_where_its_status_does_not() -> None:
    metadata = {"name": "fetch", "uid": "uid-of-fetch"}
    told = {"uid-of-fetch": EventsAnswer(NOW, Known((event("FailedCreate", QUOTA),), NOW))}
    without = Observed(live={("Job", "fetch"): {"metadata": metadata}}, events=told)
    cause = job_cause(without, "fetch")
    assert cause is not None
    assert (cause.reason, cause.definite) == ("QuotaExceeded", False)
    assert 'pods "bot-resolve-1-x" is forbidden: exceeded quota' in cause.message
    assert "Error creating" not in cause.message
    done = pod(None, job="fetch", outcome=Downloaded(sha=SHA, files=1, bytes=1))
    assert job_cause(Observed(pods=(done,), live=without.live, events=told), "fetch") is None
    assert job_cause(Observed(live=without.live), "fetch") is None


def test_a_job_whose_pod_was_made_after_all_is_not_refused() -> None:
    assert pod_refused("fetch", (event("FailedCreate", QUOTA), event("SuccessfulCreate", second=60))) is None


def test_the_pod_of_a_job_is_held_up_as_others_are() -> None:
    fetching = pod(None, job="fetch", node="n", containers=CREATING)
    cause = job_cause(observed(fetching, told=(event("FailedCreatePodSandBox", NO_NETWORK),)), "fetch")
    assert cause is not None
    assert cause.reason == "PodSandboxFailed"
    assert pod_cause(fetching) is None
