"""The operator's own metrics."""

import contextlib

from prometheus_client import Counter, Gauge, Histogram

RECONCILE_SECONDS = Histogram(
    "nightshift_reconcile_seconds",
    "Time of one reconcile of one LLMDeployment.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RECONCILE_ERRORS = Counter("nightshift_reconcile_errors_total", "Reconciles that failed, by reason.", ["reason"])
WRITES = Counter("nightshift_api_writes_total", "Writes to the API server, by kind and verb.", ["kind", "verb"])
QUEUE_DEPTH = Gauge("nightshift_queue_depth", "LLMDeployments that are due to be reconciled.")
QUEUE_OVERDUE_SECONDS = Gauge("nightshift_queue_overdue_seconds", "Waiting time of the oldest due LLMDeployment.")
LEADER = Gauge("nightshift_leader", "1 where this process leads, 0 where it stands by.")
DEPLOYMENT_READY = Gauge("nightshift_deployment_ready", "1 where the present spec serves.", ["namespace", "name"])


def forget_deployment(namespace: str, name: str) -> None:
    """Drop the metrics of a deployment that is gone."""
    with contextlib.suppress(KeyError):
        DEPLOYMENT_READY.remove(namespace, name)
