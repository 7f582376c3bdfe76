"""The activator's metrics and probes."""

import re
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import generate_latest

from nightshift.core.gateway.refusals import Refusal, Why
from nightshift.gateway.activator import settings_from
from nightshift.gateway.activator_telemetry import Telemetry
from nightshift.gateway.hall import Hall
from nightshift.gateway.line import Ticket
from nightshift.gateway.probes import serve_probes
from tests.gateway.states import KEY, state


def test_a_cold_start_is_told_with_its_phases_and_who_waits_with_the_oldest() -> None:
    telemetry = Telemetry()
    hall = Hall(1000_000, notes=telemetry)
    telemetry.watch(hall, lambda: 12.0, lambda: 3.5)
    hall.observe({KEY: state(cap=1)}, 0.0, 0.0)
    first = hall.enter(KEY, 0, 2.0)
    assert isinstance(first, Ticket)
    hall.join(first, lambda verdict: None, 2.0)
    assert isinstance(hall.enter(KEY, 0, 3.0), Refusal)
    assert isinstance(hall.enter("whatever/a client wrote", 0, 3.0), Refusal)

    def value(metric: str, /, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(metric, labels)

    deployment = {"namespace": "ml", "name": "bot"}
    assert value("nightshift_gateway_held", **deployment) == 1
    assert value("nightshift_gateway_held_oldest_seconds", **deployment) == 10
    assert value("nightshift_gateway_held_bytes") == hall.used > 0
    assert value("nightshift_gateway_activator_state_age_seconds") == 3.5
    hall.observe({KEY: state(usable=1)}, 12.0, 12.0)
    hall.answered(first, 13.0)
    assert value("nightshift_gateway_released_total", **deployment) == 1
    assert value("nightshift_gateway_released_in_flight", **deployment) == 1
    assert value("nightshift_gateway_cold_starts_total", **deployment) == 1
    assert value("nightshift_gateway_cold_start_seconds_sum", phase="start") == 10
    assert value("nightshift_gateway_cold_start_seconds_sum", phase="first_byte") == 1
    assert value("nightshift_gateway_refused_total", reason="QueueFull", **deployment) == 1
    assert value("nightshift_gateway_refused_total", reason="UnknownRoute", namespace="", name="") == 1
    assert b"whatever" not in generate_latest(telemetry.registry)


def test_series_of_a_deployment_that_is_gone_go() -> None:
    telemetry = Telemetry()
    for key in ("ml/bot", "ml/other", ""):
        telemetry.refused(key, Why.QUEUE_FULL)
        telemetry.left(key)
    telemetry.keep({"ml/other": 1})
    samples = [sample for family in telemetry.registry.collect() for sample in family.samples]
    assert {sample.labels["name"] for sample in samples if "name" in sample.labels} == {"other", ""}


def test_names_say_whose_they_are_and_carry_their_unit() -> None:
    telemetry = Telemetry()
    telemetry.watch(Hall(1), lambda: 0.0, lambda: 0.0)
    families = [family for family in telemetry.registry.collect() if family.name.startswith("nightshift")]
    assert len(families) >= 12
    for family in families:
        assert re.fullmatch(r"nightshift_gateway_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert family.type != "histogram" or family.name.endswith("_seconds")


async def test_probes_say_what_is_wrong() -> None:
    problems: list[str | None] = [None, "the agent has not told anything"]
    runner = await serve_probes(lambda: problems[0], lambda: problems[1], Telemetry().registry, 0)
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        found = {}
        for path in ("healthz", "readyz", "metrics"):
            async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                found[path] = (answer.status, await answer.text())
    await runner.cleanup()
    assert found["healthz"] == (200, "ok")
    assert found["readyz"] == (503, "the agent has not told anything")
    assert "process_resident_memory_bytes" in found["metrics"][1]


def test_the_settings_come_from_the_pod_and_nonsense_ends_the_process() -> None:
    given = {
        "NIGHTSHIFT_RUN_DIRECTORY": "/run/x",
        "POD_NAMESPACE": "gateways",
        "POD_NAME": "gateway-1",
        "NIGHTSHIFT_ACTIVATOR_BYTES": "1000",
        "NIGHTSHIFT_GATEWAY_REPLICAS": "2",
        "NIGHTSHIFT_ACTIVATOR_DRAIN_SECONDS": "7.5",
        "NIGHTSHIFT_ACTIVATOR_PORT": "9",
    }
    found = settings_from(given)
    assert (found.directory, found.namespace, found.pod) == (Path("/run/x"), "gateways", "gateway-1")
    assert (found.budget_bytes, found.gateway_pods, found.drain_seconds, found.probe_port) == (1000, 2, 7.5, 9)
    with pytest.raises(ValueError, match="invalid literal"):
        settings_from({"NIGHTSHIFT_ACTIVATOR_BYTES": "many"})
