"""What a user may add to the rendered engine pod."""

from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from nightshift.api.base import ATOMIC, KubernetesObject, Model, Quantity, list_map, rules

RESERVED_VOLUMES = ("models", "tmp", "shm", "cache", "adapters")
RESERVED_CONTAINERS = ("engine", "model-download", "adapters")


class TemplateMetadata(Model):
    """Labels and annotations of the engine pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.labels) || self.labels.all(k, !k.startsWith('nightshift.dev/') && "
                "!k.startsWith('app.kubernetes.io/'))",
                "labels that begin with nightshift.dev/ or app.kubernetes.io/ belong to Nightshift",
            ),
        )
    )

    labels: dict[str, str] = Field(default_factory=dict, max_length=64, description="Further labels.")
    annotations: dict[str, str] = Field(default_factory=dict, max_length=64, description="Annotations.")


class LocalObjectReference(Model):
    """The name of an object in the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the object.")


class Resources(Model):
    """Processor and memory of the engine container; accelerators are asked for by hardware."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, max_length=16, description="Added to the profile's requests."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, max_length=16, description="Added to the profile's limits."
    )


NamedObject = Annotated[
    dict[str, JsonValue],
    Field(
        json_schema_extra={
            "type": "object",
            "properties": {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 63,
                    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                    "description": "Name, unique in its list.",
                }
            },
            "required": ["name"],
            "x-kubernetes-preserve-unknown-fields": True,
        }
    ),
]
"""A core Kubernetes object with a name; the rest is checked by the API server where it is used."""


class PodTemplate(Model):
    """Additions to the engine pods. What Nightshift itself sets cannot be replaced."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"!has(self.volumes) || !self.volumes.exists(v, v.name in {list(RESERVED_VOLUMES)})".replace('"', "'"),
                f"the volume names {', '.join(RESERVED_VOLUMES)} belong to Nightshift",
            ),
            (
                f"!has(self.sidecars) || !self.sidecars.exists(c, c.name in {list(RESERVED_CONTAINERS)})".replace(
                    '"', "'"
                ),
                f"the container names {', '.join(RESERVED_CONTAINERS)} belong to Nightshift",
            ),
        )
    )

    metadata: TemplateMetadata | None = Field(default=None, description="Labels and annotations.")
    node_selector: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Added to the accelerator profile's selector."
    )
    tolerations: tuple[KubernetesObject, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=ATOMIC,
        description="Added to the accelerator profile's tolerations, as in core/v1 Toleration.",
    )
    affinity: KubernetesObject | None = Field(default=None, description="As in core/v1 Affinity.")
    topology_spread_constraints: tuple[KubernetesObject, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=ATOMIC,
        description="As in core/v1 TopologySpreadConstraint.",
    )
    priority_class_name: str | None = Field(
        default=None, max_length=253, description="Priority class of the engine pods."
    )
    runtime_class_name: str | None = Field(
        default=None, max_length=253, description="Runtime class of the engine pods."
    )
    image_pull_secrets: tuple[LocalObjectReference, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("name"),
        description="Secrets that the images are pulled with; also used by the containers that fetch models.",
    )
    volumes: tuple[NamedObject, ...] = Field(
        default=(), max_length=32, json_schema_extra=list_map("name"), description="As in core/v1 Volume."
    )
    volume_mounts: tuple[KubernetesObject, ...] = Field(
        default=(), max_length=32, json_schema_extra=ATOMIC, description="Mounts of the engine container."
    )
    sidecars: tuple[NamedObject, ...] = Field(
        default=(),
        max_length=8,
        json_schema_extra=list_map("name"),
        description="Containers beside the engine, as in core/v1 Container.",
    )
    resources: Resources | None = Field(
        default=None, description="Processor and memory of the engine container; default: the profile's."
    )
