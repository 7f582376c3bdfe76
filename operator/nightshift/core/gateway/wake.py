"""When a wake Lease is renewed, what stands in it, and which ones nobody needs any more."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nightshift.api import names, wake
from nightshift.api.wake import Wake
from nightshift.core.gateway.starts import Starts

RENEW_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""After a renewal that failed, and between two while the queue grows."""

GROWTH = 1.25
"""So much more than was told is told at once: how many replicas the first wake starts depends on it."""

LINGER_SECONDS = 15.0
"""A wake goes on for so long after the last request left: a client that tries again must not begin anew."""

KEPT_SECONDS = 3600.0
"""A Lease that ran out so long ago is of a pod that is gone, if a later one keeps what it knew."""

FORGOTTEN_SECONDS = 90 * 86400.0
"""What a Lease knew is of no use any more, even if it is the last one of its deployment."""


@dataclass(frozen=True)
class Demand:
    """What waits for one deployment in this process."""

    namespace: str
    name: str
    held: int
    oldest_seconds: float
    starts: Starts


def wanted(held: int, since_last: float | None) -> bool:
    """Whether a deployment is to be woken, or kept awake.

    Args:
        held: Requests that wait.
        since_last: Seconds since one left, was released or was refused for a failed start; None: there was none.
    """
    return held > 0 or (since_last is not None and since_last < LINGER_SECONDS)


def renewal_due(since_success: float | None, since_attempt: float | None, held: int = 0, told: int = 0) -> bool:
    """Whether a Lease that is wanted is to be renewed now.

    Worked example: the first request of a burst made the Lease say 1. A second later 32 wait: it says so then, and not
    four seconds later. From 32 to 35 can wait until it is renewed anyway.

    Args:
        since_success: Seconds since the begin of the last renewal that succeeded; None: none yet.
        since_attempt: Seconds since the begin of the last one at all.
        held: Requests that wait.
        told: How many the last renewal that succeeded said.
    """
    if since_attempt is not None and since_attempt < RETRY_SECONDS:
        return False
    return since_success is None or since_success >= RENEW_SECONDS or held >= GROWTH * max(told, 1)


def lease_name(namespace: str, name: str, pod: str) -> str:
    """Name of a gateway pod's Lease for a deployment: with the last part of the pod's name.

    Worked example: ``nightshift-gateway-6c9f-x7k2p`` and ``ml/bot`` make ``wake.ml.bot.x7k2p``.
    """
    return f"wake.{namespace}.{name}.{pod.rsplit('-', 1)[-1]}"


def lease_manifest(demand: Demand, *, gateway_namespace: str, pod: str, now: datetime) -> dict[str, Any]:
    """A renewed wake Lease as it is applied.

    Args:
        demand: What waits.
        gateway_namespace: Where the Lease lies.
        pod: Name of this gateway pod.
        now: UTC.
    """
    annotations = {
        wake.ANNOTATION_HELD: str(demand.held),
        wake.ANNOTATION_OLDEST: f"{max(0.0, demand.oldest_seconds):.0f}",
    }
    if demand.starts.typical is not None:
        annotations[wake.ANNOTATION_TYPICAL] = f"{demand.starts.typical:.1f}"
        annotations[wake.ANNOTATION_STARTS] = demand.starts.to_text()
    return {
        "apiVersion": wake.API_VERSION,
        "kind": wake.KIND,
        "metadata": {
            "name": lease_name(demand.namespace, demand.name, pod),
            "namespace": gateway_namespace,
            "labels": {
                wake.LABEL_WAKE: "true",
                wake.LABEL_NAMESPACE: demand.namespace,
                names.LABEL_DEPLOYMENT: demand.name,
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
            },
            "annotations": annotations,
        },
        "spec": {
            "holderIdentity": pod,
            "leaseDurationSeconds": wake.LEASE_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def superfluous(leases: Iterable[Wake], now: datetime) -> tuple[Wake, ...]:
    """The wake Leases of pods that are gone, which nobody needs: a later one of the deployment knows as much.

    The last Lease of a deployment that knows how long a start takes stays for 90 days.

    Args:
        leases: All of them in the gateway's namespace.
        now: UTC.
    """
    by_deployment: dict[tuple[str, str], list[Wake]] = defaultdict(list)
    for lease in leases:
        by_deployment[(lease.namespace, lease.name)].append(lease)
    found = []
    for group in by_deployment.values():
        keepers = [lease for lease in group if lease.starts] or group
        newest = max(keepers, key=lambda lease: lease.renewed)
        for lease in group:
            bound = FORGOTTEN_SECONDS if lease is newest else KEPT_SECONDS
            if now - lease.expires > timedelta(seconds=bound):
                found.append(lease)
    return tuple(found)
