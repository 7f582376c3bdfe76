"""One leader by Lease: reading and writing it. The decision is in core.lease."""

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from nightshift.adapters.kube import Kube, KubeError, Reference
from nightshift.core.lease import (
    LEASE_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_SECONDS,
    LeaseStep,
    LeaseView,
    lease_step,
    must_stop,
    observe_lease,
    write_seconds,
)
from nightshift.runtime.telemetry import LEADER

logger = logging.getLogger(__name__)


def holder_identity(pod: str) -> str:
    """What a process calls itself in a Lease; no other one is called so.

    The name of its pod does not tell it from the one before it: a kubelet starts a container again in the same pod,
    with the same process number 1. The former leader's Lease must look like another's, so that it runs out.
    """
    return f"{pod}_{secrets.token_hex(4)}"


class Leadership:
    """Holds a Lease for this process."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str) -> None:
        self._kube = kube
        self._where = Reference("coordination.k8s.io/v1", "Lease", namespace, name)
        self._identity = identity
        self._view: LeaseView | None = None
        self._lease: dict[str, Any] | None = None
        self._renewed = 0.0
        """Local monotonic seconds at which the last attempt began that succeeded: the Lease is at least as young."""
        self.leading = False
        """Whether this process acquired the Lease and has not stopped since."""
        self.answered = False
        """Whether the API server has answered about the Lease, be it that there is none."""

    async def acquire(self) -> None:
        """Return once this process leads; `hold` must run from then on."""
        seconds = RENEW_DEADLINE_SECONDS - RETRY_SECONDS
        while not await self._attempt(seconds):  # noqa: ASYNC110 - no event tells of another's Lease
            await asyncio.sleep(RETRY_SECONDS)
        self._lead(True)
        logger.info("%s leads", self._identity)

    async def hold(self) -> None:
        """Renew until that fails for too long or another leads; returning means: stop at once."""
        while not must_stop(self._renewed, self._now()):
            left = RENEW_DEADLINE_SECONDS - (self._now() - self._renewed)
            await asyncio.sleep(min(RETRY_SECONDS, left))
            held = await self._attempt(max(0.1, left - RETRY_SECONDS))
            if not held and self._view is not None and self._view.holder not in (None, self._identity):
                logger.error("%s holds the lease now", self._view.holder)
                break
        self._lead(False)
        logger.error("%s stops leading", self._identity)

    def may_write(self) -> bool:
        """Whether a write may begin now."""
        return self.leading and not must_stop(self._renewed, self._now())

    def write_seconds(self) -> float:
        """For how long a write that is under way may go on."""
        return write_seconds(self._renewed, self._now()) if self.leading else 0.0

    async def release(self) -> None:
        """Give the Lease up, so that another need not wait for it to expire."""
        self._lead(False)
        if self._lease is None or self._lease["spec"].get("holderIdentity") != self._identity:
            return
        try:
            await self._kube.replace({**self._lease, "spec": {**self._lease["spec"], "holderIdentity": ""}})
        except KubeError as error:
            logger.warning("The lease was not released: %s", error)

    def _lead(self, leading: bool) -> None:
        self.leading = leading
        LEADER.set(leading)

    async def _attempt(self, seconds: float) -> bool:
        """Try once, for a bounded time: an answer that comes later than the deadline must not count."""
        started = self._now()
        try:
            async with asyncio.timeout(seconds):
                held = await self._try()
        except (KubeError, TimeoutError) as error:
            logger.warning("The lease could not be read or written: %r", error)
            return False
        if held:
            self._renewed = started
        return held

    async def _try(self) -> bool:
        self._lease = await self._kube.get(self._where)
        self.answered = True
        if self._lease is None:
            self._view = None
        else:
            spec = self._lease.get("spec") or {}
            self._view = observe_lease(self._view, spec.get("holderIdentity"), spec.get("renewTime"), self._now())
        step = lease_step(self._view, self._identity, self._now())
        if step is LeaseStep.WAIT:
            return False
        record = self._record(taken=step is not LeaseStep.RENEW)
        writing = self._kube.create if step is LeaseStep.CREATE else self._kube.replace
        self._lease = await writing(record)
        return True

    def _record(self, *, taken: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = self._lease or {
            "apiVersion": self._where.api_version,
            "kind": self._where.kind,
            "metadata": {"name": self._where.name, "namespace": self._where.namespace},
        }
        spec = dict(lease.get("spec") or {})
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        if taken:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return {**lease, "spec": spec}

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
