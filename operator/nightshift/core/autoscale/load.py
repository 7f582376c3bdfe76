"""From what gateway pods, wake Leases and engines say to the load of one deployment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift.api.demand import GatewayDemand, RouteDemand
from nightshift.core.autoscale.demand import Demand, GatewaySight, History, Load
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.hang import LOOK_SECONDS, is_suspect
from nightshift.core.planning import LookAtEngine

FRESH_SECONDS = 10.0
"""A gateway pod's answer says nothing any more after so long; it is asked every 2 s."""

ENGINE_FRESH_SECONDS = 3 * LOOK_SECONDS
"""So does an engine's reading; it is read every 30 s."""

BLIND_SECONDS = 120.0
"""People hear of a demand that is not known after so long: a new process knows it within seconds."""


@dataclass(frozen=True)
class _Counted:
    """What a part of the world said."""

    requests: int = 0
    queued: int = 0
    unknown: str = ""


def demand_of(
    route: str,
    gateway: GatewaySight | None,
    engines: Iterable[LookAtEngine],
    sights: Mapping[str, EngineSight],
    history: History,
    now: datetime,
    *,
    blind: bool = False,
) -> Demand:
    """What is asked of a deployment.

    Args:
        route: NAMESPACE/NAME.
        gateway: What the gateway says; None where the deployment's requests do not come through it.
        engines: The engines that serve.
        sights: What was seen of engines, by pod.
        history: The loads until now.
        now: The present moment (UTC).
        blind: Whether the load has not been known for `BLIND_SECONDS`.
    """
    worked = _engines(engines, sights, now)
    if gateway is None:
        most = None if worked.unknown else worked.requests
        says = f"Requests: {worked.requests} in the engines"
        return Demand(Load(worked.requests, most, says, worked.unknown), history=history, blind=blind)
    asked = _gateway(route, gateway, now)
    alive = [item for item in gateway.wakes if item.expires > now]
    held = sum(item.lease.held for item in alive)
    last = _last_request(route, gateway, now)
    typical = (item.lease.typical_start_seconds for item in gateway.wakes)
    return Demand(
        _together(asked, worked, held, gateway.wakes_unknown),
        woken=bool(alive),
        last_request=last,
        typical_start_seconds=max((seconds for seconds in typical if seconds is not None), default=None),
        history=history,
        blind=blind,
    )


def _together(asked: _Counted, worked: _Counted, held: int, wakes_unknown: str) -> Load:
    """The load, from its parts.

    What was held a moment ago may be in flight by now, since the two are told at different times: at least the larger
    of the two is asked, at most both. What engines say is up to half a minute old, so it adds to what is seen only
    where the gateway is not seen in full; but no replica is given up for what may still be in an engine.

    Worked example: 12 in flight, 6 queued, 30 held, and 14 in the engines: at least 30, at most 48.
    """
    through = asked.requests + asked.queued
    seen = max(through, worked.requests) if asked.unknown else through
    unknown = asked.unknown or wakes_unknown or worked.unknown
    most = None if unknown else max(through, worked.requests) + held
    parts = [
        f"{asked.requests} in flight" if asked.requests else "",
        f"{asked.queued} queued" if asked.queued else "",
        f"{held} held" if held else "",
        f"{worked.requests} in the engines" if seen > through else "",
    ]
    says = ", ".join(filter(None, parts)) or "no request"
    return Load(max(seen, held), most, f"Requests: {says}", unknown)


def _gateway(route: str, gateway: GatewaySight, now: datetime) -> _Counted:
    """What the gateway pods say together; a pod that says nothing leaves a part unknown."""
    requests = queued = 0
    unknown = gateway.pods_unknown
    there = len(gateway.answers)
    if not unknown and there < gateway.expected:
        unknown = f"{there} of {gateway.expected} gateway pods are there; see kubectl get pods in its namespace."
    for pod in sorted(gateway.answers):
        told = told_of(route, pod, gateway.answers[pod], now)
        if isinstance(told, Unknown):
            unknown = unknown or told.reason
            continue
        requests += told.value.in_flight or 0
        queued += told.value.queued or 0
        if told.value.in_flight is None or told.value.queued is None:
            unknown = unknown or f"Gateway pod {pod} cannot count the requests; see its agent's log."
    return _Counted(requests, queued, unknown)


def told_of(route: str, pod: str, answer: Fact[GatewayDemand], now: datetime) -> Fact[RouteDemand]:
    """What a gateway pod says of a deployment, if that is still true."""
    if isinstance(answer, Unknown):
        return Unknown(f"Gateway pod {pod} does not say: {answer.reason}")
    read = min(answer.at, answer.value.written)
    if now - read > timedelta(seconds=FRESH_SECONDS):
        return Unknown(f"Gateway pod {pod} has told nothing new since {read:%H:%M:%S} UTC; see its agent's log.")
    found = answer.value.routes.get(route)
    if found is None:
        return Unknown(f"Gateway pod {pod} does not know {route} yet; see its agent's log.")
    return Known(found, answer.value.written)


def _last_request(route: str, gateway: GatewaySight, now: datetime) -> Fact[datetime]:
    """When a client last asked, as all gateway pods together say; Leases too, since they outlive their pods."""
    latest = [item.at for item in gateway.wakes]
    if gateway.pods_unknown or gateway.wakes_unknown or len(gateway.answers) < gateway.expected:
        return Unknown("Not all of the gateway is seen.")
    for pod, answer in gateway.answers.items():
        told = told_of(route, pod, answer, now)
        if isinstance(told, Unknown):
            return told
        if told.value.idle_seconds is None:
            return Unknown(f"Gateway pod {pod} does not know when the last request came.")
        latest.append(told.at - timedelta(seconds=told.value.idle_seconds))
    return Known(max(latest), now) if latest else Unknown("No gateway pod was asked yet.")


def _engines(engines: Iterable[LookAtEngine], sights: Mapping[str, EngineSight], now: datetime) -> _Counted:
    """What the engines say together; one that may hang, or was not read lately, leaves a part unknown."""
    requests, unknown = 0, ""
    for engine in engines:
        sight = sights.get(engine.pod)
        if sight is None or sight.start != engine.start:
            unknown = unknown or f"The engine of pod {engine.pod} was not read yet."
        elif isinstance(sight.metrics, Unknown):
            unknown = unknown or f"The engine of pod {engine.pod} does not say: {sight.metrics.reason}"
        elif now - sight.metrics.at > timedelta(seconds=ENGINE_FRESH_SECONDS):
            unknown = unknown or f"The engine of pod {engine.pod} was not read since {sight.metrics.at:%H:%M:%S} UTC."
        else:
            requests += sight.metrics.value.running + sight.metrics.value.waiting
            if is_suspect(sight):
                unknown = unknown or f"The engine of pod {engine.pod} makes no step, so it may hang."
    return _Counted(requests, unknown=unknown)
