"""What is stored of a judged rollout: where it stands, who ordered what, and what was found.

It stands in annotations of the candidate's ControllerRevision, so that a new process goes on where the one before
stopped.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from nightshift.api.base import StoredModel


class Phase(StrEnum):
    """Where a rollout stands."""

    PREFLIGHT = "Preflight"
    PLACING = "Placing"
    LOADING = "Loading"
    JUDGING = "Judging"
    PROMOTING = "Promoting"
    PROMOTED = "Promoted"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    PAUSED = "Paused"
    ABANDONED = "Abandoned"


class RolloutOrder(StrEnum):
    """What a person can ask of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    UNDO = "undo"
    RETRY = "retry"


class Ordering(StoredModel):
    """The last order that was seen: its text, so that it is not carried out twice, who gave it, and when."""

    text: str = Field(max_length=256, description="The annotation's value as it was written, its beginning if long.")
    order: RolloutOrder | None = Field(default=None, description="What it asks for; none: it cannot be understood.")
    by: str = Field(default="", max_length=200, description="Who gave it, as they wrote it.")
    at: AwareDatetime
    refused: str = Field(default="", max_length=512, description="Why it was not carried out; empty: it was.")


class RolloutState(StoredModel):
    """Where the rollout of a candidate stands."""

    phase: Phase
    since: AwareDatetime = Field(description="When this phase began.")
    step: Annotated[int, Field(ge=0)] = Field(default=0, description="Index into the steps.")
    step_since: AwareDatetime | None = Field(
        default=None, description="When the candidate first had the step's weight."
    )
    judging_since: AwareDatetime | None = Field(
        default=None, description="When judging began, also before a pause that ended by itself."
    )
    steps: tuple[int, ...] = Field(default=(), description="Percent of the requests, as the spec said at the begin.")
    stable: str = Field(description="Hash of the revision that serves meanwhile.")
    reason: str = Field(default="", max_length=64, description="Why it is paused or went back.")
    says: str = Field(default="", max_length=1024, description="The evidence in one sentence.")
    ordered: Ordering | None = Field(default=None, description="The last order that was seen.")
    heals: str = Field(
        default="",
        max_length=64,
        description="Why no replica of the stable revision serves, where those that failed gave way to this one.",
    )
    before_pause: Phase | None = Field(default=None, description="The phase to which a resumed rollout returns.")
