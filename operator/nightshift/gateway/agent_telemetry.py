"""The agent's own metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from nightshift import __version__


class Telemetry:
    """Counters and gauges of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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

    def watch(self, age: Callable[[], float | None]) -> None:
        """Ask for the age of the configuration whenever the metrics are read."""

        def seconds() -> float:
            found = age()
            return float("nan") if found is None else found

        self.config_age.set_function(seconds)
