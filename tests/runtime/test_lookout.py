"""Watching engines beside the reconciles, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from nightshift.core.engine_metrics import ProbeAnswer
from nightshift.core.facts import Known, Unknown
from nightshift.core.hang import LOOK_SECONDS
from nightshift.core.planning import AskEngine, LookAtEngine
from nightshift.runtime import lookout as module
from nightshift.runtime.cache import Key
from nightshift.runtime.lookout import QUESTIONS, READERS, Lookout
from tests.support.builders import NOW
from tests.support.fake_engines import FakeEngine, FakeEngines, metrics
from tests.support.virtual_time import run

KEY = ("ml", "bot")
IP = "10.244.0.9"
LOOK = LookAtEngine("bot-a", IP, "uid-a 1")
ASK = AskEngine("bot-a", IP, "uid-a 1", "bot", 30.0)


def clock() -> datetime:
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class Watched:
    """A lookout over one engine, and whom it told."""

    def __init__(self) -> None:
        self.engines = FakeEngines(clock)
        self.lookout = Lookout(self.engines, clock)
        self.told: list[tuple[Key, float]] = []
        self.lookout.tell = lambda key: self.told.append((key, asyncio.get_running_loop().time()))

    @property
    def engine(self) -> FakeEngine:
        return self.engines.at(IP)

    async def for_seconds(self, seconds: float) -> None:
        task = asyncio.create_task(self.lookout.run())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def counted(name: str, result: str) -> float:
    return REGISTRY.get_sample_value(f"nightshift_engine_{name}_total", {"result": result}) or 0.0


def in_virtual_time(story: Coroutine[Any, Any, None]) -> None:
    run(story)


def test_a_watched_engine_is_read_every_half_a_minute_and_told_of_only_when_it_matters() -> None:
    async def story() -> None:
        watched = Watched()
        before = counted("looks", "read")
        watched.lookout.watch(KEY, [LOOK])
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(20 * LOOK_SECONDS - 1)
        assert watched.engine.asked == ["metrics"] * 20
        assert counted("looks", "read") == before + 20
        assert [key for key, _ in watched.told] == [KEY], "of the first reading"
        sight = watched.lookout.sights(KEY)["bot-a"]
        assert isinstance(sight.metrics, Known)
        assert watched.lookout.sights(("ml", "other")) == {}

    in_virtual_time(story())


@pytest.mark.parametrize(
    "forget",
    [
        pytest.param(lambda lookout: lookout.watch(KEY, []), id="plans name it no more"),
        pytest.param(lambda lookout: lookout.forget_pod("ml", "bot-a"), id="its pod is gone"),
    ],
)
def test_what_is_watched_no_more_is_forgotten_and_not_read(forget: Callable[[Lookout], None]) -> None:
    async def story() -> None:
        watched = Watched()
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(LOOK_SECONDS)
        forget(watched.lookout)
        count = len(watched.engine.asked)
        await watched.for_seconds(10 * LOOK_SECONDS)
        assert len(watched.engine.asked) == count
        assert watched.lookout.sights(KEY) == {}
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(LOOK_SECONDS)
        assert len(watched.engine.asked) == count + 1

    in_virtual_time(story())


def test_a_reading_of_an_earlier_start_is_not_kept_for_the_next() -> None:
    async def story() -> None:
        watched = Watched()
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(LOOK_SECONDS)
        watched.lookout.watch(KEY, [LookAtEngine("bot-a", IP, "uid-a 2")])
        watched.lookout.ask("ml", ASK)
        await watched.lookout.settled()
        assert watched.lookout.sights(KEY)["bot-a"].start == "uid-a 1", "the answer of the earlier start was dropped"
        await watched.for_seconds(LOOK_SECONDS + 1)
        assert watched.lookout.sights(KEY)["bot-a"].start == "uid-a 2"

    in_virtual_time(story())


def test_an_engine_that_cannot_be_read_is_counted_and_goes_on_being_read() -> None:
    async def story() -> None:
        watched = Watched()
        watched.engine.reading = Unknown("/metrics cannot be reached")
        before = counted("looks", "unknown")
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(3 * LOOK_SECONDS - 1)
        assert counted("looks", "unknown") == before + 3
        assert watched.told == []

    in_virtual_time(story())


@pytest.mark.parametrize(
    ("hangs", "answer", "result"),
    [
        (True, ProbeAnswer(answered=True, seconds=0.1), "unanswered"),
        (False, ProbeAnswer(answered=True, seconds=0.1), "answered"),
        (False, Unknown("the probe came to nothing: /v1/completions answers with status 404."), "unknown"),
    ],
)
def test_a_question_is_put_once_read_after_and_always_told(
    hangs: bool, answer: ProbeAnswer | Unknown, result: str
) -> None:
    async def story() -> None:
        watched = Watched()
        watched.engine.reading, watched.engine.answer = metrics(running=1), answer
        watched.lookout.watch(KEY, [LOOK])
        await watched.for_seconds(LOOK_SECONDS)
        watched.engine.hangs = hangs
        watched.told.clear()
        before = counted("probes", result)
        watched.lookout.ask("ml", ASK)
        watched.lookout.ask("ml", ASK)
        await watched.lookout.settled()
        assert watched.engine.asked[-2:] == ["probe bot 30", "metrics"]
        assert counted("probes", result) == before + 1
        assert [key for key, _ in watched.told] == [KEY]
        assert watched.lookout.sights(KEY)["bot-a"].unanswered == (1 if hangs else 0)

    in_virtual_time(story())


def test_many_silent_engines_are_read_and_asked_a_few_at_a_time() -> None:
    async def story() -> None:
        watched = Watched()
        reading, asking, most = 0, 0, [0, 0]

        class Slow(FakeEngine):
            async def metrics(self, *, detailed: bool = False) -> Any:
                nonlocal reading
                reading += 1
                most[0] = max(most[0], reading)
                await asyncio.sleep(10)
                reading -= 1
                return Unknown("no answer")

            async def probe(self, served_name: str, deadline_seconds: float) -> Any:
                nonlocal asking
                asking += 1
                most[1] = max(most[1], asking)
                await asyncio.sleep(deadline_seconds)
                asking -= 1
                return Unknown("no answer")

        looks = [LookAtEngine(f"bot-{number}", f"10.244.1.{number}", f"uid-{number}") for number in range(200)]
        for look in looks:
            watched.engines.by_ip[look.ip] = Slow()
        watched.lookout.watch(KEY, looks)
        await watched.for_seconds(200)
        assert most[0] == READERS
        for look in looks:
            watched.lookout.ask("ml", AskEngine(look.pod, look.ip, look.start, "bot", 30.0))
        await watched.lookout.settled()
        assert most[1] == QUESTIONS

    in_virtual_time(story())


def test_a_bug_in_reading_one_engine_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        watched = Watched()
        logged: list[tuple[str, str, str]] = []
        monkeypatch.setattr(module.logger, "exception", lambda *arguments: logged.append(arguments))
        watched.lookout.watch(KEY, [LOOK, LookAtEngine("bot-b", "not an address", "uid-b 1")])

        def at(ip: str) -> FakeEngine:
            if ip != IP:
                raise ValueError("no address")
            return engine

        engine = watched.engine
        watched.engines.at = at  # type: ignore[method-assign,assignment]
        await watched.for_seconds(3 * LOOK_SECONDS)
        assert len(engine.asked) == 3
        assert {pod for _, _, pod in logged} == {"bot-b"}

    in_virtual_time(story())
