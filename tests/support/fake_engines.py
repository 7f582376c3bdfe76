"""Engines whose answers a test writes: the protocol of adapters.engine."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from nightshift.api import names
from nightshift.api.adapters import AdapterState, WantedAdapters
from nightshift.core.adapter_sight import AdapterAnswer
from nightshift.core.engine_metrics import EngineDetails, EngineMetrics, ProbeAnswer
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
    """One engine; `asked` keeps the questions in their order.

    One that runs requests makes a step before every reading, and one that answers makes a step for it.
    """

    reading: EngineMetrics | Unknown = field(default_factory=metrics)
    answer: ProbeAnswer | Unknown = field(default_factory=lambda: ProbeAnswer(answered=True, seconds=0.05))
    vllm: str | Unknown = "0.32.0"
    clock: Callable[[], datetime] = lambda: NOW
    hangs: bool = False
    """It makes no step, and leaves questions unanswered for as long as the deadline says."""
    asked: list[str] = field(default_factory=list)
    loaded: dict[str, str] = field(default_factory=dict)
    """Paths of loaded adapters, by name."""
    refuses: dict[str, str] = field(default_factory=dict)
    """What is said against loading from a path."""
    silent: bool = False
    """No question about adapters is answered."""

    async def adapters(self) -> Fact[Mapping[str, str]]:
        return Unknown("silence") if self.silent else Known(dict(self.loaded), self.clock())

    async def load_adapter(self, name: str, path: str) -> Fact[AdapterAnswer]:
        self.asked.append(f"load {name} {path}")
        if self.silent:
            return Unknown("silence")
        if path in self.refuses:
            return Known(AdapterAnswer(taken=False, message=self.refuses[path]), self.clock())
        assert name not in self.loaded, "vLLM refuses a name that is taken"
        self.loaded[name] = path
        return Known(AdapterAnswer(taken=True), self.clock())

    async def unload_adapter(self, name: str) -> Fact[AdapterAnswer]:
        self.asked.append(f"unload {name}")
        if self.silent:
            return Unknown("silence")
        self.loaded.pop(name)
        return Known(AdapterAnswer(taken=True), self.clock())

    async def metrics(self, *, detailed: bool = False) -> Fact[EngineMetrics]:
        self.asked.append("details" if detailed else "metrics")
        if isinstance(self.reading, Unknown):
            return self.reading
        if self.reading.running:
            self._step()
        if detailed:
            return Known(replace(self.reading, details=self.reading.details or EngineDetails()), self.clock())
        return Known(replace(self.reading, details=None), self.clock())

    async def probe(self, served_name: str, deadline_seconds: float) -> Fact[ProbeAnswer]:
        self.asked.append(f"probe {served_name} {deadline_seconds:g}")
        if isinstance(self.answer, Unknown):
            return self.answer
        if self.hangs:
            await asyncio.sleep(deadline_seconds)
            return Known(ProbeAnswer(answered=False, seconds=deadline_seconds), self.clock())
        self._step()
        return Known(self.answer, self.clock())

    def _step(self) -> None:
        if isinstance(self.reading, EngineMetrics) and not self.hangs:
            self.reading = replace(self.reading, iterations=self.reading.iterations + 1)

    async def version(self) -> Fact[str]:
        self.asked.append("version")
        return self.vllm if isinstance(self.vllm, Unknown) else Known(self.vllm, self.clock())


class FakeEngines:
    """Engines by the IP address of their pod; one that was not named is made when it is asked."""

    def __init__(self, clock: Callable[[], datetime] = lambda: NOW) -> None:
        self.clock = clock
        self.by_ip: dict[str, FakeEngine] = {}

    def at(self, pod_ip: str, port: int = names.ENGINE_PORT) -> FakeEngine:
        return self.by_ip.setdefault(pod_ip, FakeEngine(clock=self.clock))


@dataclass
class FakeSidecar:
    """One sidecar; what it is asked for is there at once, unless `says` says otherwise."""

    clock: Callable[[], datetime] = lambda: NOW
    says: dict[str, AdapterState] = field(default_factory=dict)
    """By commit."""
    silent: bool = False
    told: list[WantedAdapters] = field(default_factory=list)

    async def sync(self, wanted: WantedAdapters) -> Fact[Mapping[str, AdapterState]]:
        if self.silent:
            return Unknown("silence")
        self.told.append(wanted)
        there = {item.sha: AdapterState(sha=item.sha, phase="Ready") for item in wanted.adapters}
        return Known({sha: self.says.get(sha, state) for sha, state in there.items()}, self.clock())


class FakeSidecars:
    """Sidecars by the IP address of their pod."""

    def __init__(self, clock: Callable[[], datetime] = lambda: NOW) -> None:
        self.clock = clock
        self.by_ip: dict[str, FakeSidecar] = {}
        self.says: dict[str, AdapterState] = {}
        """What each of them says of a commit."""

    def at(self, pod_ip: str, port: int = names.ADAPTERS_PORT) -> FakeSidecar:
        return self.by_ip.setdefault(pod_ip, FakeSidecar(clock=self.clock, says=self.says))
