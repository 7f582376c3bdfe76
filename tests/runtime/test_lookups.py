import asyncio

import pytest

from nightshift.adapters.kube import KubeError, Object
from nightshift.api import names
from nightshift.api.fetch import Progress, to_line
from nightshift.core.engine_log import EngineFailure, FailureKind
from nightshift.core.facts import Known, Unknown
from nightshift.core.images import IMAGE_ANSWER_SECONDS
from nightshift.core.object_events import EventsAnswer, ObjectEvent
from nightshift.core.observed import EngineLog
from nightshift.core.planning import ReadEngineLog, ReadEvents, ReadProgress, ResolveImage
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.tender import Tender
from tests.support.api_server import ApiServer
from tests.support.builders import DIGEST, NOW
from tests.support.clock import Clock
from tests.support.fake_engines import FakeEngines, FakeSidecars
from tests.support.fake_kube import FakeKube
from tests.support.harness import FakeRegistry

QUESTION = ResolveImage("registry.example/vllm", "v0.32.0")
IMAGE = "registry.example/vllm:v0.32.0"
READ = ReadProgress("pod-1", names.DOWNLOAD_CONTAINER)


def progress(done: int) -> Progress:
    return Progress(bytes_done=done, bytes_total=100, files_done=0, files_total=1)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube(ApiServer())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lookups(kube: FakeKube, registry: FakeRegistry, clock: Clock) -> Lookups:
    return Lookups(kube, registry, Lookout(FakeEngines()), Tender(FakeEngines(), FakeSidecars()), clock)


async def test_silences_are_counted_until_a_registry_answers(
    lookups: Lookups, registry: FakeRegistry, clock: Clock
) -> None:
    registry.answer = Unknown("no answer")
    await lookups.ask("ml", QUESTION)
    clock.pass_by(2)
    await lookups.ask("ml", QUESTION)
    assert lookups.images[IMAGE].silences == 2
    registry.answer = Known(DIGEST, NOW)
    clock.pass_by(4)
    await lookups.ask("ml", QUESTION)
    assert lookups.images[IMAGE].answer == Known(DIGEST, NOW)
    registry.answer = Unknown("no answer")
    clock.pass_by(IMAGE_ANSWER_SECONDS)
    await lookups.ask("ml", QUESTION)
    assert lookups.images[IMAGE].silences == 1, "one hiccup is not the fourth"
    assert registry.asked == [("registry.example/vllm", "v0.32.0")] * 4


async def test_many_deployments_ask_a_registry_once_and_its_silence_is_one(
    lookups: Lookups, registry: FakeRegistry
) -> None:
    registry.answer = Unknown("no answer")
    await asyncio.gather(*(lookups.ask(f"team-{number}", QUESTION) for number in range(20)))
    assert len(registry.asked) == 1
    assert lookups.images[IMAGE].silences == 1


async def test_the_last_line_of_progress_counts(lookups: Lookups, kube: FakeKube) -> None:
    lines = ["starting", to_line(progress(1)), to_line(progress(40)), "a warning"]
    kube.logs[("pod-1", names.DOWNLOAD_CONTAINER)] = "\n".join(lines)
    await lookups.ask("ml", READ)
    assert lookups.progress("ml") == {"pod-1": progress(40)}
    assert lookups.progress("other") == {}


async def test_a_log_without_progress_changes_nothing(lookups: Lookups, kube: FakeKube) -> None:
    kube.logs[("pod-1", names.DOWNLOAD_CONTAINER)] = to_line(progress(7))
    await lookups.ask("ml", READ)
    kube.logs[("pod-1", names.DOWNLOAD_CONTAINER)] = "\n".join(["noise"] * 9)
    await lookups.ask("ml", READ)
    assert lookups.progress("ml") == {"pod-1": progress(7)}


async def test_a_log_that_cannot_be_read_is_no_failure(lookups: Lookups, kube: FakeKube) -> None:
    await lookups.ask("ml", READ)
    kube.failures = [KubeError(400, "BadRequest", "container is waiting to start")]
    await lookups.ask("ml", READ)
    assert lookups.progress("ml") == {}


async def test_a_pod_is_forgotten(lookups: Lookups, kube: FakeKube) -> None:
    kube.logs[("pod-1", names.DOWNLOAD_CONTAINER)] = to_line(progress(7))
    await lookups.ask("ml", READ)
    lookups.forget_pod("other", "pod-1")
    assert lookups.progress("ml") == {"pod-1": progress(7)}
    lookups.forget_pod("ml", "pod-1")
    lookups.forget_pod("ml", "never-seen")
    assert lookups.progress("ml") == {}


CRASHED = ReadEngineLog("pod-1", names.ENGINE_CONTAINER, 2, previous=True)


async def test_of_a_crashed_engines_log_what_it_tells_is_kept(lookups: Lookups, kube: FakeKube) -> None:
    kube.logs[("pod-1", names.ENGINE_CONTAINER)] = "noise\nZeroDivisionError: division by zero\nnoise"
    await lookups.ask("ml", CRASHED)
    told = EngineFailure(FailureKind.OTHER, "ZeroDivisionError: division by zero")
    assert lookups.engine_logs("ml") == {"pod-1": EngineLog(2, told)}
    assert lookups.engine_logs("other") == {}
    assert kube.previous_logs == 1
    lookups.forget_pod("ml", "pod-1")
    assert lookups.engine_logs("ml") == {}


async def test_a_crashed_engines_log_that_cannot_be_read_is_not_read_again(lookups: Lookups) -> None:
    await lookups.ask("ml", CRASHED)
    assert lookups.engine_logs("ml") == {"pod-1": EngineLog(2, None)}


def told(uid: str, reason: str = "FailedMount") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{uid}.{reason}", "namespace": "ml"},
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": "token=hf_abcdefgh",
        "lastTimestamp": "2026-03-01T12:00:00Z",
    }


async def test_of_events_those_that_mean_something_are_kept_without_secrets(
    lookups: Lookups, kube: FakeKube, clock: Clock
) -> None:
    for raw in (told("u1"), told("u1", "Scheduled"), told("u2")):
        kube.server.create(raw)
    await lookups.ask("ml", ReadEvents("pod-1", "u1"))
    kept = (ObjectEvent("FailedMount", "token=[redacted]", NOW),)
    assert lookups.events == {"u1": EventsAnswer(NOW, Known(kept, NOW))}


async def test_events_that_cannot_be_read_are_unknown_and_asked_for_again_later(
    lookups: Lookups, kube: FakeKube, clock: Clock
) -> None:
    kube.failures = [KubeError(403, "Forbidden", "no")]
    await lookups.ask("ml", ReadEvents("pod-1", "u1"))
    assert lookups.events == {"u1": EventsAnswer(NOW, Unknown("403 Forbidden: no"))}


async def test_answers_that_nobody_asks_for_any_more_are_forgotten(lookups: Lookups, clock: Clock) -> None:
    await lookups.ask("ml", ReadEvents("pod-1", "u1"))
    clock.pass_by(599)
    await lookups.ask("ml", ReadEvents("pod-2", "u2"))
    assert set(lookups.events) == {"u1", "u2"}
    clock.pass_by(1)
    await lookups.ask("ml", ReadEvents("pod-3", "u3"))
    assert set(lookups.events) == {"u2", "u3"}
