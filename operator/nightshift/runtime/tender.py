"""Tending adapters: tells sidecars what to fetch, engines what to load and unload, and keeps what they say.

It carries out what plans name and decides nothing: what follows from an answer, and whether a reconcile should hear of
it, stands in core. It waits for no reconcile; a reconcile waits for the first answer of an engine alone.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from nightshift.adapters.engine import AdapterEngine
from nightshift.adapters.sidecar import Sidecar
from nightshift.core.adapter_sight import (
    AdapterSight,
    Change,
    TendAdapters,
    again_seconds,
    changes,
    path_of,
    refused,
    to_fetch,
    worth_telling,
)
from nightshift.core.facts import Unknown
from nightshift.runtime.cache import Key
from nightshift.runtime.lookout import PodKey
from nightshift.runtime.queue import KeyedQueue
from nightshift.runtime.telemetry import ADAPTER_LOADS

logger = logging.getLogger(__name__)

TENDERS = 16
"""Engines tended at the same time. One that loads an adapter holds its place until it has answered."""

FIRST_LOOK_SECONDS = 5.0
"""A reconcile waits so long for engines that were never asked. They answer in milliseconds; one that does not is said
to hold nothing until it does."""


class AdapterEngines(Protocol):
    """Clients of engine pods."""

    def at(self, pod_ip: str) -> AdapterEngine:
        """The engine of a pod."""


class Sidecars(Protocol):
    """Clients of the containers beside engines."""

    def at(self, pod_ip: str) -> Sidecar:
        """The sidecar of a pod."""


class Tender:
    """What engines and sidecars say of adapters, by deployment and pod. Losing it costs a question, nothing else."""

    def __init__(
        self, engines: AdapterEngines, sidecars: Sidecars, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.tell: Callable[[Key], None] = lambda key: None
        """Told of a deployment of whose adapters a reconcile should hear."""
        self._engines = engines
        self._sidecars = sidecars
        self._now = now
        self._tended: dict[PodKey, tuple[Key, TendAdapters]] = {}
        self._pods: dict[Key, frozenset[PodKey]] = {}
        self._sights: dict[PodKey, AdapterSight] = {}
        self._queue: KeyedQueue[PodKey] = KeyedQueue()

    def sights(self, key: Key) -> dict[str, AdapterSight]:
        """What was seen of a deployment's engines, by pod."""
        return {pod[1]: self._sights[pod] for pod in self._pods.get(key, ()) if pod in self._sights}

    async def keep(self, key: Key, tends: Iterable[TendAdapters]) -> bool:
        """Tend these engines of a deployment from now on, and no others of it.

        Returns:
            Whether something was seen that was not known before: engines that serve and were never asked are asked.
        """
        wanted = {(key[0], tend.pod): tend for tend in tends}
        for pod in self._pods.get(key, frozenset()) - wanted.keys():
            self._forget(pod)
        fresh = []
        for pod, tend in wanted.items():
            if self._tended.get(pod) != (key, tend):
                self._tended[pod] = (key, tend)
                self._queue.add(pod)
            known = self._sights.get(pod)
            if tend.ready and (known is None or known.start != tend.start):
                fresh.append((pod, tend))
        self._pods[key] = frozenset(wanted)
        if not wanted:
            del self._pods[key]
        await asyncio.gather(*(self._first_look(pod, tend) for pod, tend in fresh))
        return bool(fresh)

    def forget_pod(self, namespace: str, pod: str) -> None:
        """A pod is gone: its address may be another's soon."""
        self._forget((namespace, pod))

    def _forget(self, pod: PodKey) -> None:
        self._tended.pop(pod, None)
        self._sights.pop(pod, None)

    async def run(self) -> None:
        """Tend until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(TENDERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            pod = await self._queue.get()
            try:
                await self.tend(pod)
            except Exception:
                logger.exception("Adapters of %s/%s could not be tended, which is a bug of Nightshift", *pod)
            finally:
                self._queue.done(pod, failed=False)
            if pod in self._tended:
                tend = self._tended[pod][1]
                self._queue.add(pod, again_seconds(tend, self._sights.get(pod, AdapterSight(tend.start))))

    async def tend(self, pod: PodKey) -> None:
        """Ask one engine and its sidecar, do what follows, and ask again where something was done."""
        if pod not in self._tended:
            return
        _, tend = self._tended[pod]
        sight = await self._read(pod, tend)
        steps = changes(tend, sight, self._now())
        for step in steps:
            if self._tended.get(pod, (None, None))[1] is not tend:
                return
            sight = await self._carry_out(pod, step, tend, sight)
        if steps:
            sight = replace(sight, loaded=await self._engines.at(tend.ip).adapters())
        self._fold(pod, sight)

    async def once(self) -> None:
        """Tend every engine once, now."""
        await asyncio.gather(*(self.tend(pod) for pod in list(self._tended)))

    async def _first_look(self, pod: PodKey, tend: TendAdapters) -> None:
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                sight = await self._read(pod, tend)
        except TimeoutError:
            silent = Unknown(f"It did not answer within {FIRST_LOOK_SECONDS:g} s.")
            sight = AdapterSight(tend.start, silent, silent)
        if pod in self._tended and self._tended[pod][1].start == sight.start:
            self._sights[pod] = sight

    async def _read(self, pod: PodKey, tend: TendAdapters) -> AdapterSight:
        known = self._sights.get(pod)
        before = known if known is not None and known.start == tend.start else AdapterSight(tend.start)
        sight = replace(before, loaded=await self._engines.at(tend.ip).adapters())
        return replace(sight, states=await self._sidecars.at(tend.ip).sync(to_fetch(tend, sight)))

    async def _carry_out(self, pod: PodKey, step: Change, tend: TendAdapters, sight: AdapterSight) -> AdapterSight:
        engine = self._engines.at(tend.ip)
        if step.unload is not None:
            logger.info("%s/%s: unloading adapter %s from %s", *pod, step.name, step.unload)
            await engine.unload_adapter(step.name)
        if step.load is None:
            return sight
        logger.info("%s/%s: loading adapter %s from commit %s", *pod, step.name, step.load.sha)
        answer = await engine.load_adapter(step.name, path_of(step.load.sha))
        if isinstance(answer, Unknown):
            ADAPTER_LOADS.labels(result="unknown").inc()
            logger.info("%s/%s: adapter %s: %s", *pod, step.name, answer.reason)
            return sight
        ADAPTER_LOADS.labels(result="loaded" if answer.value.taken else "refused").inc()
        if answer.value.taken:
            return sight
        logger.warning("%s/%s: adapter %s is refused", *pod, step.name)
        if step.unload is not None:
            await engine.load_adapter(step.name, step.unload)
        return refused(sight, step.load, answer.value.message, self._now())

    def _fold(self, pod: PodKey, after: AdapterSight) -> None:
        """Keep what was seen, unless the engine is tended no more or was started anew meanwhile."""
        if pod not in self._tended:
            return
        key, tend = self._tended[pod]
        if tend.start != after.start:
            return
        before = self._sights.get(pod)
        self._sights[pod] = after
        if worth_telling(before, after):
            self.tell(key)
