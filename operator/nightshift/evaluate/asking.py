"""Asking questions of two engines side by side, in an order that a seed decides."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nightshift.api.golden import GoldenQuestion
from nightshift.api.golden_run import GoldenEnd
from nightshift.core.golden.answer import Ending, EngineAnswer

UNREACHED_IN_A_ROW = 3
"""So many questions find no connection one after another: the pod is gone, and the rest need not be tried."""


class Answering(Protocol):
    """What is needed of an engine."""

    async def ask(
        self, question: GoldenQuestion, seconds: float, logprobs: int, salt: str, max_tokens: int | None = None
    ) -> EngineAnswer:
        """Ask once; whatever happens is an answer."""


@dataclass(frozen=True)
class Manner:
    """How questions are asked."""

    seed: str
    """Of the order."""
    salt: str
    """New with every process: the engines must not know the prompts of the one before."""
    concurrency: int = 1
    """Questions that each engine works on at a time. With one, answers are not batched with each other, so that they
    are as alike as the engines are."""
    question_seconds: float = 120.0
    total_seconds: float = 900.0
    logprobs: int = 5


@dataclass(frozen=True)
class Answers:
    """What both engines made of one question."""

    stable: EngineAnswer
    candidate: EngineAnswer
    again: EngineAnswer | None
    """A second answer of the stable engine, one token long: how far apart two answers of one engine are."""


@dataclass
class Asked:
    """What came of all."""

    answers: dict[int, Answers] = field(default_factory=dict)
    """By place in the list of questions; without those that were not asked."""
    ended: GoldenEnd = GoldenEnd.ALL_ASKED


async def ask_all(
    questions: Sequence[GoldenQuestion],
    stable: Answering,
    candidate: Answering,
    manner: Manner,
    clock: Callable[[], float] = time.monotonic,
) -> Asked:
    """Ask every question of both engines at the same time, so that what disturbs one disturbs the other.

    Nothing is tried twice. Who is asked first is drawn for each question.
    """
    drawn = random.Random(manner.seed)  # noqa: S311 - an order, no secret
    order = [(place, drawn.random() < 0.5) for place in range(len(questions))]
    drawn.shuffle(order)
    table = _Table(questions, stable, candidate, manner, order)
    workers = [asyncio.create_task(table.work()) for _ in range(manner.concurrency)]
    try:
        async with asyncio.timeout(manner.total_seconds):
            await asyncio.gather(*workers)
    except TimeoutError:
        table.asked.ended = GoldenEnd.TIME_SPENT
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return table.asked


class _Table:
    """What is left to ask, and what was answered."""

    def __init__(
        self,
        questions: Sequence[GoldenQuestion],
        stable: Answering,
        candidate: Answering,
        manner: Manner,
        order: list[tuple[int, bool]],
    ) -> None:
        self._questions, self._stable, self._candidate = questions, stable, candidate
        self._manner, self._left = manner, order
        self._unreached = {GoldenEnd.STABLE_UNREACHABLE: 0, GoldenEnd.CANDIDATE_UNREACHABLE: 0}
        self.asked = Asked()

    async def work(self) -> None:
        """Ask one question after another until none is left, or an engine is gone."""
        while self._left and self.asked.ended is GoldenEnd.ALL_ASKED:
            place, stable_first = self._left.pop()
            answers = await self._one(place, stable_first)
            self._count(answers)
            if Ending.UNREACHABLE not in (answers.stable.ending, answers.candidate.ending):
                self.asked.answers[place] = answers

    async def _one(self, place: int, stable_first: bool) -> Answers:
        pair = [(self._stable, "s"), (self._candidate, "c")]
        asking = pair if stable_first else pair[::-1]
        found = await asyncio.gather(*(self._ask(engine, place, who) for engine, who in asking))
        stable, candidate = found if stable_first else found[::-1]
        again = await self._ask(self._stable, place, "a", 1) if stable.likely and candidate.likely else None
        return Answers(stable, candidate, again)

    async def _ask(self, engine: Answering, place: int, who: str, max_tokens: int | None = None) -> EngineAnswer:
        manner = self._manner
        salt = f"{manner.salt}-{place}-{who}"
        return await engine.ask(self._questions[place], manner.question_seconds, manner.logprobs, salt, max_tokens)

    def _count(self, answers: Answers) -> None:
        sides = (
            (GoldenEnd.STABLE_UNREACHABLE, answers.stable),
            (GoldenEnd.CANDIDATE_UNREACHABLE, answers.candidate),
        )
        for end, answer in sides:
            unreached = answer.ending is Ending.UNREACHABLE
            self._unreached[end] = self._unreached[end] + 1 if unreached else 0
            if self._unreached[end] >= UNREACHED_IN_A_ROW:
                self.asked.ended = end
