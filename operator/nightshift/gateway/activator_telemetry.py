"""The activator's metrics. Labels are deployments that the agent told of, and words of ours."""

from collections.abc import Callable, Collection, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nightshift.core.gateway.refusals import Why
from nightshift.gateway.hall import Hall, Notes, Phase

_DEPLOYMENT = ["namespace", "name"]
_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 90, 120, 180, 300, 450, 600, 900, 1800, 3600)


class Telemetry(Notes):
    """Counts what the hall tells, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._released = Counter(
            "nightshift_gateway_released_total",
            "Requests that waited and were handed to a replica; one that came back counts again.",
            _DEPLOYMENT,
            registry=self.registry,
        )
        self._refused = Counter(
            "nightshift_gateway_refused_total",
            "Requests that were not served for want of a replica, by reason; no deployment where it is not known.",
            [*_DEPLOYMENT, "reason"],
            registry=self.registry,
        )
        self._left = Counter(
            "nightshift_gateway_left_total",
            "Requests whose client left before their turn.",
            _DEPLOYMENT,
            registry=self.registry,
        )
        self._put_back = Counter(
            "nightshift_gateway_put_back_total",
            "Requests that no replica took and that waited again.",
            _DEPLOYMENT,
            registry=self.registry,
        )
        self._cold_starts = Counter(
            "nightshift_gateway_cold_starts_total",
            "Starts that requests waited for and that ended with a usable replica.",
            _DEPLOYMENT,
            registry=self.registry,
        )
        self._phases = Histogram(
            "nightshift_gateway_cold_start_seconds",
            "Phases of cold starts: start (first request held until a replica is usable), release (until nobody waits "
            "any more), first_byte (of the request that was released first, from its release).",
            ["phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._waited = Histogram(
            "nightshift_gateway_held_seconds",
            "Time that requests waited until they were released.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._renewals = Counter(
            "nightshift_gateway_wake_renewals_total",
            "Renewals of wake Leases, by result: ok, failed.",
            ["result"],
            registry=self.registry,
        )

        self._series: set[tuple[Counter, tuple[str, ...]]] = set()

    def _count(self, counter: Counter, *labels: str) -> None:
        counter.labels(*labels).inc()
        self._series.add((counter, labels))

    def keep(self, keys: Collection[str]) -> None:
        """Let go the series of deployments that are not among these any more."""
        there = {"/", *keys}
        for counter, labels in [one for one in self._series if "/".join(one[1][:2]) not in there]:
            counter.remove(*labels)
            self._series.discard((counter, labels))

    def refused(self, key: str, why: Why) -> None:
        """Count a refusal."""
        self._count(self._refused, *_labels(key), why.value)

    def released(self, key: str, waited: float) -> None:
        """Count a release."""
        self._count(self._released, *_labels(key))
        self._waited.observe(waited)

    def left(self, key: str) -> None:
        """Count a client that left."""
        self._count(self._left, *_labels(key))

    def put_back(self, key: str) -> None:
        """Count a request that came back."""
        self._count(self._put_back, *_labels(key))

    def cold_start(self, key: str, phase: Phase, seconds: float) -> None:
        """Measure a phase of a cold start."""
        self._phases.labels(phase).observe(seconds)
        if phase == "start":
            self._count(self._cold_starts, *_labels(key))

    def renewed(self, *, ok: bool) -> None:
        """Count a renewal of a wake Lease."""
        self._renewals.labels("ok" if ok else "failed").inc()

    def watch(self, hall: Hall, clock: Callable[[], float], state_age: Callable[[], float | None]) -> None:
        """Tell at every scrape how full a hall is.

        Args:
            hall: The hall.
            clock: Its clock, in seconds.
            state_age: Seconds since the agent wrote the gateway's state; None where it never did.
        """
        self.registry.register(_Fullness(hall, clock, state_age))


class _Fullness(Collector):
    def __init__(self, hall: Hall, clock: Callable[[], float], state_age: Callable[[], float | None]) -> None:
        self._hall, self._clock, self._state_age = hall, clock, state_age

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("nightshift_gateway_held", "Requests that wait for a replica.", labels=_DEPLOYMENT)
        oldest = GaugeMetricFamily(
            "nightshift_gateway_held_oldest_seconds",
            "Time that the oldest of them has been waiting.",
            labels=_DEPLOYMENT,
        )
        passing = GaugeMetricFamily(
            "nightshift_gateway_released_in_flight",
            "Requests that waited and whose answers are not over.",
            labels=_DEPLOYMENT,
        )
        now = self._clock()
        for key, line in self._hall.lines():
            if line.state is not None:
                held.add_metric(_labels(key), line.held)
                oldest.add_metric(_labels(key), line.oldest(now))
                passing.add_metric(_labels(key), len(line.own))
        yield from (held, oldest, passing)
        yield GaugeMetricFamily(
            "nightshift_gateway_held_bytes", "Memory that waiting requests take of the budget.", self._hall.used
        )
        yield GaugeMetricFamily("nightshift_gateway_held_budget_bytes", "The budget.", self._hall.budget)
        age = self._state_age()
        if age is not None:
            yield GaugeMetricFamily(
                "nightshift_gateway_activator_state_age_seconds", "Time since the agent wrote what is known here.", age
            )


def _labels(key: str) -> list[str]:
    namespace, _, name = key.partition("/")
    return [namespace, name]
