"""Leading requests to the engines: which objects do it in which mode, and when the way is open."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nightshift.api import names
from nightshift.api.config import GatewayConfig, OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.route import Route
from nightshift.core import access, children
from nightshift.core.access import traffic_mode
from nightshift.core.adapters import takes_adapters
from nightshift.core.canonical import difference
from nightshift.core.cause import Cause
from nightshift.core.objects import changes, deletion
from nightshift.core.observed import Observed
from nightshift.core.planning import Apply, Delete, Plan
from nightshift.core.routes import live_route, route

GATEWAY_MISSING = Cause(
    "GatewayMissing",
    "spec.traffic.mode is Gateway, and no gateway is installed here; how requests reach the engines is left as it is. "
    "Set the chart's value gateway.enabled, or spec.traffic.mode to Service.",
    definite=True,
)


def access_objects(deployment: LLMDeployment, observed: Observed, config: OperatorConfig) -> list[children.Manifest]:
    """What has to be there before any engine: who may reach them, and in mode Service the way itself.

    While the mode changes, those who come the old way are let in until the new one is open.
    """
    mode = traffic_mode(deployment, config)
    old = access.network_policy(deployment, config, clients=False)
    if mode is None and ("NetworkPolicy", deployment.name) in observed.live:
        return []
    if mode is None:
        return [old]
    clients = mode == "Service" or _leads_straight(observed.live.get(("Service", deployment.name)))
    routed = mode == "Gateway" or live_route(deployment, observed) is not None
    policy = access.network_policy(
        deployment,
        config,
        takes_adapters=takes_adapters(observed),
        clients=clients,
        gateway=config.gateway if routed else None,
    )
    return [policy, access.service(deployment)] if mode == "Service" else [policy]


def with_traffic(plan: Plan, deployment: LLMDeployment, observed: Observed, config: OperatorConfig) -> Plan:
    """The plan, and what leads requests to the replicas that it brings."""
    mode = traffic_mode(deployment, config)
    if mode is None:
        return replace(plan, blocker=plan.blocker or GATEWAY_MISSING)
    if config.gateway is None or mode == "Service":
        if deployment.spec.paused:
            return plan
        unused = (*_routes(observed, config.gateway, None), *_retired(deployment, observed, frozenset()))
        return replace(plan, delete=(*plan.delete, *unused))
    return _through(config.gateway, plan, deployment, observed, config)


def _through(
    gateway: GatewayConfig, plan: Plan, deployment: LLMDeployment, observed: Observed, config: OperatorConfig
) -> Plan:
    """The objects of mode Gateway.

    A Service that leads straight to pods becomes the gateway's alias only once the gateway was told the way: until
    then its clients would be told that there is no such model.
    """
    before = live_route(deployment, observed)
    wanted = route(deployment, observed, plan, gateway, before)
    plan = replace(plan, unrouted=_unrouted(deployment, observed, wanted, before))
    if deployment.spec.paused:
        return replace(plan, apply=(*plan.apply, *_start_told(wanted, before, gateway, observed)))
    services = [access.revision_service(deployment, item.hash) for item in wanted.revisions]
    waits = before is None and _leads_straight(observed.live.get(("Service", deployment.name)))
    aliases = [] if waits else [access.alias(deployment, gateway, config)]
    objects = [*services, access.route_object(wanted, gateway), *aliases]
    listed = frozenset(item.hash for item in wanted.revisions)
    return replace(
        plan,
        apply=(*plan.apply, *changes(objects, observed)),
        delete=(
            *plan.delete,
            *_routes(observed, gateway, names.route_name(deployment.namespace, deployment.name)),
            *_retired(deployment, observed, listed),
        ),
    )


def _start_told(wanted: Route, before: Route | None, gateway: GatewayConfig, observed: Observed) -> tuple[Apply, ...]:
    """While nothing is changed: the route as it stands, and why no replica comes up, so that nobody waits in vain."""
    if before is None or before.start == wanted.start:
        return ()
    return changes([access.route_object(before.model_copy(update={"start": wanted.start}), gateway)], observed)


def rewired(deployment: LLMDeployment, observed: Observed, config: OperatorConfig) -> Cause | None:
    """A Service that leads elsewhere while nothing may be set back. It may be as of either mode: that may wait too."""
    live = observed.live.get(("Service", deployment.name))
    forms = [access.service(deployment)]
    if config.gateway is not None:
        forms.append(access.alias(deployment, config.gateway, config))
    if live is None or any(difference({"spec": form["spec"]}, live) is None for form in forms):
        return None
    form = next((form for form in forms if form["spec"]["type"] == live["spec"].get("type")), forms[0])
    where = difference({"spec": form["spec"]}, live)
    message = (
        f"Service {deployment.name} was changed at {where}, so it may not lead to the replicas, and spec.paused keeps "
        "Nightshift from setting it back. Undo the change, or set spec.paused to false."
    )
    return Cause("ServiceChanged", message, definite=True)


def _unrouted(deployment: LLMDeployment, observed: Observed, wanted: Route, before: Route | None) -> str | None:
    """What keeps requests from getting where they should, as a sentence; None where nothing does.

    Only what decides about the way is compared: another cap or another short name closes none.
    """
    if before is None or _way(before) != _way(wanted):
        return "The gateway is being told where the replicas are."
    missing = [one.service for one in wanted.revisions if one.weight and ("Service", one.service) not in observed.live]
    if missing:
        return f"Service {missing[0]}, by which the gateway finds the replicas, is being made."
    live = observed.live.get(("Service", deployment.name))
    if live is None or _leads_straight(live):
        return f"Service {deployment.name} is being led to the gateway."
    return None


def _way(found: Route) -> tuple[object, ...]:
    shares = {item.hash: (item.weight, item.service, item.port) for item in found.revisions if item.weight}
    return found.uid, found.state, found.served_name, shares


def _leads_straight(live: Mapping[str, Any] | None) -> bool:
    return live is not None and (live.get("spec") or {}).get("type") != "ExternalName"


def _routes(observed: Observed, gateway: GatewayConfig | None, wanted: str | None) -> tuple[Delete, ...]:
    """Route objects of the deployment that are not wanted."""
    if gateway is None:
        return ()
    reason = "Requests no longer go through the gateway." if wanted is None else "It is no route of this deployment."
    return tuple(
        replace(deletion(observed, kind, name, "v1", f"Route {name}: {reason}"), namespace=gateway.namespace)
        for kind, name in observed.live
        if kind == "ConfigMap" and name != wanted
    )


def _retired(deployment: LLMDeployment, observed: Observed, listed: frozenset[str]) -> tuple[Delete, ...]:
    """Services of revisions that are gone, or of all of them where no gateway asks for them."""
    return tuple(
        deletion(observed, "Service", name, "v1", f"Nobody asks for Service {name} any more.")
        for (kind, name), raw in observed.live.items()
        if kind == "Service" and _revision_of(deployment, name, raw) not in (None, *listed)
    )


def _revision_of(deployment: LLMDeployment, name: str, raw: Mapping[str, Any]) -> str | None:
    """The revision that a Service is of; None for others."""
    revision = (raw["metadata"].get("labels") or {}).get(names.LABEL_REVISION)
    return revision if revision and name == names.revision_name(deployment.name, revision) else None
