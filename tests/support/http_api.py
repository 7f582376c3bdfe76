"""The in-memory API server over HTTP: enough of the protocol for kopf's watches and for our client."""

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from nightshift.adapters.kube import CHILD_KINDS, KubeError, Object, Reference, plural
from nightshift.api import names
from tests.support.api_server import ApiServer, selected
from tests.support.world import World

KINDS = (
    (names.API_VERSION, names.KIND),
    ("v1", "Event"),
    ("coordination.k8s.io/v1", "Lease"),
    *CHILD_KINDS,
)
_BY_PLURAL = {(version, plural(version, kind)): kind for version, kind in KINDS}


class HttpApi:
    """A context in which an ApiServer and the world around it are served on loopback, by a thread."""

    def __init__(self) -> None:
        self.server = ApiServer()
        self.server.clock = lambda: datetime.now(UTC)
        self.world = World(self.server)
        self.url = ""
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._watches: set[asyncio.Queue[tuple[str, Object]]] = set()
        self._history: list[tuple[str, Object]] = []
        self.server.watch(self._tell)

    def __enter__(self) -> "HttpApi":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def call(self, action: Any) -> Any:
        """Do something with the server in its own thread; its result."""

        async def act() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def _tell(self, event: str, raw: Object) -> None:
        self._history.append((event, raw))
        for queue in self._watches:
            queue.put_nowait((event, raw))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        while not self._stop.is_set():
            for step in self.world.pending()[:1]:
                step.act()
            await asyncio.sleep(0.005)
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        if request.path.strip("/") == "api":
            return web.json_response({"versions": ["v1"]})
        if request.path.strip("/") == "apis":
            return web.json_response({"groups": _groups()})
        version, rest = ("v1", parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        if not rest:
            return web.json_response({"resources": _resources(version)})
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = _BY_PLURAL.get((version, rest[0]))
        if kind is None:
            return _failed(KubeError(404, "NotFound", request.path))
        where = Reference(version, kind, namespace, rest[1] if len(rest) > 1 else "")
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, where)
        try:
            found = self._answer(request.method, where, rest[2] if len(rest) > 2 else "", await request.text())
        except KubeError as error:
            return _failed(error)
        if found is None:
            return _failed(KubeError(404, "NotFound", where.name))
        if not where.name and request.method == "GET":
            selector = request.query.get("labelSelector", "")
            items = [raw for raw in found if not selector or selected(selector, raw["metadata"].get("labels") or {})]
            metadata = {"resourceVersion": str(self.server.version)}
            return web.json_response({"kind": f"{kind}List", "metadata": metadata, "items": items})
        return web.json_response(found)

    def _answer(self, method: str, where: Reference, subresource: str, text: str) -> Any:
        body = json.loads(text) if text else {}
        if method == "GET":
            return self.server.get(where) if where.name else self.server.listed(where.api_version, where.kind)
        if method == "PATCH":
            manager = names.STATUS_FIELD_MANAGER if subresource else names.FIELD_MANAGER
            return self.server.apply(body, manager, subresource)
        if method == "POST":
            return self.server.create(body)
        if method == "PUT":
            return self.server.replace(body)
        wanted = body.get("preconditions", {})
        self.server.delete(where, wanted.get("uid", ""), wanted.get("resourceVersion", ""))
        return {"kind": "Status", "status": "Success"}

    async def _watch(self, request: web.Request, where: Reference) -> web.StreamResponse:
        since, selector = int(request.query.get("resourceVersion") or 0), request.query.get("labelSelector", "")
        queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        for event, raw in self._history:
            if int(raw["metadata"]["resourceVersion"]) > since:
                queue.put_nowait((event, raw))
        self._watches.add(queue)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                event, raw = await queue.get()
                fits = not selector or selected(selector, raw["metadata"].get("labels") or {})
                if (raw["apiVersion"], raw["kind"]) == (where.api_version, where.kind) and fits:
                    await response.write(json.dumps({"type": event, "object": raw}).encode() + b"\n")
        except ConnectionError:
            return response
        finally:
            self._watches.discard(queue)


def _groups() -> list[dict[str, Any]]:
    found = []
    for group, version in sorted({tuple(api.split("/")) for api, _ in KINDS if "/" in api}):
        described = {"groupVersion": f"{group}/{version}", "version": version}
        found.append({"name": group, "versions": [described], "preferredVersion": described})
    return found


def _resources(version: str) -> list[dict[str, Any]]:
    found = [(plural(api, kind), kind) for api, kind in KINDS if api == version]
    if version == "v1":
        found.append(("namespaces", "Namespace"))
    rest: dict[str, Any] = {"singularName": "", "namespaced": True, "verbs": ["list", "watch"]}
    return [{"name": name, "kind": kind, **rest} for name, kind in found]


def _failed(error: KubeError) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "reason": error.reason, "message": error.message}
    return web.json_response(status | {"code": error.status}, status=error.status)
