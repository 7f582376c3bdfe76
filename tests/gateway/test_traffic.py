"""How requests are spread, held back, tried again and let end: real HAProxy, engines on sockets."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from tests.gateway.conftest import MakeEngine
from tests.support.raw_engine import RawEngine, Seen, begin_events, event, respond
from tests.support.real_haproxy import BINARIES, Gateway, Model, pod, route

PATH = "/ml/bot/v1/chat/completions"
Answered = tuple[int, Any]
"""Status and body."""
CHAT = {"model": "ml/bot", "messages": [{"role": "user", "content": "hello"}]}


async def until(condition: Any, what: str = "") -> None:
    """Wait until something holds; the test fails where it never does."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def ask(session: aiohttp.ClientSession, body: Any = CHAT, **headers: str) -> Answered:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.post(PATH, json=body, headers=named) as response:
        return response.status, await response.json(content_type=None)


async def engines_of(session: aiohttp.ClientSession, count: int, body: Any = CHAT, **headers: str) -> Counter[str]:
    answers = [await ask(session, body, **headers) for _ in range(count)]
    assert {status for status, _ in answers} == {200}
    return Counter(answer["engine"] for _, answer in answers)


async def test_a_revision_of_one_percent_gets_about_one_percent(gateway: Gateway, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(weights={"r1": 99, "r2": 1}), {"r1": [pod(a)], "r2": [pod(b)]}))
    asked = b"POST /ml/bot/v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n"
    await gateway.raw((asked + b"\r\n{}") * 1999 + asked + b"Connection: close\r\n\r\n{}", seconds=60)
    assert len(a.seen) + len(b.seen) == 2000
    # A binomial of 2000 draws at 1 %: fewer than 4 or more than 40 come once in 20,000 runs.
    assert 4 <= len(b.seen) <= 40


async def test_a_session_stays_with_its_revision_and_its_share_is_the_weight(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(weights={"r1": 70, "r2": 30}), {"r1": [pod(a)], "r2": [pod(b)]}))
    async with gateway.session() as session:
        first = {name: await engines_of(session, 1, x_session_id=f"s{name}") for name in range(60)}
        again = {name: await engines_of(session, 1, x_session_id=f"s{name}") for name in range(60)}
    assert first == again
    assert 4 <= sum(found["b"] for found in first.values()) <= 36

    # A canary that grows takes sessions from the other side only: none of its own changes back.
    await gateway.settle(Model(route(weights={"r1": 40, "r2": 60}), {"r1": [pod(a)], "r2": [pod(b)]}))
    async with gateway.session() as session:
        grown = {name: await engines_of(session, 1, x_session_id=f"s{name}") for name in range(60)}
    assert all(grown[name]["b"] for name in first if first[name]["b"])


async def test_a_revision_without_a_usable_replica_passes_its_share_to_the_others(
    gateway: Gateway, engine: MakeEngine
) -> None:
    b = await engine("b")
    await gateway.settle(Model(route(weights={"r1": 60, "r2": 40}), {"r1": [], "r2": [pod(b)]}))
    async with gateway.session() as session:
        assert await engines_of(session, 50) == {"b": 50}


async def test_no_replica_gets_more_than_its_cap_and_the_rest_waits(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(cap=3), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 3, 7, lambda: ask(session))
        a.gate.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 10
    assert a.most_working == 3


@pytest.mark.parametrize("affinity", ["None", "Session"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("binary", sorted(BINARIES))
async def test_of_requests_that_come_at_once_each_further_thread_takes_at_most_one_more_than_the_cap(
    engine: MakeEngine, binary: str, threads: int, affinity: str
) -> None:
    async with Gateway(BINARIES[binary], threads=threads) as gateway:
        a = await engine("a")
        await gateway.settle(Model(route(cap=1, affinity=affinity), {"r1": [pod(a)]}))
        async with gateway.session() as session:
            for _ in range(20):
                asking = [ask(session, x_session_id="s") for _ in range(8)]
                assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 8
    assert 1 <= a.most_working <= threads


async def test_two_gateways_share_a_cap(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine("a")
    live = await gateway.settle(Model(route(cap=7), {"r1": [pod(a)]}), gateways=2)
    assert [server.cap for server in live.slots["be_l600_0"].servers.values()] == [3]
    live = await gateway.settle(Model(route(cap=7), {"r1": [pod(a)]}), gateways=1)
    assert [server.cap for server in live.slots["be_l600_0"].servers.values()] == [7]


async def test_past_the_queue_requests_are_refused_with_when_to_come_again(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(cap=1, queue={"maxRequests": 2}), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 2, lambda: ask(session))
        async with session.post(PATH, json=CHAT) as refused:
            assert (refused.status, refused.headers["retry-after"]) == (429, "2")
            assert (await refused.json())["error"]["code"] == "queue_full"
        a.gate.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 3


async def test_requests_that_wait_go_to_a_replica_that_comes(gateway: Gateway, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(cap=2), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 2, 2, lambda: ask(session))
        await gateway.settle(Model(route(cap=2), {"r1": [pod(a), pod(b)]}))
        await nudge_until(gateway, lambda: len(b.seen) == 2)
        assert len(a.seen) == 2
        a.gate.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 4


async def test_requests_that_wait_for_a_revision_whose_last_replica_leaves_go_to_another_revision(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(cap=1), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 3, lambda: ask(session))
        after = Model(route(cap=1, weights={"r1": 0, "r2": 100}), {"r1": [pod(a, deleting=True)], "r2": [pod(b)]})
        await gateway.settle(after)
        await nudge_until(gateway, lambda: len(a.seen) + len(b.seen) >= 3)
        a.gate.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 4
        assert len(b.seen) >= 1
    live = await gateway.settle(after)
    assert {name: sorted(slot.servers) for name, slot in live.slots.items() if slot.servers} == {
        "be_l600_0": ["s-a-0000-4000-8000-0"],
        "be_l600_1": ["s-b-0000-4000-8000-0"],
    }


async def test_requests_of_a_revision_that_is_given_up_while_it_hangs_are_asked_again_of_another_one(
    gateway: Gateway, engine: MakeEngine
) -> None:
    stable, hangs = await engine("stable"), await engine("hangs")
    hangs.gate.clear()
    both = {"r1": [pod(stable)], "r2": [pod(hangs)]}
    await gateway.settle(Model(route(weights={"r1": 0, "r2": 100}), both))
    async with gateway.session() as session:
        asking = await crowd(gateway, hangs, 3, 0, lambda: ask(session))
        await gateway.settle(Model(route(weights={"r1": 100, "r2": 0}), both))
        await gateway.settle(Model(route(weights={"r1": 100, "r2": 0}), both | {"r2": [pod(hangs, deleting=True)]}))
        await hangs.stop()
        answers = await asyncio.gather(*asking)
    assert [(status, answer["engine"]) for status, answer in answers] == [(200, "stable")] * 3


async def test_the_first_chunk_of_a_stream_arrives_before_the_second_is_made(
    gateway: Gateway, engine: MakeEngine
) -> None:
    async def streams(_: Seen, writer: asyncio.StreamWriter) -> None:
        begin_events(writer)
        for number in range(3):
            event(writer, f"chunk {number}")
            await writer.drain()
            await arrived.wait()
            arrived.clear()
        event(writer, "")

    arrived = asyncio.Event()
    a = await engine("a", answer=streams)
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    chunks = []
    async with gateway.session() as session, session.post(PATH, json=CHAT) as response:
        async for chunk in response.content.iter_any():
            chunks.append(chunk.decode().strip())
            arrived.set()
    assert chunks == ["data: chunk 0", "data: chunk 1", "data: chunk 2"]


@pytest.mark.parametrize("how", ["refuses connections", "closes without an answer", "answers 500", "answers 503"])
async def test_clients_do_not_see_a_replica_that(gateway: Gateway, engine: MakeEngine, how: str) -> None:
    async def fails(_: Seen, writer: asyncio.StreamWriter) -> None:
        if how == "closes without an answer":
            writer.transport.abort()
            raise ConnectionError
        respond(writer, b"{}", 500 if how == "answers 500" else 503)

    good, bad = await engine("good"), await engine("bad", answer=fails)
    await gateway.settle(Model(route(), {"r1": [pod(good), pod(bad)]}))
    if how == "refuses connections":
        await bad.stop()
    async with gateway.session() as session:
        assert await engines_of(session, 40) == {"good": 40}


async def test_nothing_is_tried_again_after_the_first_byte(gateway: Gateway, engine: MakeEngine) -> None:
    async def breaks(_: Seen, writer: asyncio.StreamWriter) -> None:
        begin_events(writer)
        event(writer, "one")
        await writer.drain()
        await broken.wait()
        writer.transport.abort()
        raise ConnectionError

    broken = asyncio.Event()
    engines = [await engine("a", answer=breaks), await engine("b", answer=breaks)]
    await gateway.settle(Model(route(), {"r1": [pod(one) for one in engines]}))
    async with gateway.session() as session, session.post(PATH, json=CHAT) as response:
        assert (await response.content.readline()) == b"data: one\n"
        broken.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert sum(len(one.seen) for one in engines) == 1


async def test_a_terminating_pod_gets_nothing_new_and_its_stream_ends_in_its_own_time(
    gateway: Gateway, engine: MakeEngine
) -> None:
    async def streams(request: Seen, writer: asyncio.StreamWriter) -> None:
        if not request.streams:
            respond(writer, json.dumps({"engine": "a"}).encode())
            return
        begin_events(writer)
        event(writer, "begin")
        await writer.drain()
        await go_on.wait()
        event(writer, "end")
        event(writer, "")

    go_on = asyncio.Event()
    a, b = await engine("a", answer=streams), await engine("b")
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    async with gateway.session() as session, session.post(PATH, json={**CHAT, "stream": True}) as response:
        assert (await response.content.readline()) == b"data: begin\n"
        await gateway.settle(Model(route(), {"r1": [pod(a, deleting=True), pod(b)]}))
        assert await engines_of(session, 20) == {"b": 20}

        # The pod is gone from the cluster, or its EndpointSlice is: the stream still ends in its own time.
        gone = gateway.cluster(Model(route(), {"r1": [pod(b)]}))
        live = await gateway.driver.live()
        assert live is not None
        assert not await gateway.driver.apply(gateway.decide(gone, live), live)
        assert await engines_of(session, 20) == {"b": 20}
        go_on.set()
        assert (await response.read()).decode().split() == ["data:", "end"]
        live = await gateway.settle(Model(route(), {"r1": [pod(b)]}))
    assert [server.name for server in live.slots["be_l600_0"].servers.values()] == ["s-b-0000-4000-8000-0"]


async def test_an_adapter_goes_only_to_replicas_that_have_it(gateway: Gateway, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    pods = {"r1": [pod(a), pod(b)]}
    some = route(adapters=[{"name": "refunds", "pods": ["b"]}, {"name": "none", "pods": []}], shortNames=["quick"])
    await gateway.settle(Model(some, pods))
    async with gateway.session() as session:
        for name in ("refunds", "ml/bot:refunds", "quick:refunds"):
            assert await engines_of(session, 10, {"model": name}) == {"b": 10}
            async with session.post("/v1/completions", json={"model": name}) as response:
                assert await response.json() == {"engine": "b"}
            async with session.post("/v1/completions", json={}, headers={"x-model": name}) as response:
                assert await response.json() == {"engine": "b"}
        assert set(await engines_of(session, 20)) == {"a", "b"}
        status, answer = await ask(session, {"model": "none"})
        assert (status, answer["error"]["code"]) == (503, "adapter_loading")

        every = route(adapters=[{"name": "refunds", "pods": ["a", "b"]}])
        await gateway.settle(Model(every, pods))
        assert set(await engines_of(session, 20, {"model": "refunds"})) == {"a", "b"}


@pytest.mark.parametrize("affinity", ["Session", "Prefix"])
async def test_affinity_keeps_what_belongs_together_on_one_replica(
    gateway: Gateway, engine: MakeEngine, affinity: str
) -> None:
    engines = [await engine(name) for name in "abc"]
    await gateway.settle(Model(route(affinity=affinity), {"r1": [pod(one) for one in engines]}))
    used = set()
    async with gateway.session() as session:
        for number in range(12):
            body = {"messages": [{"role": "system", "content": f"You are {number}. " + "x" * 300}, {"n": 1}]}
            found = await engines_of(session, 6, body, x_session_id=f"s{number}")
            assert len(found) == 1
            used |= set(found)
    assert len(used) > 1


async def test_without_a_usable_replica_a_request_goes_to_the_activator_and_comes_back_by_the_released_socket(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine("a")
    a.healthy = False
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    activator = await engine("activator", gateway.directory / "activator.sock")
    async with gateway.session() as session:
        await until(lambda: "is DOWN" in gateway.log.read_text())
        assert await ask(session) == (200, {"engine": "activator"})
    assert activator.seen[0].headers["x-nightshift-route"] == "ml/bot"

    a.healthy = True
    connector = aiohttp.UnixConnector(str(gateway.directory / "released.sock"))
    await until(lambda: "is UP" in gateway.log.read_text())
    headers = {"x-nightshift-released": "ml/bot"}
    async with aiohttp.ClientSession("http://gateway", connector=connector) as released:
        async with released.post("/v1/chat/completions", json=CHAT, headers=headers) as response:
            assert await response.json() == {"engine": "a"}
        async with released.post("/tokenize", json=CHAT, headers=headers) as response:
            assert response.status == 404
    assert [name for name in a.seen[0].headers if name.startswith("x-nightshift")] == []


async def test_without_an_activator_a_request_is_refused_in_openais_shape(gateway: Gateway) -> None:
    await gateway.settle(Model(route(), {}))
    async with gateway.session() as session:
        status, answer = await ask(session)
    assert (status, answer["error"]["code"]) == (503, "no_replica")


async def test_an_answer_that_takes_longer_than_a_client_may_be_silent_arrives(
    engine: MakeEngine,
) -> None:
    async with Gateway(client_seconds=0.3) as gateway:
        a = await engine("a")
        await gateway.settle(Model(route(), {"r1": [pod(a)]}))
        a.gate.clear()
        async with gateway.session() as session:
            asking = asyncio.create_task(ask(session))
            await until(lambda: a.working == 1)
            await asyncio.sleep(0.9)  # three times what a client may be silent while it is its turn
            a.gate.set()
            assert await asking == (200, {"engine": "a"})


async def test_a_client_that_leaves_frees_its_place(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(cap=1), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 2, lambda: ask(session))
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await waiting(gateway, 0)


async def waiting(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(slot.waiting for slot in (await gateway.socket.read_slots()).values()) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def crowd(
    gateway: Gateway, engine: RawEngine, working: int, waits: int, request: Callable[[], Coroutine[Any, Any, Answered]]
) -> list[asyncio.Task[Answered]]:
    """Requests that fill the only replica to its cap, and then so many that wait.

    The first come one by one: a thread of HAProxy looks whether a replica has room and counts its request after that,
    so that of two which come at once both may get the last place, and one fewer waits.
    """
    asking = []
    for count in range(1, working + 1):
        asking.append(asyncio.create_task(request()))
        await until(lambda count=count: engine.working == count)
    asking += [asyncio.create_task(request()) for _ in range(waits)]
    await waiting(gateway, waits)
    return asking


async def nudge_until(gateway: Gateway, condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await gateway.driver.nudge(await gateway.socket.read_slots())
            await asyncio.sleep(0.05)
