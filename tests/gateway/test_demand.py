"""GET /demand, from a real HAProxy's counters."""

import asyncio

import aiohttp
import pytest

from nightshift.adapters.haproxy import Socket
from nightshift.api.demand import GatewayDemand
from nightshift.core.gateway.demand import Asked, look
from nightshift.core.gateway.settings import MASTER_SOCKET
from nightshift.gateway.agent import Agent, Setup, demand_route
from nightshift.gateway.probes import serve_probes
from tests.gateway.conftest import MakeEngine
from tests.gateway.test_traffic import CHAT, PATH, ask, crowd, until
from tests.support.raw_engine import RawEngine
from tests.support.real_haproxy import Gateway, Model, pod, route
from tests.support.watch_api import WatchApi, pod_object, route_object, slice_object

KEY = "ml/bot"


async def looked(gateway: Gateway, before: dict[str, Asked] | None = None) -> Asked:
    """One look, as the agent takes it each second."""
    slots, former = await gateway.driver.slots(), await gateway.driver.former()
    assert slots is not None
    now = asyncio.get_running_loop().time()
    return look([KEY], gateway.assignment, slots, former, before or {}, now)[KEY]


async def known(gateway: Gateway) -> Asked:
    """As soon as the master answers, which on 2.6 it does a moment after its start."""
    async with asyncio.timeout(20):
        while (found := await looked(gateway)).in_flight is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
    return found


async def test_what_runs_what_waits_and_when_the_last_one_came_is_read_from_haproxy(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(cap=1), {"r1": [pod(a)]}))
    never = await known(gateway)
    assert (never.in_flight, never.queued) == (0, 0)
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 2, lambda: ask(session))
        async with asyncio.timeout(20):
            while ((found := await looked(gateway)).in_flight, found.queued) != (1, 2):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        a.gate.set()
        await asyncio.gather(*asking)
    await asyncio.sleep(1.2)
    after = await looked(gateway)
    assert (after.in_flight, after.queued) == (0, 0)
    assert after.last is not None
    now = asyncio.get_running_loop().time()
    assert 0.1 <= now - after.last <= 5, "HAProxy says itself when the last one came: nothing was remembered here"
    assert list(after.totals.values()) == [3]


async def test_that_a_former_process_cannot_be_counted_is_said_once_where_people_look_for_it(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    assert [await gateway.driver.former() for _ in range(2)] == [None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "demand is unknown" in caplog.text
    assert "delete the gateway pod" in caplog.text


async def test_a_stream_of_a_process_that_a_reload_replaced_counts_until_it_ends(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a: RawEngine = await engine("a")
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    await known(gateway)
    a.gate.clear()
    process = await gateway.socket.process()
    async with aiohttp.ClientSession(
        "http://gateway", connector=aiohttp.UnixConnector(str(gateway.directory / "main.sock"))
    ) as session:
        asking = asyncio.create_task(session.post(PATH, json=CHAT))
        await until(lambda: a.working == 1)
        await Socket(gateway.directory / MASTER_SOCKET).ask("reload")
        async with asyncio.timeout(20):
            while await _process(gateway) in (None, process):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await known(gateway)).in_flight == 1
        a.gate.set()
        assert (await asking).status == 200
    async with asyncio.timeout(20):
        while (await looked(gateway)).in_flight != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_process_that_a_reload_replaced_takes_no_command_for_its_servers(
    gateway: Gateway, engine: MakeEngine
) -> None:
    """So what waits in it cannot be led elsewhere. A HAProxy that lets it would be welcome: see 0008."""
    a: RawEngine = await engine("a")
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    await known(gateway)
    a.gate.clear()
    master = Socket(gateway.directory / MASTER_SOCKET)
    async with gateway.session() as session:
        asking = asyncio.create_task(ask(session))
        await until(lambda: a.working == 1)
        process = await gateway.socket.process()
        await master.ask("reload")
        async with asyncio.timeout(20):
            while await _process(gateway) in (None, process):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await known(gateway)
        drain = f"@!{process} set server be_l600_0/s-a-0000-4000-8000-0 weight 0"
        assert (await master.ask(drain)).strip() == "Proxy is disabled."
        a.gate.set()
        assert (await asking)[0] == 200


async def _process(gateway: Gateway) -> int | None:
    slots = await gateway.driver.slots()
    return None if slots is None else await gateway.socket.process()


async def test_the_agent_tells_it_on_its_port(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine("a")
    gateway.ports["s-p1"] = a.port
    api = await WatchApi().start()
    agent = Agent(Setup(settings=gateway.settings, namespace="gw", pod="gateway-7"), kube := api.client())
    probes = await serve_probes(agent.problem, agent.unready, agent.telemetry.registry, 0, [demand_route(agent)])
    port = probes.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/demand") as answer:
            assert (answer.status, "try again" in await answer.text()) == (503, True)
        await api.put(route_object(route(port=a.port)))
        await api.put(pod_object("p1", "r1", "127.0.0.1"))
        await api.put(slice_object("bot-r1", {"p1": ("127.0.0.1", True)}))
        running = asyncio.create_task(agent.run())
        await until(lambda: (gateway.directory / "haproxy.cfg").exists())
        await gateway.start()
        await until(lambda: agent.demand is not None and agent.demand.routes[KEY].in_flight == 0)
        async with session.get("/demand") as answer:
            said = GatewayDemand.model_validate(await answer.json())
    assert said == agent.demand
    assert (said.pod, set(said.routes)) == ("gateway-7", {KEY})

    def value(metric: str, **labels: str) -> float | None:
        found = {"namespace": "ml", "name": "bot", **labels}
        return agent.telemetry.registry.get_sample_value(f"nightshift_gateway_{metric}", found)

    a.gate.clear()
    async with gateway.session() as client:
        asking = asyncio.create_task(ask(client))
        await until(lambda: value("in_flight") == 1)
        assert value("queued") == 0
        a.gate.set()
        assert (await asking)[0] == 200
    await until(lambda: value("requests_total", revision="r1", result="ok") == 1)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for query, told in (
            ("", None),
            ("?results=ml/bot&results=ml/x", 1),
            ("?results=*", 1),
            ("?results=ml/x", None),
        ):
            async with session.get(f"/demand{query}") as answer:
                revisions = GatewayDemand.model_validate(await answer.json()).routes[KEY].revisions
            assert (revisions["r1"].ok if revisions else None) == told

    await gateway.kill()
    errors = ("nightshift_gateway_socket_errors_total",)
    await until(lambda: bool(agent.telemetry.registry.get_sample_value(*errors)))
    last = agent.demand
    before = agent.telemetry.registry.get_sample_value(*errors) or 0
    await until(lambda: (agent.telemetry.registry.get_sample_value(*errors) or 0) > before)
    assert agent.demand == last, "while HAProxy is away the last answer stands, with its date"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await probes.cleanup()
    await kube.close()
    await api.stop()
