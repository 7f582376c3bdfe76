"""The agent as a whole: watches of an API server, a real HAProxy, the files and sockets between them."""

import asyncio
import contextlib
import json
import math
import stat
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from nightshift.gateway.agent import Agent, Setup, setup_from
from nightshift.gateway.driver import Driver
from tests.support.real_haproxy import Gateway, route
from tests.support.watch_api import WatchApi, pod_object, route_object, slice_object

BOT = route(port=9)


class Running:
    """An API server, an agent, and HAProxy, which starts when its files are there."""

    def __init__(self, api: WatchApi, gateway: Gateway) -> None:
        self.api = api
        self.gateway = gateway
        self.agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self, request_log: Callable[[bytes], None] = lambda lines: None, **setup: Any) -> Agent:
        self.kube = self.api.client()
        self.agent = Agent(Setup(settings=self.gateway.settings, namespace="gw", **setup), self.kube, request_log)
        self._task = asyncio.create_task(self.agent.run())
        if self.gateway.process is None:
            await self.until(lambda: (self.gateway.directory / "haproxy.cfg").exists())
            await self.gateway.start()
        await self.until(lambda: self.agent is not None and self.agent.unready() is None)
        return self.agent

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self.kube.close()
        self._task = None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                if self._task is not None and self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def servers(self) -> dict[str, int]:
        """Names and weights of all servers."""
        slots = await self.gateway.socket.read_slots()
        return {one.name[:4].rstrip("-"): one.weight for slot in slots.values() for one in slot.servers.values()}

    async def come(self, wanted: dict[str, int]) -> None:
        """Wait until HAProxy has these servers."""
        async with asyncio.timeout(30):
            while await self.servers() != wanted:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    def told(self) -> dict[str, Any]:
        path = self.gateway.directory / "state.json"
        found: dict[str, Any] = json.loads(path.read_text())["routes"] if path.exists() else {}
        return found


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    api = await WatchApi().start()
    await api.put(route_object(BOT))
    await api.put(pod_object("p1", "r1", "127.0.0.2"))
    await api.put(slice_object("bot-r1", {"p1": ("127.0.0.2", True)}))
    async with Gateway() as gateway:
        found = Running(api, gateway)
        yield found
        await found.end()
    await api.stop()


async def test_what_happens_in_the_cluster_comes_about_in_haproxy(running: Running) -> None:
    await running.begin()
    await running.come({"s-p1": 100})
    await running.api.put(pod_object("p2", "r1", "127.0.0.3"))
    await running.api.put(slice_object("bot-r1", {"p1": ("127.0.0.2", True), "p2": ("127.0.0.3", True)}))
    await running.come({"s-p1": 100, "s-p2": 100})
    await running.api.put(pod_object("p1", "r1", "127.0.0.2", deleting=True))
    await running.come({"s-p1": 0, "s-p2": 100})
    await running.api.put(slice_object("bot-r1", {"p2": ("127.0.0.3", True)}))
    await running.come({"s-p2": 100})
    await running.api.remove("ConfigMap", "gw", "bot")
    await running.come({})


async def test_haproxys_line_for_each_request_is_written_by_the_agent(running: Running) -> None:
    blocks: list[bytes] = []
    await running.begin(request_log=blocks.append)
    async with running.gateway.session() as session, session.get("/no/such/v1/models") as answer:
        assert answer.status == 404
    await running.until(lambda: any(block.startswith(b"{") for block in blocks))
    told = [json.loads(line) for line in b"".join(blocks).splitlines() if line.startswith(b"{")]
    assert [(one["status"], one["path"]) for one in told] == [(404, "/v1/models")]
    assert "/v1/models" not in running.gateway.log.read_text(), "HAProxy itself writes what befalls it, not requests"


async def test_the_activator_is_told_of_routes_with_what_haproxy_can_do_for_them(running: Running) -> None:
    await running.begin()
    await running.until(lambda: "ml/bot" in running.told())
    told = running.told()["ml/bot"]
    assert told["route"]["servedName"] == "bot"
    assert set(told) == {"route", "usable", "capacity", "inFlight"}
    # Nobody listens at the pod's address: HAProxy finds out, and the activator is told.
    await running.until(lambda: running.told()["ml/bot"]["usable"] == {"be_l600_0": 0})
    assert (running.told()["ml/bot"]["capacity"], running.told()["ml/bot"]["inFlight"]) == (0, 0)


async def test_files_and_sockets_are_for_their_owner_only(running: Running) -> None:
    await running.begin()
    await running.until(lambda: (running.gateway.directory / "state.json").exists())
    files = [path for path in running.gateway.directory.rglob("*") if path.is_file() and path.name != "log"]
    assert {"haproxy.cfg", "routes.map", "plan.json", "state.json"} <= {path.name for path in files}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {"0o600"}
    assert stat.S_IMODE((running.gateway.directory / "haproxy.sock").stat().st_mode) == 0o600


async def test_while_the_api_server_is_away_haproxy_serves_on_and_the_age_is_told(running: Running) -> None:
    agent = await running.begin()
    await running.come({"s-p1": 100})
    running.api.refusing = 503
    await running.api.cut()
    await running.until(lambda: bool(agent.cluster.routes.problem))
    before = agent.cluster.age_seconds
    await running.until(lambda: (agent.cluster.age_seconds or 0) > (before or 0) + 0.2)
    assert await running.servers() == {"s-p1": 100}
    assert agent.unready() is None
    assert agent.problem() is None
    assert agent.telemetry.registry.get_sample_value("nightshift_gateway_config_age_seconds") >= 0.2  # type: ignore[operator]

    running.api.refusing = 0
    await running.api.put(pod_object("p1", "r1", "127.0.0.2", deleting=True))
    await running.come({"s-p1": 0})


async def test_an_agent_that_starts_while_the_api_server_is_away_changes_nothing(running: Running) -> None:
    await running.begin()
    await running.come({"s-p1": 100})
    await running.end()
    running.api.refusing = 403
    kube = running.api.client()
    agent = Agent(Setup(settings=running.gateway.settings, namespace="gw"), kube)
    task = asyncio.create_task(agent.run())
    await running.until(lambda: bool(agent.cluster.routes.problem))
    await agent.round(changed=True)
    assert await running.servers() == {"s-p1": 100}
    assert agent.unready() is not None
    assert agent.cluster.age_seconds is None
    age = agent.telemetry.registry.get_sample_value("nightshift_gateway_config_age_seconds")
    assert age is not None
    assert math.isnan(age)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await kube.close()


async def test_a_restarted_agent_keeps_every_slot_and_gives_no_command(running: Running) -> None:
    await running.begin()
    await running.come({"s-p1": 100})
    before = (running.gateway.directory / "plan.json").read_text()
    await running.end()
    agent = await running.begin()
    assert (running.gateway.directory / "plan.json").read_text() == before
    assert agent.telemetry.registry.get_sample_value("nightshift_gateway_commands_total") == 0


async def test_while_haproxy_does_not_answer_no_slot_changes_hands(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.begin()
    await running.come({"s-p1": 100})

    async def silent(_: Driver) -> None:
        return None

    monkeypatch.setattr(Driver, "live", silent)
    await running.api.remove("ConfigMap", "gw", "bot")
    await running.api.put(route_object(route("other")))
    plan = running.gateway.directory / "plan.json"
    await running.until(lambda: [one["route"] for one in json.loads(plan.read_text())["slots"]] == ["ml/other"])
    read = json.loads(plan.read_text())
    assert [(one["route"], one["slot"]) for one in read["slots"]] == [("ml/other", "be_l600_1")]
    assert [(one["route"], one["slot"]) for one in read["left"]] == [("ml/bot", "be_l600_0")]


async def test_a_haproxy_that_starts_again_has_everything_from_the_files(running: Running) -> None:
    agent = await running.begin()
    await running.come({"s-p1": 100})
    given = agent.telemetry.registry.get_sample_value("nightshift_gateway_commands_total")
    await running.gateway.kill()
    await running.until(
        lambda: bool(agent.telemetry.registry.get_sample_value("nightshift_gateway_socket_errors_total"))
    )
    await running.gateway.start()
    assert await running.servers() == {"s-p1": 100}
    await running.api.put(pod_object("p1", "r1", "127.0.0.2", deleting=True))
    await running.come({"s-p1": 0})
    commands = agent.telemetry.registry.get_sample_value("nightshift_gateway_commands_total")
    assert commands == (given or 0) + 3, "it drains, and two maps say that nobody can name its revision any more"


async def test_a_broken_route_hides_no_other_one_and_its_last_good_version_serves_on(running: Running) -> None:
    agent = await running.begin()
    await running.api.put(route_object("{", "bot"))
    await running.api.put(route_object(route("other")))
    await running.until(lambda: {one.key for one in agent.routes} == {"ml/bot", "ml/other"})
    assert await running.servers() == {"s-p1": 100}
    assert agent.telemetry.registry.get_sample_value("nightshift_gateway_routes_rejected_total") == 1
    await running.api.put(route_object(BOT))
    await running.until(lambda: agent.cluster.broken == {})


async def test_more_routes_than_slots_are_served_after_a_reload(running: Running) -> None:
    agent = await running.begin()
    for number in range(9):
        await running.api.put(route_object(route(f"m{number}")))
    await running.until(lambda: len(running.told()) == 10)
    live = await running.gateway.driver.live()
    assert live is not None
    assert sorted(live.slots) == sorted(f"be_l600_{number}" for number in range(16))
    assert sum(key.count("/") == 1 for key in live.maps["maps/routes.map"]) == 10, "and one for each ready revision"
    assert agent.telemetry.registry.get_sample_value("nightshift_gateway_reloads_total", {"result": "ok"}) >= 1  # type: ignore[operator]
    assert agent.telemetry.registry.get_sample_value("nightshift_gateway_reloads_total", {"result": "failed"}) == 0


async def test_a_configuration_that_haproxy_refuses_leaves_the_former_one_serving(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightshift.gateway.driver.RELOAD_SECONDS", 1.0)
    agent = await running.begin()
    await running.come({"s-p1": 100})
    whole = Driver.write

    def spoiled(self: Driver, decision: Any) -> None:
        whole(self, decision)
        config = running.gateway.directory / "haproxy.cfg"
        config.write_text(config.read_text() + "nonsense\n")

    monkeypatch.setattr(Driver, "write", spoiled)
    for number in range(9):
        await running.api.put(route_object(route(f"m{number}")))
    metric = ("nightshift_gateway_reloads_total", {"result": "failed"})
    await running.until(lambda: bool(agent.telemetry.registry.get_sample_value(*metric)))
    assert await running.servers() == {"s-p1": 100}
    # What needs no new slot comes about all the same.
    await running.api.put(pod_object("p1", "r1", "127.0.0.2", deleting=True))
    await running.come({"s-p1": 0})


async def test_a_watch_begins_anew_with_a_list_where_its_version_is_too_old_and_misses_nothing(
    running: Running,
) -> None:
    await running.begin()
    await running.come({"s-p1": 100})
    lists = len(running.api.lists)
    running.api.refusing = 500
    await running.api.cut()
    await running.api.remove("Pod", "ml", "p1")
    running.api.oldest = running.api.version + 1
    running.api.refusing = 0
    await running.come({})
    assert len(running.api.lists) > lists


async def test_a_watch_that_is_cut_goes_on_where_it_was_without_a_list(running: Running) -> None:
    await running.begin()
    await running.come({"s-p1": 100})
    lists = len(running.api.lists)
    await running.api.cut()
    await running.api.put(pod_object("p1", "r1", "127.0.0.2", deleting=True))
    await running.come({"s-p1": 0})
    assert len(running.api.lists) == lists


async def test_only_the_named_namespaces_are_watched(running: Running) -> None:
    agent = await running.begin(watch_namespaces=("ml",))
    await running.come({"s-p1": 100})
    assert len(agent.cluster.pods) == 1
    assert {path for path in running.api.lists if "namespaces" not in path} == set()


def test_the_environment_says_where_and_how_much() -> None:
    found = setup_from({"NIGHTSHIFT_RUN_DIRECTORY": "/x", "POD_NAMESPACE": "n", "NIGHTSHIFT_WATCH_NAMESPACES": "a, b"})
    assert (found.settings.run, found.namespace, found.watch_namespaces) == ("/x", "n", ("a", "b"))
    assert setup_from({"NIGHTSHIFT_CLUSTER_DOMAIN": "corp"}).settings.cluster_domain == "corp"
    assert setup_from({}) == Setup()
