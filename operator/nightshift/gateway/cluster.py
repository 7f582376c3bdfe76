"""What the agent knows of the cluster: each watch's objects as small facts, kept while the API server is away."""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from nightshift.api import names
from nightshift.api.route import LABEL_ROUTE, Route, RouteError, parse_route
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.gateway.observed import (
    LABEL_GATEWAY,
    Endpoint,
    Observed,
    PodFact,
    endpoints_of,
    gateways_of,
    pod_fact,
)

logger = logging.getLogger(__name__)

ROUTES = ("v1", "ConfigMap", f"{LABEL_ROUTE}=true")
SLICES = ("discovery.k8s.io/v1", "EndpointSlice", names.LABEL_DEPLOYMENT)
PODS = ("v1", "Pod", f"{names.LABEL_COMPONENT}={names.COMPONENT_ENGINE}")
GATEWAYS = ("discovery.k8s.io/v1", "EndpointSlice", LABEL_GATEWAY)
"""API version, kind and label selector of what is watched."""

T = TypeVar("T")
Object = Mapping[str, Any]


class Kept:
    """The objects of one watch; a listener of it.

    Args:
        small: What is kept of an object; None where nothing is, as the one before stands.
        changed: Called when something is another than before.
        now: Monotonic seconds.
    """

    def __init__(self, small: Callable[[Object], Any], changed: Callable[[], None], now: Callable[[], float]) -> None:
        self._small = small
        self._changed = changed
        self._now = now
        self._objects: dict[tuple[str, str], Any] = {}
        self.listed = False
        """Whether all of them were read once."""
        self.last_heard: float | None = None
        self.problem = ""
        """Why the API server was last not heard; empty where it is."""

    @property
    def values(self) -> list[Any]:
        """What is kept, in the order of the objects' namespaces and names."""
        return [self._objects[key] for key in sorted(self._objects)]

    def replace(self, objects: list[Any]) -> None:
        """These objects there are, and no others."""
        before, self._objects = self._objects, {}
        for raw in objects:
            small = self._small(raw)
            found = before.get(_key(raw)) if small is None else small
            if found is not None:
                self._objects[_key(raw)] = found
        if not self.listed or before != self._objects:
            self.listed = True
            self._changed()

    def change(self, event: str, raw: Object) -> None:
        """One object was added, changed or deleted."""
        key = _key(raw)
        if event == "DELETED":
            if self._objects.pop(key, None) is not None:
                self._changed()
            return
        small = self._small(raw)
        if small is not None and self._objects.get(key) != small:
            self._objects[key] = small
            self._changed()

    def heard(self) -> None:
        """The API server is there."""
        self.last_heard, self.problem = self._now(), ""

    def failed(self, problem: str) -> None:
        """The API server is not there; what is known stands."""
        if not self.problem:
            logger.warning("What is known stands: %s", problem)
        self.problem = problem


def _key(raw: Object) -> tuple[str, str]:
    metadata = raw["metadata"]
    return metadata["namespace"], metadata["name"]


class Cluster:
    """Everything that the agent watches.

    Args:
        changed: Called when something is another than before.
        now: Monotonic seconds.
        rejected: Called when a route object cannot be read.
        gateways: Gateway pods, where their own Service does not tell.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        now: Callable[[], float],
        rejected: Callable[[], None] = lambda: None,
        gateways: int = 1,
    ) -> None:
        self._rejected = rejected
        self._gateways = gateways
        self._now = now
        self._changed = changed
        self.broken: dict[str, str] = {}
        """Route objects that cannot be read, by name, and why; their last good versions stand."""
        self.routes = Kept(self._route, changed, now)
        self.gateways = Kept(dict, changed, now)
        self.slices: list[Kept] = []
        self.pods: list[Kept] = []

    def watch_namespace(self) -> tuple[Kept, Kept]:
        """Listeners for one more namespace, or for all: of EndpointSlices, and of pods."""
        slices, pods = Kept(endpoints_of, self._changed, self._now), Kept(pod_fact, self._changed, self._now)
        self.slices.append(slices)
        self.pods.append(pods)
        return slices, pods

    def _route(self, raw: Object) -> Route | None:
        name = raw["metadata"]["name"]
        try:
            route = parse_route(raw)
        except RouteError as error:
            if self.broken.get(name) != str(error):
                logger.error("Its last good version stands: %s", error)
                self._rejected()
            self.broken[name] = str(error)
            return None
        self.broken.pop(name, None)
        return route

    def observed(self) -> Observed:
        """The cluster as last seen."""
        slices: Fact[tuple[Endpoint, ...]] = _all(self.slices, "EndpointSlices")
        pods: Fact[tuple[PodFact, ...]] = _all(self.pods, "pods")
        found: Fact[tuple[Route, ...]] = _all([self.routes], "routes")
        if isinstance(found, Known):
            found = Known(unique(found.value), found.at)
        if isinstance(slices, Known):
            slices = Known(tuple(one for several in slices.value for one in several), slices.at)  # type: ignore[attr-defined]
        gateways = gateways_of(self.gateways.values) if self.gateways.values else self._gateways
        return Observed(found, slices, pods, gateways)

    @property
    def age_seconds(self) -> float | None:
        """How old what is known may be: since the watch that was last heard longest ago was heard; None: never.

        The API server sends something at least once a minute.
        """
        heard = [kept.last_heard for kept in (self.routes, *self.slices, *self.pods)]
        known = [moment for moment in heard if moment is not None]
        return self._now() - min(known) if known and len(known) == len(heard) else None


def unique(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Of objects that claim the same deployment the newest: that with the highest generation, then uid."""
    best: dict[str, Route] = {}
    for route in routes:
        other = best.get(route.key)
        if other is None or (route.generation, route.uid) > (other.generation, other.uid):
            best[route.key] = route
    return tuple(best[key] for key in sorted(best))


def _all(kept: list[Kept], what: str) -> Fact[tuple[Any, ...]]:
    if not kept or not all(one.listed for one in kept):
        problem = next((one.problem for one in kept if one.problem), "they have not been read yet")
        return Unknown(f"the {what} are not known: {problem}")
    return Known(tuple(value for one in kept for value in one.values), datetime.now(UTC))
