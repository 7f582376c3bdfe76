"""The engine's metrics under the names of one vLLM version, moved by what the engine does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from vllm_sim.metric_table import METRICS, TOKEN_HISTOGRAMS, Metric, finish_reasons, token_buckets
from vllm_sim.versions import Version


@dataclass(frozen=True)
class Finished:
    """A finished sequence as the metrics see it; times in seconds."""

    reason: str
    e2e: float
    queued: float
    prefill: float
    decode: float
    inference: float
    prompt_tokens: int
    generated: int
    cached: int
    preemptions: int
    max_tokens: int


class EngineMetrics:
    """vLLM's engine metrics in a registry of their own.

    Args:
        version: The version whose names they have.
        model_name: Their label of that name.
        max_model_len: Tokens of the longest context; the last bucket of token counts.
        log_stats: Whether they are exported: with ``--disable-log-stats`` vLLM makes no loggers of them
            (vllm/v1/engine/async_llm.py, 0.32.0), so that only Python's and the web server's are left.
    """

    def __init__(self, version: Version, model_name: str, max_model_len: int, *, log_stats: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._engine = self.registry if log_stats else CollectorRegistry()
        GCCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._fixed = {"model_name": model_name, "engine": "0"}
        if version < Version(0, 8, 5):
            del self._fixed["engine"]
        self._extra: dict[str, str] = {}
        self._families: dict[str, Counter | Gauge | Histogram] = {}
        self._labels: dict[str, dict[str, str]] = {}
        for metric in METRICS:
            if metric.present(version):
                self._register(metric, version, max_model_len)
        self._lora: Gauge | None = None
        self._last: dict[str, float] = {}
        self.set("engine_sleep_state", 1.0, "awake")

    def _register(self, metric: Metric, version: Version, max_model_len: int) -> None:
        fixed = {name: self._fixed[name] for name in metric.labels if name in self._fixed}
        names = [*fixed, *([metric.extra] if metric.extra else [])]
        arguments = (f"vllm:{metric.name}", metric.help, names)
        family: Counter | Gauge | Histogram
        if metric.kind == "counter":
            family = Counter(*arguments, registry=self._engine)
        elif metric.kind == "gauge":
            family = Gauge(*arguments, registry=self._engine)
        else:
            tokens = metric.name in TOKEN_HISTOGRAMS
            buckets = token_buckets(max_model_len) if tokens else metric.buckets
            family = Histogram(*arguments, buckets=buckets, registry=self._engine)
        self._families[metric.name] = family
        self._labels[metric.name] = fixed
        self._extra[metric.name] = metric.extra
        values = finish_reasons(version) if metric.name == "request_success" else metric.values
        for value in values:
            family.labels(**fixed, **{metric.extra: value})
        if not metric.extra:
            family.labels(**fixed)

    def has(self, name: str) -> bool:
        """Whether this version exports a family."""
        return name in self._families

    def set(self, name: str, value: float, extra: str = "") -> None:
        """Set a gauge this version exports."""
        child = self._child(name, extra)
        if isinstance(child, Gauge):
            child.set(value)

    def add(self, name: str, amount: float, extra: str = "") -> None:
        """Add to a counter this version exports."""
        child = self._child(name, extra)
        if isinstance(child, Counter) and amount:
            child.inc(amount)

    def observe(self, name: str, values: Iterable[float]) -> None:
        """Put values into a histogram this version exports."""
        child = self._child(name, "")
        if isinstance(child, Histogram):
            for value in values:
                child.observe(value)

    def advance(self, name: str, total: float, extra: str = "") -> None:
        """Bring a counter up to a running total."""
        key = f"{name}|{extra}"
        self.add(name, total - self._last.get(key, 0.0), extra)
        self._last[key] = total

    def _child(self, name: str, extra: str) -> Counter | Gauge | Histogram | None:
        family = self._families.get(name)
        if family is None:
            return None
        label = self._extra[name]
        return family.labels(**self._labels[name], **({label: extra} if label else {}))

    def finished(self, one: Finished) -> None:
        """Record a finished sequence."""
        self.add("request_success", 1, one.reason)
        self.observe("e2e_request_latency_seconds", [one.e2e])
        self.observe("request_queue_time_seconds", [one.queued])
        self.observe("request_prefill_time_seconds", [one.prefill])
        self.observe("request_inference_time_seconds", [one.inference])
        self.observe("request_decode_time_seconds", [one.decode])
        self.observe("request_num_preemptions", [one.preemptions])
        self.observe("request_prefill_kv_computed_tokens", [one.prompt_tokens - one.cached])
        self.observe("request_prompt_tokens", [one.prompt_tokens])
        self.observe("request_generation_tokens", [one.generated])
        mean = one.decode / (one.generated - 1) if one.generated > 1 else 0.0
        self.observe("request_time_per_output_token_seconds", [mean])
        if one.max_tokens:
            self.observe("request_params_max_tokens", [one.max_tokens])

    def enable_lora(self, max_loras: int) -> None:
        """Export ``lora_requests_info``, which carries its facts in labels and the time as value."""
        names = ["max_lora", "waiting_lora_adapters", "running_lora_adapters"]
        self._lora = Gauge("vllm:lora_requests_info", "Running stats on lora requests.", names, registry=self._engine)
        self._max_loras = str(max_loras)

    def lora(self, running: Iterable[str], waiting: Iterable[str]) -> None:
        """Record which adapters run and wait."""
        if self._lora is not None:
            labels = (self._max_loras, ",".join(sorted(set(waiting))), ",".join(sorted(set(running))))
            self._lora.labels(*labels).set(time.time())

    def cache_config(self, facts: Mapping[str, object]) -> None:
        """Export ``cache_config_info``, a constant 1 with the configuration as labels."""
        labels = {name: str(value) for name, value in facts.items()}
        gauge = Gauge(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            list(labels),
            registry=self._engine,
        )
        gauge.labels(**labels).set(1)
