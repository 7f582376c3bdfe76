"""What the gateway's agent tells the activator beside it: the file `state.json`, written anew at every change.

Each reader takes of a route what it needs; everything else in it is passed over.
"""

import json
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from nightshift.api.base import StoredModel


class HoldingQueue(StoredModel):
    """How many requests of a deployment may wait for a replica, and for how long."""

    max_requests: int = Field(default=200, ge=0)
    timeout_seconds: int = Field(default=600, ge=1)


class StartFailure(StoredModel):
    """Why no replica comes up."""

    reason: str = Field(min_length=1, description="As in the deployment's conditions, such as NoGpuCapacity.")
    message: str = Field(default="", description="A sentence or two with the remedy.")


class StartKnowledge(StoredModel):
    """What the operator knows of the start of a replica."""

    failure: StartFailure | None = None


class RouteLimits(StoredModel):
    """Limits on a single request."""

    body_bytes: int | None = Field(default=None, ge=1)


class HeldRoute(StoredModel):
    """The part of a route object that holding is about."""

    namespace: str = Field(min_length=1)
    name: str = Field(min_length=1)
    state: Literal["On", "Off"] = "On"
    queue: HoldingQueue = HoldingQueue()
    limits: RouteLimits = RouteLimits()
    start: StartKnowledge = StartKnowledge()


class RouteState(StoredModel):
    """A route, and what HAProxy can do for it at the moment."""

    route: HeldRoute
    usable: dict[str, int] = Field(default_factory=dict, description="Servers that take requests, by backend slot.")
    capacity: int = Field(default=0, ge=0, description="Requests that they take at once, together.")
    in_flight: int | None = Field(default=None, ge=0, description="Requests that they have; none where unknown.")

    @property
    def usable_servers(self) -> int:
        """Servers of all revisions that take requests."""
        return sum(count for count in self.usable.values() if count > 0)


class GatewayState(StoredModel):
    """One version of the file."""

    written: datetime
    routes: dict[str, RouteState]
    """By NAMESPACE/NAME."""
    broken: dict[str, str]
    """Routes that could not be read, and why; they hide no other one."""


class _File(StoredModel):
    written: AwareDatetime
    routes: dict[str, object]


def parse_gateway_state(text: str | bytes) -> GatewayState:
    """Read the file, route by route.

    Args:
        text: Its content.

    Returns:
        What it says; routes that are malformed stand apart.

    Raises:
        ValueError: It is no such file at all.
    """
    try:
        found = _File.model_validate(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    routes: dict[str, RouteState] = {}
    broken: dict[str, str] = {}
    for key, raw in found.routes.items():
        try:
            routes[key] = RouteState.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            broken[key] = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return GatewayState(written=found.written, routes=routes, broken=broken)
