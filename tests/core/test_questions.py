"""Which logs are read: of engines that crashed without a clear cause, once for each crash, and few."""

from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.observed import EngineLog, Observed, PodFacts
from nightshift.core.planning import ReadEngineLog
from nightshift.core.questions import LOGS_PER_REVISION, engine_log_requests
from tests.support.builders import container, pod


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
