"""Load from a process of its own: short requests at a steady rate, and streams that are read to their end.

`python -m e2e.support.load URL SHAPE` asks until its standard input ends, and further until it has asked as often as it
should. Then it waits for every answer, and says what came of them as one line of JSON.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import openai

from e2e.support.lane import ROOT

ANSWER_SECONDS = 300.0
"""A request that has no answer after so long has failed."""
KEPT = 20
"""Failures that are told in words; the others are counted."""


@dataclass(frozen=True)
class Shape:
    """What is asked of a model, and how often."""

    model: str
    per_second: float
    """Short requests begun in a second, whatever becomes of those before."""
    tokens: int
    """Of each short answer."""
    streams: int = 0
    """Side by side; each worker begins the next one when one has ended."""
    stream_tokens: int = 0
    """Of each stream; the first one of each worker is shorter, so that they do not all end together."""
    at_least: int = 0
    """Requests, streams included, however early the end is asked for."""


@dataclass
class Outcome:
    """What came of all requests."""

    asked: int = 0
    answered: int = 0
    streams: int = 0
    whole: int = 0
    """Streams that came to their end, with as many tokens as were asked for."""
    failed: int = 0
    """Requests that got another answer than 200, or none, before any byte of a stream."""
    cut: int = 0
    """Streams that began, and ended before they should."""
    words: list[str] = field(default_factory=list)
    """What the first failures were."""
    longest_stream_seconds: float = 0.0
    longest_pause_seconds: float = 0.0
    """Between two pieces of one stream."""
    processor_share: float = 0.0
    """Of one core, that the client itself took: near 1 it would be what is measured."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """Of each short answer: when it was asked for (seconds since the epoch), and for how long it was waited."""


class _Clients:
    def __init__(self, client: openai.AsyncOpenAI, shape: Shape) -> None:
        self._client, self._shape = client, shape
        self._ending = asyncio.Event()
        self.outcome = Outcome()

    async def run(self) -> None:
        reading = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        reading.add_done_callback(lambda _: self._ending.set())
        streams = [asyncio.create_task(self._streams(number)) for number in range(self._shape.streams)]
        shorts = await self._shorts()
        await asyncio.gather(*streams, *shorts)

    def _enough(self) -> bool:
        return self._ending.is_set() and self.outcome.asked >= self._shape.at_least

    async def _shorts(self) -> list[asyncio.Task[None]]:
        """Begin them at even distances, whatever the answers take: clients that wait would hide what they wait for."""
        tasks: list[asyncio.Task[None]] = []
        due = time.monotonic()
        while not self._enough():
            tasks.append(asyncio.create_task(self._short(len(tasks))))
            due += 1 / self._shape.per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return tasks

    async def _short(self, number: int) -> None:
        self.outcome.asked += 1
        at, begun = time.time(), time.monotonic()
        try:
            answer = await self._client.chat.completions.create(**self._body(number, self._shape.tokens))
            assert answer.choices[0].finish_reason == "length", answer.choices[0].finish_reason
        except Exception as error:  # whatever it was, it is counted
            self._fail("failed", f"a short request: {error!r}")
            return
        self.outcome.answered += 1
        self.outcome.answers.append((round(at, 3), round(time.monotonic() - begun, 4)))

    async def _streams(self, worker: int) -> None:
        tokens = max(2, self._shape.stream_tokens * (worker + 1) // self._shape.streams)
        while not self._ending.is_set():
            await self._stream(worker, tokens)
            tokens = self._shape.stream_tokens

    async def _stream(self, worker: int, tokens: int) -> None:
        self.outcome.asked += 1
        self.outcome.streams += 1
        begun = last = time.monotonic()
        pieces, reason, used = 0, None, 0
        try:
            answer = await self._client.chat.completions.create(
                **self._body(worker, tokens), stream=True, stream_options={"include_usage": True}
            )
            async for chunk in answer:
                now = time.monotonic()
                if pieces:
                    self.outcome.longest_pause_seconds = max(self.outcome.longest_pause_seconds, now - last)
                last, pieces = now, pieces + 1
                reason = (chunk.choices[0].finish_reason if chunk.choices else None) or reason
                used = chunk.usage.completion_tokens if chunk.usage else used
        except Exception as error:
            kind = "cut" if pieces else "failed"
            self._fail(kind, f"a stream after {pieces} pieces and {time.monotonic() - begun:.1f} s: {error!r}")
            return
        if (reason, used) != ("length", tokens):
            self._fail("cut", f"a stream ended with {reason!r} after {used} of {tokens} tokens")
            return
        self.outcome.whole += 1
        self.outcome.longest_stream_seconds = max(self.outcome.longest_stream_seconds, last - begun)

    def _body(self, number: int, tokens: int) -> dict[str, Any]:
        return {
            "model": self._shape.model,
            "messages": [{"role": "user", "content": f"Tell a story, number {number}."}],
            "max_tokens": tokens,
            "temperature": 0,
            "extra_body": {"ignore_eos": True},
        }

    def _fail(self, kind: str, words: str) -> None:
        setattr(self.outcome, kind, getattr(self.outcome, kind) + 1)
        if len(self.outcome.words) < KEPT:
            self.outcome.words.append(f"{time.strftime('%H:%M:%S')} {words}")


async def ask(url: str, shape: Shape) -> Outcome:
    """Ask as the shape says until standard input ends; without the client's own retries, which would hide failures."""
    begun, used = time.monotonic(), time.process_time()
    direct = openai.DefaultAsyncHttpxClient(trust_env=False)  # the address is in this machine's network
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=ANSWER_SECONDS, http_client=direct
    ) as client:
        clients = _Clients(client, shape)
        await clients.run()
    clients.outcome.processor_share = (time.process_time() - used) / (time.monotonic() - begun)
    return clients.outcome


class Beside:
    """A Python module that works beside a story until it is told to end, and then says what came of it in JSON."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def ended(self) -> bool:
        """Whether it ended by itself, which it should not."""
        return self._process is None or self._process.poll() is not None

    def finish(self, seconds: float) -> dict[str, Any]:
        """Tell it to end, and wait for what it says."""
        assert self._process is not None
        said, _ = self._process.communicate("", timeout=seconds)
        assert self._process.returncode == 0, f"{' '.join(self._command[2:])} ended with {self._process.returncode}"
        found: dict[str, Any] = json.loads(said)
        return found


class Load(Beside):
    """Requests that go on for as long as the block lasts."""

    def __init__(self, url: str, shape: Shape) -> None:
        super().__init__("e2e.support.load", url, json.dumps(asdict(shape)))

    def outcome(self, seconds: float) -> Outcome:
        """Tell it to end, and wait for the last answer."""
        return Outcome(**self.finish(seconds))


def main(arguments: Sequence[str]) -> int:
    """Ask."""
    url, shape = arguments
    outcome = asyncio.run(ask(url, Shape(**json.loads(shape))))
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
