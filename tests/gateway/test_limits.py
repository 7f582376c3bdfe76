"""What one model or one request may take from others, and for how long a request may last: real HAProxy."""

import asyncio

import pytest

from nightshift.core.gateway.render import config
from nightshift.core.gateway.settings import Settings
from tests.gateway.conftest import MakeEngine
from tests.gateway.test_traffic import CHAT, ask, crowd, until
from tests.support.raw_engine import Seen, respond
from tests.support.real_haproxy import Gateway, Model, pod, route


async def test_the_queue_of_one_model_leaves_others_connections(engine: MakeEngine) -> None:
    async with Gateway(max_connections=12) as gateway:
        a, b = await engine("a"), await engine("b")
        greedy = Model(route(cap=1, queue={"maxRequests": 1_000_000}), {"r1": [pod(a)]})
        await gateway.settle(greedy, Model(route("other"), {"r1": [pod(b)]}))
        a.gate.clear()
        async with gateway.session() as session:
            asking = await crowd(gateway, a, 1, 3, lambda: ask(session))  # a quarter of the connections
            assert [(await ask(session))[0] for _ in range(8)] == [429] * 8
            async with session.post("/ml/other/v1/chat/completions", json=CHAT) as response:
                assert await response.json() == {"engine": "b"}
            a.gate.set()
            assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 4


async def test_a_request_may_be_held_for_longer_than_an_engine_may_be_silent(engine: MakeEngine) -> None:
    async with Gateway(server_seconds=0.3) as gateway:
        await gateway.settle(Model(route(queue={"timeoutSeconds": 86_400}), {}))
        activator = await engine("activator", gateway.directory / "activator.sock")
        activator.gate.clear()
        async with gateway.session() as session:
            asking = asyncio.create_task(ask(session))
            await until(lambda: activator.working == 1)
            await asyncio.sleep(0.9)  # three times what an engine may be silent
            activator.gate.set()
            assert await asking == (200, {"engine": "activator"})
    assert "timeout server 90000000ms" in config(Settings(), {}, {}, "")


@pytest.mark.parametrize(("how", "found"), [("refuses connections", {200}), ("answers 503", {200, 503})])
async def test_of_a_request_over_the_buffer_clients_are_spared_only_a_replica_that_refuses_connections_and_not_one_that(
    gateway: Gateway, engine: MakeEngine, how: str, found: set[int]
) -> None:
    async def fails(_: Seen, writer: asyncio.StreamWriter) -> None:
        respond(writer, b"{}", 503)

    good, bad = await engine("good"), await engine("bad", answer=fails)
    await gateway.settle(Model(route(), {"r1": [pod(good), pod(bad)]}))
    if how == "refuses connections":
        await bad.stop()
    large = {"messages": "x" * 200_000}
    async with gateway.session() as session:
        assert {status for status, _ in [await ask(session, large) for _ in range(6)]} == found
