"""A deployment that scales by itself: the real controller in virtual time, with a gateway, engines and clients."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.config import GatewayConfig, OperatorConfig
from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.api.route import Route, parse_route
from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.gateway.starts import Starts
from nightshift.core.gateway.wake import Demand as Waiting
from nightshift.core.gateway.wake import lease_manifest
from nightshift.core.observed import engine_start, pod_facts
from nightshift.runtime.controller import Controller
from nightshift.runtime.demand import Demands
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.tender import Tender
from tests.support.builders import NOW, config, model_spec
from tests.support.fake_engines import FakeEngine, metrics
from tests.support.harness import Harness
from tests.support.questions import Questions
from tests.support.traffic import GATEWAY_PODS, ROUTE, Traffic, serving, weights
from tests.support.virtual_time import run
from tests.support.world import is_ready

GATEWAY = GatewayConfig(namespace="nightshift-gateway", labels={"app": "gateway"}, service="gateway", replicas=2)


def clock() -> datetime:
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


def auto(**scaling: Any) -> dict[str, Any]:
    """A spec that scales between none and eight replicas, unless it says otherwise."""
    chosen = {"mode": "Auto", "minReplicas": 0, "maxReplicas": 8, "target": {"concurrentRequests": 16}, **scaling}
    return model_spec(scaling=chosen)


@dataclass
class FakeGateway:
    """One gateway pod: what it would say, and whether it does."""

    name: str
    ip: str
    in_flight: int = 0
    queued: int = 0
    held: int = 0
    last_request: datetime | None = None
    silent: bool = False
    knows: bool = True
    """Whether it knows when the last request came."""
    results: dict[str, RevisionResults] = field(default_factory=dict)
    """How requests to the deployment's revisions ended."""
    answer: Callable[[str, Collection[str]], GatewayDemand] | None = None
    """What it says instead of all this, given its name and of which deployments results are wanted."""
    asked_results: list[tuple[str, ...]] = field(default_factory=list)
    """Of whom results were asked, time after time."""

    async def demand(self, pod: str, results: Collection[str] = ()) -> Fact[GatewayDemand]:
        self.asked_results.append(tuple(results))
        if self.silent:
            await asyncio.sleep(1.5)
            return Unknown("/demand did not answer within 1.5 s.")
        if self.answer is not None:
            return Known(self.answer(self.name, results), clock())
        if self.in_flight or self.queued or self.held:
            self.last_request = clock()
        last = self.last_request if self.last_request is not None else NOW
        idle = (clock() - last).total_seconds() if self.knows else None
        ended = self.results if ROUTE in results else {}
        told = RouteDemand(in_flight=self.in_flight, queued=self.queued, idle_seconds=idle, revisions=ended)
        bounds = (0.5, 1.0) if ended else ()
        return Known(GatewayDemand(written=clock(), pod=self.name, routes={ROUTE: told}, total_bounds=bounds), clock())


class Town:
    """One deployment, two gateway pods, and an operator that can end and begin anew."""

    def __init__(self, spec: Mapping[str, Any], gpus: int = 1000, chosen: OperatorConfig | None = None) -> None:
        self.harness = Harness(spec, chosen or config(gateway=GATEWAY), clock)
        self.world = self.harness.world
        self.world.gpus = gpus
        self.harness.server.timestamp = lambda: clock().strftime("%Y-%m-%dT%H:%M:%SZ")  # type: ignore[method-assign]
        self.harness.server.watch(self._tell)
        pods = [FakeGateway(name, f"10.9.0.{number}") for number, name in enumerate(GATEWAY_PODS, start=1)]
        self.gateways = {pod.ip: pod for pod in pods}
        self.traffic: Traffic | None = None
        self.leases: dict[str, Object] = {}
        self.least_asked = self.most_asked = 0
        self.questions = 0
        """How often a gateway pod was asked."""
        self.start()

    def at(self, pod_ip: str, port: int) -> FakeGateway:
        assert port == GATEWAY.agent_port
        self.questions += 1
        return self.gateways[pod_ip]

    def start(self) -> None:
        harness = self.harness
        lookout = Lookout(harness.engines, clock)
        self.demands = Demands(lookout, harness.config.gateway, self, clock)
        tender = Tender(harness.engines, harness.sidecars, clock)
        harness.lookups = Lookups(harness.kube, harness.registry, lookout, tender, clock, self.demands)
        harness.reconciler = Reconciler(harness.config, harness.kube, harness.cache, harness.lookups, now=clock)
        self.controller = Controller(harness.reconciler, cast(Any, harness.kube))
        self.controller.queue.add(("ml", "bot"))
        self.demands.pods.replace([self.pod(pod) for pod in self.gateways.values()])
        self.demands.leases.replace(list(self.leases.values()))
        self._work = asyncio.create_task(self.controller.run())

    @staticmethod
    def pod(pod: FakeGateway) -> Object:
        return {"metadata": {"name": pod.name}, "status": {"phase": "Running", "podIP": pod.ip}}

    async def end(self) -> None:
        self._work.cancel()
        await asyncio.wait({self._work})
        assert self._work.cancelled(), self._work.exception()

    async def restart(self) -> None:
        """A new process with an empty memory."""
        await self.end()
        self.harness.restart()
        self.start()

    def _tell(self, event: str, raw: Object) -> None:
        if raw["kind"] == names.KIND:
            self.controller.deployment_event(event, raw)
        elif raw["kind"] != "Event":
            self.controller.child_event(raw["kind"], event, raw)

    async def for_seconds(self, seconds: float, *, settle: bool = True) -> None:
        """The operator works, and the world around it a moment later; Leases are renewed while requests are held."""
        for _ in range(int(seconds)):
            assert not self._work.done(), self._work.exception()
            self.demands.pods.heard()
            self.demands.leases.heard()
            for pod in self.gateways.values():
                if pod.held:
                    self.hold(pod.held, pod)
            if settle:
                self.world.settle()
            if self.traffic is not None:
                self._ask(self.traffic)
            self.least_asked = min(self.least_asked, self.asked)
            self.most_asked = max(self.most_asked, self.asked)
            await asyncio.sleep(1)

    def asked_by(self, traffic: Traffic) -> None:
        """Clients ask from now on, and gateway pods and engines count."""
        self.traffic = traffic
        self.world.golden = Questions(self.harness.server, lambda revision: traffic.answers(revision))
        for pod in self.gateways.values():
            pod.answer = lambda name, results: traffic.told(name, clock(), self.weights, results)

    def _ask(self, traffic: Traffic) -> None:
        """A second passes for clients."""
        pods = list(self.harness.server.of_kind("Pod"))
        traffic.passes(1, self.weights, serving(pods))
        for raw in pods:
            start = engine_start(pod_facts(raw))
            if start is not None and is_ready(raw):
                self.harness.engines.at(raw["status"]["podIP"]).reading = traffic.metrics(start)

    @property
    def weights(self) -> dict[str, int]:
        """Of the route, by revision."""
        return weights(self.harness.server.of_kind("ConfigMap"))

    async def until(self, what: Callable[[], bool], limit: float = 7200) -> float:
        """Seconds until something is so."""
        for passed in range(int(limit)):
            if what():
                return passed
            await self.for_seconds(1)
        raise AssertionError(f"it does not come to pass: {self.harness.status().conditions}")

    def watched(self) -> None:
        """Count the fewest and most replicas that are asked for from now on."""
        self.least_asked = self.most_asked = self.asked

    @property
    def asked(self) -> int:
        return sum(int(raw["spec"]["replicas"]) for raw in self.harness.server.of_kind("ReplicaSet"))

    @property
    def ready(self) -> int:
        return sum(is_ready(raw) for raw in self.harness.server.of_kind("Pod"))

    @property
    def route(self) -> Route:
        """As the gateway was told."""
        (raw,) = self.harness.server.of_kind("ConfigMap")
        return parse_route(raw)

    def hold(self, held: int, pod: FakeGateway | None = None) -> None:
        """Requests wait in a gateway pod, which renews its Lease."""
        chosen = pod or next(iter(self.gateways.values()))
        chosen.held = held
        waiting = Waiting("ml", "bot", held, 1.0, Starts((80.0,)))
        lease = lease_manifest(waiting, gateway_namespace=GATEWAY.namespace, pod=chosen.name, now=clock())
        self.leases[lease["metadata"]["name"]] = lease
        self.demands.leases.change("MODIFIED", lease)

    def serve(self, in_flight: int, *, on: str = "", hung_too: bool = True) -> None:
        """Requests run, all of them through the first gateway pod, spread over the engines or on one of them."""
        next(iter(self.gateways.values())).in_flight = in_flight
        for pod in self.gateways.values():
            pod.held = 0
        engines = {name: engine for name, engine in self.engines().items() if hung_too or not engine.hangs}
        taking = [on] if on else list(engines)
        for name, engine in engines.items():
            place = taking.index(name) if name in taking else None
            share = 0 if place is None else in_flight // len(taking) + (place < in_flight % len(taking))
            if isinstance(engine.reading, EngineMetrics):
                engine.reading = metrics(running=share)

    def engines(self) -> dict[str, FakeEngine]:
        """Of the ready pods, by name."""
        pods = [raw for raw in self.harness.server.of_kind("Pod") if is_ready(raw)]
        return {raw["metadata"]["name"]: self.harness.engines.at(raw["status"]["podIP"]) for raw in pods}

    def condition(self, kind: str) -> tuple[str, str]:
        return self.harness.condition(kind)

    def message(self, kind: str) -> str:
        return next(item.message for item in self.harness.status().conditions if item.type == kind)

    def events(self, reason: str) -> list[str]:
        return [raw["message"] for raw in self.harness.server.of_kind("Event") if raw["reason"] == reason]


def story(told: Callable[[Town], Coroutine[Any, Any, None]], spec: Mapping[str, Any], **more: Any) -> None:
    """Tell a story in virtual time."""

    async def main() -> None:
        town = Town(spec, **more)
        await told(town)
        await town.end()

    run(main())
