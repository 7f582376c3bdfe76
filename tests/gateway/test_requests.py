"""Requests counted and timed from the log of a real HAProxy."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest

from nightshift.core.gateway.settings import LOG_SOCKET
from nightshift.core.gateway.slots import Assignment, SlotKey
from nightshift.gateway.log_socket import serve_log
from nightshift.gateway.request_telemetry import RequestTelemetry
from tests.core.gateway.test_log_line import line
from tests.gateway.conftest import MakeEngine
from tests.gateway.test_traffic import CHAT, PATH, ask, until
from tests.support.raw_engine import Seen, begin_events, event, respond
from tests.support.real_haproxy import Gateway, Model, pod, route

BOT = {"namespace": "ml", "name": "bot", "revision": "r1"}


class Counting:
    """What the agent counts beside a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.registry = CollectorRegistry()
        self.telemetry = RequestTelemetry(self.registry)
        self.gateway = gateway
        self.lines: list[str] = []

    def take(self, block: bytes) -> None:
        self.lines += block.decode().splitlines()
        self.telemetry.take(block)

    async def settle(self, *models: Model) -> None:
        await self.gateway.settle(*models)
        self.telemetry.assign(self.gateway.assignment)

    def value(self, metric: str, /, **labels: str) -> float:
        return self.registry.get_sample_value(f"nightshift_gateway_{metric}", labels) or 0

    def requests(self, result: str) -> float:
        return self.value("requests_total", result=result, **BOT)


@pytest_asyncio.fixture
async def counting(gateway: Gateway) -> AsyncIterator[Counting]:
    found = Counting(gateway)
    server = await serve_log(gateway.directory / LOG_SOCKET, found.take)
    yield found
    await server.close()


async def answers(request: Seen, writer: asyncio.StreamWriter) -> None:
    """As the body asks: a status, or a stream that breaks off or never ends."""
    wanted = request.body.decode()
    if wanted.isdigit():
        respond(writer, b"{}", int(wanted))
        return
    begin_events(writer)
    event(writer, "one")
    await writer.drain()
    if wanted == "breaks":
        writer.transport.abort()
        return
    await asyncio.sleep(0.3 if wanted == "slow" else 3600)
    event(writer, "")


async def test_requests_are_counted_by_model_revision_and_how_they_ended(
    counting: Counting, engine: MakeEngine
) -> None:
    a = await engine("a", answer=answers)
    await counting.settle(Model(route(queue={"maxRequests": 1}, cap=1), {"r1": [pod(a)]}))
    async with counting.gateway.session() as session:
        for status in (200, 404, 501):
            async with session.post(PATH, data=str(status)) as response:
                assert response.status == status
        async with session.post(PATH, data="breaks") as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        leaving = await session.post(PATH, data="never ends")
        await until(lambda: a.working == 1)
        waiting = asyncio.create_task(ask(session))
        await asyncio.sleep(0.2)
        assert (await ask(session))[0] == 429
        waiting.cancel()
        leaving.close()
        assert (await session.post(PATH + "/nowhere", data="")).status == 404
    await until(lambda: counting.requests("left") == 2)
    found = {result: counting.requests(result) for result in ("ok", "client_error", "server_error", "refused", "cut")}
    assert found == {"ok": 1, "client_error": 1, "server_error": 1, "refused": 1, "cut": 1}
    await until(lambda: counting.value("log_lines_total", result="other") == 1)
    assert counting.value("log_lines_total", result="counted") == 7
    assert counting.value("log_lines_total", result="unparsable") == 0
    retried = [json.loads(text)["status"] for text in counting.lines if json.loads(text)["retries"] != "0"]
    assert retried == [], "what waits, is refused or leaves was not tried again"
    assert counting.value("retries_total", **BOT) == 0


async def test_what_a_second_try_hides_from_clients_is_counted_for_the_revision_that_failed(
    counting: Counting, engine: MakeEngine
) -> None:
    async def fails_now_and_then(_: Seen, writer: asyncio.StreamWriter) -> None:
        respond(writer, b'{"engine": "bad"}', 500 if len(bad.seen) % 4 == 0 else 200)

    good, bad = await engine("good"), await engine("bad", answer=fails_now_and_then)
    await counting.settle(Model(route(weights={"r1": 50, "r2": 50}), {"r1": [pod(good)], "r2": [pod(bad)]}))
    async with counting.gateway.session() as session:
        for _ in range(60):
            assert (await ask(session))[0] == 200
    await until(lambda: counting.value("log_lines_total", result="counted") == 60)
    found = counting.telemetry.results(lambda route: True)["ml/bot"]
    assert len(good.seen) + len(bad.seen) > 60, "some were tried twice"
    assert (found["r1"].ok, found["r1"].retried) == (len(good.seen), 0)
    failed = len(bad.seen) // 4
    assert (found["r2"].ok, found["r2"].retried) == (len(bad.seen) - failed, failed)
    assert counting.value("retries_total", **BOT) == 0
    assert counting.value("retries_total", **(BOT | {"revision": "r2"})) == failed


@pytest.mark.parametrize("how", ["answers 500", "closes without an answer", "refuses connections"])
async def test_one_request_that_fails_at_every_try_is_one_failure(
    counting: Counting, engine: MakeEngine, how: str
) -> None:
    async def fails(_: Seen, writer: asyncio.StreamWriter) -> None:
        if how == "closes without an answer":
            writer.transport.abort()
            raise ConnectionError
        respond(writer, b"{}", 500)

    a = await engine("a", answer=fails)
    await counting.settle(Model(route(), {"r1": [pod(a)]}))
    if how == "refuses connections":
        await a.stop()
    async with counting.gateway.session() as session:
        assert (await ask(session))[0] >= 500
    await until(lambda: counting.value("log_lines_total", result="counted") == 1)
    found = counting.telemetry.results(lambda route: True)["ml/bot"]["r1"]
    assert (found.ok, found.server_error, found.refused, found.retried) == (0, 1, 0, 0), counting.lines
    assert counting.value("retries_total", **BOT) > 0


async def test_the_first_byte_and_the_whole_answer_are_timed(counting: Counting, engine: MakeEngine) -> None:
    a = await engine("a", answer=answers)
    await counting.settle(Model(route(), {"r1": [pod(a)]}))
    async with counting.gateway.session() as session, session.post(PATH, data="slow") as response:
        await response.read()
    await until(lambda: counting.requests("ok") == 1)
    assert counting.value("first_byte_seconds_sum", **BOT) < 0.2
    assert 0.3 <= counting.value("request_seconds_sum", **BOT) < 3
    assert counting.value("request_seconds_bucket", le="0.25", **BOT) == 0
    assert counting.value("request_seconds_bucket", le="+Inf", **BOT) == 1


async def test_two_revisions_are_told_apart(counting: Counting, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    await counting.settle(Model(route(weights={"r1": 50, "r2": 50}), {"r1": [pod(a)], "r2": [pod(b)]}))
    async with counting.gateway.session() as session:
        for _ in range(30):
            assert (await ask(session))[0] == 200
    await until(lambda: counting.value("log_lines_total", result="counted") == 30)
    assert counting.requests("ok") == len(a.seen) > 0
    assert counting.value("requests_total", **(BOT | {"revision": "r2"}), result="ok") == len(b.seen) > 0


async def test_an_agent_that_takes_nothing_slows_nobody_and_is_told_what_it_missed(
    gateway: Gateway, engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightshift.core.gateway.render._RING_BYTES", 16384)
    stuck: list[asyncio.StreamReader] = []
    go_on, ended = asyncio.Event(), asyncio.Event()
    counting = Counting(gateway)

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stuck.append(reader)
        await go_on.wait()
        while taken := await reader.readline():
            counting.telemetry.take(taken)
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_unix_server(late, gateway.directory / LOG_SOCKET, limit=1024)
    await counting.settle(Model(route(), {"r1": [pod(await engine("a"))]}))
    asked = b"POST /ml/bot/v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n"
    answer = await gateway.raw((asked + b"\r\n{}") * 2999 + asked + b"Connection: close\r\n\r\n{}", seconds=60)
    assert answer.count(b"HTTP/1.1 200") == 3000
    assert len(stuck) == 1, "it was connected all the time"
    go_on.set()

    def seen() -> float:
        return sum(counting.value("log_lines_total", result=result) for result in ("counted", "dropped"))

    await until(lambda: counting.value("log_lines_total", result="counted") > 0)
    async with gateway.session() as session:  # what is dropped is told with the next line that there is room for
        await ask(session)
    await until(lambda: seen() == 3001)
    assert counting.value("log_lines_total", result="dropped") > 0
    assert counting.value("log_lines_total", result="unparsable") == 0
    server.close()
    stuck[0].feed_eof()
    await asyncio.wait_for(ended.wait(), 10)


async def test_an_agent_that_comes_back_counts_on(gateway: Gateway, engine: MakeEngine) -> None:
    counting = Counting(gateway)
    await counting.settle(Model(route(), {"r1": [pod(await engine("a"))]}))
    async with gateway.session() as session:
        assert (await ask(session))[0] == 200
        server = await serve_log(gateway.directory / LOG_SOCKET, counting.take)
        await until(lambda: counting.requests("ok") == 1)
        await server.close()


def test_series_of_a_deployment_that_is_gone_go_and_a_stranger_s_words_make_none() -> None:
    counting = RequestTelemetry(CollectorRegistry())
    counting.assign(Assignment({SlotKey("ml/bot", "r1"): "be_l600_0"}))
    rows: list[dict[str, object]] = [
        {},
        {"route": "ml/other"},
        {"slot": "be_l600_1"},
        {"slot": "fe_main", "route": "no/such"},
    ]
    counting.take("".join(line(**given) + "\n" for given in rows).encode())
    assert _series(counting) == {("ml", "bot", "r1")}
    counting.assign(Assignment({SlotKey("ml/new", "r9"): "be_l600_0"}))
    assert _series(counting) == set()


async def test_nothing_of_headers_queries_and_bodies_is_in_the_log_or_the_metrics(
    counting: Counting, engine: MakeEngine
) -> None:
    await counting.settle(Model(route(), {"r1": [pod(await engine("a"))]}))
    body: Any = CHAT | {"user": "hush-body"}
    async with (
        counting.gateway.session() as session,
        session.post(PATH + "?key=hush-query", json=body, headers={"authorization": "Bearer hush-header"}) as response,
    ):
        assert response.status == 200
    await until(lambda: counting.requests("ok") == 1)
    assert json.loads(counting.lines[-1])["path"] == "/v1/chat/completions"
    assert "hush" not in "".join(counting.lines) + counting.gateway.log.read_text()
    assert b"hush" not in generate_latest(counting.registry)


def _series(telemetry: RequestTelemetry) -> set[tuple[str, ...]]:
    labels = [sample.labels for family in telemetry.collect() for sample in family.samples]
    return {(one["namespace"], one["name"], one["revision"]) for one in labels if "revision" in one}
