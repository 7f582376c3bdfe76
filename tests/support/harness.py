"""The real reconciler, cache and lookups over the in-memory API server and the world around it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nightshift.adapters.kube import CHILD_KINDS, Object
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import parse, parse_status
from nightshift.api.status import Status
from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.plan import plan
from nightshift.core.planning import Plan
from nightshift.runtime import routes
from nightshift.runtime.cache import Cache
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.tender import Tender
from tests.support.api_server import ApiServer, deployment_reference
from tests.support.builders import DIGEST, NOW, config
from tests.support.fake_engines import FakeEngines, FakeSidecars
from tests.support.fake_kube import FakeKube
from tests.support.world import World

KEY = ("ml", "bot")


class FakeRegistry:
    """Answers every question in the same way, and remembers them."""

    def __init__(self) -> None:
        self.answer: Known[str] | ImageNotFound | Unknown = Known(DIGEST, NOW)
        self.asked: list[tuple[str, str]] = []

    async def resolve_digest(self, repository: str, tag: str) -> Known[str] | ImageNotFound | Unknown:
        self.asked.append((repository, tag))
        return self.answer


class Harness:
    """One LLMDeployment; the operator's process can end and begin anew at any time."""

    def __init__(
        self,
        spec: Mapping[str, Any] | None,
        chosen: OperatorConfig | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.config = chosen or config()
        self.server = ApiServer()
        self.world = World(self.server)
        self.registry = FakeRegistry()
        self.clock = clock or (lambda: datetime.now(UTC))
        self.server.clock = self.clock
        self.engines = FakeEngines(clock or (lambda: NOW))
        self.sidecars = FakeSidecars(clock or (lambda: NOW))
        self.dirty = True
        if spec is not None:
            self.server.create(
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "metadata": {"name": "bot", "namespace": "ml"},
                    "spec": dict(spec),
                }
            )
        self.server.watch(self._tell)
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered, and the cache is filled by lists."""
        self.kube = FakeKube(self.server)
        self.cache = Cache()
        for api_version, kind in CHILD_KINDS:
            for raw in self.server.listed(api_version, kind, names.LABEL_DEPLOYMENT):
                self.cache.put_child(kind, raw)
        for raw in self.server.listed(routes.API_VERSION, routes.KIND, routes.SELECTOR):
            self.cache.put_child(routes.KIND, raw)
        for raw in self.server.listed(names.API_VERSION, names.KIND):
            self.cache.put_deployment(raw)
        tender = Tender(self.engines, self.sidecars, self.clock)
        self.lookups = Lookups(self.kube, self.registry, Lookout(self.engines, self.clock), tender, self.clock)
        self.reconciler = Reconciler(self.config, self.kube, self.cache, self.lookups, now=self.clock)
        self.dirty = True

    def _tell(self, event: str, raw: Object) -> None:
        kind = raw["kind"]
        if kind == names.KIND:
            (self.cache.drop_deployment if event == "DELETED" else self.cache.put_deployment)(raw)
        elif event == "DELETED":
            self.cache.drop_child(kind, raw)
        else:
            self.cache.put_child(kind, raw)
        self.dirty = True

    async def reconcile(self) -> float | None:
        self.dirty = False
        due = await self.reconciler.reconcile(KEY)
        self.dirty |= due == 0.0
        return due

    def plan(self) -> Plan:
        """What would be decided now."""
        deployment = parse(self.body)
        return plan(deployment, self.reconciler.observed(KEY, deployment.uid), self.config, self.clock())

    async def settle(self, limit: int = 300) -> "Harness":
        """Until nobody has anything to do."""
        for _ in range(limit):
            if self.dirty:
                await self.reconcile()
                continue
            steps = self.world.pending()
            if not steps:
                return self
            steps[0].act()
        raise AssertionError("does not come to rest")

    def change_spec(self, **fields: Any) -> None:
        self.server.change(deployment_reference(), lambda raw: raw["spec"].update(fields))

    @property
    def body(self) -> Object:
        found = self.server.get(deployment_reference())
        assert found is not None
        return found

    def status(self) -> Status:
        return parse_status(self.body)

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(item for item in self.status().conditions if item.type == kind)
        return found.status, found.reason

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of the recorded Events."""
        return [(raw["type"], raw["reason"]) for raw in self.server.of_kind("Event")]

    def writes(self) -> int:
        return len(self.server.writes)
