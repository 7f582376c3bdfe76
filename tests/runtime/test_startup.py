"""The operator's process, with everything outside it replaced."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import kopf
import pytest

from nightshift.adapters.kube import CHILD_KINDS, KubeError, plural
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.runtime import handlers, startup
from nightshift.runtime.controller import Controller
from nightshift.runtime.leadership import Leadership
from nightshift.runtime.reconcile import Reconciler
from tests.support.api_server import ApiServer
from tests.support.builders import config, model_spec
from tests.support.fake_kube import FakeKube
from tests.support.harness import Harness
from tests.support.virtual_time import run


class Operator:
    """A process that leads or waits to lead; watches and client are replaced."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        self.harness = Harness(spec)
        self.kube = self.harness.kube
        self.stop = asyncio.Event()
        self.looks = 0
        self.served_after = 0
        reconciler: Reconciler = self.harness.reconciler
        self.controller = Controller(reconciler, cast(Any, self))
        self.leadership = self.member("a")

    def member(self, identity: str) -> Leadership:
        kube = FakeKube(self.harness.server)
        return Leadership(kube, "nightshift-system", self.harness.config.lease_name, identity)

    async def list(self, api_version: str, kind: str, label_selector: str = "", namespace: str = "") -> Any:
        return await self.kube.list(api_version, kind, label_selector, namespace)

    async def served(self, _: str) -> bool:
        self.looks += 1
        return self.looks > self.served_after

    async def lead(self) -> int:
        config = self.harness.config
        return await startup._lead(cast(Any, self), self.leadership, self.controller, config, self.stop)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch(_: Controller, __: OperatorConfig, stop: asyncio.Event) -> None:
        await stop.wait()

    monkeypatch.setattr(startup, "_watch", watch)


def holder(server: ApiServer) -> str:
    return str(server.of_kind("Lease")[0]["spec"]["holderIdentity"])


Story = Callable[[Operator], Awaitable[int]]


async def told_to_stop_while_working(operator: Operator) -> int:
    asyncio.get_running_loop().call_later(30, operator.stop.set)
    return await operator.lead()


async def told_to_stop_while_waiting_to_lead(operator: Operator) -> int:
    rival = operator.member("rival")
    await rival.acquire()
    holding = asyncio.create_task(rival.hold())
    asyncio.get_running_loop().call_later(30, operator.stop.set)
    code = await operator.lead()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    return code


async def told_to_stop_while_the_definition_is_missing(operator: Operator) -> int:
    operator.served_after = 10**6
    asyncio.get_running_loop().call_later(30, operator.stop.set)
    return await operator.lead()


@pytest.mark.usefixtures("watching")
@pytest.mark.parametrize(
    ("story", "left"),
    [
        (told_to_stop_while_working, ""),
        (told_to_stop_while_waiting_to_lead, "rival"),
        (told_to_stop_while_the_definition_is_missing, ""),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else "",
)
def test_a_process_that_is_told_to_stop_ends_well_and_gives_up_the_lease(story: Story, left: str) -> None:
    async def body() -> tuple[int, str, float]:
        operator = Operator()
        return await story(operator), holder(operator.harness.server), asyncio.get_running_loop().time()

    code, found, ended = run(body())
    assert (code, found) == (0, left)
    assert ended < 31


@pytest.mark.usefixtures("watching")
def test_a_process_that_loses_its_lease_ends_with_an_error_and_leaves_the_lease_to_its_new_holder() -> None:
    async def body() -> None:
        operator = Operator()
        leading = asyncio.create_task(operator.lead())
        await asyncio.sleep(20)
        lease = operator.harness.server.of_kind("Lease")[0]["metadata"]["name"]
        where = operator.leadership._where
        assert where.name == lease
        operator.harness.server.change(where, lambda raw: raw["spec"].update(holderIdentity="rival", renewTime="x"))
        assert await leading == 1
        assert holder(operator.harness.server) == "rival"

    run(body())


def test_a_part_that_fails_ends_the_process_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Controller, __: OperatorConfig, ___: asyncio.Event) -> None:
        await asyncio.sleep(5)
        raise RuntimeError("the watches ended")

    monkeypatch.setattr(startup, "_watch", broken)

    async def body() -> None:
        operator = Operator()
        assert await operator.lead() == 1
        assert holder(operator.harness.server) == "", "another process need not wait"

    run(body())


@pytest.mark.usefixtures("watching")
def test_the_cache_is_filled_once_the_definition_is_there_and_the_server_answers() -> None:
    async def body() -> None:
        operator = Operator()
        server = operator.harness.server
        server.unwatch(operator.harness._tell)
        deployment = {"apiVersion": names.API_VERSION, "kind": names.KIND, "spec": model_spec()}
        server.create({**deployment, "metadata": {"name": "bot", "namespace": "ml"}})
        assert operator.harness.cache.keys() == ()
        operator.served_after = 3
        operator.kube.failures = [KubeError(503, "ServiceUnavailable", "later")]
        asyncio.get_running_loop().call_later(60, operator.stop.set)
        assert await operator.lead() == 0
        assert operator.harness.cache.keys() == (("ml", "bot"),)
        assert operator.harness.status().conditions, "and worked on"
        assert operator.looks == 5

    run(body())


def test_an_overdue_reconcile_is_a_problem_of_the_leader_alone() -> None:
    async def body() -> None:
        operator, bound = Operator(), config(liveness_overdue_seconds=120)

        def problem() -> str | None:
            return startup._problem(operator.controller, operator.leadership, bound)

        operator.controller.queue.add(("ml", "bot"))
        await asyncio.sleep(120)
        await operator.leadership.acquire()
        assert problem() is None
        await asyncio.sleep(5)
        assert problem() == "a reconcile has been overdue for 125 s; at most 120 s are fine"
        await operator.leadership.release()
        assert problem() is None, "whoever leads now does it"

    run(body())


def test_ready_once_the_lease_was_read_and_for_a_leader_once_everything_was_listed(watching: None) -> None:
    async def body() -> None:
        operator = Operator()

        def unready() -> str | None:
            return startup._unready(operator.controller, operator.leadership)

        assert unready() == "the Lease could not be read yet; see the log"
        operator.served_after = 1
        told: list[str | None] = []

        def look() -> None:
            told.append(unready())

        loop = asyncio.get_running_loop()
        loop.call_later(1, look)
        loop.call_later(59, look)
        loop.call_later(60, operator.stop.set)
        assert await operator.lead() == 0
        assert told == ["the CustomResourceDefinition of LLMDeployment is not there; install crds/", None]

    run(body())


def test_the_configuration_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "namespace: system\n"
        "operatorLabels: {app: nightshift}\n"
        "fetchImage: registry.example/operator:1\n"
        "accelerators: {nvidia-gpu: {resourceName: nvidia.com/gpu}}\n"
        "resyncSeconds: 60\n"
    )
    found = startup.load_config(path)
    assert (found.namespace, found.resync_seconds) == ("system", 60)
    assert found.accelerators["nvidia-gpu"].resource_name == "nvidia.com/gpu"
    assert found.defaults == config().defaults.model_copy(
        update={"engine_version": found.defaults.engine_version, "engine_image": found.defaults.engine_image}
    )


def test_a_misspelt_value_of_the_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("namespace: system\noperatorLabels: {}\nfetchImage: x\nworker: 3\n")
    with pytest.raises(ValueError, match="worker"):
        startup.load_config(path)


def test_kopf_only_watches_and_only_what_carries_our_label() -> None:
    settings = handlers.settings()
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.peering.standalone is True
    for api_version, kind in CHILD_KINDS:
        group, _, version = api_version.rpartition("/")
        key = (group, version, plural(api_version, kind))
        assert settings.watching.label_selectors[key] == names.LABEL_DEPLOYMENT


async def test_every_watched_kind_tells_the_controller() -> None:
    told: list[tuple[str, ...]] = []

    class Listener:
        def deployment_event(self, kind: str | None, raw: Any) -> None:
            told.append(("LLMDeployment", str(kind), raw["name"]))

        def child_event(self, child: str, kind: str | None, raw: Any) -> None:
            told.append((child, str(kind), raw["name"]))

    registry = handlers.register(cast(Any, Listener()))
    found = registry._watching.get_all_handlers()
    for handler in found:
        function = cast(Callable[..., Awaitable[None]], handler.fn)
        await function(event={"type": "ADDED", "object": {"name": "x"}})
    assert told == [("LLMDeployment", "ADDED", "x"), *((kind, "ADDED", "x") for _, kind in CHILD_KINDS)]
    assert isinstance(registry, kopf.OperatorRegistry)
    assert not registry._changing.get_all_handlers(), "such handlers add finalizers and annotations"
    assert not registry._spawning.get_all_handlers()
