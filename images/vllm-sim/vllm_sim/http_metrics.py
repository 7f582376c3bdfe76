"""The web server's own metrics, as vLLM's instrumentation exports them, and the access log."""

from __future__ import annotations

import time

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

UNCOUNTED = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
_FINE = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0,
    30.0, 60.0,
)  # fmt: skip
_COARSE = (0.1, 0.5, 1.0)


class HttpMetrics:
    """Counts requests by handler."""

    def __init__(self, registry: CollectorRegistry) -> None:
        handler = ["handler"]
        self._requests = Counter(
            "http_requests_total",
            "Total number of requests by method, status and handler.",
            ["method", "status", "handler"],
            registry=registry,
        )
        self._request_size = Summary(
            "http_request_size_bytes",
            "Content length of incoming requests by handler. Only value of header is respected. Otherwise "
            "ignored. No percentile calculated. ",
            handler,
            registry=registry,
        )
        self._response_size = Summary(
            "http_response_size_bytes",
            "Content length of outgoing responses by handler. Only value of header is respected. Otherwise "
            "ignored. No percentile calculated. ",
            handler,
            registry=registry,
        )
        self._fine = Histogram(
            "http_request_duration_highr_seconds",
            "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. ",
            buckets=_FINE,
            registry=registry,
        )
        self._coarse = Histogram(
            "http_request_duration_seconds",
            "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. ",
            ["method", "handler"],
            buckets=_COARSE,
            registry=registry,
        )

    def record(self, request: web.Request, response: web.StreamResponse, started: float) -> None:
        """Count one answered request; `started` is a reading of time.perf_counter."""
        resource = request.match_info.route.resource
        handler = resource.canonical if resource is not None else "none"
        if handler in UNCOUNTED:
            return
        took = time.perf_counter() - started
        self._requests.labels(request.method, f"{response.status // 100}xx", handler).inc()
        self._request_size.labels(handler).observe(request.content_length or 0)
        self._response_size.labels(handler).observe(response.content_length or 0)
        self._fine.observe(took)
        self._coarse.labels(request.method, handler).observe(took)
