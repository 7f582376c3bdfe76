"""Which engine metrics each vLLM version exports, under which names, labels and buckets.

First and last releases are those of the sources that were read; a release between two read ones behaves as
the older one. Counters are named as they are scraped, without the ``_total`` that the client library adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vllm_sim.versions import NEWEST, OLDEST, Version

Kind = Literal["gauge", "counter", "histogram"]
Buckets = tuple[float, ...]

LATENCY: Buckets = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
FIRST_TOKEN: Buckets = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
INTER_TOKEN: Buckets = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
ITERATION: Buckets = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PARAMS_N: Buckets = (1, 2, 5, 10, 20)
PREEMPTIONS: Buckets = (1, 2, 3, 4, 5, 10, 20)
TOKENS: Buckets = ()
"""The 1-2-5 series up to the context length; filled in by `token_buckets`."""


def token_buckets(max_model_len: int) -> Buckets:
    """1, 2, 5, 10, ... up to the context length, as vLLM builds it; 100 gives 1, 2, 5, 10, 20, 50, 100."""
    series: list[float] = []
    scale = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * scale > max_model_len:
                return tuple(series)
            series.append(mantissa * scale)
        scale *= 10


_LAST = NEWEST._replace(patch=99)


@dataclass(frozen=True)
class Metric:
    """One metric family.

    Attributes:
        name: without the ``vllm:`` prefix.
        values: values of the extra label that exist from the start, where there is an extra label.
        labels: the fixed labels; ``model_name`` alone for what the front end counts.
    """

    name: str
    kind: Kind
    help: str
    since: Version = OLDEST
    until: Version = _LAST
    buckets: Buckets = ()
    extra: str = ""
    values: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("model_name", "engine")

    def present(self, version: Version) -> bool:
        """Whether a release exports it."""
        return self.since <= version <= self.until


def _v(text: str) -> Version:
    return Version.parse(text)


def finish_reasons(version: Version) -> tuple[str, ...]:
    """Values of ``finished_reason``; `repetition` was seen in 0.31 to 0.33, its first release is not known."""
    reasons: tuple[str, ...] = ("stop", "length", "abort")
    if version >= _v("0.14.0"):
        reasons += ("error",)
    if version >= _v("0.31.0"):
        reasons += ("repetition",)
    return reasons


_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")

METRICS: tuple[Metric, ...] = (
    Metric(
        "estimated_flops_per_gpu", "counter",
        "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).",
        _v("0.17.0"),
    ),
    Metric(
        "estimated_read_bytes_per_gpu", "counter",
        "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).",
        _v("0.17.0"),
    ),
    Metric(
        "estimated_write_bytes_per_gpu", "counter",
        "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).",
        _v("0.17.0"),
    ),
    Metric("num_requests_running", "gauge", "Number of requests in model execution batches."),
    Metric("num_requests_waiting", "gauge", "Number of requests waiting to be processed."),
    Metric(
        "num_requests_waiting_by_reason", "gauge",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
        "Sum of all reasons equals vllm:num_requests_waiting.",
        _v("0.20.0"), extra="reason", values=("capacity", "deferred"),
    ),
    Metric(
        "engine_sleep_state", "gauge",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        _v("0.11.1"), extra="sleep_state", values=("awake", "weights_offloaded", "discard_all"),
    ),
    Metric(
        "gpu_cache_usage_perc", "gauge",
        "GPU KV-cache usage. 1 means 100 percent usage. DEPRECATED: Use vllm:kv_cache_usage_perc instead.",
        until=_v("0.10.2"),
    ),
    Metric("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", _v("0.9.2")),
    Metric(
        "gpu_prefix_cache_queries", "counter",
        "GPU prefix cache queries, in terms of number of queried tokens.", until=_v("0.10.2"),
    ),
    Metric(
        "gpu_prefix_cache_hits", "counter",
        "GPU prefix cache hits, in terms of number of cached tokens.", until=_v("0.10.2"),
    ),
    Metric(
        "prefix_cache_queries", "counter",
        "Prefix cache queries, in terms of number of queried tokens.", _v("0.9.2"),
    ),
    Metric(
        "prefix_cache_hits", "counter", "Prefix cache hits, in terms of number of cached tokens.", _v("0.9.2"),
    ),
    Metric(
        "external_prefix_cache_queries", "counter",
        "External prefix cache queries from KV connector cross-instance cache sharing, "
        "in terms of number of queried tokens.", _v("0.11.1"),
    ),
    Metric(
        "external_prefix_cache_hits", "counter",
        "External prefix cache hits from KV connector cross-instance cache sharing, "
        "in terms of number of cached tokens.", _v("0.11.1"),
    ),
    Metric(
        "mm_cache_queries", "counter",
        "Multi-modal cache queries, in terms of number of queried items.", _v("0.11.1"),
    ),
    Metric(
        "mm_cache_hits", "counter", "Multi-modal cache hits, in terms of number of cached items.", _v("0.11.1"),
    ),
    Metric("num_preemptions", "counter", "Cumulative number of preemption from the engine."),
    Metric("prompt_tokens", "counter", "Number of prefill tokens processed."),
    Metric(
        "prompt_tokens_by_source", "counter", "Number of prompt tokens by source.",
        _v("0.16.0"), extra="source", values=_SOURCES,
    ),
    Metric(
        "prompt_tokens_cached", "counter", "Number of cached prompt tokens (local + external).", _v("0.16.0"),
    ),
    Metric(
        "prompt_tokens_recomputed", "counter", "Number of cached tokens recomputed for forward pass.",
        _v("0.16.0"), _v("0.19.99"),
    ),
    Metric(
        "prompt_tokens_cached_by_source", "counter",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to "
        "DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at "
        "admission; sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        _v("0.32.0"), extra="source", values=_TIERS,
    ),
    Metric("generation_tokens", "counter", "Number of generation tokens processed."),
    Metric(
        "request_success", "counter", "Count of successfully processed requests.", extra="finished_reason",
    ),
    Metric(
        "admission_rejections", "counter",
        "Number of admission attempts rejected by a queue limit, by reason.", _v("0.32.0"),
        extra="reason", values=("max_num_queued_reqs", "max_num_queued_tokens"), labels=("model_name",),
    ),
    Metric("request_prompt_tokens", "histogram", "Number of prefill tokens processed.", buckets=TOKENS),
    Metric("request_generation_tokens", "histogram", "Number of generation tokens processed.", buckets=TOKENS),
    Metric(
        "iteration_tokens_total", "histogram", "Histogram of number of tokens per engine_step.",
        buckets=ITERATION,
    ),
    Metric(
        "request_max_num_generation_tokens", "histogram",
        "Histogram of maximum number of requested generation tokens.", buckets=TOKENS,
    ),
    Metric("request_params_n", "histogram", "Histogram of the n request parameter.", buckets=PARAMS_N),
    Metric(
        "request_params_max_tokens", "histogram", "Histogram of the max_tokens request parameter.",
        buckets=TOKENS,
    ),
    Metric(
        "time_to_first_token_seconds", "histogram", "Histogram of time to first token in seconds.",
        buckets=FIRST_TOKEN,
    ),
    Metric(
        "time_per_output_token_seconds", "histogram", "Histogram of time per output token in seconds.",
        until=_v("0.11.2"), buckets=INTER_TOKEN,
    ),
    Metric(
        "inter_token_latency_seconds", "histogram", "Histogram of inter-token latency in seconds.",
        _v("0.10.2"), buckets=INTER_TOKEN,
    ),
    Metric(
        "request_time_per_output_token_seconds", "histogram",
        "Histogram of time_per_output_token_seconds per request.", _v("0.11.0"), buckets=INTER_TOKEN,
    ),
    Metric(
        "e2e_request_latency_seconds", "histogram", "Histogram of e2e request latency in seconds.",
        buckets=LATENCY,
    ),
    Metric(
        "request_queue_time_seconds", "histogram", "Histogram of time spent in WAITING phase for request.",
        buckets=LATENCY,
    ),
    Metric(
        "request_inference_time_seconds", "histogram", "Histogram of time spent in RUNNING phase for request.",
        buckets=LATENCY,
    ),
    Metric(
        "request_prefill_time_seconds", "histogram", "Histogram of time spent in PREFILL phase for request.",
        buckets=LATENCY,
    ),
    Metric(
        "request_decode_time_seconds", "histogram", "Histogram of time spent in DECODE phase for request.",
        buckets=LATENCY,
    ),
    Metric(
        "request_num_preemptions", "histogram", "Histogram of the number of times a request was preempted.",
        _v("0.30.0"), buckets=PREEMPTIONS,
    ),
    Metric(
        "request_prefill_kv_computed_tokens", "histogram",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).", _v("0.13.0"),
        buckets=TOKENS,
    ),
)  # fmt: skip

TOKEN_HISTOGRAMS = frozenset(metric.name for metric in METRICS if metric.kind == "histogram" and not metric.buckets)
