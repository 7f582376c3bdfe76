"""The agent's own metrics."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nightshift import __version__
from nightshift.core.gateway.demand import Asked
from nightshift.gateway.request_telemetry import RequestTelemetry


class Telemetry:
    """Counters and gauges of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = RequestTelemetry(self.registry)
        self.config_age = Gauge(
            "nightshift_gateway_config_age_seconds",
            "Seconds since the API server was last heard, on the watch that was heard longest ago; it sends something "
            "at least once a minute. NaN: not yet.",
            registry=self.registry,
        )
        self.socket_errors = Counter(
            "nightshift_gateway_socket_errors_total",
            "Commands that HAProxy did not answer or refused; they are given again.",
            registry=self.registry,
        )
        self.commands = Counter(
            "nightshift_gateway_commands_total", "Commands that changed HAProxy's state.", registry=self.registry
        )
        self.reloads = Counter(
            "nightshift_gateway_reloads_total",
            "Reloads of HAProxy's configuration, by result: ok, or failed (the former one serves on).",
            ["result"],
            registry=self.registry,
        )
        self.rejected = Counter(
            "nightshift_gateway_routes_rejected_total",
            "Versions of route objects that could not be read; the last good ones serve on.",
            registry=self.registry,
        )
        self.broken = Gauge(
            "nightshift_gateway_routes_broken",
            "Route objects that cannot be read at present.",
            registry=self.registry,
        )
        self.addresses_rejected = Gauge(
            "nightshift_gateway_addresses_rejected",
            "Addresses in EndpointSlices of routes that are not those of the revision's pods, and get no request.",
            registry=self.registry,
        )
        self.routes = Gauge("nightshift_gateway_routes", "Routes.", registry=self.registry)
        build = Gauge(
            "nightshift_gateway_build_info", "1; the version stands in the label.", ["version"], registry=self.registry
        )
        build.labels(version=__version__).set(1)
        for result in ("ok", "failed"):
            self.reloads.labels(result=result)

    def watch(self, age: Callable[[], float | None], asked: Callable[[], Mapping[str, Asked]]) -> None:
        """Ask for the age of the configuration, and for what is asked of the routes, whenever the metrics are read."""

        def seconds() -> float:
            found = age()
            return float("nan") if found is None else found

        self.config_age.set_function(seconds)
        self.registry.register(_Load(asked))


class _Load(Collector):
    """Of each route what HAProxy told when it was looked at last; what is unknown is left out."""

    def __init__(self, asked: Callable[[], Mapping[str, Asked]]) -> None:
        self._asked = asked

    def collect(self) -> Iterator[Metric]:
        labels = ["namespace", "name"]
        in_flight = GaugeMetricFamily(
            "nightshift_gateway_in_flight", "Requests that replicas work on; left out where unknown.", labels=labels
        )
        queued = GaugeMetricFamily(
            "nightshift_gateway_queued",
            "Requests that wait in HAProxy for a replica with room; left out where unknown. Those that wait for a "
            "start are nightshift_gateway_held.",
            labels=labels,
        )
        for key, one in self._asked().items():
            namespace, _, name = key.partition("/")
            for family, value in ((in_flight, one.in_flight), (queued, one.queued)):
                if value is not None:
                    family.add_metric([namespace, name], value)
        yield from (in_flight, queued)
