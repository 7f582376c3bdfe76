"""The operator's own configuration: accelerator profiles and defaults, read once at start."""

from typing import Self

from pydantic import Field, JsonValue, model_validator

from nightshift.api.base import Model


class AcceleratorProfile(Model):
    """How one kind of accelerator is asked for. The count per replica comes from the LLMDeployment."""

    resource_name: str | None = Field(
        default=None,
        description="Extended resource to request, such as nvidia.com/gpu. Without one nothing is requested "
        "and the engine runs on the processor.",
    )
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, JsonValue], ...] = ()
    requests: dict[str, str] = Field(
        default_factory=dict, description="Processor and memory requests of the engine container."
    )
    limits: dict[str, str] = Field(default_factory=dict)
    shared_memory: str = Field(default="2Gi", description="Size of /dev/shm.")
    memory_gib: float | None = Field(
        default=None,
        alias="memoryGiB",
        gt=0,
        le=4096,
        description="Memory of one accelerator in GiB, as CUDA reports it. Without it whether a model fits is unknown.",
    )
    compute_capability: str | None = Field(
        default=None,
        pattern=r"^[0-9]{1,2}\.[0-9]$",
        description='CUDA compute capability, such as "9.0". Without it which quantizations run is unknown.',
    )

    @model_validator(mode="after")
    def _of_an_accelerator(self) -> Self:
        if self.resource_name is None and (self.memory_gib is not None or self.compute_capability is not None):
            raise ValueError("memoryGiB and computeCapability describe an accelerator, and need resourceName")
        return self

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability as numbers: "9.0" is (9, 0)."""
        if self.compute_capability is None:
            return None
        major, _, minor = self.compute_capability.partition(".")
        return int(major), int(minor)


class EngineDefaults(Model):
    """What an LLMDeployment gets where it says nothing."""

    engine_version: str = "0.32.0"
    engine_image: str = "docker.io/vllm/vllm-openai"
    accelerator: str = "nvidia-gpu"


class GatewayConfig(Model):
    """The gateway that the chart installed beside the operator."""

    namespace: str = Field(description="Its own namespace, in which its pods, route objects and wake Leases are.")
    labels: dict[str, str] = Field(
        description="Labels of its pods: they are let in by the engines, and asked for the demand."
    )
    service: str = Field(description="Name of the Service that clients reach it by.")
    port: int = Field(default=80, ge=1, le=65535, description="Port of that Service.")
    replicas: int = Field(default=2, ge=1, description="Its pods, which share queues and caps.")
    agent_port: int = Field(
        default=8081, ge=1, le=65535, description="On which each pod's agent tells the demand: GET /demand."
    )
    short_names: tuple[str, ...] = Field(
        default=(),
        description="NAMESPACE/NAME of LLMDeployments that the shared address also takes by their served name alone.",
    )


class OperatorConfig(Model):
    """Everything an administrator sets; the chart writes it to a mounted file."""

    namespace: str = Field(description="Namespace that the operator runs in.")
    operator_labels: dict[str, str] = Field(
        description="Labels of the operator's pods, let in by the engines' NetworkPolicies."
    )
    fetch_image: str = Field(description="Image of the containers that resolve and download models.")
    hub_endpoint: str | None = Field(default=None, description="Address of another Hub, for hf:// models.")
    insecure_registries: tuple[str, ...] = Field(
        default=(), description="HOST:PORT of image registries that are asked over plain HTTP."
    )
    defaults: EngineDefaults = EngineDefaults()
    accelerators: dict[str, AcceleratorProfile] = Field(default_factory=dict)
    scrapers: tuple[dict[str, JsonValue], ...] = Field(
        default=(), description="NetworkPolicy peers that may read the engines' metrics."
    )
    gateway: GatewayConfig | None = Field(
        default=None, description="The gateway; none: there is none, and Services lead straight to the pods."
    )
    cluster_domain: str = Field(
        default="cluster.local", description="The cluster's DNS domain; the gateway is told the same by the chart."
    )
    workers: int = Field(default=8, ge=1, description="Resources reconciled at the same time.")
    resync_seconds: int = Field(
        default=600,
        ge=10,
        description="A resource is looked at again after this time even if nothing changed.",
    )
    lease_name: str = Field(
        default="nightshift-operator", description="Lease that decides which replica of this release leads."
    )
    watch_namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces whose LLMDeployments are acted on; none named: all of them."
    )
    label_selector: str = Field(
        default="", description="Only LLMDeployments that match this label selector are acted on; empty: all."
    )
    liveness_overdue_seconds: int = Field(
        default=300,
        ge=60,
        description="The operator is restarted when a due reconcile has waited for longer than this.",
    )
