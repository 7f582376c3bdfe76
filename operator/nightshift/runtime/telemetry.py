"""The operator's own metrics. docs/metrics.md is generated from this file.

Every label has a bounded set of values: what comes from outside is mapped to a known word first.
"""

import contextlib
import re
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from nightshift import __version__
from nightshift.core.planning import Scaling

Result = Literal["ok", "failed", "bug"]

RECONCILE_SECONDS = Histogram(
    "nightshift_reconcile_seconds",
    "Time of one reconcile of one LLMDeployment, by result: ok, failed (tried again with backoff), or bug (a mistake "
    "of Nightshift, tried again too).",
    ["result"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RECONCILE_ERRORS = Counter(
    "nightshift_reconcile_errors_total",
    "Reconciles that failed and are tried again, by reason: what the API server answered, Unreachable, or Bug.",
    ["reason"],
)
REQUESTS = Counter(
    "nightshift_api_requests_total",
    "Requests to the API server, without those of watches, by method and status code; code 0: no answer.",
    ["method", "code"],
)
WRITES = Counter(
    "nightshift_api_writes_total", "Writes to the API server that were carried out, by kind and verb.", ["kind", "verb"]
)
QUEUE_DEPTH = Gauge("nightshift_queue_depth", "LLMDeployments that are due to be reconciled.")
QUEUE_OVERDUE_SECONDS = Gauge(
    "nightshift_queue_overdue_seconds",
    "Time that the oldest due LLMDeployment has been waiting for a worker; /healthz fails past livenessOverdueSeconds.",
)
QUEUE_BACKING_OFF = Gauge(
    "nightshift_queue_backing_off", "LLMDeployments whose last reconcile failed; tried again later each time."
)
WATCH_EVENTS = Counter("nightshift_watch_events_total", "What watches told, by kind of object.", ["kind"])
ENGINE_LOOKS = Counter(
    "nightshift_engine_looks_total",
    "Readings of engines' metrics, by result: read, or unknown (no answer).",
    ["result"],
)
ENGINE_PROBES = Counter(
    "nightshift_engine_probes_total",
    "Questions for one token to engines that made no step, by result: answered, unanswered, or unknown (refused, not "
    "reached).",
    ["result"],
)
ENGINES_HUNG = Gauge(
    "nightshift_engines_hung", "Engines that are ready and make no step, by LLMDeployment.", ["namespace", "name"]
)
ADAPTER_LOADS = Counter(
    "nightshift_adapter_loads_total",
    "Adapters that engines were told to load, by result: loaded, refused, or unknown (no answer).",
    ["result"],
)
GATEWAY_LOOKS = Counter(
    "nightshift_gateway_looks_total",
    "Questions to gateway pods for the demand, by result: read, or unknown (no answer).",
    ["result"],
)
SCALING_REPLICAS = Gauge(
    "nightshift_scaling_replicas", "Replicas that the autoscaler decided on, by LLMDeployment.", ["namespace", "name"]
)
SCALING_REQUESTS = Gauge(
    "nightshift_scaling_requests",
    "Requests that were seen at the last decision: in flight, queued and held, by LLMDeployment.",
    ["namespace", "name"],
)
SCALING_KNOWN = Gauge(
    "nightshift_scaling_demand_known",
    "1 where all of the demand was known at the last decision; at 0 no replica is given up, by LLMDeployment.",
    ["namespace", "name"],
)
SCALING_LIMITED = Gauge(
    "nightshift_scaling_limited",
    "1 where something keeps the replicas from following the demand; the condition ScalingLimited says what, by "
    "LLMDeployment.",
    ["namespace", "name"],
)
SCALING_STEPS = Counter(
    "nightshift_scaling_steps_total",
    "Changes of the number of replicas by the autoscaler, by direction: up, down, wake (from zero), or zero.",
    ["direction"],
)
LEADER = Gauge("nightshift_leader", "1 where this process leads, 0 where it stands by.")
DEPLOYMENT_READY = Gauge("nightshift_deployment_ready", "1 where the present spec serves.", ["namespace", "name"])
DEPLOYMENTS = Gauge("nightshift_deployments", "LLMDeployments, by the reason of their condition Ready.", ["reason"])
BUILD = Gauge("nightshift_build_info", "1; the version stands in the label.", ["version"])
BUILD.labels(version=__version__).set(1)

_OF_SCALING = (SCALING_REPLICAS, SCALING_REQUESTS, SCALING_KNOWN, SCALING_LIMITED)
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
_STATUS_REASONS = {
    0: "Unreachable",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_reasons: dict[tuple[str, str], str] = {}


def error_reason(status: int) -> str:
    """The label of a failed request: a known word, whatever a server or a proxy on the way said.

    Worked examples: 409 is Conflict, 0 Unreachable, 502 ServerError, 418 Refused.
    """
    return _STATUS_REASONS.get(status, "ServerError" if status >= 500 else "Refused")


def count_request(method: str, status: int) -> None:
    """Count a request to the API server; status 0 where there was no answer."""
    REQUESTS.labels(method=method, code=str(status)).inc()


def observe_deployment(namespace: str, name: str, *, ready: bool, reason: str) -> None:
    """Tell how a deployment stands, by its condition Ready."""
    DEPLOYMENT_READY.labels(namespace=namespace, name=name).set(ready)
    _move((namespace, name), reason if _REASON.fullmatch(reason) else "Other")


def forget_deployment(namespace: str, name: str) -> None:
    """Drop the metrics of a deployment that is gone."""
    for metric in (DEPLOYMENT_READY, ENGINES_HUNG, *_OF_SCALING):
        with contextlib.suppress(KeyError):
            metric.remove(namespace, name)
    _move((namespace, name), None)


def observe_scaling(namespace: str, name: str, scaling: Scaling | None) -> None:
    """Tell what the autoscaler decided; None where it does not decide."""
    if scaling is None:
        for metric in _OF_SCALING:
            with contextlib.suppress(KeyError):
                metric.remove(namespace, name)
        return
    load = scaling.demand.load
    values = (scaling.replicas, load.at_least, load.at_most is not None, scaling.limited is not None)
    for metric, value in zip(_OF_SCALING, values, strict=True):
        metric.labels(namespace=namespace, name=name).set(value)


def count_scaling(scaling: Scaling | None) -> None:
    """Count a change of the number of replicas that was carried out."""
    if scaling is None or scaling.replicas == scaling.before:
        return
    direction = "up" if scaling.replicas > scaling.before else "down"
    if scaling.before == 0:
        direction = "wake"
    SCALING_STEPS.labels(direction="zero" if scaling.replicas == 0 else direction).inc()


def _move(key: tuple[str, str], reason: str | None) -> None:
    """Count a deployment under another reason, or under none any more."""
    before = _reasons.pop(key, None)
    if before is not None:
        DEPLOYMENTS.labels(reason=before).dec()
    if reason is not None:
        _reasons[key] = reason
        DEPLOYMENTS.labels(reason=reason).inc()
