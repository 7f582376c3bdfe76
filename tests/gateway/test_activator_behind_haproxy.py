"""The activator behind real HAProxies: what is held goes back to them and on to an engine, in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from nightshift.api.gateway_state import parse_gateway_state
from nightshift.core.gateway.telling import state_file
from nightshift.gateway.activator import STATE_FILE, Activator
from nightshift.gateway.activator import Settings as ActivatorSettings
from tests.gateway.conftest import MakeEngine
from tests.support.api_server import ApiServer
from tests.support.fake_kube import FakeKube
from tests.support.raw_engine import RawEngine
from tests.support.real_haproxy import Gateway, Model, pod, route

PATH = "/ml/bot/v1/chat/completions"
CHAT = {"model": "ml/bot", "messages": [{"role": "user", "content": "hello"}]}


async def tell(gateway: Gateway, model: Model, cap: int | None = None) -> None:
    """Bring HAProxy into the model's state, and write what the agent would write beside it, or with another cap."""
    await gateway.settle(model)
    live = await gateway.driver.live()
    assert live is not None
    slots = dict(live.slots)
    if cap is not None:
        for name, slot in live.slots.items():
            servers = {key: replace(server, cap=cap) for key, server in slot.servers.items()}
            slots[name] = replace(slot, servers=servers)
    beside = gateway.directory / "state.new"
    beside.write_text(state_file([model.route], gateway.assignment, slots, datetime.now(UTC)))
    beside.rename(gateway.directory / STATE_FILE)


async def usable(gateway: Gateway, model: Model, cap: int | None = None) -> None:
    """Until HAProxy's own checks have found the model's replica."""
    async with asyncio.timeout(20):
        while True:
            await tell(gateway, model, cap)
            state = parse_gateway_state((gateway.directory / STATE_FILE).read_bytes()).routes["ml/bot"]
            if state.usable_servers:
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def holding(gateway: Gateway) -> AsyncIterator[Activator]:
    settings = ActivatorSettings(directory=Path(gateway.directory), drain_seconds=0.0)
    activator = Activator(settings, FakeKube(ApiServer()))
    await activator.start()
    yield activator
    await activator.stop()


async def until_held(activator: Activator, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(line.held for _, line in activator.hall.lines()) != count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


def order(engine: RawEngine) -> list[str]:
    return [seen.headers["x-id"] for seen in engine.seen]


async def ask(session: aiohttp.ClientSession, name: str) -> tuple[int, str | None]:
    async with session.post(PATH, json=CHAT, headers={"x-id": name}) as answer:
        await answer.read()
        return answer.status, answer.headers.get("x-nightshift-cold-start")


@pytest.mark.parametrize(
    ("cap", "released"),
    [
        pytest.param(1, 8, id="where HAProxy has several and hands on one after the other"),
        pytest.param(8, 8, id="where several are under way at the same time, but for those"),
    ],
)
async def test_what_was_held_reaches_the_replica_in_order_when_it_is_up(
    gateway: Gateway, engine: MakeEngine, cap: int, released: int
) -> None:
    a = await engine("a")
    asleep, awake = Model(route(cap=cap), {}), Model(route(cap=cap), {"r1": [pod(a)]})
    await tell(gateway, asleep)
    async with holding(gateway) as activator, gateway.session() as session:
        names = [f"{number:02}" for number in range(30)]
        asking = []
        for count, name in enumerate(names, start=1):
            asking.append(asyncio.create_task(ask(session, name)))
            await until_held(activator, count)
        await usable(gateway, awake, cap=released)
        assert await asyncio.gather(*asking) == [(200, "true")] * 30
        seen = order(a)
        assert sorted(seen) == names
        assert all(name in names[: place + cap] for place, name in enumerate(seen)), seen
        assert a.most_working <= cap
        assert await ask(session, "later") == (200, None), "with a replica up nothing is held"


async def test_a_client_that_leaves_is_seen_through_haproxy_and_frees_its_place(
    gateway: Gateway, engine: MakeEngine
) -> None:
    await tell(gateway, Model(route(), {}))
    async with holding(gateway) as activator, gateway.session() as session:
        asking = asyncio.create_task(session.post(PATH, json=CHAT))
        await until_held(activator, 1)
        asking.cancel()
        await until_held(activator, 0)
        assert activator.hall.used == 0


async def test_the_gateways_refusals_reach_clients_and_are_not_tried_again(gateway: Gateway) -> None:
    failing = route(start={"failure": {"reason": "NoGpuCapacity", "message": "No node has a free GPU."}})
    await tell(gateway, Model(failing, {}))
    async with holding(gateway) as activator, gateway.session() as session:
        async with session.post(PATH, json=CHAT) as answer:
            assert answer.status == 503
            assert answer.headers["x-should-retry"] == "false"
            assert (await answer.json())["error"]["code"] == "start_failed"
        count = activator.telemetry.registry.get_sample_value(
            "nightshift_gateway_refused_total", {"namespace": "ml", "name": "bot", "reason": "StartFailed"}
        )
        assert count == 1
