"""Gathering evidence of two revisions, for as long as plans say so: the real controller in virtual time."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from nightshift.api.demand import RevisionResults
from nightshift.core import plan as planning
from nightshift.core.analysis.counted import counters
from nightshift.core.analysis.evidence import Histogram
from nightshift.core.analysis.window import arms, begin
from nightshift.core.engine_metrics import EngineDetails
from nightshift.core.facts import Known
from nightshift.core.hang import LOOK_SECONDS
from nightshift.core.planning import LookAtEngine, Plan
from nightshift.runtime import reconcile
from nightshift.runtime.demand import COMPARE_SECONDS, Demands
from nightshift.runtime.lookout import Lookout
from tests.support.api_server import deployment_reference
from tests.support.builders import NOW, model_spec
from tests.support.fake_engines import FakeEngines, metrics
from tests.support.town import Town, auto, clock, story
from tests.support.traffic import ROUTE
from tests.support.virtual_time import run

KEY = ("ml", "bot")
MANUAL = model_spec(replicas=2)


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether plans compare revisions, as a judged rollout would have it."""
    wanted = [True]

    def plan(*given: Any) -> Plan:
        return replace(planning.plan(*given), compares=wanted[0])

    monkeypatch.setattr(reconcile, "plan", plan)
    return wanted


async def served(town: Town) -> None:
    await town.until(lambda: town.ready == 2)
    await town.for_seconds(40)


def heard(town: Town) -> list[float]:
    """The times at which a reconcile is told of from now on."""
    times: list[float] = []
    tell = town.demands.tell

    def note(key: Any) -> None:
        times.append((clock() - NOW).total_seconds())
        tell(key)

    town.demands.tell = note
    return times


def readings(town: Town) -> list[str]:
    return [question for engine in town.engines().values() for question in engine.asked]


@pytest.mark.parametrize("spec", [MANUAL, auto(minReplicas=2)], ids=["Manual", "Auto"])
def test_in_any_scaling_mode_gateway_pods_are_asked_for_results_and_engines_for_details(
    comparing: list[bool], spec: dict[str, Any]
) -> None:
    async def told(town: Town) -> None:
        await served(town)
        pods = list(town.gateways.values())
        assert all(pod.asked_results[-1] == (ROUTE,) for pod in pods)
        assert readings(town)[-1] == "details"
        observed = town.harness.reconciler.observed(KEY, town.harness.body["metadata"]["uid"])
        assert observed.gateway is not None
        assert set(observed.gateway.answers) == {"gw-1", "gw-2"}
        details = [sight.last.value.details for sight in observed.engines.values() if sight.last is not None]
        assert details == [EngineDetails(), EngineDetails()]

    story(told, spec)


def test_a_reconcile_hears_of_it_every_half_a_minute_and_not_more_often(comparing: list[bool]) -> None:
    async def told(town: Town) -> None:
        await served(town)
        times = heard(town)
        await town.for_seconds(10 * COMPARE_SECONDS)
        between = [after - before for before, after in pairwise(times)]
        assert len(times) in (9, 10)
        assert all(COMPARE_SECONDS <= seconds <= COMPARE_SECONDS + 2 for seconds in between)

    story(told, MANUAL)


def test_where_nothing_is_compared_nobody_is_asked_or_told(comparing: list[bool]) -> None:
    async def told(town: Town) -> None:
        comparing[0] = False
        await served(town)
        times = heard(town)
        await town.for_seconds(100)
        assert (town.questions, times) == (0, [])
        assert set(readings(town)) == {"metrics"}
        assert town.demands.gateway(KEY) is None

    story(told, MANUAL)


def test_when_a_comparison_ends_so_do_its_questions(comparing: list[bool]) -> None:
    async def told(town: Town) -> None:
        await served(town)
        comparing[0] = False
        await town.for_seconds(COMPARE_SECONDS + 3)
        asked, times = town.questions, heard(town)
        for engine in town.engines().values():
            engine.asked.clear()
        await town.for_seconds(100)
        assert (town.questions, times) == (asked, [])
        assert set(readings(town)) == {"metrics"}

    story(told, MANUAL)


def test_a_deployment_that_is_gone_is_compared_no_more(comparing: list[bool]) -> None:
    async def told(town: Town) -> None:
        await served(town)
        town.harness.server.delete(deployment_reference())
        await town.for_seconds(3)
        asked = town.questions
        await town.for_seconds(30)
        assert (town.questions, town.demands.gateway(KEY)) == (asked, None)

    story(told, MANUAL)


def test_from_counters_to_arms_over_a_restart_of_the_operator(comparing: list[bool]) -> None:
    """Everything at once: what the gateway and the engines count while a window lasts, read by two processes."""

    async def told(town: Town) -> None:
        await served(town)
        revision = town.route.revisions[0].hash

        def ask(ok: int, failed: int, tokens: int) -> None:
            for pod in town.gateways.values():
                pod.results = {revision: RevisionResults(since=NOW, ok=ok, server_error=failed, total=(ok, 0, 0))}
            details = EngineDetails(first_token=Histogram((0.5,), (tokens, 0)), inference_seconds=tokens / 10)
            for engine in town.engines().values():
                engine.reading = metrics(generation_tokens=tokens, details=details)

        def now() -> Any:
            observed = town.harness.reconciler.observed(KEY, town.harness.body["metadata"]["uid"])
            return counters(ROUTE, revision, observed, clock())

        ask(100, 10, 5000)
        await town.for_seconds(LOOK_SECONDS + 2)
        comparison = begin((revision, now()), (revision, now()))
        assert isinstance(comparison, Known), comparison
        ask(150, 12, 5600)
        await town.restart()
        await town.for_seconds(LOOK_SECONDS + 2)
        _, arm = arms(comparison.value, now(), now())
        assert isinstance(arm, Known), arm
        assert (arm.value.requests, arm.value.failed, arm.value.generation_tokens) == (104, 4, 1200)
        assert arm.value.total == Histogram((0.5, 1.0), (100, 0, 0))
        assert arm.value.first_token == Histogram((0.5,), (1200, 0))
        assert arm.value.mean_running == pytest.approx(120 / arm.value.replica_seconds)
        assert 2 * 20 <= arm.value.replica_seconds <= 2 * 90
        for pod in town.gateways.values():
            pod.silent = True
        await town.for_seconds(15)
        _, arm = arms(comparison.value, now(), now())
        assert not isinstance(arm, Known)

    story(told, MANUAL)


def test_an_engine_is_read_in_detail_at_once_and_not_only_half_a_minute_later() -> None:
    async def told() -> None:
        engines = FakeEngines(clock)
        lookout = Lookout(engines, clock)
        look = LookAtEngine("bot-a", "10.244.0.9", "uid-a 1")
        lookout.watch(KEY, [look], detailed=True)
        lookout.watch(KEY, [look], detailed=True)
        task = asyncio.create_task(lookout.run())
        await asyncio.sleep(1)
        assert engines.at("10.244.0.9").asked == ["details"]
        await asyncio.sleep(LOOK_SECONDS)
        assert engines.at("10.244.0.9").asked == ["details"] * 2
        task.cancel()

    run(told())


def test_a_comparison_without_a_gateway_asks_nobody() -> None:
    async def told() -> None:
        demands = Demands(Lookout(FakeEngines(), clock), None, None, clock)
        demands.compare(KEY, wanted=True)
        await demands.look()
        assert demands.gateway(KEY) is not None

    run(told())
