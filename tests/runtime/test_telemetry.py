"""The operator's own metrics: names, bounded labels, and the page that lists them."""

import re

import pytest
from prometheus_client import REGISTRY

from nightshift.runtime import telemetry
from tools.metrics_reference import described, exposed_name, own_metrics, served_names

UNITS = ("_seconds", "_total", "_info")
PLAIN_NUMBERS = frozenset(
    {
        "nightshift_deployment_ready",
        "nightshift_deployments",
        "nightshift_engines_hung",
        "nightshift_leader",
        "nightshift_queue_backing_off",
        "nightshift_queue_depth",
        "nightshift_scaling_demand_known",
        "nightshift_scaling_limited",
        "nightshift_scaling_replicas",
        "nightshift_scaling_requests",
    }
)
"""Gauges that count things, or say yes or no."""


def value(name: str, /, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_everything_served_is_listed_and_everything_listed_is_served() -> None:
    assert {exposed_name(metric) for metric in own_metrics()} == served_names()


def test_names_carry_their_unit_and_help_is_a_sentence() -> None:
    for metric in own_metrics():
        name, text = exposed_name(metric), described(metric).documentation
        assert re.fullmatch(r"nightshift_[a-z_]+", name)
        assert name.endswith(UNITS) or name in PLAIN_NUMBERS, name
        assert text[0].isupper() or text[0].isdigit(), text
        assert text.endswith("."), text


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, "Unreachable"),
        (403, "Forbidden"),
        (409, "Conflict"),
        (418, "Refused"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (502, "ServerError"),
        (503, "ServiceUnavailable"),
        (599, "ServerError"),
    ],
)
def test_errors_are_counted_under_known_words_only(status: int, reason: str) -> None:
    assert telemetry.error_reason(status) == reason


def test_deployments_are_counted_by_the_reason_of_ready() -> None:
    def counts() -> list[float]:
        return [value("nightshift_deployments", reason=reason) for reason in ("TelemetryA", "TelemetryB", "Other")]

    before = counts()
    telemetry.observe_deployment("ml", "t1", ready=False, reason="TelemetryA")
    telemetry.observe_deployment("ml", "t2", ready=False, reason="TelemetryA")
    telemetry.observe_deployment("ml", "t2", ready=True, reason="TelemetryB")
    telemetry.observe_deployment("ml", "t2", ready=True, reason="TelemetryB")
    telemetry.observe_deployment("ml", "t3", ready=False, reason="what an outsider wrote")
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 1, 1]
    assert value("nightshift_deployment_ready", namespace="ml", name="t2") == 1
    for name in ("t1", "t2", "t3", "t4"):
        telemetry.forget_deployment("ml", name)
    assert counts() == before
    assert REGISTRY.get_sample_value("nightshift_deployment_ready", {"namespace": "ml", "name": "t2"}) is None
