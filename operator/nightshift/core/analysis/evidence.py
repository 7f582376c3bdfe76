"""What is known of a candidate and of the stable revision over the same time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nightshift.api.tally import Tally
from nightshift.core.facts import Fact


@dataclass(frozen=True)
class Histogram:
    """Times in buckets."""

    bounds: tuple[float, ...]
    """Upper bounds in seconds, ascending; what is above the last one has a bucket of its own."""
    counts: tuple[int, ...]
    """Observations by bucket, not cumulative: one more than bounds."""

    @property
    def total(self) -> int:
        """All observations."""
        return sum(self.counts)


EMPTY = Histogram((), (0,))


@dataclass(frozen=True)
class Arm:
    """What the replicas of one revision did over a window of time.

    Golden requests go straight to the pods: they are in everything that engines count, and not in what the gateway does
    (requests, failed, total).
    """

    requests: int
    """That ended, by success or failure of the engine."""
    failed: int
    """Of these, the ones that the engine answered with 5xx, not at all, or broke off."""
    first_token: Histogram = EMPTY
    """Time to first token, of the engine."""
    inter_token: Histogram = EMPTY
    """Time between tokens, of the engine."""
    total: Histogram = EMPTY
    """Time of the whole request, of the gateway."""
    finish_reasons: Mapping[str, int] = field(default_factory=dict)
    """Ended requests by finish reason (stop, length, abort, ...)."""
    generation_tokens: int = 0
    preemptions: int = 0
    replica_seconds: float = 0.0
    """Ready replicas times seconds."""
    mean_running: float | None = None
    """Requests that a replica worked on at a time, on average; the load at which it is compared."""
    stalled: bool | None = None
    """Whether a replica had requests and came no further; None: unknown."""
    left: int = 0
    """Besides the requests: those whose client went before the end."""


@dataclass(frozen=True)
class GoldenPair:
    """One question of the golden set, asked of both revisions."""

    question: str
    """Its id."""
    weight: int = 1
    stable_score: float | None = None
    """From 0 (wrong) to 1 (right); None: not answered, or nothing is expected of it."""
    candidate_score: float | None = None
    stable_failed: bool = False
    """No answer, or an answer of 5xx."""
    candidate_failed: bool = False
    stable_first_token: float | None = None
    """Seconds."""
    candidate_first_token: float | None = None
    stable_inter_token: float | None = None
    """Mean seconds between tokens."""
    candidate_inter_token: float | None = None
    logprob_distance: float | None = None
    """Mean absolute difference of the log-probabilities of the first token's likeliest tokens."""
    stable_noise: float | None = None
    """The same distance between two answers of the stable revision."""


@dataclass(frozen=True)
class Evidence:
    """Everything that a judgement is made from."""

    stable: Fact[Arm]
    candidate: Fact[Arm]
    golden: Fact[tuple[GoldenPair, ...]]
    """All pairs of this rollout so far."""
    seconds: float
    """Length of the window."""
    golden_expected: bool = False
    """Whether the user has a golden set, which then must have been asked before anything passes."""
    questions: int | None = None
    """Questions of the golden set of which something is expected; None: not known yet."""
    earlier: Tally = field(default_factory=Tally)
    """What the windows before this one came to."""
    stable_name: str = "the stable revision"
    """What sentences call it, e.g. 0.31.0."""
    other_model: bool = False
    """Whether the candidate has another model, or its weights in another form: it need not be like the stable one."""
    other_place: bool = False
    """Whether it runs on other accelerators, or another number of them: it need not be as fast."""
