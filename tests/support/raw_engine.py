"""An engine of a few lines on a plain socket: it notes every request that reaches it, and answers as a test wants."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def streams(self) -> bool:
        return b'"stream": true' in self.body


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawEngine:
    """Speaks HTTP/1.1 on loopback. Health checks are answered and not noted."""

    name: str = "e"
    answer: Answer | None = None
    seen: list[Seen] = field(default_factory=list)
    healthy: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Where it is cleared, answers wait for it."""
    working: int = 0
    most_working: int = 0
    port: int = 0

    async def start(self, socket: Path | None = None) -> "RawEngine":
        """Listen on a port of loopback, or on a UNIX socket."""
        self.gate.set()
        self._writers: set[asyncio.StreamWriter] = set()
        if socket is not None:
            self._server = await asyncio.start_unix_server(self._serve, socket)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As a process that is killed: all connections break."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.gate.set()
        await self._server.wait_closed()

    @property
    def paths(self) -> list[str]:
        return [f"{one.method} {one.target}" for one in self.seen]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                if request.target == "/health":
                    respond(writer, b"{}", 200 if self.healthy else 503)
                else:
                    self.seen.append(request)
                    await self._work(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _work(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        try:
            await self.gate.wait()
            if self.answer is not None:
                await self.answer(request, writer)
            else:
                respond(writer, json.dumps({"engine": self.name}).encode())
        finally:
            self.working -= 1


async def read_request(reader: asyncio.StreamReader) -> Seen | None:
    """The next request of a connection, or None at its end."""
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        raise ConnectionError("the gateway has to answer that itself")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, target, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def respond(writer: asyncio.StreamWriter, body: bytes, status: int = 200, kind: str = "application/json") -> None:
    """A whole answer."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def begin_events(writer: asyncio.StreamWriter) -> None:
    """The head of a stream of server-sent events."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


def event(writer: asyncio.StreamWriter, text: str) -> None:
    """One event, as a chunk of its own; an empty text ends the stream."""
    data = f"data: {text}\n\n".encode() if text else b""
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
