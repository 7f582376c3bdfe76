"""The cluster as the agent sees it: an API server of a few lines, in a thread of its own, with what is in it."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml

from bench.gateway.peers import ENGINE_PORT, REPLICAS
from nightshift.api.route import Route
from tests.support.watch_api import WatchApi, pod_object, route_object, slice_object

CAP = 1024
"""Requests that a replica works on at a time: more than any load here has."""
ADAPTER = "refunds"
REVISION = "r1"


class Cluster:
    """A context: the API server, and what is changed in it."""

    def __enter__(self) -> "Cluster":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._api = self._do(WatchApi().start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        await self._api.cut()
        await self._api.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def kubeconfig(self, directory: Path) -> Path:
        """Write how it is reached."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self._api.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def route(self, route: Route) -> None:
        """Publish a route."""
        self._do(self._api.put(route_object(route)))

    def pod(
        self, deployment: str, name: str, address: str, revision: str = REVISION, *, deleting: bool = False
    ) -> None:
        """Create or change a pod."""
        self._do(self._api.put(pod_object(name, revision, address, deleting=deleting, deployment=deployment)))

    def remove_pod(self, name: str) -> None:
        """A pod is gone."""
        self._do(self._api.remove("Pod", "ml", name))

    def endpoints(self, deployment: str, pods: dict[str, tuple[str, bool]], revision: str = REVISION) -> None:
        """Say which pods of a revision are ready: address and whether, by name."""
        self._do(self._api.put(slice_object(f"{deployment}-{revision}", pods)))


def route(name: str, weights: dict[str, int] | None = None, **fields: Any) -> Route:
    """A deployment's route; revisions with their weights."""
    revisions = [
        {
            "hash": revision,
            "weight": weight,
            "service": f"{name}-{revision}",
            "port": ENGINE_PORT,
            "maxConcurrentRequests": CAP,
        }
        for revision, weight in (weights or {REVISION: 100}).items()
    ]
    return Route.model_validate({"namespace": "ml", "name": name, "servedName": name, "revisions": revisions, **fields})


def serving(cluster: Cluster) -> None:
    """Two deployments on the same two replicas: one plain, one with everything that a route can have.

    `bot` has one revision. `all` has two with a canary's weights, an adapter that one replica has, and affinity by
    prompts' beginnings: each rule that looks at a request looks at its requests.
    """
    cluster.route(route("bot"))
    for number, address in enumerate(REPLICAS):
        cluster.pod("bot", f"bot-{number}", address)
    cluster.endpoints("bot", {f"bot-{number}": (address, True) for number, address in enumerate(REPLICAS)})
    adapters = [{"name": ADAPTER, "pods": ["all-r1"]}]
    cluster.route(route("all", {"r1": 95, "r2": 5}, affinity="Prefix", adapters=adapters))
    for revision, address in zip(("r1", "r2"), REPLICAS, strict=True):
        cluster.pod("all", f"all-{revision}", address, revision)
        cluster.endpoints("all", {f"all-{revision}": (address, True)}, revision)
