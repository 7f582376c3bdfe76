"""Requests by model and revision, counted and timed from HAProxy's log lines.

Written for many lines: those that say the same are read once. The series are those of revisions that have a slot, so
there are as many as the routes make; they go with their revision.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from nightshift.api.demand import RevisionResults
from nightshift.core.gateway.log_line import (
    ANSWERED,
    RESULTS,
    Answered,
    Result,
    parse_dropped,
    parse_saying,
    result_of,
    tally,
)
from nightshift.core.gateway.slots import Assignment

FIRST_BYTE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOTAL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0)
"""Upper bounds of the histograms' buckets."""

_LABELS = ["namespace", "name", "revision"]
Series = tuple[str, str, str]
"""Namespace, name and revision."""


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._bounds_ms = tuple(round(1000 * bound) for bound in bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum_ms = 0

    def observe(self, milliseconds: int, times: int) -> None:
        self._counts[bisect_left(self._bounds_ms, milliseconds)] += times
        self._sum_ms += milliseconds * times

    @property
    def counts(self) -> tuple[int, ...]:
        """By bucket, not summed up."""
        return tuple(self._counts)

    def add_to(self, family: HistogramMetricFamily, labels: Series) -> None:
        names = [*(str(bound) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum_ms / 1000)


@dataclass
class _Requests:
    """Those of one revision."""

    results: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    retries: int = 0
    retried: int = 0
    """Answered after a try that failed."""
    first_byte: _Histogram = field(default_factory=lambda: _Histogram(FIRST_BYTE_SECONDS))
    total: _Histogram = field(default_factory=lambda: _Histogram(TOTAL_SECONDS))


class RequestTelemetry(Collector):
    """Counts lines, in a registry that it is told.

    Args:
        registry: For the series.
        now: The present moment (UTC).
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._lines = dict.fromkeys(("counted", "other", "unparsable", "dropped"), 0)
        self._slots: Mapping[tuple[str, str], Series] = {}
        """By slot and route: a line of a slot's former owner is another's."""
        self._requests: dict[Series, _Requests] = {}
        self._since: dict[Series, datetime] = {}
        """Since when there is a slot, and so a count."""
        registry.register(self)

    def assign(self, assignment: Assignment) -> None:
        """Which slot is whose from now on. Series of revisions that have none any more go."""
        self._slots = {(name, key.route): _series(key.route, key.revision) for name, key in assignment.owners.items()}
        there = set(self._slots.values())
        self._requests = {series: found for series, found in self._requests.items() if series in there}
        now = self._now()
        self._since = {series: self._since.get(series, now) for series in there}

    def results(self, wanted: Callable[[str], bool]) -> dict[str, dict[str, RevisionResults]]:
        """How requests ended, by NAMESPACE/NAME and revision, of those deployments that are wanted by their name."""
        found: dict[str, dict[str, RevisionResults]] = {}
        for series, since in sorted(self._since.items()):
            namespace, name, revision = series
            route, requests = f"{namespace}/{name}", self._requests.get(series) or _Requests()
            if wanted(route):
                found.setdefault(route, {})[revision] = RevisionResults(
                    since=since,
                    **requests.results,
                    retried=requests.retried,
                    first_byte=requests.first_byte.counts,
                    total=requests.total.counts,
                )
        return found

    def take(self, block: bytes) -> None:
        """Count lines; whatever stands in them, it does not raise.

        Args:
            block: Lines with their ends.
        """
        sayings, others = tally(block)
        for saying, times in sayings.items():
            self._count(parse_saying(saying), times)
        for line in others:
            dropped = parse_dropped(line)
            self._lines["unparsable" if dropped is None else "dropped"] += 1 if dropped is None else dropped

    def _count(self, found: Answered, times: int) -> None:
        series = self._slots.get(found[:2])
        if series is None:
            self._lines["other"] += times
            return
        self._lines["counted"] += times
        requests = self._requests.get(series)
        if requests is None:
            requests = self._requests[series] = _Requests()
        result, retries = result_of(found.ending), found.ending[3]
        requests.results[result] += times
        requests.retries += retries * times
        if retries and result in ANSWERED:
            requests.retried += times
        if result == "ok":
            requests.total.observe(found.total_ms, times)
            if found.first_byte_ms is not None:
                requests.first_byte.observe(found.first_byte_ms, times)

    def collect(self) -> Iterator[Metric]:
        """The series, at a scrape."""
        lines = CounterMetricFamily(
            "nightshift_gateway_log_lines",
            "Lines of HAProxy's log, by result: counted, other (no request to a revision that there is), unparsable, "
            "or dropped (the agent did not take them in time; HAProxy never waits for it).",
            labels=["result"],
        )
        for result, count in self._lines.items():
            lines.add_metric([result], count)
        results = CounterMetricFamily(
            "nightshift_gateway_requests",
            "Requests that came to a revision, by result: ok, client_error (the engine's 4xx), server_error (5xx, or "
            "no answer of the engine), refused (by the gateway, such as for a full queue), left (the client), or cut "
            "(the answer broke off).",
            labels=[*_LABELS, "result"],
        )
        retries = CounterMetricFamily(
            "nightshift_gateway_retries",
            "Tries that a revision's replicas failed before an answer began (500, 503, no answer or no connection) "
            "and that HAProxy made again, with another one if there is one. Clients see nothing if that one answers.",
            labels=_LABELS,
        )
        first_byte = HistogramMetricFamily(
            "nightshift_gateway_first_byte_seconds",
            "Time from the request's headers to its answer's, of requests that ended ok, waiting in HAProxy included "
            "and holding by the activator not. An engine sends the headers of a stream before its first token.",
            labels=_LABELS,
        )
        total = HistogramMetricFamily(
            "nightshift_gateway_request_seconds",
            "Time from the request's headers to the end of its answer, of requests that ended ok, waiting in HAProxy "
            "included and holding by the activator not.",
            labels=_LABELS,
        )
        for series, found in sorted(self._requests.items()):
            for result, count in found.results.items():
                results.add_metric([*series, result], count)
            retries.add_metric(series, found.retries)
            found.first_byte.add_to(first_byte, series)
            found.total.add_to(total, series)
        yield from (lines, results, retries, first_byte, total)


def _series(route: str, revision: str) -> Series:
    namespace, _, name = route.partition("/")
    return namespace, name, revision
