"""A fake HAProxy with an engine behind it, and clients, over unix sockets in one loop with the activator."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from nightshift.gateway.activator import RELEASED_SOCKET, SOCKET, STATE_FILE, Activator, Settings
from tests.gateway.states import KEY, entry, write
from tests.support import virtual_time
from tests.support.api_server import ApiServer
from tests.support.fake_kube import FakeKube

Answering = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]

CHAT = "/v1/chat/completions"


async def as_json(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    return web.json_response({"path": request.path_qs, "id": request.headers.get("x-id"), "length": len(body)})


async def as_stream(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    """Two tokens, a second apart."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for word in ("good", "night"):
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "bot",
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
        }
        await answer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await asyncio.sleep(1)
    await answer.write(b"data: [DONE]\n\n")
    return answer


class FakeHaproxy:
    """Answers what is released, as HAProxy with engines behind it."""

    def __init__(self, directory: Path) -> None:
        self.answering: Answering = as_json
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Method and path, headers in lower case, body."""
        self.gone = 0
        """Clients that left before the answer was over."""
        self._socket = directory / RELEASED_SOCKET
        self._runner: web.ServerRunner | None = None

    @property
    def ids(self) -> list[str]:
        return [headers["x-id"] for _, headers, _ in self.requests]

    async def start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower() != "expect"}
        self.requests.append((f"{request.method} {request.path_qs}", headers, body))
        try:
            return await self.answering(request, body)
        except asyncio.CancelledError:
            self.gone += 1
            raise


class Place:
    """An activator, what lies around it, and how clients reach it."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.server = ApiServer()
        self.kube = FakeKube(self.server)
        self.haproxy = FakeHaproxy(directory)
        given = {"namespace": "gateways", "pod": "gateway-6c9f-x7k2p", **settings}
        self.activator = Activator(Settings(directory=directory, **given), self.kube)
        self._asking: list[asyncio.Task[Answer]] = []
        self.clients = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(directory / SOCKET), limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    def tell(self, *entries: dict[str, Any], **given: Any) -> None:
        """Write the state file, with several deployments or with one."""
        write(self.directory / STATE_FILE, *(entries or (entry(**given),)))

    def ask(
        self, body: Any = None, *, key: str = KEY, path: str = CHAT, name: str = "", **given: Any
    ) -> "asyncio.Task[Answer]":
        """A client that sends a request and reads the whole answer."""
        headers = {"x-nightshift-route": key, "x-id": name, **given.pop("headers", {})}

        async def talk() -> Answer:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            async with self.clients.post(f"http://bot.ml{path}", data=data, headers=headers, **given) as answer:
                found = Answer(answer.status, dict(answer.headers))
                async for chunk in answer.content.iter_any():
                    found.body += chunk
                    found.at.append(now())
                return found

        task = asyncio.create_task(talk())
        self._asking.append(task)
        return task

    def lease(self) -> dict[str, Any] | None:
        leases = self.server.listed("coordination.k8s.io/v1", "Lease", "")
        return dict(leases[0]) if leases else None

    def metric(self, metric: str, /, **labels: str) -> float:
        return self.activator.telemetry.registry.get_sample_value(metric, labels) or 0.0

    async def __aenter__(self) -> "Place":
        if not (self.directory / STATE_FILE).exists():
            self.tell()
        await self.haproxy.start()
        await self.activator.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self.clients.close()
        self.activator._settings = Settings(directory=self.directory, drain_seconds=0.0)
        await self.activator.stop()
        await self.haproxy.stop()


class Answer:
    """What a client got, and when its parts came."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self.body = bytearray()
        self.at: list[float] = []

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        return [part for part in self.body.decode().split("\n\n") if part]


def now() -> float:
    return asyncio.get_running_loop().time()


Story = Callable[[Place], Awaitable[None]]

STREAM = {"model": "ml/bot", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
SILENT = {"model": "ml/bot", "messages": [{"role": "user", "content": "hello"}]}


def tell_story(directory: Path, story: Story, **settings: Any) -> None:
    async def told() -> None:
        async with Place(directory, **settings) as place:
            await story(place)

    virtual_time.run(told())


async def served(*tasks: "asyncio.Task[Answer]") -> list[Answer]:
    return list(await asyncio.gather(*tasks))
