"""Asking outside systems for what a plan requested, and keeping the answers until they are used."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from nightshift.adapters.kube import Kube, KubeError
from nightshift.api.fetch import Progress, parse_progress
from nightshift.core.engine_log import engine_failure
from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.images import answered, ask_again
from nightshift.core.object_events import EventsAnswer, object_events
from nightshift.core.observed import EngineLog, ImageAnswer, image_key
from nightshift.core.planning import AskEngine, ReadEngineLog, ReadEvents, ReadProgress, Request, ResolveImage
from nightshift.runtime.demand import Demands
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.tender import Tender

logger = logging.getLogger(__name__)

_PROGRESS_LINES = 5
_ENGINE_LOG_LINES = 1000
"""vLLM's processes each repeat the stack trace of a failed start: some 300 lines, and the log before it."""

_EVENTS_KEPT = timedelta(minutes=10)
"""Events are asked for again and again while they matter: an older answer is of an object that got on or is gone."""


class Registry(Protocol):
    """What is needed of an image registry."""

    async def resolve_digest(self, repository: str, tag: str) -> Known[str] | ImageNotFound | Unknown:
        """The digest that a tag stands for now."""


class Lookups:
    """Answers by question. Losing them costs a question, nothing else."""

    def __init__(
        self,
        kube: Kube,
        registry: Registry,
        lookout: Lookout,
        tender: Tender,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        demands: Demands | None = None,
    ) -> None:
        self.demands = demands or Demands(lookout, now=now)
        """Watches what is asked of deployments."""
        self.lookout = lookout
        """Watches the engines."""
        self.tender = tender
        """Gives them adapters."""
        self._kube = kube
        self._registry = registry
        self._now = now
        self._images: dict[str, ImageAnswer] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._progress: dict[tuple[str, str], Progress] = {}
        self._engine_logs: dict[tuple[str, str], EngineLog] = {}
        self._events: dict[str, EventsAnswer] = {}

    @property
    def images(self) -> Mapping[str, ImageAnswer]:
        """What registries answered."""
        return self._images

    def progress(self, namespace: str) -> dict[str, Progress]:
        """Downloads under way in a namespace, by pod."""
        return {pod: value for (where, pod), value in self._progress.items() if where == namespace}

    def engine_logs(self, namespace: str) -> dict[str, EngineLog]:
        """What crashed engines of a namespace wrote, by pod."""
        return {pod: value for (where, pod), value in self._engine_logs.items() if where == namespace}

    @property
    def events(self) -> Mapping[str, EventsAnswer]:
        """What Events told of pods and Jobs, by uid."""
        return self._events

    def forget_pod(self, namespace: str, pod: str) -> None:
        """Drop what was known of a pod that is gone."""
        self._progress.pop((namespace, pod), None)
        self._engine_logs.pop((namespace, pod), None)
        self.lookout.forget_pod(namespace, pod)
        self.tender.forget_pod(namespace, pod)

    async def ask(self, namespace: str, request: Request) -> None:
        """Ask one question and keep the answer; a failure is an answer too."""
        if isinstance(request, ResolveImage):
            await self._resolve(request)
        elif isinstance(request, ReadEngineLog):
            await self._read_engine_log(namespace, request)
        elif isinstance(request, ReadEvents):
            await self._read_events(namespace, request)
        elif isinstance(request, AskEngine):
            self.lookout.ask(namespace, request)
        else:
            await self._read_progress(namespace, request)

    async def _resolve(self, request: ResolveImage) -> None:
        """Ask once, however many deployments want to know the same at the same time."""
        key = image_key(request.repository, request.tag)
        async with self._asking[key]:
            known = self._images.get(key)
            if known is not None and self._now() < ask_again(known):
                return
            answer = await self._registry.resolve_digest(request.repository, request.tag)
            self._images[key] = answered(known, answer, self._now())
        if isinstance(answer, Unknown):
            logger.info("Digest of %s is unknown: %s", key, answer.reason)

    async def _read_progress(self, namespace: str, request: ReadProgress) -> None:
        try:
            text = await self._kube.log_tail(namespace, request.pod, request.container, _PROGRESS_LINES)
        except KubeError as error:
            logger.info("Progress of pod %s/%s is unknown: %s", namespace, request.pod, error)
            return
        found = [progress for line in text.splitlines() if (progress := parse_progress(line)) is not None]
        if found:
            self._progress[(namespace, request.pod)] = found[-1]

    async def _read_engine_log(self, namespace: str, request: ReadEngineLog) -> None:
        """Keep what the log tells, never the log; one that cannot be read tells nothing until the next crash."""
        key = (namespace, request.pod)
        try:
            text = await self._kube.log_tail(
                namespace, request.pod, request.container, _ENGINE_LOG_LINES, request.previous
            )
        except KubeError as error:
            logger.info("The log of pod %s/%s cannot be read: %s", namespace, request.pod, error)
            self._engine_logs[key] = EngineLog(request.restarts, None)
            return
        self._engine_logs[key] = EngineLog(request.restarts, engine_failure(text))

    async def _read_events(self, namespace: str, request: ReadEvents) -> None:
        now = self._now()
        try:
            found = object_events(await self._kube.events_about(namespace, request.uid))
        except KubeError as error:
            logger.info("Events about %s/%s cannot be read: %s", namespace, request.name, error)
            answer = EventsAnswer(now, Unknown(str(error)))
        else:
            answer = EventsAnswer(now, Known(found, now))
        fresh = {uid: item for uid, item in self._events.items() if now - item.asked < _EVENTS_KEPT}
        self._events = {**fresh, request.uid: answer}
