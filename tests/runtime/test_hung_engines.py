"""Engines that hang, from the first look to the replacement: the real controller in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.facts import Unknown
from nightshift.core.hang import ANSWER_SECONDS, ASK_AGAIN_SECONDS, LOOK_SECONDS, QUIET_SECONDS, STILL_SECONDS
from nightshift.core.hung import BUDGET_SECONDS, GRACE_SECONDS
from nightshift.runtime.controller import Controller
from tests.support.builders import NOW, config, model_spec
from tests.support.fake_engines import FakeEngine, metrics
from tests.support.harness import Harness
from tests.support.virtual_time import run
from tests.support.world import is_ready

FOUND_SECONDS = 2 * LOOK_SECONDS + STILL_SECONDS + 2 * ANSWER_SECONDS + ASK_AGAIN_SECONDS
"""A look that sees the stillness begin, one that comes up to half a minute late to see it last, two questions."""


def clock() -> datetime:
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class Fleet:
    """One deployment whose engines serve requests, and an operator that can end and begin anew."""

    def __init__(self, replicas: int) -> None:
        self.harness = Harness(model_spec(replicas=replicas), config(), clock)
        self.harness.server.timestamp = lambda: clock().strftime("%Y-%m-%dT%H:%M:%SZ")  # type: ignore[method-assign]
        self.harness.server.watch(self._tell)
        self.deleted: list[tuple[float, str, int]] = []
        """When which pod was deleted, and with what time to end."""
        self.busy = True
        """Whether clients send requests."""
        self.restarts = 0
        self.start()

    def start(self) -> None:
        self.controller = Controller(self.harness.reconciler, cast(Any, self.harness.kube))
        self.controller.queue.add(("ml", "bot"))
        self._work = asyncio.create_task(self.controller.run())

    async def end(self) -> None:
        self._work.cancel()
        await asyncio.wait({self._work})
        failed = None if self._work.cancelled() else self._work.exception()
        assert failed is None or "Crash" in repr(failed), failed

    async def restart(self) -> None:
        """A new process with an empty memory."""
        await self.end()
        self.harness.restart()
        self.restarts += 1
        self.start()

    def _tell(self, event: str, raw: Object) -> None:
        if raw["kind"] == names.KIND:
            self.controller.deployment_event(event, raw)
        else:
            self.controller.child_event(raw["kind"], event, raw)
        leaving = "deletionTimestamp" in raw["metadata"] and event == "MODIFIED"
        if raw["kind"] == "Pod" and leaving and raw["metadata"]["name"] not in [name for _, name, _ in self.deleted]:
            grace = raw["metadata"]["deletionGracePeriodSeconds"]
            self.deleted.append((asyncio.get_running_loop().time(), raw["metadata"]["name"], grace))

    async def for_seconds(self, seconds: float) -> None:
        """The operator works, and the world around it a moment later."""
        for _ in range(int(seconds)):
            if self._work.done():
                await self.restart()
            self.harness.world.settle()
            for engine in self.engines().values():
                if self.busy and isinstance(engine.reading, EngineMetrics) and not engine.reading.running:
                    engine.reading = metrics(running=3)
            await asyncio.sleep(1)

    async def until(self, what: Callable[[], bool], limit: float = 3600) -> float:
        """Seconds until something is so."""
        for passed in range(int(limit)):
            if what():
                return passed
            await self.for_seconds(1)
        raise AssertionError("it does not come to pass")

    def engines(self) -> dict[str, FakeEngine]:
        """Of the ready pods, by name."""
        pods = [raw for raw in self.harness.server.of_kind("Pod") if is_ready(raw)]
        return {raw["metadata"]["name"]: self.harness.engines.at(raw["status"]["podIP"]) for raw in pods}

    def hang(self, *numbers: int) -> list[str]:
        engines = self.engines()
        chosen = [list(engines)[number] for number in numbers]
        for name in chosen:
            engines[name].hangs = True
        return chosen


def story(told: Callable[[Fleet], Coroutine[Any, Any, None]], replicas: int) -> None:
    """Tell a story of a fleet that has served for two minutes."""

    async def main() -> None:
        fleet = Fleet(replicas)
        await fleet.until(lambda: len(fleet.engines()) == replicas)
        await fleet.for_seconds(120)
        await told(fleet)
        await fleet.end()

    run(main())


def test_one_of_two_is_found_and_replaced_and_the_other_left_alone() -> None:
    async def told(fleet: Fleet) -> None:
        other = list(fleet.engines())[1]
        writes = fleet.harness.writes()
        await fleet.for_seconds(1200)
        assert fleet.harness.writes() == writes, "watching engines writes nothing"
        (name,) = fleet.hang(0)
        took = await fleet.until(lambda: bool(fleet.deleted))
        assert took <= FOUND_SECONDS + 2
        assert fleet.deleted[0][1:] == (name, GRACE_SECONDS)
        events = fleet.harness.events()
        assert events[-2:] == [("Warning", "EngineHung"), ("Warning", "HungEngineDeleted")]
        await fleet.for_seconds(1800)
        assert len(fleet.deleted) == 1
        assert other in fleet.engines()
        assert len(fleet.engines()) == 2
        assert fleet.harness.condition("Ready") == ("True", "Serving")

    story(told, replicas=2)


def test_an_engine_that_moves_is_never_asked_nor_one_that_cannot_be_read_deleted() -> None:
    async def told(fleet: Fleet) -> None:
        silent = next(iter(fleet.engines().values()))
        silent.reading = Unknown("/metrics did not answer within 10 s.")
        await fleet.for_seconds(3600)
        assert fleet.deleted == []
        for engine in fleet.engines().values():
            assert not [question for question in engine.asked if question.startswith("probe")]

    story(told, replicas=2)


def test_an_engine_that_is_quiet_is_asked_now_and_then_and_found_when_it_hangs() -> None:
    async def told(fleet: Fleet) -> None:
        (engine,) = fleet.engines().values()
        fleet.busy = False
        engine.reading = metrics()
        await fleet.for_seconds(900)
        assert len([question for question in engine.asked if question.startswith("probe")]) == 1
        assert fleet.deleted == []
        engine.hangs = True
        took = await fleet.until(lambda: bool(fleet.deleted))
        assert took <= QUIET_SECONDS + FOUND_SECONDS

    story(told, replicas=1)


def test_an_engine_that_hangs_with_its_first_request_is_found_though_it_says_that_nothing_runs() -> None:
    async def told(fleet: Fleet) -> None:
        (engine,) = fleet.engines().values()
        fleet.busy = False
        engine.reading = metrics(prompt_tokens=0, generation_tokens=0, iterations=0)
        engine.hangs = True
        took = await fleet.until(lambda: bool(fleet.deleted))
        assert took <= FOUND_SECONDS + 2

    story(told, replicas=1)


def test_a_new_engine_that_nobody_asks_is_asked_for_one_token() -> None:
    async def told(fleet: Fleet) -> None:
        (engine,) = fleet.engines().values()
        fleet.busy = False
        engine.reading = metrics(prompt_tokens=0, generation_tokens=0, iterations=0)
        await fleet.for_seconds(LOOK_SECONDS + STILL_SECONDS + LOOK_SECONDS + 2)
        assert len([question for question in engine.asked if question.startswith("probe")]) == 1
        await fleet.for_seconds(500)
        assert len([question for question in engine.asked if question.startswith("probe")]) == 1
        assert fleet.deleted == []

    story(told, replicas=1)


def test_a_question_that_only_waits_behind_others_is_no_hang() -> None:
    async def told(fleet: Fleet) -> None:
        (engine,) = fleet.engines().values()
        probe = engine.probe
        engine.hangs = True

        async def waits(served_name: str, deadline_seconds: float) -> Any:
            answer = await probe(served_name, deadline_seconds)
            engine.hangs = False
            await engine.metrics()
            engine.hangs = True
            return answer

        engine.probe = waits  # type: ignore[method-assign]
        await fleet.for_seconds(3600)
        assert len([question for question in engine.asked if question.startswith("probe")]) > 10
        assert fleet.deleted == []

    story(told, replicas=1)


def test_the_fleet_is_not_restarted_at_once_also_by_new_processes() -> None:
    async def told(fleet: Fleet) -> None:
        fleet.hang(0, 1, 2, 3)
        await fleet.until(lambda: bool(fleet.deleted))
        await fleet.for_seconds(2 * LOOK_SECONDS)
        assert fleet.harness.condition("Stalled") == ("True", "EngineHung")
        assert fleet.harness.condition("Available") == ("True", "Serving"), "the one that was replaced"
        await fleet.restart()
        await fleet.for_seconds(300)
        await fleet.restart()
        await fleet.for_seconds(3 * BUDGET_SECONDS + FOUND_SECONDS)
        moments = [moment for moment, _, _ in fleet.deleted]
        assert len(moments) == 4
        # A note is written to the second.
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert all(BUDGET_SECONDS - 1 <= gap <= BUDGET_SECONDS + 60 for gap in gaps), gaps
        await fleet.for_seconds(600)
        assert fleet.harness.condition("Ready") == ("True", "Serving")
        assert len(fleet.deleted) == 4

    story(told, replicas=4)


def test_the_only_replica_is_replaced_once_per_budget_while_every_new_one_hangs() -> None:
    async def told(fleet: Fleet) -> None:
        for _ in range(4000):
            for engine in fleet.engines().values():
                engine.hangs = True
                engine.reading = metrics(running=1)
            await fleet.for_seconds(1)
        moments = [moment for moment, _, _ in fleet.deleted]
        assert 5 <= len(moments) <= 7
        assert min(later - earlier for earlier, later in pairwise(moments)) >= BUDGET_SECONDS - 1

    story(told, replicas=1)


@pytest.mark.parametrize("seconds", [60, 100, 130])
def test_a_process_that_ends_while_it_looks_only_delays(seconds: float) -> None:
    async def told(fleet: Fleet) -> None:
        (name,) = fleet.hang(0)
        await fleet.for_seconds(seconds)
        await fleet.restart()
        await fleet.until(lambda: bool(fleet.deleted), FOUND_SECONDS + 2)
        assert fleet.deleted[0][1] == name

    story(told, replicas=2)


@pytest.mark.parametrize("write", range(5), ids=["note", "deletion", "status", "first Event", "second Event"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_process_that_ends_at_any_write_of_a_replacement_ends_in_one_replacement(write: int, before: bool) -> None:
    async def told(fleet: Fleet) -> None:
        other = list(fleet.engines())[1]
        kube = fleet.harness.kube
        index = kube.attempted_writes + write
        kube.crash_before, kube.crash_after = (index, None) if before else (None, index)
        (name,) = fleet.hang(0)
        await fleet.for_seconds(2 * FOUND_SECONDS + BUDGET_SECONDS)
        assert fleet.restarts == 1
        assert [pod for _, pod, _ in fleet.deleted] == [name]
        assert other in fleet.engines()
        assert len(fleet.engines()) == 2
        assert fleet.harness.condition("Ready") == ("True", "Serving")

    story(told, replicas=2)
