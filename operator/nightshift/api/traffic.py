"""How requests reach the engines: the part `traffic` of an LLMDeployment's spec."""

from typing import Literal

from pydantic import ConfigDict, Field

from nightshift.api.base import ATOMIC, KubernetesObject, Model, rules

TrafficMode = Literal["Gateway", "Service"]

MAX_QUEUE_SECONDS = 86_400
"""No request waits for longer."""


class TrafficQueue(Model):
    """How many requests wait for a replica with room, and for how long."""

    max_requests: int = Field(
        default=200,
        ge=0,
        le=1_000_000,
        description="Requests that may wait for a replica, or while one starts; further ones get 429. The gateway "
        "keeps a quarter of its connections for them at most: 1,000 per pod by default. No restart.",
    )
    timeout_seconds: int = Field(
        default=600,
        ge=1,
        le=MAX_QUEUE_SECONDS,
        description="Time after which a request that still waits gets 503. While replicas serve, the gateway waits up "
        "to the next of 5, 15, 30 and 60 s, 2, 5, 10 and 20 min, 1, 4 and 24 h. No restart.",
    )


class TrafficSpec(Model):
    """How requests reach the engines."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.allowFrom) || (has(self.mode) && self.mode == 'Service')",
                "traffic.allowFrom belongs to mode Service, where clients reach the engines themselves; set "
                "traffic.mode to Service, or remove it",
            ),
            (
                "!(has(self.queue) || has(self.affinity)) || !has(self.mode) || self.mode == 'Gateway'",
                "traffic.queue and traffic.affinity belong to mode Gateway; set traffic.mode to Gateway, or remove "
                "them",
            ),
        )
    )

    mode: TrafficMode | None = Field(
        default=None,
        description="Gateway: the gateway carries the requests, and the Service of the deployment's name leads to it. "
        "Service: that Service leads straight to the pods. Default: Gateway where the administrator installed one, "
        "else Service. No restart.",
    )
    allow_from: tuple[KubernetesObject, ...] | None = Field(
        default=None,
        max_length=32,
        json_schema_extra=ATOMIC,
        description="NetworkPolicy peers that may send requests in mode Service; default: all pods of the namespace. "
        "No restart.",
    )
    queue: TrafficQueue | None = Field(
        default=None, description="Requests that wait in the gateway; default: 200 for 600 s each. No restart."
    )
    affinity: Literal["None", "Session", "Prefix"] | None = Field(
        default=None,
        description="Which requests the gateway sends to the same replica while it has room. Session: those with the "
        "same header x-session-id. Prefix: those whose prompts begin alike. Default: None, the least busy replica. "
        "No restart.",
    )
    drain_seconds: int = Field(
        default=600,
        ge=0,
        le=86400,
        description="Time that running requests get to finish when a pod is stopped (vLLM 0.18 and newer). "
        "A change restarts the pods, one after another.",
    )
