"""Sums of closed windows of a comparison: what is kept of them, so that it does not grow with a rollout's length."""

from typing import Annotated

from pydantic import Field

from nightshift.api.base import StoredModel

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


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
