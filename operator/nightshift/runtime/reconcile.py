"""One reconcile: parse, observe, plan, apply, status. Order and errors only."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from nightshift.adapters.kube import Kube
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment, SpecError, parse, parse_status
from nightshift.api.status import Status
from nightshift.core.adoption import adoption_message
from nightshift.core.contest import Quarrel, Taken, corrected, settle, taken_note
from nightshift.core.events import EventNote, events, pod_notes
from nightshift.core.fetch_jobs import RETRY_SECONDS
from nightshift.core.observed import Observed, observe
from nightshift.core.plan import plan
from nightshift.core.planning import Plan, ReadEngineLog, ReadEvents, ResolveImage
from nightshift.core.status import refused_status, status
from nightshift.runtime.apply import execute
from nightshift.runtime.cache import Cache, Key
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.pools import Pools
from nightshift.runtime.records import record_event
from nightshift.runtime.routes import release_routes
from nightshift.runtime.telemetry import (
    ENGINES_HUNG,
    WRITES,
    count_scaling,
    forget_deployment,
    observe_deployment,
    observe_scaling,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """What a reconcile works with."""

    config: OperatorConfig
    kube: Kube
    cache: Cache
    lookups: Lookups
    pools: Pools = field(default_factory=Pools)
    """Whose candidate may ask for an accelerator."""
    quarrels: dict[Key, dict[tuple[str, str], Quarrel]] = field(default_factory=dict)
    """Objects that others change against us, by deployment, kind and name."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The present moment."""

    async def reconcile(self, key: Key) -> float | None:
        """Bring one LLMDeployment a step forward.

        Returns:
            Seconds until it should be looked at again; None where only a change matters.

        Raises:
            KubeError: The API server could not be reached or asked to come back later.
        """
        body = self.cache.deployment(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            forget_deployment(*key)
            self.quarrels.pop(key, None)
            self.lookups.lookout.watch(key, ())
            self.lookups.demands.watch(key, None)
            self.lookups.demands.compare(key, wanted=False)
            self.pools.tell(key, None)
            await self.lookups.tender.keep(key, ())
            await release_routes(key, self.kube, self.cache, self.config)
            return None
        try:
            deployment = parse(body)
        except SpecError as error:
            await self._refuse(body, str(error))
            return None
        return await self._step(deployment, body)

    async def _step(self, deployment: LLMDeployment, body: Mapping[str, Any]) -> float | None:
        key = (deployment.namespace, deployment.name)
        now = self.now()
        observed = self.observed(key, deployment.uid)
        decided = plan(deployment, observed, self.config, now)
        if first := [item for item in decided.requests if isinstance(item, ReadEngineLog | ReadEvents)]:
            # Read before anything is told, so that the status names the cause at once, also in a new process.
            await asyncio.gather(*(self.lookups.ask(deployment.namespace, request) for request in first))
            observed = self.observed(key, deployment.uid)
            decided = plan(deployment, observed, self.config, now)
        self.lookups.lookout.watch(key, decided.looks, detailed=decided.compares)
        self.lookups.demands.watch(key, decided.scaling)
        self.lookups.demands.compare(key, wanted=decided.compares)
        asked = await self.lookups.tender.keep(key, decided.tends)
        if asked or self.pools.others(key) != observed.contenders:
            # Asked before anything is told, so that a new process does not say of an engine that it holds nothing. And
            # of two rollouts that began meanwhile only one may ask for the place that both would find free.
            observed = self.observed(key, deployment.uid)
            decided = plan(deployment, observed, self.config, now)
        self.pools.tell(key, decided.contender)
        moment = asyncio.get_running_loop().time()
        decided, taken = settle(decided, observed, self.quarrels.get(key, {}), moment)
        ENGINES_HUNG.labels(*key).set(decided.hung)
        observe_scaling(*key, decided.scaling)
        outcome = await execute(decided, deployment, self.kube, self.cache)
        if outcome.cause is not None:
            decided = replace(decided, blocker=outcome.cause, requeue_after=RETRY_SECONDS)
        current = status(deployment, observed, decided, self.config, now)
        await self._write_status(body, current)
        notes = list(events(deployment.status, current, decided))
        if outcome.cause is None:
            count_scaling(decided.scaling)
            notes += [self._set_back(key, item, moment) for item in taken]
            notes += pod_notes(decided)
            adopted = adoption_message(decided, observed)
            notes += [EventNote("Normal", "Adopted", adopted)] if adopted else []
        for note in notes:
            await record_event(self.kube, body, note, now)
        await asyncio.gather(*(self.lookups.ask(deployment.namespace, request) for request in decided.requests))
        return self._next(decided)

    def _set_back(self, key: Key, taken: Taken, moment: float) -> EventNote:
        """Remember that fields were set back; the Event about it."""
        known = self.quarrels.setdefault(key, {})
        quarrel = corrected(known.get((taken.kind, taken.name), Quarrel()), moment)
        known[(taken.kind, taken.name)] = quarrel
        return taken_note(taken, quarrel)

    def observed(self, key: Key, uid: str) -> Observed:
        """What is known of a deployment now."""
        progress = self.lookups.progress(key[0])
        logs = self.lookups.engine_logs(key[0])
        engines = self.lookups.lookout.sights(key)
        adapters, events = self.lookups.tender.sights(key), self.lookups.events
        children, images = self.cache.children(key), self.lookups.images
        demand, gateway = self.lookups.demands.demand(key), self.lookups.demands.gateway(key)
        found = observe(uid, children, images, progress, logs, engines, events, adapters, demand, gateway)
        return replace(found, contenders=self.pools.others(key))

    def _next(self, decided: Plan) -> float:
        """A write needs no appointment: the watch tells of it. An answer that just came does."""
        if any(isinstance(request, ResolveImage) for request in decided.requests):
            return 0.0
        resync = float(self.config.resync_seconds)
        return min(resync, decided.requeue_after) if decided.requeue_after is not None else resync

    async def _refuse(self, body: Mapping[str, Any], message: str) -> None:
        before, now = parse_status(body), self.now()
        metadata = body["metadata"]
        observed = self.observed((metadata["namespace"], metadata["name"]), metadata["uid"])
        after = refused_status(metadata.get("generation", 0), before, observed, "InvalidSpec", message, now)
        await self._write_status(body, after)
        if before.observed_generation != after.observed_generation:
            await record_event(self.kube, body, EventNote("Warning", "InvalidSpec", message), now)

    async def _write_status(self, body: Mapping[str, Any], current: Status) -> None:
        metadata = body["metadata"]
        ready = next(item for item in current.conditions if item.type == "Ready")
        observe_deployment(metadata["namespace"], metadata["name"], ready=ready.status == "True", reason=ready.reason)
        written = current.to_json()
        if body.get("status") == written:
            return
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "status": written,
        }
        applied = await self.kube.apply(manifest, names.STATUS_FIELD_MANAGER, "status")
        WRITES.labels(kind=names.KIND, verb="status").inc()
        self.cache.put_deployment(applied)
