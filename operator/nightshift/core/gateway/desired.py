"""From the cluster to the state that HAProxy should have: which replica stands where, with what cap and weight."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from nightshift.api.route import Route, RouteRevision
from nightshift.core.facts import Unknown
from nightshift.core.gateway.maps import Coverage, render_maps
from nightshift.core.gateway.observed import Endpoint, Observed, PodFact, is_address
from nightshift.core.gateway.render import fingerprint
from nightshift.core.gateway.settings import Settings
from nightshift.core.gateway.slots import Assignment, Kind, SlotKey, assign, kind_of
from nightshift.core.gateway.state import DRAIN_WEIGHT, FULL_WEIGHT, Desired, LiveSlot, Server

_UID_CHARACTERS = 18
"""Of a pod's uid in a server's name: 64 bits of it."""


@dataclass(frozen=True)
class Decision:
    """What follows from an observation."""

    desired: Desired
    assignment: Assignment
    routes: tuple[Route, ...] = ()
    """All of them, with queues that leave others room."""
    rejected: tuple[str, ...] = ()
    """Addresses that are no replica's, each with the reason, as sentences."""


@dataclass(frozen=True)
class _Replica:
    """A server, and the pod behind it."""

    server: Server
    pod: str


def decide(
    settings: Settings, observed: Observed, before: Assignment, processes: Collection[Mapping[str, LiveSlot] | None]
) -> Decision | Unknown:
    """The state that HAProxy should have; Unknown, and so no change at all, while a list has not been read.

    Args:
        settings: Of this gateway.
        observed: The cluster.
        before: Which slot is whose at present.
        processes: What is in the slots of each process at present; None: it does not say. This decides which of them
            may be handed out, and which have requests waiting that no replica of their own can take.
    """
    for fact in (observed.routes, observed.endpoints, observed.pods):
        if isinstance(fact, Unknown):
            return fact
    assert not isinstance(observed.routes, Unknown)  # noqa: S101 - for the type checker
    routes = tuple(_limited(route, settings, observed.gateways) for route in observed.routes.value)
    replicas, rejected = _replicas(observed)
    wanted: dict[SlotKey, Kind] = {}
    servers: dict[SlotKey, list[Server]] = {}
    coverage: dict[SlotKey, Coverage] = {}
    for route in routes:
        for key, members in _slots_of(route, replicas, coverage).items():
            wanted[key] = kind_of(route)
            servers[key] = members
    slots = [(name, slot) for process in processes if process is not None for name, slot in process.items()]
    busy = {name for name, slot in slots if slot.busy}
    assignment = assign(settings, before, wanted, busy, sure=None not in processes)
    taking = {key for key, members in servers.items() if not key.adapter and any(one.weight for one in members)}
    by_slot = {assignment.slots[key]: {server.name: server for server in found} for key, found in servers.items()}
    _help_stranded(
        by_slot, assignment, {name for name, slot in slots if slot.connections or slot.waiting}, routes, replicas
    )
    return Decision(
        Desired(
            {name: found for name, found in sorted(by_slot.items()) if found},
            render_maps(routes, assignment, coverage, taking, observed.gateways, settings.cluster_domain),
            fingerprint(settings, assignment.pools),
        ),
        assignment,
        routes,
        tuple(rejected),
    )


def share(cap: int, gateways: int) -> int:
    """This gateway's part of a cap: rounded down, so that all together keep it, but at least one.

    Worked example: 16 among 3 gateways are 5 each; 2 among 3 are 1 each, and so 3 together.
    """
    return max(1, cap // max(1, gateways))


def _limited(route: Route, settings: Settings, gateways: int) -> Route:
    """The route with a queue that leaves others connections: each request that waits keeps one.

    Worked example: of 4000 connections the queue of a route may take 1000 in each gateway pod.
    """
    most = max(1, int(settings.max_connections * settings.most_queued)) * max(1, gateways)
    if route.queue.max_requests <= most:
        return route
    return route.model_copy(update={"queue": route.queue.model_copy(update={"max_requests": most})})


def _replicas(observed: Observed) -> tuple[dict[tuple[str, str], list[_Replica]], list[str]]:
    """Replicas by route and revision, and why other addresses are none."""
    assert not isinstance(observed.routes, Unknown)  # noqa: S101
    assert not isinstance(observed.endpoints, Unknown)  # noqa: S101
    assert not isinstance(observed.pods, Unknown)  # noqa: S101
    pods = {(pod.namespace, pod.name): pod for pod in observed.pods.value}
    by_service: dict[tuple[str, str], list[Endpoint]] = {}
    for endpoint in observed.endpoints.value:
        by_service.setdefault((endpoint.namespace, endpoint.service), []).append(endpoint)
    found: dict[tuple[str, str], list[_Replica]] = {}
    rejected = []
    for route in observed.routes.value:
        for revision in route.revisions:
            members: dict[str, _Replica] = {}
            for endpoint in by_service.get((route.namespace, revision.service), ()):
                pod = pods.get((endpoint.namespace, endpoint.pod))
                if reason := _foreign(route, revision, endpoint, pod):
                    rejected.append(reason)
                elif pod is not None and (replica := _replica(revision, endpoint, pod, observed.gateways)):
                    _keep(members, replica)
            found[route.key, revision.hash] = sorted(members.values(), key=lambda one: one.server.name)
    return found, rejected


def _foreign(route: Route, revision: RouteRevision, endpoint: Endpoint, pod: PodFact | None) -> str | None:
    """Why an address is not a replica's of a revision, or None. A pod that has not been told of yet is no offence."""
    where = f"{endpoint.address} in Service {endpoint.namespace}/{endpoint.service}"
    if pod is None:
        return None
    if pod.uid != endpoint.pod_uid:
        return f"{where} is not used: pod {pod.name} is another one by now"
    if (pod.deployment, pod.revision) != (route.name, revision.hash):
        return f"{where} is not used: pod {pod.name} is not of revision {revision.hash} of {route.key}"
    if endpoint.address not in pod.addresses:
        return f"{where} is not used: it is not an address of pod {pod.name}"
    if not is_address(endpoint.address):
        return f"{where} is not used: it is no address of a pod"
    return None


def _replica(revision: RouteRevision, endpoint: Endpoint, pod: PodFact, gateways: int) -> _Replica | None:
    """A server for a replica that is ready, or ends; one that is not ready has none, and a former one is let go."""
    leaving = pod.deleting or endpoint.terminating
    if not (endpoint.ready or leaving):
        return None
    server = Server(
        f"s-{pod.uid[:_UID_CHARACTERS]}",
        endpoint.address,
        revision.port,
        DRAIN_WEIGHT if leaving else FULL_WEIGHT,
        share(revision.max_concurrent_requests, gateways),
    )
    return _Replica(server, pod.name)


def _keep(members: dict[str, _Replica], replica: _Replica) -> None:
    """Of a pod with addresses of two families keep one, always the same: that which sorts first."""
    other = members.get(replica.server.name)
    if other is None or replica.server.address < other.server.address:
        members[replica.server.name] = replica


def _slots_of(
    route: Route, replicas: Mapping[tuple[str, str], list[_Replica]], coverage: dict[SlotKey, Coverage]
) -> dict[SlotKey, list[Server]]:
    """The slots that a route needs: one per revision, and one more where an adapter is on some of its replicas only."""
    found: dict[SlotKey, list[Server]] = {}
    for revision in route.revisions:
        members = replicas[route.key, revision.hash]
        found[SlotKey(route.key, revision.hash)] = [replica.server for replica in members]
        taking = {replica.pod for replica in members if replica.server.weight}
        for adapter in route.adapters if revision.weight else ():
            key = SlotKey(route.key, revision.hash, adapter.name)
            coverage[key] = _coverage(taking, taking & set(adapter.pods))
            if coverage[key] is Coverage.SOME:
                found[key] = [replica.server for replica in members if replica.pod in adapter.pods]
    return found


def _coverage(taking: set[str], having: set[str]) -> Coverage:
    if not taking:
        return Coverage.NO_REPLICA
    if not having:
        return Coverage.NONE
    return Coverage.ALL if having == taking else Coverage.SOME


def _help_stranded(
    by_slot: dict[str, dict[str, Server]],
    assignment: Assignment,
    holding: Collection[str],
    routes: Iterable[Route],
    replicas: Mapping[tuple[str, str], list[_Replica]],
) -> None:
    """Lend replicas to the slots that hold requests and have no replica for them, until none is left there.

    Requests cannot move from a slot to another one, neither those that wait nor those that are asked again since their
    replica went before it said a word, as one that hangs and is given up. They are stranded when a revision's last
    replica leaves, and when the slot itself is needed no more: the revision is gone, the route waits or balances
    otherwise by now, or all replicas have an adapter that some had.
    """
    found = {route.key: route for route in routes}
    for name, key in assignment.owners.items():
        own = by_slot.get(name, {})
        if name in holding and key.route in found and not any(server.weight for server in own.values()):
            by_slot[name] = own | {one.name: one for one in _stand_ins(found[key.route], key, replicas)}


def _stand_ins(route: Route, key: SlotKey, replicas: Mapping[tuple[str, str], list[_Replica]]) -> list[Server]:
    """The replicas that may answer what is left in a slot: of its revision, else of those that take requests.

    What waits for an adapter that the route no longer has goes to any: the engine says that it does not know it.
    """
    having = next((set(adapter.pods) for adapter in route.adapters if adapter.name == key.adapter), None)
    able = [
        (revision, replica.server)
        for revision in route.revisions
        for replica in replicas[route.key, revision.hash]
        if replica.server.weight and (having is None or replica.pod in having)
    ]
    own = [server for revision, server in able if revision.hash == key.revision]
    return own or [server for revision, server in able if revision.weight]
