"""The status of an LLMDeployment: a mirror of what was observed, never the place where anything is kept."""

from typing import Literal

from pydantic import Field

from nightshift.api.adapters import MAX_ADAPTERS
from nightshift.api.base import StoredModel, list_map
from nightshift.api.conditions import Condition


class ModelStatus(StoredModel):
    """The model that the current target revision serves."""

    uri: str = Field(description="Where the model comes from.")
    revision: str | None = Field(
        default=None, description="The commit that the requested revision was resolved to and pinned at."
    )


class ImageStatus(StoredModel):
    """The engine image of the current target revision."""

    reference: str = Field(description="Repository and tag.")
    digest: str | None = Field(
        default=None, description="Digest that every pod of the revision runs, once it is known."
    )
    preflight: str | None = Field(
        default=None,
        description="What the image itself said of the arguments and the model before anything of the revision was "
        "started; none: it was not asked, since nothing served that could be lost, or it did not answer.",
    )


class EffectiveStatus(StoredModel):
    """What the defaults came to for the current target revision."""

    engine_version: str = Field(description="vLLM version.")
    engine_image: str = Field(description="Image repository.")
    accelerator: str = Field(description="Name of the accelerator profile.")
    accelerator_count: int = Field(ge=0, description="Accelerators per replica.")


class FitStatus(StoredModel):
    """What one replica of the current target revision holds."""

    source: Literal["Estimated", "Measured"] = Field(
        description="Estimated: from the model's files and the accelerator's memory. Measured: the engine said so."
    )
    kv_tokens: int = Field(ge=0, description="Tokens that the KV cache holds.")
    expected_kv_tokens: int | None = Field(default=None, ge=0, description="As estimated before the start.")
    longest_context: int | None = Field(default=None, ge=0, description="Tokens that one request can have.")
    concurrent_requests: int | None = Field(
        default=None, ge=0, description="Requests of the longest context that fit at the same time, rounded down."
    )


class AdapterStatus(StoredModel):
    """One of spec.adapters."""

    name: str = Field(description="Its name.")
    revision: str | None = Field(default=None, description="The commit that it is pinned to; none: not resolved yet.")
    ready_replicas: int = Field(default=0, ge=0, description="Ready replicas that serve this commit under its name.")
    reason: str = Field(description="Loaded, or what it waits for, or what is wrong with it.")
    message: str = Field(description="The same as a sentence, with the remedy.")


class Status(StoredModel):
    """Status of an LLMDeployment."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that this status speaks of."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("type"),
        description="Ready: the current spec is what serves. Available: something good serves. "
        "Progressing: a change is under way. Reconciling and Stalled: read by kstatus (Helm, Flux, Argo CD). "
        "AdaptersReady: every adapter is served by every replica; only where there are adapters. "
        "ScalingLimited: something keeps the number of replicas from following the demand; only in scaling.mode Auto.",
    )
    replicas: int = Field(default=0, ge=0, description="Engine pods that exist, of all revisions.")
    ready_replicas: int = Field(default=0, ge=0, description="Engine pods that are ready, of all revisions.")
    selector: str | None = Field(default=None, description="Label selector of the engine pods, for /scale.")
    url: str | None = Field(default=None, description="Base URL of the OpenAI-compatible API.")
    version: str | None = Field(default=None, description="vLLM version that serves now.")
    revision: str | None = Field(default=None, description="Revision that serves now.")
    target_revision: str | None = Field(default=None, description="Revision of the current spec.")
    model: ModelStatus | None = Field(default=None, description="The model of the target revision.")
    image: ImageStatus | None = Field(default=None, description="The image of the target revision.")
    effective: EffectiveStatus | None = Field(
        default=None, description="What fields that were left out came to, for the target revision."
    )
    adapters: tuple[AdapterStatus, ...] | None = Field(
        default=None,
        max_length=MAX_ADAPTERS,
        json_schema_extra=list_map("name"),
        description="The adapters, one by one.",
    )
    fit: FitStatus | None = Field(
        default=None, description="What one replica of the target revision holds; none where it is not known."
    )
