"""Deployments that scale by themselves: the real controller, in virtual time, between gateway and engines."""

import asyncio

import pytest

from nightshift.adapters.kube import reference
from nightshift.api import names
from nightshift.core.autoscale.history import WINDOW_SECONDS
from nightshift.core.facts import Unknown
from tests.support.builders import config
from tests.support.town import Town, auto, story

IDLE = {"idleSeconds": 900}


async def asleep(town: Town) -> Town:
    """It has served once, and nobody asked for long."""
    await town.until(lambda: town.ready == 1)
    await town.until(lambda: town.asked == 0)
    await town.for_seconds(30)
    return town


async def busy(town: Town, requests: int) -> Town:
    """So many requests run, on as many replicas as they need."""
    town.serve(requests)
    await town.until(lambda: town.ready == -(-requests // 16))
    town.serve(requests)
    await town.for_seconds(2 * WINDOW_SECONDS)
    return town


def test_it_shows_once_that_it_serves_goes_to_none_is_woken_serves_and_goes_again() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 1)
        begun = asyncio.get_running_loop().time()
        await town.until(lambda: town.asked == 0)
        assert 899 <= asyncio.get_running_loop().time() - begun < 940
        await town.for_seconds(30)
        assert town.condition("Ready") == town.condition("Available") == ("True", "Idle")
        assert "the next request through the gateway starts one" in town.message("Ready")
        assert (town.condition("Reconciling")[0], town.condition("Stalled")[0]) == ("False", "False")
        town.hold(1)
        assert await town.until(lambda: town.asked == 1) <= 1
        await town.until(lambda: town.ready == 1)
        town.serve(1)
        await town.for_seconds(60)
        assert town.condition("Ready") == ("True", "Serving")
        town.serve(0)
        ended = asyncio.get_running_loop().time()
        await town.until(lambda: town.asked == 0)
        assert 899 <= asyncio.get_running_loop().time() - ended < 940
        assert [len(town.events(kind)) for kind in ("Woken", "ScaledToZero", "ScaledUp", "ScaledDown")] == [1, 2, 0, 0]
        assert town.events("ScaledToZero")[0] == (
            "1 -> 0 replicas. No request came for 900 s (scaling.idleSeconds): no replica."
        )

    story(told, auto(**IDLE))


def test_a_wake_is_acted_on_at_once_and_not_at_the_next_look() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        town.hold(3)
        await asyncio.sleep(0.01)
        assert town.asked == 1

    story(told, auto())


def test_a_burst_of_64_at_zero_with_three_accelerators_starts_three_and_says_at_once_what_is_missing() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        town.hold(64)
        town.watched()
        await town.until(lambda: town.ready == 3, 5)
        await town.for_seconds(3)
        assert town.condition("ScalingLimited") == ("True", "NoGpuCapacity")
        assert town.condition("Ready") == ("True", "Serving"), "what serves is what the spec says"
        town.hold(200)
        await town.for_seconds(600)
        assert town.most_asked == 4, "more are not asked for while one finds no room"
        town.world.gpus = 100
        await town.until(lambda: town.ready == 8)
        await town.for_seconds(5)
        assert town.condition("ScalingLimited") == ("True", "MaxReplicas")

    story(told, auto(), gpus=3)


def test_three_replicas_are_started_for_48_that_wait_and_no_more_while_they_are_handed_over() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        town.watched()
        town.hold(48)
        await town.until(lambda: town.ready == 3)
        first = next(iter(town.gateways.values()))
        first.in_flight = 48
        await town.for_seconds(20)
        assert town.most_asked == 3, "what is in flight may still be in the Lease as held"

    story(told, auto())


def test_without_any_room_those_who_wait_are_told_at_once() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        town.world.gpus = 0
        town.hold(5)
        await town.for_seconds(3)
        assert town.condition("ScalingLimited") == ("True", "NoGpuCapacity")
        decided = town.harness.plan()
        assert decided.scaling is not None
        assert decided.scaling.start_failure is not None
        assert decided.scaling.start_failure.reason == "NoGpuCapacity", "for the gateway"
        assert town.condition("Ready") == ("False", "NoGpuCapacity")
        town.world.gpus = 1
        await town.until(lambda: town.ready == 1)

    story(told, auto())


@pytest.mark.parametrize("what", ["one gateway pod says nothing", "one is missing", "an engine's metrics are missing"])
def test_nothing_is_given_up_while(what: str) -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        second = town.gateways["10.9.0.2"]
        if what == "one gateway pod says nothing":
            second.silent = True
        elif what == "one is missing":
            town.demands.pods.change("DELETED", town.pod(second))
        else:
            next(iter(town.engines().values())).reading = Unknown("silence")
        await town.for_seconds(1)
        town.watched()
        town.serve(0)
        await town.for_seconds(5 * WINDOW_SECONDS)
        assert town.least_asked == 3
        assert town.condition("ScalingLimited") == ("True", "DemandUnknown")
        assert town.condition("Ready") == ("True", "Serving")
        if what == "one gateway pod says nothing":
            second.silent = False
            await town.until(lambda: town.asked < 3)
            await town.until(lambda: town.asked == 0)

    story(told, auto())


@pytest.mark.parametrize("text", ["", '{"replicas": "many"}'], ids=["lost", "unreadable"])
def test_a_decision_that_is_lost_takes_no_replica_away_while_the_demand_is_not_known(text: str | None) -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        (owner,) = town.harness.server.of_kind("ReplicaSet")
        await town.end()
        for pod in town.gateways.values():
            pod.silent = True
        lost = {names.ANNOTATION_SCALING: text}
        town.harness.server.change(reference(owner), lambda raw: raw["metadata"]["annotations"].update(lost))
        town.harness.restart()
        town.start()
        town.watched()
        await town.for_seconds(2 * WINDOW_SECONDS)
        assert (town.least_asked, town.most_asked) == (3, 3)

    story(told, auto())


def test_nothing_is_given_up_while_an_engine_hangs() -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        for engine in list(town.engines().values())[:2]:
            engine.hangs = True
        town.serve(0, hung_too=False)
        hung = 0
        while any(engine.hangs for engine in town.engines().values()):
            await town.for_seconds(1)
            hung += 1
            assert town.asked == 3
        assert hung > 600, "the second waits for the budget of deletions"

    story(told, auto(minReplicas=1))


def test_fewer_replicas_stay_after_five_minutes_and_the_idle_one_goes() -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        kept = list(town.engines())[1]
        town.serve(5, on=kept)
        fell = await town.until(lambda: town.asked == 1)
        assert WINDOW_SECONDS - 10 <= fell <= WINDOW_SECONDS + 40
        await town.for_seconds(5)
        assert list(town.engines()) == [kept]
        assert town.condition("ScalingLimited") == ("False", "NotLimited")
        assert "At most 5 requests in the last 5 minutes" in town.message("ScalingLimited")
        assert town.events("ScaledDown")[0].startswith("3 -> ")
        assert len(town.events("Serving")) == 1, "its own steps are no change of Ready"

    story(told, auto(minReplicas=1))


def test_a_restart_of_the_operator_writes_nothing_and_the_window_begins_anew() -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        town.serve(5)
        await town.for_seconds(WINDOW_SECONDS - 40)
        writes = town.harness.writes()
        await town.restart()
        await town.for_seconds(WINDOW_SECONDS - 20)
        assert (town.asked, town.harness.writes()) == (3, writes)
        await town.until(lambda: town.asked == 1, 60)

    story(told, auto(minReplicas=1))


def test_asleep_a_restart_of_the_operator_wakes_nobody_and_writes_nothing() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        writes = town.harness.writes()
        await town.restart()
        await town.for_seconds(300)
        assert (town.asked, town.harness.writes()) == (0, writes)
        await town.end()
        town.hold(1)
        town.harness.restart()
        town.start()
        await town.until(lambda: town.ready == 1, 5)

    story(told, auto())


def test_while_nothing_changes_nothing_is_written() -> None:
    async def told(town: Town) -> None:
        await busy(town, 40)
        writes = town.harness.writes()
        for requests in (35, 48, 33, 44, 40):
            town.serve(requests)
            await town.for_seconds(120)
        assert town.harness.writes() == writes

    story(told, auto())


def test_a_wake_in_the_middle_of_going_to_none_brings_one_up_again() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 1)
        await town.until(lambda: town.asked == 0)
        assert town.ready == 1, "its pod is there still"
        town.hold(1)
        await asyncio.sleep(0.01)
        assert town.asked == 1
        await town.for_seconds(5)
        assert (town.asked, town.ready) == (1, 1)
        assert town.condition("Ready") == ("True", "Serving")

    story(told, auto())


def test_asleep_a_new_revision_is_started_once_to_show_that_it_serves() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        before = town.harness.status().target_revision
        town.harness.change_spec(engine={"args": ["--seed=1"]})
        await town.until(lambda: town.ready == 1)
        await town.for_seconds(5)
        assert town.harness.status().revision not in (before, None)
        assert town.condition("Ready") == ("True", "Serving")
        await town.until(lambda: town.asked == 0)
        await town.for_seconds(5)
        assert town.condition("Ready") == ("True", "Idle")

    story(told, auto())


def test_from_manual_to_automatic_and_back_the_number_is_where_it_was() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 4)
        town.harness.change_spec(scaling=auto(minReplicas=1)["scaling"])
        await town.for_seconds(60)
        assert town.asked == 4
        await town.until(lambda: town.asked == 1)
        town.harness.change_spec(scaling={"mode": "Manual"})
        await town.for_seconds(5)
        assert town.asked == 4
        (owner,) = town.harness.server.of_kind("ReplicaSet")
        assert names.ANNOTATION_SCALING not in owner["metadata"]["annotations"]
        assert all(item.type != "ScalingLimited" for item in town.harness.status().conditions)

    story(told, {**auto(), "scaling": {"mode": "Manual"}, "replicas": 4})


def test_external_is_what_spec_replicas_says_and_none_is_off() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 2)
        town.harness.change_spec(replicas=0)
        await town.for_seconds(5)
        town.hold(3)
        await town.for_seconds(60)
        assert town.asked == 0
        assert town.condition("Ready") == ("True", "Off")

    story(told, {**auto(), "scaling": {"mode": "External"}, "replicas": 2})


def test_without_a_gateway_engines_alone_are_the_demand_and_one_replica_stays() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 1)
        town.serve(40)
        await town.until(lambda: town.ready == 3, 60)
        town.serve(0)
        await town.until(lambda: town.asked == 1)
        await town.for_seconds(3600)
        assert town.asked == 1
        assert town.condition("ScalingLimited") == ("True", "NoGateway")

    story(told, auto(), chosen=config())


def test_paused_asleep_clients_are_told_at_once_and_a_wake_is_acted_on_when_the_pause_is_over() -> None:
    async def told(town: Town) -> None:
        await asleep(town)
        before = town.route
        town.harness.change_spec(paused=True, traffic={"queue": {"maxRequests": 7}})
        town.hold(1)
        await town.for_seconds(3)
        failure = town.route.start.failure
        assert failure is not None
        assert failure.reason == "Paused"
        assert "set it to false" in failure.message
        assert town.route.model_copy(update={"start": before.start}) == before, "nothing else is told"
        writes = town.harness.writes()
        await town.for_seconds(60)
        assert (town.asked, town.harness.writes()) == (0, writes)
        town.harness.change_spec(paused=False)
        await town.until(lambda: town.asked == 1, 5)
        assert (town.route.start.failure, town.route.queue.max_requests) == (None, 7)

    story(told, auto())


def test_paused_with_replicas_nothing_is_told() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 1)
        before = town.route
        town.harness.change_spec(paused=True)
        await town.for_seconds(1800)
        assert (town.asked, town.route) == (1, before)

    story(told, auto())
