"""What is stored of a comparison of two revisions: where counters stood, and what closed windows came to.

It stands in an annotation of the candidate's ControllerRevision, so that a new process compares over the same time. Of
8 engines and 2 gateway pods it is less than 32 KiB.
"""

from pydantic import AwareDatetime, Field

from nightshift.api.base import StoredModel
from nightshift.api.tally import Tally


class Times(StoredModel):
    """Times in buckets."""

    bounds: tuple[float, ...] = Field(default=(), description="Upper bounds in seconds, ascending.")
    counts: tuple[int, ...] = Field(default=(0,), description="Not summed up; one more than bounds.")


class Sums(StoredModel):
    """Requests and tokens of one revision: as one source has counted them, or what they came to over a time."""

    requests: int = Field(default=0, ge=0, description="That ended, by success or failure of the engine.")
    failed: int = Field(default=0, ge=0, description="Of these, answered with 5xx, not at all, or broken off.")
    left: int = Field(default=0, ge=0, description="Besides, of clients that went before the end.")
    total: Times = Field(default=Times(), description="Times of whole requests.")
    first_token: Times = Field(default=Times(), description="Times to first tokens.")
    inter_token: Times = Field(default=Times(), description="Times between tokens.")
    finished: dict[str, int] = Field(default_factory=dict, description="Requests by finish reason.")
    generation_tokens: int = Field(default=0, ge=0)
    preemptions: int = Field(default=0, ge=0)
    inference_seconds: float | None = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="That requests were in the batch; none: not exported."
    )
    replica_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Ready replicas times seconds.")


class Counted(StoredModel):
    """What one gateway pod counted of one revision, or one start of one engine."""

    since: AwareDatetime = Field(description="When counting began: another moment means that it began anew.")
    serving: AwareDatetime | None = Field(default=None, description="Of an engine: when its pod became ready.")
    at: AwareDatetime = Field(description="When it was read.")
    sums: Sums = Sums()


class Base(StoredModel):
    """Where the counters of one revision stood."""

    gateways: dict[str, Counted] = Field(default_factory=dict, description="By gateway pod.")
    engines: dict[str, Counted] = Field(default_factory=dict, description="By start of an engine.")


class Compared(StoredModel):
    """One of the two revisions."""

    revision: str = Field(description="Its hash.")
    base: Base = Base()
    present: Sums = Field(default=Sums(), description="Of the present window, up to the base.")


class Comparison(StoredModel):
    """A comparison under way."""

    began: AwareDatetime = Field(description="When its first window began.")
    since: AwareDatetime = Field(description="When its present window began.")
    at: AwareDatetime = Field(description="When the counters of the base were noted.")
    stable: Compared
    candidate: Compared
    tally: Tally = Field(default=Tally(), description="What the windows before the present one came to.")
    lost: tuple[str, ...] = Field(default=(), description="What could not be counted, as sentences; the latest few.")

    def text(self) -> str:
        """As it is written: without what has its default."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)
