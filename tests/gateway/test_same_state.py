"""Any sequence of cluster states, crashes and reloads leaves HAProxy as a fresh start does: HAProxy itself is asked."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightshift.adapters.haproxy import HaproxyError, Socket
from nightshift.core.gateway.diff import diff
from nightshift.core.gateway.render import server_options
from nightshift.core.gateway.settings import MAPS, MASTER_SOCKET
from nightshift.core.gateway.slots import parse_slot
from nightshift.core.gateway.state import Live, Server
from tests.support.real_haproxy import BINARIES, Gateway, Model, Pod, route

WEIGHTS: tuple[dict[str, int], ...] = (
    {"r1": 100},
    {"r2": 100},
    {"r1": 95, "r2": 5},
    {"r1": 40, "r2": 60},
    {"r1": 0, "r2": 100},
    {"r1": 33, "r2": 33, "r3": 34},
    {},
)


@st.composite
def pods(draw: st.DrawFn, name: str) -> list[Pod]:
    found = []
    for number in draw(st.sets(st.integers(0, 2))):
        ready, deleting = draw(st.sampled_from([(True, False), (True, True), (False, True), (False, False)]))
        address = draw(st.sampled_from(["127.0.0.2", "127.0.0.2", "127.0.0.3"]))
        found.append(Pod(f"{name}-{number}", 9, ready, deleting, address))
    return found


@st.composite
def models(draw: st.DrawFn) -> tuple[Model, ...]:
    found = []
    for name in draw(st.sets(st.sampled_from(["bot", "other", "third"]))):
        weights = draw(st.sampled_from(WEIGHTS))
        replicas = {revision: draw(pods(f"{name}{revision}")) for revision in weights}
        names = [pod.name for several in replicas.values() for pod in several]
        adapters = [{"name": "refunds", "pods": [name for name in names if draw(st.booleans())]}]
        one = route(
            name,
            weights,
            affinity=draw(st.sampled_from(["None", "None", "Session", "Prefix"])),
            state=draw(st.sampled_from(["On", "On", "Off"])),
            queue={"timeoutSeconds": draw(st.sampled_from([600, 600, 30]))},
            cap=draw(st.sampled_from([1, 7])),
            adapters=adapters if draw(st.booleans()) else [],
        )
        found.append(Model(one, replicas))
    return tuple(found)


@dataclass(frozen=True)
class Step:
    """What happens, and the cluster that the agent sees then."""

    what: str
    models: tuple[Model, ...]
    gateways: int
    done: int = 0
    """Commands that are still given before the agent dies."""


STEPS = st.builds(
    Step,
    st.sampled_from(
        [
            "settles",
            "settles",
            "agent restarts",
            "agent dies after files",
            "agent dies amid commands",
            "reload",
            "kill -9",
        ]
    ),
    models(),
    st.sampled_from([1, 1, 2]),
    st.integers(0, 12),
)


async def take(gateway: Gateway, step: Step) -> None:
    if step.what == "kill -9":
        await gateway.kill()
    if step.what == "reload" and gateway.process is not None:
        await reload(gateway)
    if step.what.startswith("agent dies") and gateway.process is not None:
        await half_a_round(gateway, step)
    if step.what.startswith("agent"):
        gateway.forget()
    await gateway.settle(*step.models, gateways=step.gateways)


async def reload(gateway: Gateway) -> None:
    """As a person might; a master that has started a moment ago does not listen yet."""
    async with asyncio.timeout(20):
        while True:
            try:
                await Socket(gateway.directory / MASTER_SOCKET).ask("reload")
                break
            except HaproxyError:
                await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)


async def half_a_round(gateway: Gateway, step: Step) -> None:
    live = await gateway.driver.live()
    decision = gateway.decide(gateway.cluster(*step.models, gateways=step.gateways), live)
    gateway.driver.write(decision)
    if live is None or step.what != "agent dies amid commands":
        return
    paths = {name: gateway.settings.path(name) for name in MAPS}
    way = diff(live, decision.desired, paths, lambda server: server_options(gateway.settings, server))
    for command in way.commands[: step.done]:
        await gateway.socket.ask(command.text)


def exactly(live: Live) -> dict[str, Any]:
    """All that commands and files decide of a process; not what health checks found out, nor counters."""
    return {
        "fingerprint": live.fingerprint,
        "slots": {
            name: sorted(
                (one.name, one.address, one.port, one.weight, one.cap, one.maintenance) for one in slot.servers.values()
            )
            for name, slot in live.slots.items()
        },
        "maps": {name: dict(found) for name, found in live.maps.items()},
    }


def by_meaning(live: Live) -> dict[str, Any]:
    """As above, with slots named by what is in them: which of the free slots a route got is history."""
    found = exactly(live)
    meaning = {name: f"{parse_slot(name)[0].code}{servers}" for name, servers in found["slots"].items()}  # type: ignore[index]

    def told(value: str) -> str:
        return "|".join(meaning.get(part, part) for part in value.split("|"))

    return {
        "slots": sorted(meaning[name] for name, servers in found["slots"].items() if servers),
        "maps": {name: {key: told(value) for key, value in lines.items()} for name, lines in found["maps"].items()},
    }


async def compare(binary: str, steps: list[Step]) -> None:
    last = steps[-1]
    async with Gateway(binary, first_pool=2, other_pool=1) as lived, Gateway(binary, first_pool=2, other_pool=1) as new:
        for step in steps:
            await take(lived, step)
        after = await lived.settle(*last.models, gateways=last.gateways)
        fresh = await new.settle(*last.models, gateways=last.gateways)
        assert by_meaning(after) == by_meaning(fresh)

        # A process that is started on the files, without a command, is in exactly the same state.
        await lived.kill()
        await lived.start()
        restarted = await lived.driver.live()
        assert restarted is not None
        assert exactly(restarted) == exactly(after)


@pytest.mark.parametrize("version", sorted(BINARIES))
def test_any_sequence_of_states_crashes_and_reloads_leaves_the_state_of_a_fresh_start(version: str) -> None:
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, min_size=1, max_size=8))
    def holds(steps: list[Step]) -> None:
        asyncio.run(compare(BINARIES[version], steps))

    holds()


async def test_the_comparison_finds_a_server_and_a_line_too_many() -> None:
    async with Gateway() as gateway:
        one = Model(route(), {"r1": [Pod("p", 9)]})
        before = await gateway.settle(one)
        extra = server_options(gateway.settings, Server("s-x", "127.0.0.2", 9, 100, 1))
        await gateway.socket.ask(f"add server be_l600_3/s-x 127.0.0.2:9 {extra}")
        await gateway.socket.ask(f"add map {gateway.settings.path('maps/models.map')} x ml/bot")
        after = await gateway.driver.live()
        assert after is not None
        assert exactly(after) != exactly(before)
        assert by_meaning(after)["slots"] != by_meaning(before)["slots"]
        assert by_meaning(after)["maps"] != by_meaning(before)["maps"]
        assert exactly(await gateway.settle(one)) == exactly(before)
