"""Watching the engines: reads their metrics now and then, asks them for a token when a plan wants it.

It carries out what plans name and decides nothing: what a reading means, and whether a reconcile should hear of it,
stands in core. Reads wait for no reconcile and hold none up.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from nightshift.adapters.engine import Engine
from nightshift.core.engine_metrics import EngineMetrics, ProbeAnswer
from nightshift.core.engine_sight import EngineSight, asked, looked
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.hang import LOOK_SECONDS, first_look_seconds, worth_telling
from nightshift.core.planning import AskEngine, LookAtEngine
from nightshift.runtime.cache import Key
from nightshift.runtime.queue import KeyedQueue
from nightshift.runtime.telemetry import ENGINE_LOOKS, ENGINE_PROBES

logger = logging.getLogger(__name__)

READERS = 16
"""Engines read at the same time. A silent one holds a reader for 10 s at most, so even if every third of 1,000
engines is silent, all are read within four minutes, and the others are late, not lost."""

QUESTIONS = 64
"""Engines asked for a token at the same time: each may take its deadline, and costs one open connection."""

PodKey = tuple[str, str]
"""Namespace and name of a pod."""


class EnginePods(Protocol):
    """Clients of engine pods."""

    def at(self, pod_ip: str) -> Engine:
        """The engine of a pod."""


class Lookout:
    """What engines say of themselves, by deployment and pod. Losing it costs time, nothing else."""

    def __init__(self, engines: EnginePods, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.tell: Callable[[Key], None] = lambda key: None
        """Told of a deployment of whose engines a reconcile should hear."""
        self._engines = engines
        self._now = now
        self._watched: dict[PodKey, tuple[Key, LookAtEngine]] = {}
        self._pods: dict[Key, frozenset[PodKey]] = {}
        self._detailed: set[Key] = set()
        self._sights: dict[PodKey, EngineSight] = {}
        self._queue: KeyedQueue[PodKey] = KeyedQueue()
        self._questions: dict[PodKey, asyncio.Task[None]] = {}
        self._free = asyncio.Semaphore(QUESTIONS)

    def sights(self, key: Key) -> dict[str, EngineSight]:
        """What was seen of a deployment's engines, by pod."""
        return {pod[1]: self._sights[pod] for pod in self._pods.get(key, ()) if pod in self._sights}

    def watch(self, key: Key, looks: Iterable[LookAtEngine], *, detailed: bool = False) -> None:
        """Watch these engines of a deployment from now on, and no others of it.

        Args:
            key: The deployment.
            looks: Its engines.
            detailed: Whether they are compared with each other; what is needed for that is read at once.
        """
        wanted = {(key[0], look.pod): look for look in looks}
        if detailed:
            self._read_soon(key, wanted)
            self._detailed.add(key)
        else:
            self._detailed.discard(key)
        for pod in self._pods.get(key, frozenset()) - wanted.keys():
            self._forget(pod)
        for pod, look in wanted.items():
            if pod not in self._watched:
                self._queue.add(pod, first_look_seconds(look.start))
            self._watched[pod] = (key, look)
        self._pods[key] = frozenset(wanted)
        if not wanted:
            del self._pods[key]

    def _read_soon(self, key: Key, wanted: Mapping[PodKey, LookAtEngine]) -> None:
        """Read those engines at once that are newly compared."""
        for pod, look in wanted.items():
            known = self._watched.get(pod)
            if key not in self._detailed or known is None or known[1].start != look.start:
                self._queue.add(pod)

    def forget_pod(self, namespace: str, pod: str) -> None:
        """A pod is gone: its address may be another's soon."""
        self._forget((namespace, pod))

    def _forget(self, pod: PodKey) -> None:
        self._watched.pop(pod, None)
        self._sights.pop(pod, None)

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(READERS):
                    tasks.create_task(self._read())
        finally:
            for question in list(self._questions.values()):
                question.cancel()

    async def _read(self) -> None:
        while True:
            pod = await self._queue.get()
            try:
                await self.look(pod)
            except Exception:
                logger.exception("Engine %s/%s could not be looked at, which is a bug of Nightshift", *pod)
            finally:
                self._queue.done(pod, failed=False)
            if pod in self._watched:
                self._queue.add(pod, LOOK_SECONDS)

    async def look(self, pod: PodKey) -> None:
        """Read the metrics of a watched engine once."""
        if pod not in self._watched:
            return
        key, look = self._watched[pod]
        reading = await self._reading(look.ip, detailed=key in self._detailed)
        self._fold(pod, looked(self._sights.get(pod), look.start, reading))

    async def _reading(self, ip: str, *, detailed: bool) -> Fact[EngineMetrics]:
        reading = await self._engines.at(ip).metrics(detailed=detailed)
        ENGINE_LOOKS.labels(result="read" if isinstance(reading, Known) else "unknown").inc()
        return reading

    def _fold(self, pod: PodKey, after: EngineSight, *, told: bool = False) -> None:
        """Keep what was seen, unless the engine is watched no more or was started anew meanwhile."""
        if pod not in self._watched:
            return
        key, look = self._watched[pod]
        if look.start != after.start:
            return
        before = self._sights.get(pod)
        self._sights[pod] = after
        if told or worth_telling(before, after):
            self.tell(key)

    def ask(self, namespace: str, request: AskEngine) -> None:
        """Ask an engine for one token, beside everything else; a question under way is not put again."""
        pod = (namespace, request.pod)
        if pod in self._questions:
            return
        task = asyncio.create_task(self._ask(pod, request))
        self._questions[pod] = task

    async def _ask(self, pod: PodKey, request: AskEngine) -> None:
        """The metrics are read once more after the question: if they moved, it only had to wait."""
        try:
            async with self._free:
                answer = await self._engines.at(request.ip).probe(request.served_name, request.deadline_seconds)
                _count(answer)
                ended = self._now()
                reading = await self._reading(request.ip, detailed=self._compared(pod))
        finally:
            # Before anybody is told: whoever hears of it may want to ask again.
            del self._questions[pod]
        if isinstance(answer, Unknown):
            logger.info("Engine %s/%s could not be asked for a token: %s", *pod, answer.reason)
        before = self._sights.get(pod)
        if before is not None and before.start == request.start:
            self._fold(pod, looked(asked(before, answer, ended), request.start, reading), told=True)

    def _compared(self, pod: PodKey) -> bool:
        return pod in self._watched and self._watched[pod][0] in self._detailed

    async def settled(self) -> None:
        """Wait until every question under way has ended."""
        while self._questions:
            await asyncio.wait(self._questions.values())


def _count(answer: Fact[ProbeAnswer]) -> None:
    result = ("answered" if answer.value.answered else "unanswered") if isinstance(answer, Known) else "unknown"
    ENGINE_PROBES.labels(result=result).inc()
