"""An engine under test, and the client that cases talk to it with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

Kind = Literal["vllm", "sim", "llm-d"]


@dataclass(frozen=True)
class Engine:
    """Where an engine answers and what it was started with.

    Attributes:
        name: what results are filed under, such as ``vllm-0.32.0``.
        version: the vLLM version it is or pretends to be.
        url: base address.
        model: the served model's name.
        adapter_path: a LoRA adapter that the engine can read; empty when there is none.
        max_model_len: context length it was started with.
        max_num_seqs: batch limit it was started with.
    """

    name: str
    kind: Kind
    version: str
    url: str
    model: str = "tiny"
    adapter_path: str = ""
    max_model_len: int = 512
    max_num_seqs: int = 16


@dataclass(frozen=True)
class Running:
    """An engine whose process the suite may end.

    Attributes:
        terminate: send it SIGTERM.
        exit_code: wait for its end; None when it did not end in time.
        kill: end it at once, if it is still there.
        logs: everything it wrote.
        startup: what connecting gave while it started, in order, repeats left out: ``refused``, ``200``, ...
    """

    engine: Engine
    terminate: Callable[[], Awaitable[None]]
    exit_code: Callable[[float], Awaitable[int | None]]
    kill: Callable[[], Awaitable[None]]
    logs: Callable[[], Awaitable[str]]
    startup: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.raw.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body read as JSON; None when it is none."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None


@dataclass
class Stream:
    """What came over a stream: the events' bodies, and lines that are no events."""

    status: int
    headers: Mapping[str, str]
    events: list[Any] = field(default_factory=list)
    done: bool = False
    stray: list[str] = field(default_factory=list)


class Client:
    """Talks to one engine."""

    def __init__(self, engine: Engine, session: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.session = session

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request and read the whole answer."""
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        sent = {"Content-Type": "application/json"} if data is not None else {}
        sent.update(headers or {})
        async with self.session.request(
            method, self.engine.url + path, data=data, headers=sent, skip_auto_headers=["Content-Type"]
        ) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def get(self, path: str) -> Reply:
        """GET a path."""
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        """POST JSON to a path."""
        return await self.call("POST", path, body, **more)

    @asynccontextmanager
    async def open(self, path: str, body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer still being sent."""
        async with self.session.post(self.engine.url + path, json=body) as response:
            yield response

    async def stream(self, path: str, body: Any) -> Stream:
        """POST a request with ``stream`` and read all its events."""
        async with self.open(path, {**body, "stream": True}) as response:
            found = Stream(response.status, dict(response.headers))
            async for line in response.content:
                take_line(found, line.decode("utf-8", errors="replace"))
            return found

    def chat_body(self, question: str = "What is the capital of France?", **more: Any) -> dict[str, Any]:
        """A greedy chat request."""
        message = {"role": "user", "content": question}
        return {"model": self.engine.model, "messages": [message], "temperature": 0, **more}

    def prompt_body(self, prompt: Any = "The capital of", **more: Any) -> dict[str, Any]:
        """A greedy completion request."""
        return {"model": self.engine.model, "prompt": prompt, "temperature": 0, **more}


def take_line(stream: Stream, line: str) -> None:
    """Sort one line of a stream into events, the end mark and what belongs to neither."""
    text = line.rstrip("\r\n")
    if text == "data: [DONE]":
        stream.done = True
    elif text.startswith("data: "):
        stream.events.append(json.loads(text.removeprefix("data: ")))
    elif text:
        stream.stray.append(text)


@asynccontextmanager
async def connect(engine: Engine, seconds: float = 120.0) -> AsyncIterator[Client]:
    """A client for an engine; each request may take `seconds`."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Client(engine, session)
