"""`python -m bench.analysis_recording --url http://ADDRESS:8000 --model NAME --out FILE`: latencies of a real engine.

Asks an engine for completions as streams, at seeded moments and of seeded lengths, and writes for each request when it
was sent, the time to its first token, the times between its tokens, and how many others were under way. What
`bench.analysis` makes of it: the first half of the requests is for choosing rules, the second one is judged.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

WORDS = ("night", "shift", "engine", "token", "replica", "gateway", "answer", "question", "weight", "window")
MEDIAN_PROMPT_WORDS = 60
MEDIAN_TOKENS = 32
MOST_TOKENS = 160
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Question:
    """What is asked, and when."""

    at: float
    """Seconds from the begin."""
    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """How one request went."""

    at: float
    first_token: float
    intervals: tuple[float, ...]
    running: int
    """Other requests that were under way when it was sent."""

    def to_row(self) -> list[Any]:
        """As it is stored."""
        return [round(self.at, 2), short(self.first_token), self.running, [short(value) for value in self.intervals]]


def short(value: float) -> float:
    """Four digits that count."""
    return float(f"{value:.4g}")


def questions(count: int, rate: float, seed: int, most_words: int = 400) -> list[Question]:
    """Requests at random moments, some much longer; the rate goes up and down by half within ten minutes."""
    source, at, found = random.Random(seed), 0.0, []
    for _ in range(count):
        at += source.expovariate(rate * (1 + 0.5 * math.sin(at / 600 * 2 * math.pi)))
        words = min(most_words, max(4, round(MEDIAN_PROMPT_WORDS * math.exp(0.8 * source.gauss(0, 1)))))
        tokens = min(MOST_TOKENS, max(2, round(MEDIAN_TOKENS * math.exp(0.7 * source.gauss(0, 1)))))
        found.append(Question(at, " ".join(source.choice(WORDS) for _ in range(words)), tokens))
    return found


def written(engine: str, model: str, rate: float, seed: int, answers: Sequence[Answer]) -> dict[str, Any]:
    """The content of a recording."""
    return {
        "engine": engine,
        "model": model,
        "requests_per_second": rate,
        "seed": seed,
        "columns": ["at_seconds", "first_token_seconds", "others_running", "intervals_seconds"],
        "requests": [answer.to_row() for answer in sorted(answers, key=lambda answer: answer.at)],
    }


class Recorder:
    """Asks, and notes the times."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session, self._url, self._model = session, url, model
        self._running = 0
        self.failed = 0
        self.answers: list[Answer] = []

    async def engine(self) -> str:
        """What answers, e.g. vLLM 0.32.0."""
        async with self._session.get(f"{self._url}/version") as answer:
            return f"vLLM {(await answer.json())['version']}"

    async def ask(self, question: Question, began: float) -> None:
        """One request, at its moment."""
        await asyncio.sleep(max(0.0, began + question.at - time.monotonic()))
        body = {
            "model": self._model,
            "prompt": question.prompt,
            "max_tokens": question.max_tokens,
            "ignore_eos": True,
            "stream": True,
            "temperature": 0,
        }
        running, self._running = self._running, self._running + 1
        sent, times = time.monotonic(), list[float]()
        try:
            async with self._session.post(f"{self._url}/v1/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        times.append(time.monotonic())
        except (aiohttp.ClientError, TimeoutError) as error:
            print(f"a request failed: {error!r}", file=sys.stderr)
            times.clear()
        finally:
            self._running -= 1
        if not times:
            self.failed += 1
            return
        intervals = tuple(later - earlier for earlier, later in pairwise(times))
        self.answers.append(Answer(sent - began, times[0] - sent, intervals, running))
        if len(self.answers) % 100 == 0:
            print(f"{len(self.answers)} answers, {running} others running", flush=True)


async def record(options: argparse.Namespace) -> int:
    """Ask everything, and write what came."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(trust_env=False, timeout=timeout, connector=connector) as session:
        recorder = Recorder(session, options.url.rstrip("/"), options.model)
        engine = await recorder.engine()
        began = time.monotonic()
        asked = questions(options.requests, options.rate, options.seed, options.most_words)
        await asyncio.gather(*(recorder.ask(question, began) for question in asked))
    content = written(engine, options.model, options.rate, options.seed, recorder.answers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{options.out}: {len(recorder.answers)} answers of {engine}, {recorder.failed} failed")
    return 0 if recorder.answers else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.analysis_recording")
    parser.add_argument("--url", required=True, help="of the engine, without a path")
    parser.add_argument("--model", required=True, help="the name that it serves")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1.0, help="requests per second, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-words", type=int, default=400, help="of a prompt: a word is some tokens")
    parser.add_argument("--out", type=Path, required=True)
    return asyncio.run(record(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
