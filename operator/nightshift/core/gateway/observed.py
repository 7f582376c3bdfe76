"""What the gateway sees of the cluster, as small facts, and how API objects become them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from nightshift.api import names
from nightshift.api.route import Route
from nightshift.core.facts import Fact

LABEL_SERVICE = "kubernetes.io/service-name"
LABEL_GATEWAY = f"{names.GROUP}/gateway"
"""On the gateway's own Service, and so on its EndpointSlices: how many gateways there are."""


@dataclass(frozen=True)
class Endpoint:
    """An address in an EndpointSlice."""

    namespace: str
    service: str
    address: str
    pod: str
    pod_uid: str
    ready: bool
    """Not yet said to be ready counts as not ready."""
    terminating: bool


@dataclass(frozen=True)
class PodFact:
    """What matters of a pod."""

    namespace: str
    name: str
    uid: str
    deployment: str
    revision: str
    addresses: frozenset[str]
    deleting: bool


@dataclass(frozen=True)
class Observed:
    """The cluster as last seen. A list that could not be read yet is Unknown, and nothing follows from it."""

    routes: Fact[tuple[Route, ...]]
    endpoints: Fact[tuple[Endpoint, ...]]
    pods: Fact[tuple[PodFact, ...]]
    gateways: int = 1
    """Gateway pods that share the caps, this one included."""


def endpoints_of(raw: Mapping[str, Any]) -> list[Endpoint]:
    """The addresses of an EndpointSlice that belong to pods."""
    metadata = raw["metadata"]
    service = (metadata.get("labels") or {}).get(LABEL_SERVICE, "")
    found = []
    for item in raw.get("endpoints") or ():
        target, conditions = item.get("targetRef") or {}, item.get("conditions") or {}
        if target.get("kind") != "Pod":
            continue
        found += [
            Endpoint(
                metadata["namespace"],
                service,
                address,
                str(target.get("name", "")),
                str(target.get("uid", "")),
                conditions.get("ready") is True,
                conditions.get("terminating") is True,
            )
            for address in item.get("addresses") or ()
        ]
    return found


def pod_fact(raw: Mapping[str, Any]) -> PodFact:
    """What matters of a pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    addresses = {str(item.get("ip", "")) for item in status.get("podIPs") or ()} | {str(status.get("podIP") or "")}
    return PodFact(
        metadata["namespace"],
        metadata["name"],
        metadata.get("uid", ""),
        labels.get(names.LABEL_DEPLOYMENT, ""),
        labels.get(names.LABEL_REVISION, ""),
        frozenset(addresses - {""}),
        "deletionTimestamp" in metadata,
    )


def gateways_of(slices: Iterable[Mapping[str, Any]]) -> int:
    """Ready gateway pods by the slices of the gateway's own Service; at least one, for this one serves.

    A Service of two address families has slices of both: pods are counted, not addresses.
    """
    ready = {
        (item.get("targetRef") or {}).get("uid", "")
        for raw in slices
        for item in raw.get("endpoints") or ()
        if (item.get("conditions") or {}).get("ready") is True
    }
    return max(1, len(ready))


@lru_cache(maxsize=4096)
def is_address(text: str) -> bool:
    """Whether HAProxy may be told this address: an IPv4 or IPv6 address that is no name and no special one."""
    try:
        found = ip_address(text)
    except ValueError:
        return False
    return not (found.is_unspecified or found.is_multicast or found.is_link_local)
