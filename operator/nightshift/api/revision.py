"""What a revision is made of, as stored in its ControllerRevision."""

from datetime import datetime
from typing import Any

from pydantic import Field, JsonValue

from nightshift.api.base import StoredModel
from nightshift.api.model_facts import OptionalFacts
from nightshift.api.overlay import PodTemplate
from nightshift.api.preflight import OptionalPreflight
from nightshift.api.spec import EngineSpec, HardwareSpec, ModelSpec


class Resolved(StoredModel):
    """What the permissions in the spec came to; carried from revision to revision, never looked up again."""

    engine_version: str
    engine_image: str = Field(description="Image repository without a tag.")
    image_digest: str | None = Field(default=None, description="sha256:...; none where no registry could be asked.")
    model_revision: str | None = Field(default=None, description="Commit of an hf:// model.")
    accelerator: str = Field(description="Name of the accelerator profile.")
    accelerator_count: int = Field(ge=1)
    lora_rank: int | None = Field(
        default=None, description="Largest rank of adapters that its engines take; none: they take no adapters."
    )


class RevisionSpec(StoredModel):
    """The part of a spec that matters to pods: a change of it makes a new revision."""

    model: ModelSpec
    engine: EngineSpec = EngineSpec()
    hardware: HardwareSpec | None = None
    pod_template: PodTemplate | None = None
    drain_seconds: int = 600


class RevisionInputs(StoredModel):
    """Everything that decides what the pods of a revision are: its identity is the hash of this."""

    spec: dict[str, JsonValue] = Field(description="RevisionSpec as written: without today's defaults.")
    resolved: Resolved
    profile: dict[str, JsonValue] = Field(description="The accelerator profile as it was.")


class FailedTry(StoredModel):
    """The verdict on a revision that did not come to serve while an earlier one was there to return to."""

    reason: str
    message: str
    at: datetime
    returned_to: str = Field(description="Hash of the revision that serves instead.")
    retry: str | None = Field(default=None, description="Value of the retry annotation that the verdict saw.")


class RevisionRecord(StoredModel):
    """The data of a ControllerRevision: inputs and the pod template rendered from them, once."""

    inputs: RevisionInputs
    pod_template: dict[str, Any]
    facts: OptionalFacts = Field(
        default=None, description="What was known of the model when the revision was made; no part of its identity."
    )
    preflight: OptionalPreflight = Field(
        default=None, description="What its image said of it before it was made, where that was asked; likewise."
    )
