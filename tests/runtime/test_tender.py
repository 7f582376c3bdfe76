"""Giving engines their adapters beside the reconciles, in virtual time."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.core.adapter_sight import IDLE_SECONDS, TRIES, NamedAdapter, TendAdapters, path_of
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.runtime.cache import Key
from nightshift.runtime.tender import FIRST_LOOK_SECONDS, Tender
from tests.support.builders import NOW
from tests.support.fake_engines import FakeEngine, FakeEngines, FakeSidecar, FakeSidecars
from tests.support.virtual_time import run

KEY = ("ml", "bot")
IP = "10.244.0.9"
OLD, NEW = "a" * 40, "b" * 40
REFUNDS = NamedAdapter("refunds", "acme/refunds", NEW)
TEND = TendAdapters("bot-a", IP, "uid-a 1", ready=True, wanted=(REFUNDS,))


def clock() -> datetime:
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class Tended:
    """A tender over one engine, and whom it told."""

    def __init__(self) -> None:
        self.engines, self.sidecars = FakeEngines(clock), FakeSidecars(clock)
        self.tender = Tender(self.engines, self.sidecars, clock)
        self.told: list[Key] = []
        self.tender.tell = self.told.append

    @property
    def engine(self) -> FakeEngine:
        return self.engines.at(IP)

    @property
    def sidecar(self) -> FakeSidecar:
        return self.sidecars.at(IP)

    async def for_seconds(self, seconds: float) -> None:
        task = asyncio.create_task(self.tender.run())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def in_virtual_time(story: Coroutine[Any, Any, None]) -> None:
    run(story)


def test_a_new_process_asks_before_it_tells_and_then_loads() -> None:
    async def story() -> None:
        tended = Tended()
        assert await tended.tender.keep(KEY, [TEND])
        assert tended.tender.sights(KEY)["bot-a"].loaded == Known({}, clock())
        assert tended.engine.asked == [], "the first look only looks"
        assert not await tended.tender.keep(KEY, [TEND]), "nothing new"
        await tended.for_seconds(5)
        assert tended.engine.loaded == {"refunds": path_of(NEW)}
        assert tended.told == [KEY]
        await tended.for_seconds(10 * IDLE_SECONDS)
        assert (len(tended.engine.asked), tended.told) == (1, [KEY])

    in_virtual_time(story())


def test_an_engine_that_starts_anew_holds_nothing_until_it_was_asked() -> None:
    async def story() -> None:
        tended = Tended()
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(2)
        tended.engine.loaded.clear()
        again = replace(TEND, start="uid-a 2")
        assert await tended.tender.keep(KEY, [again])
        seen = tended.tender.sights(KEY)["bot-a"]
        assert (seen.start, seen.holds("refunds", NEW)) == ("uid-a 2", False)
        await tended.for_seconds(2)
        assert tended.engine.loaded == {"refunds": path_of(NEW)}

    in_virtual_time(story())


def test_what_somebody_unloads_is_loaded_again() -> None:
    async def story() -> None:
        tended = Tended()
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(2)
        tended.engine.loaded.clear()
        await tended.for_seconds(2 * IDLE_SECONDS)
        assert tended.engine.loaded == {"refunds": path_of(NEW)}

    in_virtual_time(story())


def test_another_version_takes_the_name_and_the_old_files_stay_until_it_has() -> None:
    async def story() -> None:
        tended = Tended()
        tended.engine.loaded["refunds"] = path_of(OLD)
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(2)
        assert tended.engine.asked == ["unload refunds", f"load refunds {path_of(NEW)}"]
        await tended.for_seconds(IDLE_SECONDS)
        assert (tended.sidecar.told[0].keep, tended.sidecar.told[-1].keep) == ((OLD,), ())

    in_virtual_time(story())


def test_where_the_new_version_is_refused_the_old_one_serves_on() -> None:
    async def story() -> None:
        tended = Tended()
        tended.engine.loaded["refunds"] = path_of(OLD)
        tended.engine.refuses[path_of(NEW)] = "rank 8 is greater than 4"
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(3600)
        assert tended.engine.loaded == {"refunds": path_of(OLD)}
        assert tended.engine.asked.count(f"load refunds {path_of(NEW)}") == TRIES
        refusal = tended.tender.sights(KEY)["bot-a"].refusal("refunds", NEW)
        assert refusal is not None
        assert (refusal.final, refusal.message) == (True, "rank 8 is greater than 4")

    in_virtual_time(story())


def test_no_answer_is_neither_loaded_nor_refused() -> None:
    async def story() -> None:
        tended = Tended()
        tended.engine.silent = tended.sidecar.silent = True
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(60)
        seen = tended.tender.sights(KEY)["bot-a"]
        assert (seen.holds("refunds", NEW), seen.refusals, tended.engine.asked) == (False, {}, [])

    in_virtual_time(story())


def test_an_engine_that_falls_silent_in_the_middle_is_asked_again() -> None:
    async def story() -> None:
        tended = Tended()
        taken = tended.engine.load_adapter

        async def silent_once(name: str, path: str) -> Fact[Any]:
            tended.engine.load_adapter = taken  # type: ignore[method-assign]
            return Unknown("no answer")

        tended.engine.load_adapter = silent_once  # type: ignore[method-assign]
        await tended.tender.keep(KEY, [TEND])
        await tended.for_seconds(5)
        assert tended.engine.loaded == {"refunds": path_of(NEW)}

    in_virtual_time(story())


def test_a_reconcile_does_not_wait_for_an_engine_that_hangs() -> None:
    async def story() -> None:
        tended = Tended()

        async def hangs() -> Fact[Any]:
            await asyncio.sleep(3600)
            return Unknown("never")

        tended.engine.adapters = hangs  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        assert await tended.tender.keep(KEY, [TEND])
        assert asyncio.get_running_loop().time() - began == FIRST_LOOK_SECONDS
        assert not tended.tender.sights(KEY)["bot-a"].holds("refunds", NEW)
        assert not await tended.tender.keep(KEY, [TEND]), "it is not waited for a second time"

    in_virtual_time(story())


def test_engines_that_no_plan_names_are_left_alone() -> None:
    async def story() -> None:
        tended = Tended()
        await tended.tender.keep(KEY, [TEND])
        await tended.tender.keep(KEY, [])
        await tended.for_seconds(60)
        assert (tended.tender.sights(KEY), tended.engine.asked) == ({}, [])
        await tended.tender.keep(KEY, [TEND])
        tended.tender.forget_pod("ml", "bot-a")
        await tended.for_seconds(60)
        assert tended.engine.asked == []

    in_virtual_time(story())


def test_a_mistake_of_ours_stops_neither_this_engine_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        tended = Tended()
        broken = replace(TEND, pod="bot-b", ip="10.244.0.10", ready=False)

        async def breaks() -> Fact[Any]:
            raise RuntimeError("a bug")

        tended.engines.at("10.244.0.10").adapters = breaks  # type: ignore[method-assign]
        await tended.tender.keep(KEY, [broken, TEND])
        await tended.for_seconds(5)
        assert tended.engine.loaded == {"refunds": path_of(NEW)}

    in_virtual_time(story())
    assert "bug of Nightshift" in caplog.text
