"""Route objects: what the operator tells the gateway of one LLMDeployment, in a ConfigMap."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from nightshift.api import names
from nightshift.api.base import StoredModel
from nightshift.api.spec import Task
from nightshift.api.traffic import MAX_QUEUE_SECONDS

LABEL_ROUTE = f"{names.GROUP}/route"
"""On a ConfigMap, with the value "true": it holds a route."""

ROUTE_KEY = "route.json"
"""The key of a route's ConfigMap."""

MAX_WEIGHTED = 4
"""Revisions of one deployment that take requests at the same time."""

Label = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
ModelName = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
"""A name that clients may call a model or an adapter by: nothing in it has a meaning in maps or commands."""

Affinity = Literal["None", "Session", "Prefix"]


class RouteRevision(StoredModel):
    """A revision of the deployment, and its share of the requests."""

    hash: Annotated[str, Field(pattern=r"^[a-z0-9]{1,63}$")]
    weight: int = Field(ge=0, le=100, description="Percent of the requests; zero: it gets no new ones.")
    service: ObjectName = Field(description="The revision's headless Service, in the deployment's namespace.")
    port: int = Field(default=names.ENGINE_PORT, ge=1, le=65535)
    max_concurrent_requests: int = Field(ge=1, le=100_000, description="Requests that one replica works on at a time.")


class RouteAdapter(StoredModel):
    """An adapter, and the pods that have loaded it."""

    name: ModelName
    pods: tuple[ObjectName, ...] = ()


class RouteQueue(StoredModel):
    """How many requests may wait for a replica that has room, and for how long."""

    max_requests: int = Field(default=200, ge=0, le=1_000_000)
    timeout_seconds: int = Field(default=600, ge=1, le=MAX_QUEUE_SECONDS)


class RouteLimits(StoredModel):
    """Limits on a single request."""

    body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, le=1024**3)


class RouteFailure(StoredModel):
    """Why no replica comes up."""

    reason: str = Field(max_length=64)
    message: str = Field(default="", max_length=2048)


class RouteStart(StoredModel):
    """What the operator knows of the start of a replica."""

    failure: RouteFailure | None = None


class Route(StoredModel):
    """Where the requests of one LLMDeployment go."""

    version: Literal[1] = 1
    namespace: Label
    name: Label
    uid: str = Field(default="", max_length=64)
    generation: int = Field(default=0, ge=0)
    served_name: ModelName
    task: Task = "Chat"
    short_names: tuple[ModelName, ...] = ()
    state: Literal["On", "Off"] = "On"
    revisions: tuple[RouteRevision, ...] = ()
    adapters: tuple[RouteAdapter, ...] = ()
    queue: RouteQueue = RouteQueue()
    affinity: Affinity = "None"
    limits: RouteLimits = RouteLimits()
    start: RouteStart = RouteStart()

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, by which the route is known."""
        return f"{self.namespace}/{self.name}"

    @model_validator(mode="after")
    def _consistent(self) -> "Route":
        weighted = [revision for revision in self.revisions if revision.weight]
        total = sum(revision.weight for revision in weighted)
        if weighted and total != 100:
            raise ValueError(f"the weights of the revisions add up to {total}, not to 100")
        if len(weighted) > MAX_WEIGHTED:
            raise ValueError(f"{len(weighted)} revisions have a weight; at most {MAX_WEIGHTED} may")
        for what, found in (
            ("revision", sorted(revision.hash for revision in self.revisions)),
            ("adapter", sorted(adapter.name for adapter in self.adapters)),
        ):
            if double := next((one for one, other in pairwise(found) if one == other), None):
                raise ValueError(f"the {what} {double} stands in it twice")
        return self


class RouteError(ValueError):
    """A route object that cannot be read, and why, as a sentence."""


def parse_route(manifest: Mapping[str, Any]) -> Route:
    """Read a route's ConfigMap.

    Raises:
        RouteError: It holds no route of a version that this gateway understands; names the field and the problem.
    """
    name = (manifest.get("metadata") or {}).get("name", "?")
    text = (manifest.get("data") or {}).get(ROUTE_KEY)
    if text is None:
        raise RouteError(f"the ConfigMap {name} has no key {ROUTE_KEY}")
    try:
        return Route.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RouteError(
            f"the route in ConfigMap {name} is wrong{f' at {where}' if where else ''}: {first['msg']}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise RouteError(f"the route in ConfigMap {name} is no JSON: {error}") from None
