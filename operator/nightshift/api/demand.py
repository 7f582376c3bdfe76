"""What a gateway pod's agent tells the operator: how much is asked of each deployment at the moment."""

from pydantic import AwareDatetime, Field

from nightshift.api.base import StoredModel

DEMAND_PATH = "/demand"
"""On the agent's port, read by GET."""


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


class GatewayDemand(StoredModel):
    """One answer of one gateway pod."""

    written: AwareDatetime = Field(description="When HAProxy was read.")
    pod: str = Field(description="Name of the gateway pod.")
    routes: dict[str, RouteDemand] = Field(description="By NAMESPACE/NAME. A deployment that is missing is unknown.")
