"""Engines whose answers a test writes: the protocol of adapters.engine."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nightshift.api import names
from nightshift.core.engine_metrics import EngineMetrics, ProbeAnswer
from nightshift.core.facts import Fact, Known, Unknown
from tests.support.builders import NOW


def metrics(**changes: Any) -> EngineMetrics:
    """An idle engine that has served before."""
    values: dict[str, Any] = {
        "running": 0,
        "waiting": 0,
        "prompt_tokens": 1000,
        "generation_tokens": 5000,
        "iterations": 4000,
        "preemptions": 0,
        "kv_cache_usage": 0.0,
        "awake": True,
    }
    return EngineMetrics(**(values | changes))


@dataclass
class FakeEngine:
    """One engine; `asked` keeps the questions in their order."""

    reading: EngineMetrics | Unknown = field(default_factory=metrics)
    answer: ProbeAnswer | Unknown = field(default_factory=lambda: ProbeAnswer(answered=True, seconds=0.05))
    vllm: str | Unknown = "0.32.0"
    at: datetime = NOW
    asked: list[str] = field(default_factory=list)

    async def metrics(self) -> Fact[EngineMetrics]:
        self.asked.append("metrics")
        return self.reading if isinstance(self.reading, Unknown) else Known(self.reading, self.at)

    async def probe(self, served_name: str, deadline_seconds: float) -> Fact[ProbeAnswer]:
        self.asked.append(f"probe {served_name} {deadline_seconds:g}")
        return self.answer if isinstance(self.answer, Unknown) else Known(self.answer, self.at)

    async def version(self) -> Fact[str]:
        self.asked.append("version")
        return self.vllm if isinstance(self.vllm, Unknown) else Known(self.vllm, self.at)


class FakeEngines:
    """Engines by the IP address of their pod; one that was not named is made when it is asked."""

    def __init__(self) -> None:
        self.by_ip: dict[str, FakeEngine] = {}

    def at(self, pod_ip: str, port: int = names.ENGINE_PORT) -> FakeEngine:
        return self.by_ip.setdefault(pod_ip, FakeEngine())
