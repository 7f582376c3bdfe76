"""The wake Leases of this gateway pod: renewed while requests wait, read once for what earlier pods learned."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from nightshift.adapters.kube import Kube, KubeError, Reference
from nightshift.api import wake
from nightshift.api.wake import Wake, parse_wake
from nightshift.core.gateway.starts import newest, parse_starts
from nightshift.core.gateway.wake import lease_manifest, renewal_due, superfluous
from nightshift.gateway.hall import Hall

logger = logging.getLogger(__name__)

FIELD_MANAGER = "nightshift-activator"
ATTEMPT_SECONDS = 4.0
"""A renewal that takes longer is given up: the next one is due by then."""
SWEEP_SECONDS = 3600.0
RETRY_LOAD_SECONDS = 10.0


class Wakes:
    """Renews a Lease per deployment."""

    def __init__(
        self,
        kube: Kube,
        hall: Hall,
        *,
        namespace: str,
        pod: str,
        told: Callable[[bool], None] = lambda ok: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Renew what a hall wants.

        Args:
            kube: The API server.
            hall: Says which deployments are to be awake.
            namespace: The gateway's, where its Leases lie.
            pod: Name of this gateway pod.
            told: Told of each renewal whether it succeeded.
            clock: UTC.
        """
        self._kube, self._hall, self._clock, self._told = kube, hall, clock, told
        self._namespace, self._pod = namespace, pod
        self._tried: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._held: dict[str, int] = {}
        """What the last renewal that succeeded said."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._loading: asyncio.Task[None] | None = None
        self._load_due = 0.0
        self._loaded = False
        """Whether it is known what earlier processes learned: a renewal before might write over it."""

    def tick(self, now: float) -> None:
        """Begin every renewal that is due."""
        if now >= self._load_due and (self._loading is None or self._loading.done()):
            self._load_due = now + RETRY_LOAD_SECONDS
            self._loading = asyncio.create_task(self._load(now))
        for key in self._hall.awake(now):
            success, attempt = self._renewed.get(key), self._tried.get(key)
            held, told = self._hall.held(key), self._held.get(key, 0)
            due = renewal_due(_since(success, now), _since(attempt, now), held, told)
            if due and key not in self._under_way:
                self._tried[key] = now
                self._under_way[key] = asyncio.create_task(self._renew(key, now))

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (*self._under_way.values(), self._loading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, key: str, now: float) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                if not self._loaded and self._loading is not None:
                    await asyncio.wait([self._loading], timeout=ATTEMPT_SECONDS / 2)
                demand = self._hall.demand(key, asyncio.get_running_loop().time())
                manifest = lease_manifest(demand, gateway_namespace=self._namespace, pod=self._pod, now=self._clock())
                await self._kube.apply(manifest, FIELD_MANAGER)
        except (KubeError, TimeoutError) as error:
            logger.warning("The wake Lease of %s was not renewed, nobody may know that it is wanted: %r", key, error)
            self._told(False)
        else:
            self._renewed[key], self._held[key] = now, demand.held
            self._told(True)
        finally:
            del self._under_way[key]

    async def _load(self, now: float) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                found = await self._kube.list(wake.API_VERSION, wake.KIND, wake.SELECTOR, self._namespace)
        except (KubeError, TimeoutError) as error:
            logger.warning("The wake Leases could not be listed; learned start times are not known yet: %r", error)
            return
        leases = [lease for raw in found if (lease := parse_wake(raw)) is not None]
        if not self._loaded:
            self._learn(leases)
        self._loaded = True
        self._load_due = now + SWEEP_SECONDS
        await self._sweep(leases)

    def _learn(self, leases: list[Wake]) -> None:
        for key in {f"{lease.namespace}/{lease.name}" for lease in leases}:
            known = [
                (lease.renewed.timestamp(), parse_starts(lease.starts))
                for lease in leases
                if f"{lease.namespace}/{lease.name}" == key
            ]
            starts = newest(known)
            if starts.seconds:
                self._hall.learn(key, starts)

    async def _sweep(self, leases: list[Wake]) -> None:
        for lease in superfluous(leases, self._clock()):
            where = Reference(wake.API_VERSION, wake.KIND, self._namespace, lease.object_name)
            try:
                await self._kube.delete(where, lease.uid, lease.resource_version)
            except KubeError as error:
                logger.info("The wake Lease %s was not deleted: %s", lease.object_name, error)


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else now - moment
