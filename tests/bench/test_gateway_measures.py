"""What the benchmark of the gateway makes of what it measures, and how its load and its engine read and write."""

import asyncio
import os
from array import array
from typing import Any

import pytest

from bench.gateway import judging
from bench.gateway.engine import Connection, Streams
from bench.gateway.judging import BARE, DIRECT, FAILED, OURS, ROUTER
from bench.gateway.load import Asking, Load, Streaming
from bench.gateway.processes import descendants

RAW = {
    "seconds": 4.0,
    "requests": 30_000,
    "cpu_seconds": {"haproxy": 1.5, "agent": 0.5, "engine": 3.0, "load": 3.0},
    "p50_ms": 0.5,
    "p99_ms": 2.0,
    "failed": 0,
}
LOAD = Load("127.0.0.1", 1, "/v1/chat/completions", 1, 1)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def figures(**changes: float) -> dict[str, float]:
    base = {
        judging.REQUESTS_PER_CORE: 10_000.0,
        judging.P50_ALONE: 0.3,
        judging.JITTER_P99: 10.0,
        judging.STREAM_CORES: 0.3,
        judging.ARRIVED: 1.0,
        FAILED: 0.0,
    }
    return base | changes


def a_run(**ours: float) -> dict[str, dict[str, float]]:
    direct = figures(p50_alone_ms=0.1, stream_jitter_p99_ms=5.0)
    del direct[judging.REQUESTS_PER_CORE]
    sides = {
        DIRECT: direct,
        BARE: figures(requests_per_second_per_core=20_000.0),
        OURS: figures(**ours),
        ROUTER: figures(requests_per_second_per_core=8_000.0),
    }
    return judging.with_added(sides)


def test_requests_per_core_are_those_of_all_processes_of_a_side_and_of_nobody_else() -> None:
    assert judging.proxy_cpu(RAW) == 2.0
    assert judging.of_answers(RAW)[judging.REQUESTS_PER_CORE] == 15_000


def test_a_direct_call_has_no_requests_per_core() -> None:
    alone = RAW | {"cpu_seconds": {"engine": 3.0, "load": 3.0}}
    assert judging.REQUESTS_PER_CORE not in judging.of_answers(alone)


def test_what_failed_in_any_measurement_is_added_up_and_other_figures_stand_side_by_side() -> None:
    assert judging.merged([{"a": 1, FAILED: 1}, {"b": 2, FAILED: 2}]) == {"a": 1, "b": 2, FAILED: 3}


def test_what_a_side_adds_is_the_difference_to_the_direct_call_of_the_same_run() -> None:
    run = a_run()
    assert run[OURS][judging.ADDED_P50] == pytest.approx(0.2)
    assert run[DIRECT][judging.ADDED_P50] == 0


def test_over_the_runs_the_median_counts_and_of_failures_all() -> None:
    runs = [a_run(stream_cores=cores, failed=1) for cores in (0.9, 0.2, 0.3)]
    middle = judging.medians(runs)[OURS]
    assert (middle[judging.STREAM_CORES], middle[FAILED]) == (0.3, 3)


def test_sides_are_compared_within_a_run() -> None:
    """A run in which the machine was slow for all sides changes no proportion."""
    slow = {side: {name: value / 3 for name, value in found.items()} for side, found in a_run().items()}
    assert judging.ratio([a_run(), slow, slow], judging.REQUESTS_PER_CORE, OURS, BARE) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ours", "broken"),
    [
        pytest.param({}, "", id="everything on the right side holds"),
        pytest.param({"requests_per_second_per_core": 7_000.0}, "of bare HAProxy's", id="too few for HAProxy"),
        pytest.param({"requests_per_second_per_core": 7_900.0}, "of vllm-router's", id="fewer than vllm-router's"),
        pytest.param({"p50_alone_ms": 0.36}, "adds to a client alone", id="it adds more than a quarter millisecond"),
        pytest.param({"stream_jitter_p99_ms": 15.1}, "deviation", id="more than three times the direct jitter"),
        pytest.param({"stream_cores": 0.51}, "processor", id="streams take more than half a core"),
        pytest.param({"stream_events_of_due": 0.9}, "arrived", id="streams fall behind"),
        pytest.param({"failed": 1.0}, "failed", id="a request failed"),
    ],
)
def test_a_claim_of_the_path_that_does_not_hold_is_kept(ours: dict[str, float], broken: str) -> None:
    claims = judging.traffic_claims([a_run(**ours)] * 3, 1000, missed_lines=0)
    failed = [claim.claim for claim in claims if not claim.holds]
    assert len(claims) == 8
    assert bool(failed) == bool(broken)
    assert not failed or any(broken in claim for claim in failed)


def test_requests_that_the_agent_did_not_count_are_no_cheap_ones() -> None:
    failed = [claim.claim for claim in judging.traffic_claims([a_run()] * 3, 1000, missed_lines=1) if not claim.holds]
    assert failed == ["Requests that the agent did not count, since it took HAProxy's lines too late."]


def test_where_vllm_router_could_not_be_had_nothing_is_claimed_of_it() -> None:
    run = {side: found for side, found in a_run().items() if side != ROUTER}
    assert not [claim for claim in judging.traffic_claims([run], 1000, 0) if "vllm-router" in claim.claim]


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        pytest.param({}, True, id="all within bounds"),
        pytest.param({"agent_peak_memory_mib": 121}, False, id="too much memory"),
        pytest.param({"agent_cpu_percent_of_a_core": 2.1}, False, id="too much processor at rest"),
        pytest.param({"readiness_p95_ms": 501}, False, id="readiness comes too late"),
        pytest.param({"deletion_p95_ms": 201}, False, id="deletion comes too late"),
        pytest.param({"served_after_readiness": 99}, False, id="one that was shown as ready did not serve"),
    ],
)
def test_claims_of_the_agent(changes: dict[str, float], holds: bool) -> None:
    good = {
        "agent_peak_memory_mib": 120,
        "agent_cpu_percent_of_a_core": 2,
        "readiness_p95_ms": 500,
        "deletion_p95_ms": 200,
        "samples": 100,
        "served_after_readiness": 100,
    }
    assert all(claim.holds for claim in judging.agent_claims(good | changes, 200)) is holds


async def test_the_engine_answers_requests_as_they_come_whole_or_in_parts() -> None:
    streams, transport = Streams(), Transport()
    engine = Connection(streams)
    engine.connection_made(transport)
    request = LOAD.request()
    engine.data_received(request[:50])
    engine.data_received(request[50:-1])
    assert transport.written == b""
    engine.data_received(request[-1:] + request)
    assert transport.written.count(b"HTTP/1.1 200 OK") == 2
    assert transport.written.count(b'"chat.completion"') == 2


async def test_a_stream_of_the_engine_has_as_many_events_as_tokens_were_asked_for() -> None:
    streams, transport = Streams(), Transport()
    engine = Connection(streams)
    engine.connection_made(transport)
    engine.data_received(Load("127.0.0.1", 1, "/", 1, -4.85, streams=True).request())  # 3 tokens
    sending = asyncio.create_task(streams.run())
    async with asyncio.timeout(10):
        while not transport.written.endswith(b"0\r\n\r\n"):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    sending.cancel()
    assert transport.written.count(b"data: {") == 3
    assert transport.written.count(b"data: [DONE]") == 1


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], id="at once"),
        pytest.param([b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 2\r\n\r\n{", b"}"], id="in parts"),
        pytest.param([b"HTTP/1.1 200 OK\r\n\r\n2\r\n{}\r\n", b"0\r\n\r\n"], id="in chunks"),
    ],
)
def test_a_client_asks_again_when_its_answer_is_whole(parts: list[bytes]) -> None:
    seconds: array[float] = array("d")
    client, transport = Asking(b"x", seconds), Transport()
    client.connection_made(transport)
    for part in parts:
        assert (transport.written, len(seconds)) == (b"x", 0)
        client.data_received(part)
    assert (transport.written, len(seconds), client.failed) == (b"xx", 1, 0)


def test_another_answer_than_200_and_a_connection_that_ends_are_failures() -> None:
    client = Asking(b"x", array("d"))
    client.connection_made(Transport())
    client.data_received(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
    client.connection_lost(None)
    assert client.failed == 2
    client.stop()
    client.connection_lost(None)
    assert client.failed == 2


def test_events_are_counted_also_where_they_come_together_or_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 1.05, 1.15])
    monkeypatch.setattr("bench.gateway.load.time.perf_counter", lambda: next(moments))
    monkeypatch.setattr(Streaming, "counting", True)
    deviations: array[float] = array("d")
    client = Streaming(b"x", deviations)
    client.connection_made(Transport())
    client.data_received(b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\nda")
    client.data_received(b"ta: b\n\n")
    client.data_received(b"data: c\n\ndata: d\n\n")
    assert client.events == 4
    assert client.first_byte_seconds == 1.0
    assert list(deviations) == pytest.approx([0.0, 0.05, 0.05])


def test_a_process_is_counted_with_its_children() -> None:
    async def child() -> tuple[list[int], int, int]:
        process = await asyncio.create_subprocess_exec("sleep", "5")
        found = descendants(os.getpid())
        process.kill()
        await process.wait()
        return found, os.getpid(), process.pid

    found, own, of_child = asyncio.run(child())
    assert {own, of_child} <= set(found)
