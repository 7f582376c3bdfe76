"""One question to one engine, streamed as its clients have it, with the times of its tokens.

An answer is a stranger's: its size and its time are bounded, and what makes no sense is a failure.
"""

import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import Any

import aiohttp
from yarl import URL

from nightshift.adapters.pod_http import CONNECT_SECONDS, named
from nightshift.api.golden import GoldenQuestion
from nightshift.core.golden.answer import Chunk, Ending, EngineAnswer, read_chunk

SYNTHETIC_HEADER = "x-nightshift-synthetic"
SYNTHETIC = "golden"

STREAM_BYTES = 16 * 1024 * 1024
"""Of one answer: 4096 tokens with the log-probabilities of five take about 4 MB."""
EVENT_BYTES = 1024 * 1024
ANSWER_CHARACTERS = 64 * 1024

SAMPLING_SEED = 1
"""At temperature 0 nothing is drawn; it says so where an engine samples all the same."""

_DONE = "[DONE]"
_DATA = b"data:"


class _Failure(Exception):  # noqa: N818 - carries why an answer is a failure
    """No whole answer; the text says why."""


class AnsweringEngine:
    """One engine that is asked golden questions."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: str,
        port: int,
        model: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Set up the client; the session is opened and closed by the caller.

        Args:
            session: For requests to pods.
            address: The pod's.
            port: Of its engine.
            model: The name that the model is served by.
            clock: Seconds, for the times of tokens.

        Raises:
            ValueError: The address is no IP address.
        """
        self._session = session
        self._base = URL.build(scheme="http", host=str(ip_address(address)), port=port)
        self._model = model
        self._clock = clock

    async def ask(
        self, question: GoldenQuestion, seconds: float, logprobs: int, salt: str, max_tokens: int | None = None
    ) -> EngineAnswer:
        """Ask once; whatever happens is an answer.

        Args:
            question: What is asked.
            seconds: Time limit.
            logprobs: Of how many of the likeliest first tokens the log-probability is asked; 0: of none.
            salt: Keeps the engine from reusing what it computed of the same prompt before, which would make it faster
                than one that never saw it (`cache_salt`, vLLM 0.9 and later; older ones pass it over).
            max_tokens: Where it is not the question's own.
        """
        path, body = _request(question, self._model, logprobs)
        body |= {"max_tokens": max_tokens or question.max_tokens, "cache_salt": salt}
        times = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        reading = _Reading(self._clock)
        try:
            async with self._session.post(
                self._base.with_path(path),
                json=body,
                headers={SYNTHETIC_HEADER: SYNTHETIC},
                timeout=times,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    refused = 400 <= response.status < 500
                    ending = Ending.REFUSED if refused else Ending.FAILED
                    return EngineAnswer(ending, note=f"status {response.status}")
                await reading.take(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return EngineAnswer(Ending.UNREACHABLE, note=named(error))
        except TimeoutError:
            return reading.failed(f"no whole answer within {seconds:g} s")
        except (_Failure, aiohttp.ClientError, OSError, ValueError) as error:
            return reading.failed(str(error) if isinstance(error, _Failure) else named(error))
        return reading.answered()


class _Reading:
    """The stream of one answer as it arrives."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._first: float | None = None
        self._last = 0.0
        self._texts: list[str] = []
        self._characters = 0
        self._events = 0
        self._tokens: int | None = None
        self._likely: dict[str, float] = {}
        self._finished = False

    async def take(self, response: aiohttp.ClientResponse) -> None:
        """Read to the end.

        Raises:
            _Failure: It is no whole answer.
        """
        async for data in _events(response):
            if data == _DONE:
                break
            chunk = read_chunk(data)
            if chunk is None:
                raise _Failure("the stream has an event that is no JSON object")
            self._note(chunk)
        if not self._finished:
            raise _Failure("the stream ended before the answer did")

    def _note(self, chunk: Chunk) -> None:
        if chunk.error is not None:
            raise _Failure(f"the engine broke off: {chunk.error}")
        self._finished = self._finished or chunk.finished
        self._tokens = chunk.tokens if chunk.tokens is not None else self._tokens
        if not chunk.generated:
            return
        self._last = self._clock()
        if self._first is None:
            self._first, self._likely = self._last, dict(chunk.likely)
        self._events += 1
        self._texts.append(chunk.text)
        self._characters += len(chunk.text)
        if self._characters > ANSWER_CHARACTERS:
            raise _Failure(f"the answer has more than {ANSWER_CHARACTERS} characters")

    def failed(self, why: str) -> EngineAnswer:
        """What is known where the answer broke off: when it began."""
        return EngineAnswer(Ending.FAILED, first_token=self._since_started(), note=why)

    def answered(self) -> EngineAnswer:
        """The whole answer."""
        tokens = self._tokens or self._events
        between = None
        if self._first is not None and tokens > 1 and self._last > self._first:
            between = (self._last - self._first) / (tokens - 1)
        return EngineAnswer(Ending.ANSWERED, "".join(self._texts), self._since_started(), between, self._likely)

    def _since_started(self) -> float | None:
        return self._first - self._started if self._first is not None else None


def _request(question: GoldenQuestion, model: str, logprobs: int) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {
        "model": model,
        "temperature": 0,
        "seed": SAMPLING_SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if question.messages is not None:
        body["messages"] = [message.to_json() for message in question.messages]
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        return "/v1/chat/completions", body
    body["prompt"] = question.prompt
    if logprobs:
        body["logprobs"] = logprobs
    return "/v1/completions", body


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The data of server-sent events, each of which vLLM writes on one line.

    Raises:
        _Failure: They are too long.
    """
    held, total = b"", 0
    async for piece in response.content.iter_any():
        total += len(piece)
        *lines, held = (held + piece).split(b"\n")
        if total > STREAM_BYTES or len(held) > EVENT_BYTES:
            raise _Failure(f"the stream has more than {STREAM_BYTES} bytes, or an event of more than {EVENT_BYTES}")
        for line in lines:
            if line.startswith(_DATA):
                yield line.removeprefix(_DATA).strip().decode(errors="replace")
