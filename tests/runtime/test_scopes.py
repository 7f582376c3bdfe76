"""Operators side by side, each with a label selector or namespaces of its own, over one API server."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from nightshift.adapters.kube import CHILD_KINDS, Object, plural
from nightshift.api import names
from nightshift.api.resource import parse_status
from nightshift.runtime import handlers
from nightshift.runtime.cache import Cache
from nightshift.runtime.controller import Controller
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.tender import Tender
from tests.support.api_server import ApiServer, deployment_reference, selected
from tests.support.builders import config, model_spec
from tests.support.fake_engines import FakeEngines, FakeSidecars
from tests.support.fake_kube import FakeKube
from tests.support.harness import FakeRegistry
from tests.support.virtual_time import run
from tests.support.world import World


class Scoped:
    """One operator of several; watches tell it what its selector and namespaces let through."""

    def __init__(self, server: ApiServer, **settings: Any) -> None:
        self.kube = FakeKube(server)
        self.config = config(**settings)
        tender = Tender(FakeEngines(), FakeSidecars())
        lookups = Lookups(self.kube, FakeRegistry(), Lookout(FakeEngines()), tender)
        reconciler = Reconciler(self.config, self.kube, Cache(), lookups)
        self.controller = Controller(reconciler, cast(Any, self.kube))
        self.cache = reconciler.cache
        self.reconciler = reconciler
        self._server = server
        server.watch(self._tell)

    def _tell(self, event: str, raw: Object) -> None:
        if raw["kind"] not in {names.KIND, *(kind for _, kind in CHILD_KINDS)}:
            return
        if self.config.watch_namespaces and raw["metadata"]["namespace"] not in self.config.watch_namespaces:
            return
        if raw["kind"] != names.KIND:
            self.controller.child_event(raw["kind"], event, raw)
            return
        labels = raw["metadata"].get("labels") or {}
        matches = not self.config.label_selector or selected(self.config.label_selector, labels)
        known = self.cache.deployment((raw["metadata"]["namespace"], raw["metadata"]["name"]))
        if matches or known is not None:
            self.controller.deployment_event(event if matches else "DELETED", raw)

    async def work(self) -> None:
        """Everything that is due now."""
        while self.controller.queue.depth():
            key = await self.controller.queue.get()
            again = await self.reconciler.reconcile(key)
            self.controller.queue.done(key, failed=False)
            if again == 0.0:
                self.controller.queue.add(key)


async def settle(world: World, *operators: Scoped) -> None:
    for _ in range(200):
        for operator in operators:
            await operator.work()
        steps = world.pending()
        if not steps and not any(operator.controller.queue.depth() for operator in operators):
            return
        if steps:
            steps[0].act()
    raise AssertionError("does not come to rest")


def create(server: ApiServer, name: str, namespace: str = "ml", **labels: str) -> None:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    server.create(
        {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": model_spec(replicas=2)}
    )


def ready(server: ApiServer, name: str, namespace: str = "ml") -> bool:
    body = server.get(deployment_reference(name, namespace))
    assert body is not None
    return any((item.type, item.status) == ("Ready", "True") for item in parse_status(body).conditions)


def engines(server: ApiServer) -> dict[str, str]:
    return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in server.of_kind("Pod")}


def generations(server: ApiServer) -> Iterator[tuple[str, int]]:
    for raw in server.of_kind("ReplicaSet"):
        yield raw["metadata"]["name"], raw["metadata"]["generation"]


def relabel(server: ApiServer, name: str, **labels: str) -> None:
    server.change(deployment_reference(name), lambda raw: raw["metadata"].update(labels=labels))


def test_each_operator_acts_on_its_own_and_on_nothing_else() -> None:
    async def story() -> None:
        server = ApiServer()
        a, b = Scoped(server, label_selector="team=a"), Scoped(server, label_selector="team=b")
        create(server, "of-a", team="a")
        create(server, "of-b", team="b")
        create(server, "of-nobody")
        await settle(World(server), a, b)
        assert (ready(server, "of-a"), ready(server, "of-b"), ready(server, "of-nobody")) == (True, True, False)
        assert a.cache.keys() == (("ml", "of-a"),)
        assert b.cache.keys() == (("ml", "of-b"),)

    run(story())


def test_an_operator_that_starts_lists_only_its_own() -> None:
    async def story() -> None:
        server = ApiServer()
        create(server, "of-a", team="a")
        create(server, "of-b", team="b")
        create(server, "of-a", namespace="other", team="a")
        a = Scoped(server, label_selector="team=a", watch_namespaces=("ml",))
        await a.controller.fill()
        assert a.cache.keys() == (("ml", "of-a"),)
        everywhere = Scoped(server)
        await everywhere.controller.fill()
        assert len(everywhere.cache.keys()) == 3

    run(story())


def test_a_changed_label_hands_over_without_a_restart_and_back() -> None:
    async def story() -> None:
        server = ApiServer()
        world = World(server)
        a = Scoped(server, label_selector="team=a")
        b = Scoped(server, label_selector="team=b", operator_labels={"app.kubernetes.io/instance": "b"})
        create(server, "bot", team="a")
        await settle(world, a, b)
        before = engines(server), dict(generations(server))
        for team, idle in (("b", a), ("a", b)):
            relabel(server, "bot", team=team)
            writes = idle.kube.attempted_writes
            await settle(world, a, b)
            assert idle.kube.attempted_writes == writes, "whoever handed over writes no more"
            assert ready(server, "bot")
            assert (engines(server), dict(generations(server))) == before, "no pod restarted, nothing scaled"
        server.change(deployment_reference("bot"), lambda raw: raw["spec"].update(replicas=1))
        await settle(world, a, b)
        assert len(engines(server)) == 1, "the present operator acts"

    run(story())


def test_nobodys_deployment_goes_on_serving() -> None:
    async def story() -> None:
        server = ApiServer()
        world, a = World(server), Scoped(server, label_selector="team=a")
        create(server, "bot", team="a")
        await settle(world, a)
        before = engines(server)
        relabel(server, "bot")
        await a.controller.compare()
        await settle(world, a)
        assert engines(server) == before

    run(story())


def test_two_alike_operators_on_one_deployment_do_no_harm() -> None:
    """It should not be; it is what an upgrade with an overlap of leaders, or a forgotten selector, looks like."""

    async def story() -> None:
        server = ApiServer()
        world = World(server)
        a, b = Scoped(server), Scoped(server)
        create(server, "bot")
        await settle(world, a, b)
        assert ready(server, "bot")
        assert len(engines(server)) == 2
        writes = len(server.writes)
        for operator in (a, b):
            operator.controller.queue.add(("ml", "bot"))
        await settle(world, a, b)
        assert len(server.writes) == writes

    run(story())


@pytest.mark.parametrize("selector", ["team=a", ""])
def test_the_selector_is_the_servers_to_apply(selector: str) -> None:
    found = handlers.settings(selector).watching.label_selectors
    key = (names.GROUP, names.VERSION, names.PLURAL)
    assert (found[key] if selector else found.get(key)) == (selector or None)
    assert found["", "v1", plural("v1", "Pod")] == names.LABEL_DEPLOYMENT


def test_the_queue_of_an_idle_operator_stays_empty() -> None:
    async def story() -> None:
        server = ApiServer()
        idle = Scoped(server, watch_namespaces=("quiet",))
        create(server, "bot")
        await asyncio.sleep(1)
        assert idle.controller.queue.depth() == 0

    run(story())
