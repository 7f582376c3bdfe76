"""What a golden Job tells the operator when it ends, and what is kept of it.

It travels in the container's termination message, which Kubernetes cuts at 4096 bytes. Both directions distrust each
other, as in `api.fetch`. Questions and answers stay in the Job: scores, times and distances are all that leaves it.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, field_validator

from nightshift.api.base import StoredModel
from nightshift.api.golden import MAX_QUESTIONS
from nightshift.api.termination import json_line, last_of, one_short_line

Number = Annotated[int, Field(ge=0, le=MAX_QUESTIONS, strict=True)]
Count = Annotated[int, Field(ge=1, le=MAX_QUESTIONS, strict=True)]


class GoldenReason(StrEnum):
    """Why nothing could be asked; each is used as the reason of a condition as it stands."""

    GOLDEN_SET_NOT_FOUND = "GoldenSetNotFound"
    GOLDEN_SET_INVALID = "GoldenSetInvalid"
    GOLDEN_SET_CHANGED = "GoldenSetChanged"
    GOLDEN_ENGINE_UNREACHABLE = "GoldenEngineUnreachable"
    GOLDEN_TIME_SPENT = "GoldenTimeSpent"


class GoldenEnd(StrEnum):
    """Why a Job stopped asking."""

    ALL_ASKED = "AllAsked"
    TIME_SPENT = "TimeSpent"
    STABLE_UNREACHABLE = "StableUnreachable"
    CANDIDATE_UNREACHABLE = "CandidateUnreachable"


class GoldenRun(StoredModel):
    """Some questions of a set were asked of two revisions."""

    kind: Literal["GoldenRun"] = "GoldenRun"
    digest: str = Field(pattern=r"^[a-z0-9]{4,32}$", description="Of the set's content: another one is another set.")
    of: Count = Field(description="Questions of the whole set.")
    start: Number = Field(description="Place of the first of these in the set, from 0.")
    expecting: Number | None = Field(default=None, description="Questions of the whole set whose answers are scored.")
    count: Count = Field(description="How many these are, asked or not.")
    asked: Count = Field(description="How many of them were asked of both.")
    ended: GoldenEnd = GoldenEnd.ALL_ASKED
    at: AwareDatetime = Field(description="When the last answer was there.")
    pairs: str = Field(max_length=4096, pattern=r"^[\x21-\x7e]*$", description="What came of each, packed.")


class GoldenFailed(StoredModel):
    """Nothing was asked; the message is one sentence or two with the remedy."""

    kind: Literal["GoldenFailed"] = "GoldenFailed"
    reason: GoldenReason
    message: str = Field(min_length=1)

    @field_validator("message")
    @classmethod
    def _one_short_line(cls, message: str) -> str:
        return one_short_line(message)


GoldenOutcome: TypeAlias = GoldenRun | GoldenFailed
"""How a golden Job ended."""


class KeptRun(StoredModel):
    """A run, and which asking of the whole set it belongs to."""

    round: Annotated[int, Field(ge=0, le=1000, strict=True)]
    run: GoldenRun


class GoldenKept(StoredModel):
    """What golden Jobs told of a revision: an annotation of its ControllerRevision."""

    stable: str = Field(description="Hash of the revision that was asked beside it.")
    source: str = Field(description="Names the set that was to be asked; not its content.")
    begun: str | None = Field(default=None, description="When the try of the rollout began that it was asked for.")
    runs: tuple[KeptRun, ...] = ()


_OUTCOME: TypeAdapter[GoldenOutcome] = TypeAdapter(Annotated[GoldenOutcome, Field(discriminator="kind")])


def to_line(value: GoldenOutcome) -> str:
    """The value as one line of JSON without line breaks."""
    return json_line(value)


def parse_golden(text: str | None) -> GoldenOutcome | None:
    """Read a termination message; None when its last lines are no outcome."""
    return last_of(text, _OUTCOME)


def parse_kept(text: str | None) -> GoldenKept | None:
    """Read the annotation; what cannot be read counts as not there."""
    try:
        return GoldenKept.model_validate_json(text) if text else None
    except ValidationError:
        return None
