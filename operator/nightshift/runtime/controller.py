"""Workers over the queue, and the periodic comparison of the cache with a list."""

import asyncio
import logging
import time
from functools import partial

from nightshift.adapters.kube import CHILD_KINDS, KubeClient, KubeError
from nightshift.adapters.kube_watch import Watch
from nightshift.api import names
from nightshift.core.liveness import COMPARISONS_UNTIL_SILENT, Vitals
from nightshift.runtime import routes
from nightshift.runtime.cache import Cache, Key, Object
from nightshift.runtime.queue import KeyedQueue
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.telemetry import (
    QUEUE_BACKING_OFF,
    QUEUE_DEPTH,
    QUEUE_OVERDUE_SECONDS,
    RECONCILE_ERRORS,
    RECONCILE_SECONDS,
    WATCH_EVENTS,
    Result,
    error_reason,
)

logger = logging.getLogger(__name__)


class Controller:
    """Turns what the watches tell into reconciles."""

    def __init__(self, reconciler: Reconciler, kube: KubeClient) -> None:
        self._reconciler = reconciler
        self._cache: Cache = reconciler.cache
        self._kube = kube
        self.queue: KeyedQueue[Key] = KeyedQueue()
        reconciler.lookups.lookout.tell = self.queue.add
        reconciler.lookups.tender.tell = self.queue.add
        reconciler.lookups.demands.tell = self.queue.add
        reconciler.pools.wake = self.queue.add
        self.unprepared: str | None = "what there is has not been listed yet"
        """Why the work has not begun, or None."""
        self._untold: dict[str, int] = {}
        """Comparisons in a row that found changes of a kind of which no watch told anything."""

    def vitals(self, *, leading: bool) -> Vitals:
        """How the work is going."""
        return Vitals(
            leading=leading,
            overdue_seconds=self.queue.overdue_seconds(),
            working_seconds=self.queue.working_seconds(),
            silent_watches=tuple(
                sorted(kind for kind, count in self._untold.items() if count >= COMPARISONS_UNTIL_SILENT)
            ),
        )

    def deployment_event(self, kind: str | None, raw: Object) -> None:
        """A watch told of an LLMDeployment."""
        self._heard(names.KIND)
        key = self._cache.drop_deployment(raw) if kind == "DELETED" else self._cache.put_deployment(raw)
        self.queue.add(key)

    def child_event(self, child: str, kind: str | None, raw: Object) -> None:
        """A watch told of an object that carries a deployment's label."""
        self._heard(child)
        drop = kind == "DELETED"
        key = self._cache.drop_child(child, raw) if drop else self._cache.put_child(child, raw)
        if drop and child == "Pod" and key is not None:
            self._reconciler.lookups.forget_pod(key[0], raw["metadata"]["name"])
        if key is not None:
            self.queue.add(key)

    def _heard(self, kind: str) -> None:
        WATCH_EVENTS.labels(kind=kind).inc()
        self._untold.pop(kind, None)

    def watches(self) -> tuple[Watch, ...]:
        """What is to be followed besides kopf's watches, which are of LLMDeployments and their children alone."""
        told = partial(self.child_event, routes.KIND)
        own = routes.watch_of_routes(self._kube, self._reconciler.config, told)
        return (*self._reconciler.lookups.demands.watches(self._kube), *((own,) if own is not None else ()))

    async def fill(self) -> None:
        """Fill the cache before the first watch."""
        await self.compare()
        self._untold.clear()
        self.unprepared = None

    async def compare(self) -> None:
        """Compare the cache with what the API server lists; look again at what differs."""
        changed: set[Key] = set()
        for api_version, kind in CHILD_KINDS:
            horizon = self._cache.newest(kind)
            listed = await self._list(api_version, kind, names.LABEL_DEPLOYMENT)
            changed |= self._compared(kind, self._cache.replace_children(kind, listed, horizon))
        if (gateway := self._reconciler.config.gateway) is not None:
            horizon = self._cache.newest(routes.KIND)
            found = await self._kube.list(routes.API_VERSION, routes.KIND, routes.SELECTOR, gateway.namespace)
            changed |= self._compared(routes.KIND, self._cache.replace_children(routes.KIND, found, horizon))
        horizon = self._cache.newest(names.KIND)
        selector = self._reconciler.config.label_selector
        deployments = await self._list(names.API_VERSION, names.KIND, selector)
        changed |= self._compared(names.KIND, self._cache.replace_deployments(deployments, horizon))
        for key in changed:
            self.queue.add(key)

    async def _list(self, api_version: str, kind: str, label_selector: str) -> list[Object]:
        """All objects of a kind where this operator looks."""
        found: list[Object] = []
        for namespace in self._reconciler.config.watch_namespaces or ("",):
            found += await self._kube.list(api_version, kind, label_selector, namespace)
        return found

    def _compared(self, kind: str, changed: frozenset[Key]) -> frozenset[Key]:
        if changed:
            self._untold[kind] = self._untold.get(kind, 0) + 1
        return changed

    async def run(self) -> None:
        """Work until cancelled."""
        config = self._reconciler.config
        async with asyncio.TaskGroup() as tasks:
            for _ in range(config.workers):
                tasks.create_task(self._work())
            tasks.create_task(self._compare_now_and_then(config.resync_seconds))
            tasks.create_task(self._measure())
            tasks.create_task(self._reconciler.lookups.lookout.run())
            tasks.create_task(self._reconciler.lookups.tender.run())
            tasks.create_task(self._reconciler.lookups.demands.run())

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            started = time.perf_counter()
            result, again = await self._reconcile(key)
            RECONCILE_SECONDS.labels(result=result).observe(time.perf_counter() - started)
            if again is not None:
                self.queue.add(key, again)
            self.queue.done(key, failed=result != "ok")

    async def _reconcile(self, key: Key) -> tuple[Result, float | None]:
        try:
            return "ok", await self._reconciler.reconcile(key)
        except KubeError as error:
            RECONCILE_ERRORS.labels(reason=error_reason(error.status)).inc()
            logger.warning("%s/%s: tried again later: %s", *key, error)
        except Exception:
            RECONCILE_ERRORS.labels(reason="Bug").inc()
            logger.exception("%s/%s: a reconcile failed in a way that is a bug of Nightshift", *key)
            return "bug", None
        return "failed", None

    async def _compare_now_and_then(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.compare()
            except KubeError as error:
                logger.warning("The cache could not be compared with the API server: %s", error)

    async def _measure(self) -> None:
        while True:
            QUEUE_DEPTH.set(self.queue.depth())
            QUEUE_OVERDUE_SECONDS.set(self.queue.overdue_seconds())
            QUEUE_BACKING_OFF.set(self.queue.backing_off())
            await asyncio.sleep(1)
