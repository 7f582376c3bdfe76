"""What is stored of a comparison under way: where its window began, and what the windows before came to.

It stands in an annotation of the candidate's ControllerRevision. A closed window leaves sums and not its own numbers,
so what is stored does not grow with the time that a rollout takes.
"""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from nightshift.api.base import StoredModel

ArmName = Literal["stable", "candidate"]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Times(StoredModel):
    """Times in buckets, cumulative over a source's life and not over the buckets."""

    bounds: tuple[Amount, ...] = Field(default=(), description="Upper bounds in seconds, ascending.")
    counts: tuple[Count, ...] = Field(default=(0,), description="By bucket; one more than bounds.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.bounds) + 1 or list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError("A histogram has ascending bounds, and one count more than bounds.")
        return self


class Counters(StoredModel):
    """What one source counted of one revision since it began to count. A gateway pod fills some, an engine others."""

    requests: Count = 0
    failed: Count = 0
    first_token: Times | None = None
    inter_token: Times | None = None
    total: Times | None = None
    finish_reasons: dict[str, Count] = Field(default_factory=dict)
    generation_tokens: Count = 0
    preemptions: Count = 0
    busy_seconds: Amount = Field(default=0.0, description="Seconds that ended requests took in the engine, added up.")


class Baseline(StoredModel):
    """The counters of one source when the window began."""

    source: str = Field(description="The pod, and whatever tells apart its starts.")
    arm: ArmName
    counters: Counters


class RankTally(StoredModel):
    """A stratified rank statistic over windows (core.analysis.ranks)."""

    score: Finite = Field(default=0.0, description="Above 0: the candidate is slower. Its variance is information.")
    information: Amount = Field(default=0.0, description="Sum of n m / (n + m) over the windows.")
    squares: Amount = Field(default=0.0, description="Sum of score**2 / information over the windows.")
    windows: Count = 0


class TimesTally(StoredModel):
    """Two histograms of the same requests' times, and how they compare window by window."""

    bounds: tuple[Amount, ...] = ()
    candidate: tuple[Count, ...] = (0,)
    stable: tuple[Amount, ...] = Field(default=(0.0,), description="Weighted to the candidate's share of each window.")
    stable_seen: Count = 0
    typical: RankTally = RankTally()
    tail: RankTally = RankTally()


class ErrorTally(StoredModel):
    """Requests and failures."""

    candidate: Count = 0
    candidate_failed: Count = 0
    stable: Count = 0
    stable_failed: Count = 0
    expected_failed: Amount = Field(default=0.0, description="Failures that the candidate would have if it were alike.")
    growth: tuple[Finite, ...] = Field(default=(), description="Logarithm of the evidence, by assumed ratio of rates.")


class ReasonTally(StoredModel):
    """How often requests ended for one reason."""

    candidate: Count = 0
    expected: Amount = Field(default=0.0, description="As often as the candidate's would have as the stable one.")
    ranks: RankTally = RankTally()


class SignTally(StoredModel):
    """Windows in which the candidate did worse or better, and the two amounts over these windows."""

    worse: Count = 0
    better: Count = 0
    candidate: Amount = 0.0
    candidate_base: Amount = Field(default=0.0, description="What the amount is per: replica seconds, or requests.")
    stable: Amount = 0.0
    stable_base: Amount = 0.0


class LoadTally(StoredModel):
    """What was asked of the replicas."""

    candidate_requests: Count = 0
    candidate_replica_seconds: Amount = 0.0
    candidate_busy_seconds: Amount = 0.0
    stable_requests: Count = 0
    stable_replica_seconds: Amount = 0.0
    stable_busy_seconds: Amount = 0.0


class Tally(StoredModel):
    """What all closed windows came to."""

    seconds: Amount = 0.0
    errors: ErrorTally = ErrorTally()
    first_token: TimesTally = TimesTally()
    inter_token: TimesTally = TimesTally()
    total: TimesTally = TimesTally()
    ended: Count = Field(default=0, description="The candidate's requests with a finish reason.")
    reasons: dict[str, ReasonTally] = Field(default_factory=dict)
    throughput: SignTally = SignTally()
    preemptions: SignTally = SignTally()
    load: LoadTally = LoadTally()


class Comparison(StoredModel):
    """A comparison under way."""

    began: AwareDatetime = Field(description="When the present window began.")
    baselines: tuple[Baseline, ...] = ()
    tally: Tally = Tally()

    def baseline(self, source: str, arm: ArmName) -> Counters | None:
        """What a source had counted when the window began; None where that is not known."""
        found = (item.counters for item in self.baselines if (item.source, item.arm) == (source, arm))
        return next(found, None)

    def lasts(self, now: datetime) -> float:
        """Seconds since the window began."""
        return max(0.0, (now - self.began).total_seconds())
