"""A proxy between the operator and the API server that misbehaves as it is told, and counts what passes.

It listens on loopback in plain HTTP, and hands on whatever token it is given; it has no rights of its own.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "content-encoding"})
STARTED_SECONDS = 20.0
LOOK_SECONDS = 0.25
"""How soon a watch that is silent notices that it is to end."""


@dataclass(frozen=True)
class Request:
    """One request, as a fault sees it."""

    at: float
    """time.monotonic() at its arrival."""
    method: str
    path: str
    watch: bool
    log: bool
    """Of a container: not about objects."""

    @property
    def kind(self) -> str:
        """read, write or watch."""
        return "watch" if self.watch else "read" if self.method == "GET" else "write"


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the API server's."""

    status: int
    reason: str = ""
    retry_after: int | None = None


@dataclass
class Faults:
    """What goes wrong; the defaults let everything pass. Functions are asked for every request or frame."""

    refuse: Callable[[Request], Refusal | None] = lambda request: None
    """The request is not handed on."""
    reset: Callable[[Request], bool] = lambda request: False
    """The request is handed on, and the connection reset before its answer."""
    drop: Callable[[dict[str, Any]], bool] = lambda frame: False
    """A frame of a watch that is never told."""
    delay_seconds: float = 0.0
    """Frames of watches come so much later."""
    end_watches: bool = False
    """Watches are told that their version is too old (410), in a frame, and end."""
    stale: bool = False
    """Lists answer what they answered first since this began."""


@dataclass
class Proxy:
    """A context in which the proxy serves; `faults` may be replaced at any time."""

    upstream: str
    """URL of the API server."""
    context: ssl.SSLContext | bool = True
    """How it is trusted."""
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _remembered: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _started: threading.Event = field(default_factory=threading.Event)
    _stop: asyncio.Event | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Proxy":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._started.wait(STARTED_SECONDS):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STARTED_SECONDS)

    def begin(self, faults: Faults) -> float:
        """Let faults begin, or with none of them end; the moment."""
        self._remembered.clear()
        self.faults = faults
        return time.monotonic()

    def since(self, moment: float) -> list[Request]:
        """Requests that arrived since then."""
        return [request for request in self.requests if request.at >= moment]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=32 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        connector = aiohttp.TCPConnector(ssl=self.context, limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=True) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        watch = raw.query.get("watch", "") in ("1", "true")
        request = Request(time.monotonic(), raw.method, raw.path, watch, raw.path.endswith("/log"))
        self.requests.append(request)
        refusal = self.faults.refuse(request)
        if refusal is not None:
            return _refused(refusal)
        headers = {key: value for key, value in raw.headers.items() if key.lower() not in _HOP}
        url = f"{self.upstream}{raw.raw_path}"
        body = await raw.read()
        async with self._session.request(raw.method, url, headers=headers, data=body or None) as answer:
            if watch and answer.status == 200:
                return await self._stream(raw, request, answer)
            data = await answer.read()
            if self.faults.reset(request) and raw.transport is not None:
                raw.transport.abort()
                return web.Response()
            status = answer.status
            if self.faults.stale and request.method == "GET" and status == 200 and b'List"' in data[:200]:
                status, data = self._remembered.setdefault(raw.raw_path, (status, data))
            kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            return web.Response(status=status, body=data, headers=kept)

    async def _stream(self, raw: web.Request, request: Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(raw)
        frames: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        reading = asyncio.create_task(_read(answer, frames))
        try:
            while True:
                if self.faults.end_watches:
                    await response.write(_GONE)
                    break
                if self.faults.reset(request) and raw.transport is not None:
                    raw.transport.abort()
                    break
                try:
                    frame = await asyncio.wait_for(frames.get(), LOOK_SECONDS)
                except TimeoutError:
                    continue
                if frame is None:
                    break
                await asyncio.sleep(max(0.0, frame[0] + self.faults.delay_seconds - time.monotonic()))
                if not self.faults.drop(json.loads(frame[1])):
                    await response.write(frame[1])
        except ConnectionError:
            pass  # the operator ended its watch
        finally:
            reading.cancel()
        return response


async def _read(answer: aiohttp.ClientResponse, frames: "asyncio.Queue[tuple[float, bytes] | None]") -> None:
    """Frames with the time of their arrival; None at the end."""
    buffer = b""
    try:
        async for chunk in answer.content.iter_any():
            buffer += chunk
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                frames.put_nowait((time.monotonic(), line + b"\n"))
    except aiohttp.ClientError:
        pass
    finally:
        frames.put_nowait(None)


def _status(status: int, reason: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": f"{reason or status}, as the proxy was told to answer",
        "code": status,
    }


_GONE = json.dumps({"type": "ERROR", "object": _status(410, "Expired")}).encode() + b"\n"


def _refused(refusal: Refusal) -> web.Response:
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after is not None else {}
    return web.json_response(_status(refusal.status, refusal.reason), status=refusal.status, headers=headers)
