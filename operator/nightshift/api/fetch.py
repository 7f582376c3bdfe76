"""What a fetch container tells the operator: progress on stdout, and the outcome when it ends.

The outcome travels in the container's termination message, which Kubernetes cuts at 4096 bytes.
Both directions distrust each other: the writer keeps within the limit, and the reader takes whatever
the pod's status or log holds and returns None when it is not what a fetch container writes.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from nightshift.api.base import StoredModel
from nightshift.api.model_facts import OptionalFacts
from nightshift.api.termination import READ_LIMIT, json_line, last_of, load, one_short_line

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes of a termination message that Kubernetes keeps."""

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="Commit of a Hub repository.")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


class FetchReason(StrEnum):
    """Why a model or an adapter could not be fetched; each is used as the reason of a condition as it stands."""

    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_REVISION_NOT_FOUND = "ModelRevisionNotFound"
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    HUB_UNREACHABLE = "HubUnreachable"
    MODEL_DOWNLOAD_STALLED = "ModelDownloadStalled"
    MODEL_CACHE_FULL = "ModelCacheFull"
    MODEL_CACHE_UNUSABLE = "ModelCacheUnusable"
    MODEL_CORRUPT = "ModelCorrupt"
    ADAPTER_NOT_FOUND = "AdapterNotFound"
    ADAPTER_ACCESS_DENIED = "AdapterAccessDenied"
    ADAPTER_UNUSABLE = "AdapterUnusable"
    ADAPTER_BASE_MISMATCH = "AdapterBaseMismatch"
    ADAPTER_MODULES_MISMATCH = "AdapterModulesMismatch"
    ADAPTER_DOWNLOAD_FAILED = "AdapterDownloadFailed"


class Resolved(StoredModel):
    """A revision was resolved to a commit, and its files may be read with the given token."""

    kind: Literal["Resolved"] = "Resolved"
    sha: Sha
    files: Count = Field(description="Number of files that a download would fetch.")
    bytes: Count = Field(description="Their size together.")
    facts: OptionalFacts = Field(default=None, description="What the files say of the model; none: nothing usable.")


class Inspected(StoredModel):
    """A model on a claim was looked at."""

    kind: Literal["Inspected"] = "Inspected"
    facts: OptionalFacts = Field(default=None, description="What the files say of the model; none: nothing usable.")


class Downloaded(StoredModel):
    """All files of a commit are in place and verified."""

    kind: Literal["Downloaded"] = "Downloaded"
    sha: Sha
    files: Count = Field(description="Number of files in place.")
    bytes: Count = Field(description="Their size together.")


class AdapterResolved(StoredModel):
    """A revision of a LoRA adapter was resolved to a commit, and its configuration read."""

    kind: Literal["AdapterResolved"] = "AdapterResolved"
    sha: Sha
    bytes: Count = Field(description="Size of the files that a download would fetch.")
    rank: Annotated[int, Field(ge=1, le=65536, strict=True)]
    base: str | None = Field(default=None, max_length=200, description="What it says that it was trained on.")


class Failed(StoredModel):
    """Nothing came of it; the message is one sentence or two with the remedy, and holds no secret."""

    kind: Literal["Failed"] = "Failed"
    reason: FetchReason
    message: str = Field(min_length=1)

    @field_validator("message")
    @classmethod
    def _one_short_line(cls, message: str) -> str:
        return one_short_line(message)


FetchOutcome: TypeAlias = Resolved | Inspected | AdapterResolved | Downloaded | Failed
"""How a fetch container ended."""


class Progress(StoredModel):
    """How far a download is; a line on stdout at least every few seconds while bytes move."""

    kind: Literal["Progress"] = "Progress"
    bytes_done: Count = Field(description="Bytes in place, those of earlier attempts included.")
    bytes_total: Count = Field(description="Bytes of all files together.")
    files_done: Count = Field(description="Files in place and verified.")
    files_total: Count


_OUTCOME: TypeAdapter[FetchOutcome] = TypeAdapter(Annotated[FetchOutcome, Field(discriminator="kind")])


def to_line(value: FetchOutcome | Progress) -> str:
    """The value as one line of JSON without line breaks, at most 4096 bytes long; facts too long for it are left out.

    The facts of the models that were compared take 320 to 800 bytes.
    """
    line = json_line(value)
    if isinstance(value, Resolved | Inspected) and len(line.encode()) > TERMINATION_MESSAGE_LIMIT:
        line = json_line(value.model_copy(update={"facts": None}))
    return line


def parse_outcome(text: str | None) -> FetchOutcome | None:
    """Read a termination message, or the end of a log that stands in for one.

    Args:
        text: Whatever the container left; the last line that is an outcome counts.

    Returns:
        The outcome, or None when no line is one.
    """
    return last_of(text, _OUTCOME)


def parse_progress(line: str | None) -> Progress | None:
    """Read one line of a fetch container's log; None when it is not a progress line."""
    found = load((line or "")[:READ_LIMIT])
    if found is None or found.get("kind") != "Progress":
        return None
    try:
        return Progress.model_validate(found)
    except ValidationError:
        return None
