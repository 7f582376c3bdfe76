"""Requests that wait in a slot are answered whatever becomes of that slot, and by their own model: real HAProxy."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nightshift.core.gateway.state import Live
from tests.gateway.conftest import MakeEngine
from tests.gateway.test_traffic import CHAT, PATH, ask, crowd, nudge_until
from tests.support.real_haproxy import Gateway, Model, Pod, pod, route

OTHERS = (
    Model(route("hasty", queue={"timeoutSeconds": 30}), {}),
    Model(route("alike", affinity="Prefix"), {}),
)
"""They have a slot of their kind, so that nothing here needs a reload."""
REFUNDS = {**CHAT, "model": "ml/bot:refunds"}


def on(*pods: str) -> dict[str, Any]:
    return {"adapters": [{"name": "refunds", "pods": list(pods)}]}


def adapter_on_one(a: Pod, b: Pod) -> Model:
    return Model(route(cap=1, **on("a")), {"r1": [a, b]})


Change = Callable[[Pod, Pod], Model]
CHANGES: dict[str, tuple[Change, Change]] = {
    "the queue's time was edited": (
        lambda a, _: Model(route(cap=1), {"r1": [a]}),
        lambda a, _: Model(route(cap=1, queue={"timeoutSeconds": 30}), {"r1": [a]}),
    ),
    "the affinity was edited": (
        lambda a, _: Model(route(cap=1), {"r1": [a]}),
        lambda a, _: Model(route(cap=1, affinity="Prefix"), {"r1": [a]}),
    ),
    "its revision was dropped": (
        lambda a, _: Model(route(cap=1), {"r1": [a]}),
        lambda _, b: Model(route(cap=1, weights={"r2": 100}), {"r2": [b]}),
    ),
    "the affinity was edited away": (
        lambda a, _: Model(route(cap=1, affinity="Session"), {"r1": [a]}),
        lambda a, _: Model(route(cap=1), {"r1": [a]}),
    ),
    "its revision was dropped, and sessions keep to a replica": (
        lambda a, _: Model(route(cap=1, affinity="Session"), {"r1": [a]}),
        lambda _, b: Model(route(cap=1, weights={"r2": 100}, affinity="Session"), {"r2": [b]}),
    ),
    "all replicas have the adapter by now": (
        adapter_on_one,
        lambda a, b: Model(route(cap=1, **on("a", "b")), {"r1": [a, b]}),
    ),
    "no replica has the adapter but one of another revision": (
        adapter_on_one,
        lambda a, b: Model(route(cap=1, weights={"r1": 0, "r2": 100}, **on("b")), {"r1": [a], "r2": [b]}),
    ),
    "its revision lost its weight": (
        adapter_on_one,
        lambda a, b: Model(route(cap=1, weights={"r1": 0, "r2": 100}, **on("a")), {"r1": [a], "r2": [b]}),
    ),
    "the adapter is gone": (
        adapter_on_one,
        lambda a, b: Model(route(cap=1), {"r1": [a, b]}),
    ),
}


@pytest.mark.parametrize("why", list(CHANGES))
async def test_what_waits_in_a_slot_is_answered_though_the_slot_is_needed_no_more_since(
    gateway: Gateway, engine: MakeEngine, why: str
) -> None:
    a, b = await engine("a"), await engine("b")
    before, after = (make(pod(a), pod(b)) for make in CHANGES[why])
    live = await gateway.settle(before, *OTHERS)
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 3, lambda: ask(session, REFUNDS, x_session_id="s"))
        await one_round(gateway, after, *OTHERS)
        a.gate.set()
        await nudge_until(gateway, lambda: all(one.done() for one in asking))
        assert [one.result()[0] for one in asking] == [200] * 4
    live = await gateway.settle(after, *OTHERS)
    assert gateway.assignment.left == {}
    assert {name for name, slot in live.slots.items() if slot.servers} <= set(gateway.assignment.slots.values())


async def test_what_waits_for_a_replica_that_ends_goes_to_others_though_sessions_keep_to_one(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a, b = await engine("a"), await engine("b")
    model = route(cap=1, affinity="Session")
    await gateway.settle(Model(model, {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 3, lambda: ask(session, x_session_id="s"))
        ending = Model(model, {"r1": [pod(a, deleting=True), pod(b)]})
        before = await gateway.settle(ending)
        await nudge_until(gateway, lambda: len(b.seen) == 3)
        a.gate.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 4
        assert len(a.seen) == 1
    assert (
        states(await gateway.settle(ending))
        == states(before)
        == {"s-a-0000-4000-8000-0": 0, "s-b-0000-4000-8000-0": 100}
    )


def states(live: Live) -> dict[str, int]:
    """Weights of the servers that are not in maintenance."""
    every = [server for slot in live.slots.values() for server in slot.servers.values()]
    return {server.name: server.weight for server in every if not server.maintenance}


async def one_round(gateway: Gateway, *models: Model, deaf: bool = False) -> None:
    """A round of the agent, to which HAProxy answers or not."""
    live = None if deaf else await gateway.driver.live()
    decision = gateway.decide(gateway.cluster(*models), live)
    gateway.driver.write(decision)
    if live is not None:
        await gateway.driver.apply(decision, live)


async def gone(_: Gateway) -> None:
    """The route is gone a round before."""


async def restarted(gateway: Gateway) -> None:
    """The agent, too, knows only what stands in its files."""
    gateway.forget()


@pytest.mark.parametrize(
    ("first", "between"),
    [
        pytest.param(False, gone, id="the other one comes in the same round"),
        pytest.param(True, gone, id="the other one comes later"),
        pytest.param(True, restarted, id="the agent starts anew in between"),
    ],
)
async def test_no_request_reaches_another_model_s_engine_where_haproxy_does_not_answer_a_round_and(
    gateway: Gateway, engine: MakeEngine, first: bool, between: Callable[[Gateway], Awaitable[None]]
) -> None:
    a, b = await engine("a"), await engine("b")
    other = Model(route("other"), {"r1": [pod(b)]})
    await gateway.settle(Model(route(cap=1), {"r1": [pod(a)]}))
    a.gate.clear()
    async with gateway.session() as session:
        asking = await crowd(gateway, a, 1, 2, lambda: ask(session))
        if first:
            await one_round(gateway)
        await between(gateway)
        await one_round(gateway, other, deaf=True)
        for _ in range(3):
            await one_round(gateway, other)
            await gateway.driver.nudge(await gateway.socket.read_slots())
        async with session.post("/ml/other/v1/chat/completions", json=CHAT) as response:
            assert await response.json() == {"engine": "b"}
        assert [one.target for one in b.seen] == [PATH.removeprefix("/ml/bot")]
        assert all(one.result()[0] == 503 for one in asking if one.done()), "as 2.8 answers at once, and 2.6 later"
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
