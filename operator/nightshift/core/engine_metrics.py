"""What an engine says of itself: its metrics under the names of every vLLM version, and the answer to a probe."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from nightshift.core.analysis.evidence import Histogram
from nightshift.core.facts import Unknown

Sample: TypeAlias = tuple[str, Mapping[str, str], float]
"""Name, labels and value of one line of Prometheus text."""

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
GENERATION_TOKENS = "vllm:generation_tokens_total"
ITERATIONS = "vllm:iteration_tokens_total_count"
"""The count of a histogram, in spite of its name; from 0.7.3."""
PREEMPTIONS = "vllm:num_preemptions_total"
KV_CACHE_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
"""Newest first: from 0.9.2, and up to 0.11. Both are shares from 0 to 1."""
SLEEP_STATE = "vllm:engine_sleep_state"
"""From 0.11.1."""
CACHE_CONFIG = "vllm:cache_config_info"

FINISHED = "vllm:request_success_total"
"""By finished_reason."""
FIRST_TOKEN_BUCKET = "vllm:time_to_first_token_seconds_bucket"  # noqa: S105 - a metric
INTER_TOKEN_BUCKETS = ("vllm:inter_token_latency_seconds_bucket", "vllm:time_per_output_token_seconds_bucket")
"""Newest first: from 0.10.2, and up to 0.11. Both are the time between two tokens."""
INFERENCE_SECONDS = "vllm:request_inference_time_seconds_sum"
"""Time that requests spent in the batch, as of their end; from 0.8."""

BUCKETS = frozenset({FIRST_TOKEN_BUCKET, *INTER_TOKEN_BUCKETS})
DETAILS = frozenset({FINISHED, INFERENCE_SECONDS})
"""Names of the samples that are read besides where an engine is compared with others; buckets apart."""

WANTED = frozenset(
    {
        RUNNING,
        WAITING,
        PROMPT_TOKENS,
        GENERATION_TOKENS,
        ITERATIONS,
        PREEMPTIONS,
        *KV_CACHE_USAGE,
        SLEEP_STATE,
        CACHE_CONFIG,
    }
)
"""Names of the samples that are read; an answer's other lines need not be parsed."""


_MOST_BUCKETS = 64
"""vLLM has 22 at most; who has more tells nothing that could be kept."""
_MOST_REASONS = 12
_REASON_CHARACTERS = 32


@dataclass(frozen=True)
class EngineDetails:
    """What is read besides of an engine that is compared with others; all of it counts since the engine's start.

    What a version does not export is None.
    """

    first_token: Histogram | None = None
    inter_token: Histogram | None = None
    finished: Mapping[str, int] = field(default_factory=dict)
    """Requests by finish reason."""
    inference_seconds: float | None = None
    """That requests which ended were in the batch, all together."""


@dataclass(frozen=True)
class EngineMetrics:
    """One reading of an engine's metrics; counts of several ranks of one engine are added up.

    The engine process moves all of these, and the API server in front of it none: when the engine hangs they
    stand still, while /health and /metrics go on answering (measured with vLLM 0.32.0).
    Counters begin anew when the engine restarts.
    """

    running: int
    """Requests in the batch, as of the engine's last step."""
    waiting: int
    """Requests in the engine's queue, as of its last step."""
    prompt_tokens: int
    """Prompt tokens since the start; a prompt counts when its last part was computed."""
    generation_tokens: int
    """Tokens generated since the start."""
    iterations: int
    """Steps that brought tokens; 0 where the version does not count them."""
    preemptions: int
    kv_cache_usage: float | None
    """Share of the KV cache in use, 0 to 1, of the fullest rank; moves with every part of a long prompt."""
    awake: bool
    """False where the engine was put to sleep, which looks like a hang and is none."""
    cache_config: Mapping[str, str] = field(default_factory=dict)
    """Labels of cache_config_info, as `core.fit.observed` reads them."""
    details: EngineDetails | None = None
    """None: not asked for."""

    @property
    def busy(self) -> bool:
        """Whether requests ran or waited at the engine's last step."""
        return self.running > 0 or self.waiting > 0

    @property
    def untouched(self) -> bool:
        """Whether it has brought no token since its start."""
        return not (self.prompt_tokens or self.generation_tokens or self.iterations)

    @property
    def mark(self) -> tuple[float, ...]:
        """Equal for two readings between which the engine made no step."""
        usage = -1.0 if self.kv_cache_usage is None else self.kv_cache_usage
        counts = (self.running, self.waiting, self.prompt_tokens, self.generation_tokens)
        return (*counts, self.iterations, self.preemptions, usage)


@dataclass(frozen=True)
class ProbeAnswer:
    """What came of asking an engine for one token."""

    answered: bool
    """False: the engine's server took the question, and no answer came within the deadline."""
    seconds: float
    """From the question to the answer, or to the deadline."""


def engine_metrics(samples: Iterable[Sample], *, detailed: bool = False) -> EngineMetrics | Unknown:
    """Read the samples of one engine.

    Worked example: `vllm:num_requests_running{engine="0"} 2.0` and `{engine="1"} 1.0` give 3 running.

    Args:
        samples: Those of one answer.
        detailed: Whether the details are read too.

    Returns:
        The metrics; Unknown where one is missing that every version exports (--disable-log-stats), or where a
        value is no number.
    """
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample[0] in WANTED or (detailed and (sample[0] in DETAILS or sample[0] in BUCKETS)):
            found.setdefault(sample[0], []).append(sample)
    if not all(math.isfinite(value) for group in found.values() for _, _, value in group):
        return Unknown("The engine exports a metric that is no number.")
    missing = [name for name in (RUNNING, WAITING, PROMPT_TOKENS, GENERATION_TOKENS) if name not in found]
    if missing:
        return Unknown(f"The engine exports no {missing[0]}; engine.args may switch its metrics off.")

    def total(name: str) -> int:
        return int(sum(value for _, _, value in found.get(name, ())))

    usage = next((found[name] for name in KV_CACHE_USAGE if name in found), None)
    config = found.get(CACHE_CONFIG)
    return EngineMetrics(
        running=total(RUNNING),
        waiting=total(WAITING),
        prompt_tokens=total(PROMPT_TOKENS),
        generation_tokens=total(GENERATION_TOKENS),
        iterations=total(ITERATIONS),
        preemptions=total(PREEMPTIONS),
        kv_cache_usage=max(value for _, _, value in usage) if usage else None,
        awake=not any(_asleep(labels, value) for _, labels, value in found.get(SLEEP_STATE, ())),
        cache_config=dict(config[0][1]) if config else {},
        details=_details(found) if detailed else None,
    )


def _details(found: Mapping[str, list[Sample]]) -> EngineDetails:
    finished: dict[str, int] = {}
    for _, labels, value in found.get(FINISHED, ()):
        reason = labels.get("finished_reason", "")[:_REASON_CHARACTERS]
        if reason in finished or len(finished) < _MOST_REASONS:
            finished[reason] = finished.get(reason, 0) + int(value)
    between = next((found[name] for name in INTER_TOKEN_BUCKETS if name in found), ())
    inference = [value for _, _, value in found.get(INFERENCE_SECONDS, ())]
    return EngineDetails(
        first_token=histogram(found.get(FIRST_TOKEN_BUCKET, ())),
        inter_token=histogram(between),
        finished=finished,
        inference_seconds=sum(inference) if inference and min(inference) >= 0 else None,
    )


def histogram(buckets: Iterable[Sample]) -> Histogram | None:
    """A histogram from Prometheus' buckets, which count all that is not above `le`; ranks of one engine are added up.

    Worked example: 1 up to 0.5 s, 3 up to 1 s and 4 in all are 1, 2 and 1 observations.

    Returns:
        The histogram; None where there is none, where it has no end, or where it counts less up to a larger bound.
    """
    upto: dict[float, float] = {}
    for _, labels, value in buckets:
        try:
            bound = float(labels["le"])
        except (LookupError, ValueError):
            return None
        upto[bound] = upto.get(bound, 0.0) + value
    bounds = sorted(upto)
    if len(bounds) < 2 or len(bounds) > _MOST_BUCKETS or not math.isinf(bounds[-1]) or not math.isfinite(bounds[0]):
        return None
    counts = [int(upto[bound]) for bound in bounds]
    single = tuple(above - below for below, above in zip([0, *counts[:-1]], counts, strict=True))
    return Histogram(tuple(bounds[:-1]), single) if min(single) >= 0 else None


def _asleep(labels: Mapping[str, str], value: float) -> bool:
    return labels.get("sleep_state") == "awake" and value == 0.0
