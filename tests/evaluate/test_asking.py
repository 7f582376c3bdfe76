"""In which order two engines are asked, and when the asking ends."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from nightshift.api.golden import GoldenQuestion
from nightshift.api.golden_run import GoldenEnd
from nightshift.core.golden.answer import Ending, EngineAnswer
from nightshift.evaluate.asking import Asked, Manner, ask_all

GOOD = EngineAnswer(Ending.ANSWERED, "a", 0.1, 0.01, {"a": -0.1})
GONE = EngineAnswer(Ending.UNREACHABLE)
QUESTIONS = [GoldenQuestion(id=f"q{place}", prompt="a") for place in range(20)]


@dataclass
class Table:
    """What both engines were asked, in its order."""

    log: list[tuple[str, str, int | None, str]] = field(default_factory=list)
    working: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)


@dataclass
class Fake:
    """An engine whose answers a test writes."""

    name: str
    table: Table
    answer: Callable[[GoldenQuestion], EngineAnswer] = lambda _: GOOD

    async def ask(
        self, question: GoldenQuestion, seconds: float, logprobs: int, salt: str, max_tokens: int | None = None
    ) -> EngineAnswer:
        table = self.table
        table.log.append((self.name, question.id, max_tokens, salt))
        table.working[self.name] = table.working.get(self.name, 0) + 1
        table.most[self.name] = max(table.most.get(self.name, 0), table.working[self.name])
        await asyncio.sleep(0)
        table.working[self.name] -= 1
        return self.answer(question)


async def run(
    table: Table,
    questions: Sequence[GoldenQuestion] = QUESTIONS,
    stable: Callable[[GoldenQuestion], EngineAnswer] = lambda _: GOOD,
    candidate: Callable[[GoldenQuestion], EngineAnswer] = lambda _: GOOD,
    **manner: Any,
) -> Asked:
    values: dict[str, Any] = {"seed": "s", "salt": "x", **manner}
    return await ask_all(questions, Fake("s", table, stable), Fake("c", table, candidate), Manner(**values))


async def test_every_question_is_asked_of_both_and_once_more_for_the_noise() -> None:
    table = Table()
    found = await run(table)
    assert sorted(found.answers) == list(range(20))
    assert found.ended is GoldenEnd.ALL_ASKED
    whole = [(name, question) for name, question, tokens, _ in table.log if tokens is None]
    assert sorted(whole) == sorted((name, question.id) for name in "cs" for question in QUESTIONS)
    short = [(name, question, tokens) for name, question, tokens, _ in table.log if tokens is not None]
    assert sorted(short) == sorted(("s", question.id, 1) for question in QUESTIONS)


async def test_the_order_is_the_seeds() -> None:
    tables = [Table(), Table(), Table()]
    for table, seed in zip(tables, ("one", "one", "two"), strict=True):
        await run(table, seed=seed)
    first, same, other = (table.log for table in tables)
    assert first == same != other


async def test_neither_is_always_first_and_both_are_asked_at_a_time() -> None:
    table = Table()
    await run(table)
    order = [name for name, _, tokens, _ in table.log if tokens is None]
    pairs = [tuple(order[place : place + 2]) for place in range(0, len(order), 2)]
    assert set(pairs) == {("s", "c"), ("c", "s")}
    questions = [question for _, question, tokens, _ in table.log if tokens is None]
    assert questions[::2] == questions[1::2] != sorted(questions[::2])


async def test_no_two_requests_have_the_same_salt() -> None:
    """One that has would find what another one left in the prefix cache."""
    table = Table()
    await run(table)
    salts = [salt for *_, salt in table.log]
    assert len(set(salts)) == len(salts) == 60


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_engine_works_on_more_than_it_is_to(concurrency: int) -> None:
    table = Table()
    found = await run(table, concurrency=concurrency)
    assert table.most == {"s": concurrency, "c": concurrency}
    assert len(found.answers) == 20


async def test_without_log_probabilities_nothing_is_asked_twice() -> None:
    table = Table()
    found = await run(table, candidate=lambda _: EngineAnswer(Ending.ANSWERED, "a"))
    assert len(table.log) == 40
    assert found.answers[0].again is None


async def test_what_one_could_not_be_asked_is_left_out() -> None:
    found = await run(Table(), candidate=lambda question: GONE if question.id == "q3" else GOOD)
    assert sorted(found.answers) == [place for place in range(20) if place != 3]
    assert found.ended is GoldenEnd.ALL_ASKED


@pytest.mark.parametrize(
    ("gone", "ended"),
    [("stable", GoldenEnd.STABLE_UNREACHABLE), ("candidate", GoldenEnd.CANDIDATE_UNREACHABLE)],
)
async def test_an_engine_that_is_gone_is_not_asked_the_rest(gone: str, ended: GoldenEnd) -> None:
    table = Table()
    sides: dict[str, Any] = {gone: lambda _: GONE}
    found = await run(table, **sides)
    assert (found.ended, found.answers) == (ended, {})
    assert len(table.log) == 6


async def test_failures_are_answers_and_the_asking_goes_on() -> None:
    found = await run(Table(), candidate=lambda _: EngineAnswer(Ending.FAILED))
    assert len(found.answers) == 20


async def test_when_the_time_is_spent_what_was_answered_counts() -> None:
    class Stuck(Fake):
        async def ask(self, *arguments: Any, **more: Any) -> EngineAnswer:
            if len(self.table.log) > 6:
                await asyncio.Event().wait()
            return await super().ask(*arguments, **more)

    table = Table()
    manner = Manner(seed="s", salt="x", total_seconds=0.5)
    found = await ask_all(QUESTIONS, Stuck("s", table), Fake("c", table), manner)
    assert found.ended is GoldenEnd.TIME_SPENT
    assert 0 < len(found.answers) < 20
