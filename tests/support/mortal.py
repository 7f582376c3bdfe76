"""A simulation whose operator is the real reconciler, in a process that ends at a write and begins anew.

The stories of `tests/sim` are told by it as they stand. A new process knows nothing: its cache is filled by lists, and
what the ended one still tries (in a `finally`, say) does not reach the API server.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nightshift.adapters.kube import CHILD_KINDS, KubeError
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.core.autoscale.demand import Demand, GatewaySight
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.observed import ImageAnswer, image_key
from nightshift.core.planning import Plan
from nightshift.runtime import routes
from nightshift.runtime.cache import Cache, Key, owner_key
from nightshift.runtime.demand import Demands
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.tender import Tender
from tests.support.builders import digest_known
from tests.support.fake_engines import FakeEngine, FakeEngines, FakeSidecars
from tests.support.fake_kube import Crash, FakeKube
from tests.support.simulation import KEY, Simulation
from tests.support.virtual_time import VirtualTimeLoop


class Deaths:
    """When the process ends."""

    def __init__(self, before: int | None = None, after: int | None = None, *, again: bool = False) -> None:
        self.before = before
        """Before this write, counted from 0 over all processes."""
        self.after = after
        """After this write was carried out and before its answer is read."""
        self.again = again
        """Every process ends so, its writes counted from 0."""
        self.writes: list[str] = []
        """Verb and kind of all writes that were tried, in order."""
        self.others_acted_before: set[int] = set()
        """Writes before which the API server was changed by somebody else since the write before."""
        self.count = 0


class MortalKube(FakeKube):
    """The API server as one process sees it; nothing of an ended process reaches it."""

    def __init__(self, outer: "Mortal") -> None:
        super().__init__(outer.server)
        deaths = outer.deaths
        done = 0 if deaths.again else len(deaths.writes)
        self.crash_before = None if deaths.before is None else deaths.before - done
        self.crash_after = None if deaths.after is None else deaths.after - done
        self._outer = outer
        self._told = deaths.writes
        self._left_at = -1
        self._ended = False

    async def _enter(self, verb: str, kind: str, name: str) -> None:
        if self._ended:
            raise Crash
        await super()._enter(verb, kind, name)

    async def _write(self, verb: str, kind: str, name: str, action: Any) -> Any:
        if self._ended:
            raise Crash
        if self.server.version != self._left_at:
            self._outer.deaths.others_acted_before.add(len(self._told))
        self._told.append(f"{verb} {kind}")
        attempted = self.attempted_writes
        try:
            return await super()._write(verb, kind, name, action)
        except Crash:
            self._ended = True
            raise
        except KubeError:
            if self.attempted_writes < attempted + 1:
                self._told.pop()
            raise
        finally:
            self._left_at = self.server.version


class FakeRegistry:
    """Answers what the simulation says of images."""

    def __init__(self, outer: Simulation) -> None:
        self._outer = outer

    async def resolve_digest(self, repository: str, tag: str) -> Known[str] | ImageNotFound | Unknown:
        found = self._outer.images.get(image_key(repository, tag))
        return found.answer if found else Unknown("nobody knows")


class StartedEngines(FakeEngines):
    """Engines of the pods that there are: what one holds is lost when its container starts anew."""

    def __init__(self, outer: "Mortal") -> None:
        super().__init__()
        self._outer = outer

    def at(self, pod_ip: str, port: int = names.ENGINE_PORT) -> FakeEngine:
        pods = [raw for raw in self._outer.server.of_kind("Pod") if raw["status"].get("podIP") == pod_ip]
        starts = [(raw["metadata"]["uid"], raw["status"]["containerStatuses"][0]["restartCount"]) for raw in pods]
        return self.by_ip.setdefault(f"{pod_ip} {starts}", FakeEngine(refuses=self._outer.engines_refuse))


class ToldDemands(Demands):
    """What the simulation says of the demand."""

    def __init__(self, outer: "Mortal", lookout: Lookout) -> None:
        super().__init__(lookout)
        self._outer = outer

    def demand(self, key: Key) -> Demand | None:
        return None if self._outer.demand is None else self._outer.demand(self._outer.clock())

    def compare(self, key: Key, *, wanted: bool) -> None:
        """A reconcile hears of it once gateway pods were asked."""
        if wanted and key not in self._compared:
            self._outer.hear(key)
        super().compare(key, wanted=wanted)

    def gateway(self, key: Key) -> GatewaySight | None:
        return self._outer.gateway() if key in self._compared else None


class ToldLookout(Lookout):
    """What the simulation says of the engines."""

    def __init__(self, outer: "Mortal") -> None:
        super().__init__(FakeEngines())
        self._outer = outer

    def sights(self, key: Key) -> dict[str, EngineSight]:
        return self._outer.sights()


class Mortal(Simulation):
    """One LLMDeployment, one world, and one process of the operator after the other."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        gpus: int = 1000,
        chosen: OperatorConfig | None = None,
        images: Mapping[str, ImageAnswer] | None = None,
        deaths: Deaths | None = None,
    ) -> None:
        self.deaths = deaths or Deaths()
        self.engines_refuse: dict[str, str] = {}
        """What every engine says against loading from a path."""
        self.engines, self.sidecars = StartedEngines(self), FakeSidecars()
        super().__init__(spec, gpus=gpus, chosen=chosen, images=digest_known() if images is None else images)
        self.begin()

    def begin(self) -> None:
        """A new process."""
        self._untold.clear()
        self.cache = Cache()
        for api_version, kind in CHILD_KINDS:
            for raw in self.server.listed(api_version, kind, names.LABEL_DEPLOYMENT):
                self.cache.put_child(kind, raw)
        for raw in self.server.listed(routes.API_VERSION, routes.KIND, routes.SELECTOR):
            self.cache.put_child(routes.KIND, raw)
        for raw in self.server.listed(names.API_VERSION, names.KIND):
            self.cache.put_deployment(raw)
        kube = MortalKube(self)
        self.tender = Tender(self.engines, self.sidecars, self.clock)
        self.tender.tell = self.hear
        lookout = ToldLookout(self)
        demands = ToldDemands(self, lookout)
        lookups = Lookups(kube, FakeRegistry(self), lookout, self.tender, self.clock, demands)
        self.reconciler = Reconciler(self.config, kube, self.cache, lookups, now=self.clock)
        self._dirty = True

    def clock(self) -> datetime:
        """The time of all processes, which stories let pass."""
        return self.now

    def tell(self) -> bool:
        """A watch by label tells of an object that loses its label as deleted, as it was before."""
        if self._untold:
            _, raw = self._untold[0]
            known = self.cache.children(KEY).get((raw["kind"], raw["metadata"]["name"]))
            if raw["kind"] != names.KIND and known is not None and owner_key(raw) is None:
                version = raw["metadata"]["resourceVersion"]
                gone = {**known, "metadata": {**known["metadata"], "resourceVersion": version}}
                self._untold[0] = ("DELETED", gone)
        return super().tell()

    def reconcile(self) -> Plan:
        """One step of the operator; where its process ends, the next one begins."""
        self._dirty = False
        before = len(self.deaths.writes)
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                due = runner.run(self._round())
            self._dirty |= due == 0.0
        except KubeError as error:
            if not error.transient:
                raise
            self._dirty = True  # as the queue does, after a while
        except Crash:
            self.deaths.count += 1
            self.say("operator: the process ended, a new one begins")
            self.begin()
        self.writes += len(self.deaths.writes) - before
        return Plan()

    def hear(self, key: Any) -> None:
        """A reconcile is due."""
        self._dirty = True

    async def _round(self) -> float | None:
        due = await self.reconciler.reconcile(KEY)
        await self.tender.once()
        return due

    def change_config(self, **fields: Any) -> None:
        """An upgrade is a new process."""
        super().change_config(**fields)
        self.begin()

    def forget_images(self, images: Mapping[str, ImageAnswer]) -> None:
        """The registry answers otherwise from now on, and the answers of before are too old to be used."""
        super().forget_images(images)
        self.begin()
