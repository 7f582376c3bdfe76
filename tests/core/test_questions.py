"""What is asked: few logs, of engines that crashed without a clear cause; Events about what does not begin."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.facts import Unknown
from nightshift.core.object_events import EventsAnswer
from nightshift.core.observed import EngineLog, JobFacts, Observed, PodFacts
from nightshift.core.planning import ReadEngineLog, ReadEvents
from nightshift.core.questions import EVENTS_PER_OWNER, LOGS_PER_REVISION, engine_log_requests, event_requests
from tests.support.builders import NOW, container, pod


def crashed(name: str = "a", message: str = "", revision: str = "r1", **more: Any) -> PodFacts:
    values: dict[str, Any] = {"waiting_reason": "CrashLoopBackOff"} | more
    engine = container(exit_code=1, restarts=2, termination_message=message, **values)
    return pod(revision, name=name, containers=(engine,))


ASKED = ReadEngineLog("a", names.ENGINE_CONTAINER, 2, previous=True)


@pytest.mark.parametrize(
    ("observed", "requests"),
    [
        pytest.param(Observed(pods=(crashed(),)), (ASKED,), id="a crash that is not explained"),
        pytest.param(
            Observed(pods=(crashed(waiting_reason=None),)),
            (ReadEngineLog("a", names.ENGINE_CONTAINER, 2, previous=False),),
            id="a container that has just ended",
        ),
        pytest.param(Observed(pods=(crashed(running_since="x"),)), (ASKED,), id="a container that runs again"),
        pytest.param(
            Observed(pods=(crashed(),), engine_logs={"a": EngineLog(1, None)}), (ASKED,), id="a further crash"
        ),
        pytest.param(
            Observed(pods=(crashed(),), engine_logs={"a": EngineLog(2, None)}), (), id="a crash whose log was read"
        ),
        pytest.param(
            Observed(pods=(crashed(message="vllm: error: unrecognized arguments: --x"),)),
            (),
            id="a crash that its status explains",
        ),
        pytest.param(
            Observed(pods=(crashed(message="RuntimeError: Engine core initialization failed. See root cause above."),)),
            (ASKED,),
            id="a status that points to the log",
        ),
        pytest.param(Observed(pods=(pod(containers=(container(exit_code=0),)),)), (), id="an end with code 0"),
        pytest.param(Observed(pods=(pod(),)), (), id="a pod without containers"),
        pytest.param(
            Observed(pods=(pod(ready=True, containers=(container(exit_code=1),)),)), (), id="a pod that is ready"
        ),
        pytest.param(
            Observed(pods=(pod(containers=(container("sidecar", exit_code=1),)),)), (), id="another container"
        ),
    ],
)
def test_which_logs_are_read(observed: Observed, requests: tuple[ReadEngineLog, ...]) -> None:
    assert engine_log_requests(observed) == requests


def test_of_many_replicas_that_fail_alike_few_logs_are_read() -> None:
    pods = tuple(crashed(f"p{number}", revision=revision) for revision in ("r1", "r2") for number in range(9))
    assert len(engine_log_requests(Observed(pods=pods))) == 2 * LOGS_PER_REVISION


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def unbegun(seconds: float = 30, **more: Any) -> PodFacts:
    values: dict[str, Any] = {"containers": (container(waiting_reason="ContainerCreating"),), "node": "n"}
    return pod(**{"name": "a", "uid": "u", "advanced": ago(seconds), **values, **more})


def job(seconds: float, finished: bool = False, *pods: PodFacts, **metadata: Any) -> Observed:
    made = ago(seconds).isoformat()
    live = {("Job", "a"): {"metadata": {"uid": "u", "creationTimestamp": made, **metadata}}}
    return Observed(jobs=(JobFacts("a", False, finished, None, {}),), live=live, pods=pods)


def answered(seconds: float) -> dict[str, EventsAnswer]:
    return {"u": EventsAnswer(ago(seconds), Unknown("no answer"))}


PULLING = (container(waiting_reason="ImagePullBackOff"),)
ABOUT = (ReadEvents("a", "u"),)


@pytest.mark.parametrize(
    ("observed", "requests", "wait"),
    [
        pytest.param(Observed(), (), None, id="nothing is there"),
        pytest.param(Observed(pods=(unbegun(),)), ABOUT, 30, id="a pod that did not begin for half a minute"),
        pytest.param(Observed(pods=(unbegun(10),)), (), 20, id="a younger one has time"),
        pytest.param(Observed(pods=(unbegun(29.9),)), (), 1, id="one that is almost so old"),
        pytest.param(Observed(pods=(unbegun(containers=()),)), ABOUT, 30, id="of which the kubelet told nothing"),
        pytest.param(Observed(pods=(unbegun(90),), events=answered(29)), (), 1, id="one that was asked about"),
        pytest.param(Observed(pods=(unbegun(90),), events=answered(30)), ABOUT, 30, id="and is asked about again"),
        pytest.param(Observed(pods=(unbegun(node=None),)), (), None, id="a pod without a node"),
        pytest.param(Observed(pods=(unbegun(terminating=True),)), (), None, id="a pod that leaves"),
        pytest.param(Observed(pods=(unbegun(advanced=None),)), (), None, id="a pod of unknown age"),
        pytest.param(
            Observed(pods=(unbegun(containers=(container(running_since="x"),)),)), (), None, id="a pod that runs"
        ),
        pytest.param(
            Observed(pods=(unbegun(0, containers=PULLING),)), ABOUT, 30, id="an image that cannot be pulled: at once"
        ),
        pytest.param(
            Observed(pods=(unbegun(0, containers=PULLING, terminating=True),)), (), None, id="unless the pod leaves"
        ),
        pytest.param(job(30), ABOUT, 30, id="a Job without a pod for half a minute"),
        pytest.param(job(10), (), 20, id="a younger one"),
        pytest.param(job(30, True), (), None, id="a Job that ended"),
        pytest.param(job(30, False, pod(None, job="a")), (), None, id="a Job with a pod"),
        pytest.param(job(30, deletionTimestamp="x"), (), None, id="a Job that leaves"),
        pytest.param(job(30, creationTimestamp=None), (), None, id="a Job of unknown age"),
    ],
)
def test_about_whom_events_are_read(observed: Observed, requests: tuple[ReadEvents, ...], wait: float | None) -> None:
    assert event_requests(observed, NOW) == (requests, wait)


def test_of_many_pods_that_do_not_begin_few_are_asked_about() -> None:
    pods = tuple(
        unbegun(name=f"p{number}", uid=f"u{number}", revision_hash=revision)
        for revision in ("r1", "r2")
        for number in range(9)
    )
    assert len(event_requests(Observed(pods=pods), NOW)[0]) == 2 * EVENTS_PER_OWNER
