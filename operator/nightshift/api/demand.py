"""What a gateway pod's agent tells the operator: how much is asked of each deployment, and how requests ended."""

from pydantic import AwareDatetime, Field

from nightshift.api.base import StoredModel

DEMAND_PATH = "/demand"
"""On the agent's port, read by GET."""

RESULTS_QUERY = "results"
"""Of the query, once for each deployment (NAMESPACE/NAME) of whose revisions the results are told: they are several
times as long as the rest, and seldom wanted."""

ALL_RESULTS = "*"
"""In the place of a name: of all deployments."""


class RevisionResults(StoredModel):
    """How requests ended that came to one revision by one gateway pod, since it counts them."""

    since: AwareDatetime = Field(description="When counting began: another moment means that it began anew.")
    ok: int = Field(default=0, ge=0)
    client_error: int = Field(default=0, ge=0, description="The engine's 4xx.")
    server_error: int = Field(default=0, ge=0, description="5xx, or no answer of the engine.")
    refused: int = Field(default=0, ge=0, description="By the gateway, such as for a full queue.")
    left: int = Field(default=0, ge=0, description="The client went before the end.")
    cut: int = Field(default=0, ge=0, description="The answer broke off.")
    retried: int = Field(
        default=0,
        ge=0,
        description="Of ok and client_error, those that replicas failed at first, and that HAProxy sent again.",
    )
    first_byte: tuple[int, ...] = Field(
        default=(),
        description="Requests that ended ok by the time to their answer's headers, as buckets; not summed up.",
    )
    total: tuple[int, ...] = Field(default=(), description="The same by the time to the end of their answer.")


class RouteDemand(StoredModel):
    """What one gateway pod has of one deployment."""

    in_flight: int | None = Field(default=None, ge=0, description="Requests that engines work on; none: unknown.")
    queued: int | None = Field(
        default=None, ge=0, description="Requests that wait in HAProxy for a replica with room; none: unknown."
    )
    idle_seconds: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Since the last request reached it; none: unknown, as after its start.",
    )
    revisions: dict[str, RevisionResults] = Field(
        default_factory=dict,
        description="By hash, of revisions that have a slot, where they are asked for. One that is missing is unknown.",
    )


class GatewayDemand(StoredModel):
    """One answer of one gateway pod."""

    written: AwareDatetime = Field(description="When HAProxy was read.")
    pod: str = Field(description="Name of the gateway pod.")
    routes: dict[str, RouteDemand] = Field(description="By NAMESPACE/NAME. A deployment that is missing is unknown.")
    first_byte_bounds: tuple[float, ...] = Field(
        default=(), description="Upper bounds of the buckets in seconds, ascending; one more bucket has what is above."
    )
    total_bounds: tuple[float, ...] = Field(default=(), description="The same, of the buckets of whole requests.")
