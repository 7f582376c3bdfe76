"""Who decides the number of replicas, and between which bounds."""

from typing import Literal

from pydantic import ConfigDict, Field

from nightshift.api.base import Model, rules

DEFAULT_MIN_REPLICAS = 1
DEFAULT_IDLE_SECONDS = 900

SPEC_RULES: tuple[tuple[str, str], ...] = (
    (
        "!has(self.scaling) || !has(self.scaling.minReplicas) || self.scaling.minReplicas > 0 || "
        "!has(self.traffic) || !has(self.traffic.mode) || self.traffic.mode != 'Service'",
        "scaling.minReplicas 0 needs the gateway, which holds the request that starts a replica, and traffic.mode "
        "Service leads past it; remove traffic.mode, or set minReplicas to 1",
    ),
    (
        "!has(self.scaling) || self.scaling.mode != 'Auto' || !has(oldSelf.scaling) || "
        "oldSelf.scaling.mode != 'Auto' || self.replicas == oldSelf.replicas",
        "spec.replicas does not decide in scaling.mode Auto; change scaling.minReplicas or maxReplicas, or set "
        "scaling.mode to Manual or External first",
    ),
)
"""CEL rules of the spec as a whole: what scaling has to do with its other fields."""


class ScalingTarget(Model):
    """How much one replica is to have to do."""

    concurrent_requests: int = Field(
        ge=1,
        le=100_000,
        description="Requests per replica, running and waiting: of 40 requests at a target of 16, three replicas. "
        "No restart.",
    )


class ScalingSpec(Model):
    """Who decides the number of replicas."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.mode == 'Auto' || !(has(self.minReplicas) || has(self.maxReplicas) || has(self.target) || "
                "has(self.idleSeconds))",
                "minReplicas, maxReplicas, target and idleSeconds belong to scaling.mode Auto; set the mode to Auto "
                "or remove them and set spec.replicas",
            ),
            (
                "self.mode != 'Auto' || (has(self.maxReplicas) && has(self.target))",
                "scaling.mode Auto needs maxReplicas, the most that this may cost, and target.concurrentRequests, such "
                "as 16 requests per replica",
            ),
            (
                "!has(self.maxReplicas) || !has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
                "scaling.minReplicas is larger than scaling.maxReplicas; lower the one or raise the other",
            ),
            (
                "!has(self.idleSeconds) || (has(self.minReplicas) && self.minReplicas == 0)",
                "scaling.idleSeconds says when the last replica goes, which needs scaling.minReplicas 0; set it, or "
                "remove idleSeconds",
            ),
        )
    )

    mode: Literal["Manual", "Auto", "External"] = Field(
        default="Manual",
        description="Manual: spec.replicas decides (kubectl scale works). Auto: Nightshift decides from what clients "
        "ask, between minReplicas and maxReplicas; spec.replicas is only where it begins. External: spec.replicas "
        "decides, and another autoscaler writes it by /scale; 0 is off for it as well. No restart.",
    )
    min_replicas: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="In Auto: the fewest replicas; default: 1. With 0 none runs while nobody asks, the gateway holds "
        "the next request, and that starts one. No restart.",
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=1000, description="In Auto, where it is required: the most replicas. No restart."
    )
    idle_seconds: int | None = Field(
        default=None,
        ge=10,
        le=604_800,
        description="With minReplicas 0: seconds without a request after which no replica runs; default: 900. A "
        "start that takes longer counts instead. No restart.",
    )
    target: ScalingTarget | None = Field(
        default=None, description="In Auto, where it is required: how much one replica is to have to do. No restart."
    )
