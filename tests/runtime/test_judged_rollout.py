"""Judged rollouts by the real controller in virtual time: gateway pods and engines are asked for what they count.

Nobody tells the operator of a verdict: it hears what `/demand` and engines' metrics say, as often as it asks.
"""

import asyncio
from collections.abc import Iterable

import pytest

from nightshift.core.adapter_sight import TendAdapters
from nightshift.core.judged.pools import Claim, Contender
from tests.support.builders import NOW, model_spec
from tests.support.town import Town, clock, story
from tests.support.traffic import USUAL, Answers, Traffic

ARGUMENT = {"args": ["--max-model-len=1024"]}
SPEC = model_spec(replicas=2, rollout={"strategy": "Auto", "steps": [20, 50], "stepSeconds": 60})


async def served(town: Town, answers: Answers) -> str:
    """The hash of what serves; whatever comes after it answers so."""
    await town.until(lambda: town.ready == 2 and town.condition("Ready") == ("True", "Serving"))
    traffic = Traffic(60, NOW)
    town.asked_by(traffic)
    await town.for_seconds(30)
    serving = town.harness.status().revision
    traffic.answers = lambda revision: USUAL if revision == serving else answers
    town.harness.change_spec(engine=ARGUMENT)
    return str(serving)


def test_one_that_is_as_good_takes_over_step_by_step() -> None:
    async def told(town: Town) -> None:
        old, seen = await served(town, USUAL), []

        def promoted() -> bool:
            seen.append(sum(weight for revision, weight in town.weights.items() if revision != old))
            return bool(town.events("Promoted"))

        await town.until(promoted, 900)
        assert list(dict.fromkeys(seen))[:3] == [0, 20, 50]
        await town.until(lambda: town.condition("Ready") == ("True", "Serving"), 120)
        assert old not in town.weights or town.weights[old] == 0

    story(told, SPEC)


@pytest.mark.parametrize(
    ("answers", "says"),
    [(Answers(failed=0.1), "errors"), (Answers(slower=2.0), "1.3x")],
    ids=["for its errors", "for its times"],
)
def test_one_that_is_worse_is_rolled_back(answers: Answers, says: str) -> None:
    async def told(town: Town) -> None:
        old = await served(town, answers)
        await town.until(lambda: bool(town.events("RolledBack")), 1800)
        assert says in town.events("RolledBack")[0]
        await town.for_seconds(30)
        assert {revision for revision, weight in town.weights.items() if weight} == {old}
        assert town.condition("Stalled") == ("True", "JudgedWorse")

    story(told, SPEC)


@pytest.mark.parametrize("seconds", [45, 70, 130])
def test_a_restart_of_the_operator_in_mid_step_pauses_nothing(seconds: int) -> None:
    async def told(town: Town) -> None:
        await served(town, USUAL)
        await town.until(lambda: bool(town.events("RolloutJudging")), 300)
        while not town.events("Promoted"):
            await town.for_seconds(seconds)
            await town.restart()
            assert (clock() - NOW).total_seconds() < 1800
        assert not town.events("RolloutPaused")

    story(told, SPEC)


@pytest.mark.parametrize("seconds", [60, 600, 12 * 3600], ids=["when a step ended", "for long", "past the deadline"])
def test_an_operator_that_was_away_reads_before_it_pauses(seconds: int) -> None:
    async def told(town: Town) -> None:
        await served(town, USUAL)
        await town.until(lambda: bool(town.events("RolloutJudging")), 300)
        await town.for_seconds(20)
        await town.end()
        await asyncio.sleep(seconds)
        town.harness.restart()
        town.start()
        await town.until(lambda: bool(town.events("Promoted")), 900)
        assert not town.events("RolloutPaused")

    story(told, SPEC)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"paused": True}, {"paused": False}, id="paused overnight"),
        pytest.param({"replicas": 0}, {"replicas": 2}, id="off overnight"),
    ],
)
def test_a_night_in_which_nothing_was_to_be_done_is_no_time_of_judging(
    before: dict[str, object], after: dict[str, object]
) -> None:
    async def told(town: Town) -> None:
        await served(town, USUAL)
        await town.until(lambda: bool(town.events("RolloutJudging")), 300)
        await town.for_seconds(20)
        town.harness.change_spec(**before)
        await town.for_seconds(60)
        await town.end()
        await asyncio.sleep(12 * 3600)
        town.start()
        await town.for_seconds(10)
        town.harness.change_spec(**after)
        await town.until(lambda: bool(town.events("Promoted")), 1800)
        assert not town.events("RolloutPaused")

    story(told, SPEC)


def test_where_nobody_asks_the_built_in_questions_judge() -> None:
    async def told(town: Town) -> None:
        await town.until(lambda: town.ready == 2 and town.condition("Ready") == ("True", "Serving"))
        town.asked_by(Traffic(0, NOW))
        await town.for_seconds(30)
        town.harness.change_spec(engine=ARGUMENT)
        await town.until(lambda: bool(town.events("Promoted")), 3600)

    story(told, SPEC)


def test_of_two_rollouts_that_begin_at_the_same_time_one_waits_for_its_turn() -> None:
    async def told(town: Town) -> None:
        server, other = town.harness.server, Contender(("ml", "other"), "nvidia-gpu", 1, Claim.ASKING, NOW)

        def asked_for() -> int:
            return sum(item["spec"]["replicas"] for item in server.of_kind("ReplicaSet"))

        await town.until(lambda: town.ready == 2 and town.condition("Ready") == ("True", "Serving"))
        pools, tender = town.harness.reconciler.pools, town.harness.lookups.tender
        keep = tender.keep

        async def meanwhile(key: tuple[str, str], tends: Iterable[TendAdapters]) -> bool:
            if any((job.get("status") or {}).get("conditions") for job in server.of_kind("Job")):
                pools.tell(other.key, other)  # what the image says is known: this is the reconcile that begins
            return await keep(key, tends)

        tender.keep = meanwhile  # type: ignore[method-assign]
        town.harness.change_spec(engine=ARGUMENT)
        await town.for_seconds(60)
        assert asked_for() == 2, "the other one asks, and it has not its turn"
        tender.keep = keep  # type: ignore[method-assign]
        pools.tell(other.key, None)
        await town.until(lambda: asked_for() == 3, 60)

    story(told, SPEC)
