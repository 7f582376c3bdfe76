"""The maps by which HAProxy finds routes and slots; their lines are read by the rules in `rules`."""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto

from nightshift.api.route import Route, RouteAdapter
from nightshift.core.gateway.paths import allowed_paths
from nightshift.core.gateway.settings import (
    ADAPTERS_MAP,
    BARE_MAP,
    HOSTS_MAP,
    MODELS_MAP,
    PATHS_MAP,
    REVISIONS_MAP,
    ROUTES_MAP,
)
from nightshift.core.gateway.slots import Assignment, SlotKey


class Coverage(Enum):
    """Which of the replicas that take requests have an adapter."""

    ALL = auto()
    SOME = auto()
    NONE = auto()
    NO_REPLICA = auto()
    """There is no such replica: it is the activator's turn, for this adapter as for all."""


_BARE_SHOWN = 3


def render_maps(
    routes: Iterable[Route],
    assignment: Assignment,
    coverage: Mapping[SlotKey, Coverage],
    taking: Collection[SlotKey],
    gateways: int,
    cluster_domain: str,
) -> dict[str, dict[str, str]]:
    """All maps, by file.

    Args:
        routes: All routes; of two with the same key the last one counts.
        assignment: Which slot is whose.
        coverage: Which of a revision's replicas have an adapter, by route, revision and adapter.
        taking: Revisions that have a replica which takes requests.
        gateways: How many share the queue.
        cluster_domain: Of the cluster's DNS.
    """
    found = {route.key: route for route in routes}
    suffixes = ("", ".svc", f".svc.{cluster_domain}")
    bare: dict[str, list[str]] = {}
    hosts: dict[str, str] = {}
    adapters: dict[str, str] = {}
    lines: dict[str, str] = {}
    revisions: dict[str, str] = {}
    for key, route in sorted(found.items()):
        ready = [one.hash for one in route.revisions if SlotKey(key, one.hash) in taking]
        lines |= {key: _route_line(route, assignment, gateways), **_pinned_lines(route, ready, assignment, gateways)}
        revisions[key] = ",".join(ready) or "none"
        full = f"{route.name}.{route.namespace}"
        hosts |= {full + suffix: key for suffix in suffixes}
        bare.setdefault(route.name, []).append(full)
        for adapter in route.adapters:
            choice = _adapter_choice(route, adapter, assignment, coverage)
            if choice is not None:
                adapters |= {f"{key}:{name}": choice for name in adapter_names(route, adapter.name)}
    return {
        ROUTES_MAP: lines,
        HOSTS_MAP: hosts,
        BARE_MAP: {name: _shown(full) for name, full in bare.items()},
        MODELS_MAP: model_names(found),
        ADAPTERS_MAP: adapters,
        PATHS_MAP: allowed_paths(),
        REVISIONS_MAP: revisions,
    }


def model_names(routes: Mapping[str, Route]) -> dict[str, str]:
    """What clients of the shared address may call a model, and the route that it means.

    NAMESPACE/NAME always means that deployment. A short name, which an administrator lists, comes before adapters of
    the same name, which anybody may have. A short name that two claim means none of them, and so do adapters' names.
    """
    short: dict[str, set[str]] = {}
    adapters: dict[str, set[str]] = {}
    for key, route in routes.items():
        for name in route.short_names:
            short.setdefault(name, set()).add(key)
        for adapter in route.adapters:
            for name in adapter_names(route, adapter.name):
                adapters.setdefault(name, set()).add(key)
    unique = {name: min(keys) for name, keys in sorted((adapters | short).items()) if len(keys) == 1}
    return unique | {key: key for key in sorted(routes)}


def adapter_names(route: Route, adapter: str) -> list[str]:
    """What an adapter of a route may be called: its own name, and the route's names with it behind a colon."""
    return [adapter, *(f"{name}:{adapter}" for name in (route.key, *route.short_names))]


def _shown(names: list[str]) -> str:
    more = ",..." if len(names) > _BARE_SHOWN else ""
    return ",".join(sorted(names)[:_BARE_SHOWN]) + more


def _route_line(route: Route, assignment: Assignment, gateways: int) -> str:
    weighted = [(assignment.slots[SlotKey(route.key, one.hash)], one.weight) for one in route.revisions if one.weight]
    return _line(route, gateways, weighted, adapters=bool(route.adapters))


def _pinned_lines(route: Route, ready: Iterable[str], assignment: Assignment, gateways: int) -> dict[str, str]:
    """For who names a revision: it has all requests, also for adapters, and says itself which of these it knows."""
    slots = {revision: assignment.slots[SlotKey(route.key, revision)] for revision in ready}
    return {
        f"{route.key}/{revision}": _line(route, gateways, [(slot, 100)], adapters=False)
        for revision, slot in slots.items()
    }


def _line(route: Route, gateways: int, weighted: list[tuple[str, int]], *, adapters: bool) -> str:
    fields = (
        route.task,
        route.state,
        route.limits.body_bytes,
        max(1, -(-route.queue.max_requests // max(1, gateways))),
        route.affinity,
        int(adapters),
        choice_line(weighted),
    )
    return "|".join(str(value) for value in fields)


def choice_line(weighted: list[tuple[str, int]]) -> str:
    """Slots with cumulative percent, in the order of the route, so that a growing canary takes from one side only.

    Worked example: be_l600_0 with weight 95 and be_l600_1 with 5 are 2|be_l600_0|95|be_l600_1|100. Weights that do
    not add up to 100, as where only some revisions have an adapter, keep their proportion.
    """
    total = sum(weight for _, weight in weighted)
    parts, sofar = [], 0
    for slot, weight in weighted:
        sofar += weight
        parts += [slot, str(round(100 * sofar / total))]
    return "|".join([str(len(weighted)), *parts])


def _adapter_choice(
    route: Route, adapter: RouteAdapter, assignment: Assignment, coverage: Mapping[SlotKey, Coverage]
) -> str | None:
    """Where requests for an adapter go; None: wherever those for the model do; a count of 0: nowhere."""
    weighted, partial = [], False
    for revision in route.revisions:
        key = SlotKey(route.key, revision.hash, adapter.name)
        covered = coverage.get(key, Coverage.NO_REPLICA)
        partial = partial or covered in (Coverage.SOME, Coverage.NONE)
        if revision.weight and covered in (Coverage.ALL, Coverage.SOME):
            slot = key if covered is Coverage.SOME else SlotKey(route.key, revision.hash)
            weighted.append((assignment.slots[slot], revision.weight))
    if not partial:
        return None
    return choice_line(weighted) if weighted else "0"
