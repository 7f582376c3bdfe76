"""An API server of a few lines for lists and watches: what breaks in real ones can be broken here."""

import asyncio
import json
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from nightshift.adapters.kube import KubeClient, plural
from tests.support.api_server import selected

Object = dict[str, Any]


class WatchApi:
    """Objects by kind, namespace and name, served on loopback."""

    def __init__(self) -> None:
        self.version = 1
        self.oldest = 0
        """Watches from before this version are answered with 410."""
        self.refusing = 0
        """An HTTP status that everything is answered with; 0: nothing is refused."""
        self.lists: list[str] = []
        self.watches: list[str] = []
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[tuple[str, Object]] = []
        self._told = asyncio.Condition()
        self._responses: set[web.StreamResponse] = set()

    async def start(self) -> "WatchApi":
        application = web.Application()
        application.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    def client(self) -> KubeClient:
        configuration = Configuration(host=self.url)
        configuration.client_session_kwargs = {"trust_env": False}
        return KubeClient(ApiClient(configuration))

    async def put(self, raw: Object) -> None:
        """Create or change an object."""
        key = (raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"])
        event = "MODIFIED" if key in self._objects else "ADDED"
        await self._tell(event, key, json.loads(json.dumps(raw)))

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        key = (kind, namespace, name)
        await self._tell("DELETED", key, self._objects[key])

    async def cut(self) -> None:
        """End every connection, as a load balancer in between may."""
        for response in list(self._responses):
            transport = response._req.transport if response._req is not None else None
            if transport is not None:
                transport.abort()

    async def _tell(self, event: str, key: tuple[str, str, str], raw: Object) -> None:
        self.version += 1
        raw["metadata"]["resourceVersion"] = str(self.version)
        if event == "DELETED":
            self._objects.pop(key)
        else:
            self._objects[key] = raw
        async with self._told:
            self._history.append((event, dict(raw)))
            self._told.notify_all()

    def _matches(self, raw: Object, request: web.Request) -> bool:
        parts = request.path.strip("/").split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        return (
            plural(raw["apiVersion"], raw["kind"]) == parts[-1]
            and namespace in ("", raw["metadata"]["namespace"])
            and selected(request.query.get("labelSelector", ""), raw["metadata"].get("labels") or {})
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            return web.json_response({"code": self.refusing, "message": "no"}, status=self.refusing)
        if "watch" in request.query:
            self.watches.append(request.path)
            return await self._watch(request)
        self.lists.append(request.path)
        items = [raw for raw in self._objects.values() if self._matches(raw, request)]
        first = int(request.query.get("continue") or 0)
        metadata = {"resourceVersion": str(self.version)}
        if len(items) > first + 2:
            metadata["continue"] = str(first + 2)
        bare = [{key: value for key, value in raw.items() if key not in ("kind", "apiVersion")} for raw in items]
        return web.json_response({"metadata": metadata, "items": bare[first : first + 2]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self._responses.add(response)
        at = int(request.query["resourceVersion"])
        try:
            if at < self.oldest:
                gone = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}
                await response.write(json.dumps(gone).encode() + b"\n")
                return response
            while True:
                for event, raw in list(self._history):
                    if int(raw["metadata"]["resourceVersion"]) > at and self._matches(raw, request):
                        await response.write(json.dumps({"type": event, "object": raw}).encode() + b"\n")
                at = self.version
                bookmark = {"metadata": {"resourceVersion": str(at)}}
                await response.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
                async with self._told:
                    if self.version == at:
                        await self._told.wait()
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._responses.discard(response)


def route_object(route: Any, name: str = "") -> Object:
    """The ConfigMap of a route, or of a text that is none."""
    text = route if isinstance(route, str) else json.dumps(route.to_json())
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "gw", "name": name or route.name, "labels": {"nightshift.dev/route": "true"}},
        "data": {"route.json": text},
    }


def pod_object(name: str, revision: str, address: str, *, deleting: bool = False, deployment: str = "bot") -> Object:
    """An engine pod."""
    metadata: Object = {
        "namespace": "ml",
        "name": name,
        "uid": f"{name}-0000-4000-8000-000000000000",
        "labels": {
            "nightshift.dev/deployment": deployment,
            "nightshift.dev/revision": revision,
            "app.kubernetes.io/component": "engine",
        },
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIPs": [{"ip": address}]}}


def slice_object(service: str, pods: dict[str, tuple[str, bool]]) -> Object:
    """An EndpointSlice: by pod its address, and whether it is ready."""
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": ready, "serving": ready, "terminating": False},
            "targetRef": {"kind": "Pod", "name": name, "uid": f"{name}-0000-4000-8000-000000000000"},
        }
        for name, (address, ready) in pods.items()
    ]
    labels = {"kubernetes.io/service-name": service, "nightshift.dev/deployment": "bot"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "ml", "name": f"{service}-x", "labels": labels},
        "endpoints": endpoints,
    }
