"""`python -m nightshift.gateway agent`: follows routes, endpoints and pods, and drives HAProxy.

It carries no request but the list of models. While it is away, or the API server is, HAProxy serves on as it is.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from nightshift import __version__
from nightshift.adapters.kube import KubeClient, connect
from nightshift.adapters.kube_watch import Query, Watch
from nightshift.api.demand import ALL_RESULTS, DEMAND_PATH, RESULTS_QUERY, GatewayDemand
from nightshift.api.route import Route
from nightshift.core.facts import Known, Unknown
from nightshift.core.gateway import demand
from nightshift.core.gateway.desired import Decision, decide
from nightshift.core.gateway.settings import AGENT_SOCKET, LOG_SOCKET, STATE, Settings
from nightshift.core.gateway.slots import Assignment
from nightshift.core.gateway.state import LiveSlot
from nightshift.core.gateway.telling import state_file
from nightshift.gateway.agent_telemetry import Telemetry
from nightshift.gateway.cluster import GATEWAYS, PODS, ROUTES, SLICES, Cluster, Kept
from nightshift.gateway.driver import Driver
from nightshift.gateway.files import write_atomically
from nightshift.gateway.log_socket import serve_log
from nightshift.gateway.models import serve_models
from nightshift.gateway.probes import serve_probes
from nightshift.gateway.request_log import RequestLog
from nightshift.gateway.request_telemetry import FIRST_BYTE_SECONDS, TOTAL_SECONDS
from nightshift.gateway.watchdog import watch

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often HAProxy is looked at, for what it finds out by itself: engines that fail their health checks."""
GATHER_SECONDS = 0.02
"""Changes that come so close together are applied together."""
COMPARE_SECONDS = 20.0
"""How often all of HAProxy's state is compared, though nothing changed."""
TELL_SECONDS = 5.0
"""How often the activator is told, though nothing changed: it knows by that how old the file is."""
STALLED_SECONDS = 30.0
"""A round that takes longer does not end any more."""


@dataclass(frozen=True)
class Setup:
    """What the pod says."""

    settings: Settings = field(default_factory=Settings)
    namespace: str = "nightshift-gateway"
    """Where the route objects are, and the gateway's own Service."""
    pod: str = "gateway-0"
    watch_namespaces: tuple[str, ...] = ()
    """Whose engines may serve; empty: all."""
    gateway_pods: int = 1
    """Those that share the caps, where the gateway's Service does not tell."""
    probe_port: int = 8081


def setup_from(environment: Mapping[str, str]) -> Setup:
    """Read the process's environment.

    Raises:
        ValueError: A number is none.
    """
    default, settings = Setup(), Settings()
    return Setup(
        settings=Settings(
            run=environment.get("NIGHTSHIFT_RUN_DIRECTORY", settings.run),
            max_connections=int(environment.get("NIGHTSHIFT_GATEWAY_CONNECTIONS", settings.max_connections)),
            threads=int(environment.get("NIGHTSHIFT_GATEWAY_THREADS", settings.threads)),
            cluster_domain=environment.get("NIGHTSHIFT_CLUSTER_DOMAIN", settings.cluster_domain),
        ),
        namespace=environment.get("POD_NAMESPACE", default.namespace),
        pod=environment.get("POD_NAME", default.pod),
        watch_namespaces=tuple(environment.get("NIGHTSHIFT_WATCH_NAMESPACES", "").replace(",", " ").split()),
        gateway_pods=int(environment.get("NIGHTSHIFT_GATEWAY_REPLICAS", default.gateway_pods)),
        probe_port=int(environment.get("NIGHTSHIFT_AGENT_PORT", default.probe_port)),
    )


class Agent:
    """The process, but for its environment and its signals.

    Args:
        setup: What the pod says.
        kube: The API server.
        request_log: Is given HAProxy's lines, to keep them.
    """

    def __init__(
        self, setup: Setup, kube: KubeClient, request_log: Callable[[bytes], None] = lambda lines: None
    ) -> None:
        self._setup = setup
        self._kube = kube
        self._request_log = request_log
        self.telemetry = Telemetry()
        self.cluster = Cluster(self._wake, self._now, self.telemetry.rejected.inc, setup.gateway_pods)
        self.driver = Driver(setup.settings, self.telemetry)
        self._assignment = self.driver.remembered()
        self.telemetry.requests.assign(self._assignment)
        self._woken = asyncio.Event()
        self._decided: Decision | None = None
        self._complete = False
        self._unknown = ""
        self._compared = self._told = float("-inf")
        self._told_facts: tuple[tuple[Route, ...], Assignment, Mapping[str, LiveSlot]] | None = None
        self._asked: Mapping[str, demand.Asked] = {}
        self._looked: tuple[datetime, float] | None = None
        self._round_began: float | None = None
        self.applied = False
        """Whether HAProxy has been brought into a decided state since this process began."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes, as last seen."""
        found = self.cluster.observed().routes
        return found.value if isinstance(found, Known) else ()

    async def run(self) -> None:
        """Follow and drive until cancelled."""
        self.telemetry.watch(lambda: self.cluster.age_seconds, lambda: self._asked)
        log = await serve_log(Path(self._setup.settings.path(LOG_SOCKET)), self._take_log)
        models = await serve_models(Path(self._setup.settings.path(AGENT_SOCKET)), lambda: self.routes)
        try:
            async with asyncio.TaskGroup() as tasks:
                for watch in self._watches():
                    tasks.create_task(watch.run())
                tasks.create_task(self._drive())
        finally:
            await log.close()
            await models.cleanup()

    def _take_log(self, lines: bytes) -> None:
        self._request_log(lines)
        self.telemetry.requests.take(lines)

    def _watches(self) -> list[Watch]:
        own = self._setup.namespace
        found = [self._watch(ROUTES, own, self.cluster.routes), self._watch(GATEWAYS, own, self.cluster.gateways)]
        for namespace in self._setup.watch_namespaces or ("",):
            slices, pods = self.cluster.watch_namespace()
            found += [self._watch(SLICES, namespace, slices), self._watch(PODS, namespace, pods)]
        return found

    def _watch(self, what: tuple[str, str, str], namespace: str, kept: Kept) -> Watch:
        return Watch(self._kube, Query(*what, namespace), kept)

    def _wake(self) -> None:
        self._woken.set()

    async def _drive(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
                    await asyncio.sleep(GATHER_SECONDS)
            changed = self._woken.is_set()
            self._woken.clear()
            self._round_began = self._now()
            try:
                await self.round(changed=changed)
            except Exception:
                logger.exception("A round failed; HAProxy serves on as it is, and the next round tries again")
            self._round_began = None

    async def round(self, *, changed: bool) -> None:
        """Observe, decide, apply, tell. Without a change HAProxy is only looked at, and compared now and then."""
        if changed or not self._complete or self._now() - self._compared >= COMPARE_SECONDS:
            await self._compare()
        slots = await self.driver.slots()
        if slots is None:
            self._complete = False
            return
        await self.driver.nudge(slots)
        if any(slot.waiting for slot in slots.values()):
            self._complete = False  # a queue may need replicas on loan, or give them back
        self._tell(slots)
        await self._note_demand(slots)

    async def _compare(self) -> None:
        observed = self.cluster.observed()
        live, former = await self.driver.live(), await self.driver.former()
        processes = [None if live is None else live.slots, *([None] if former is None else former)]
        found = decide(self._setup.settings, observed, self._assignment, processes)
        if isinstance(found, Unknown):
            if found.reason != self._unknown:
                logger.info("HAProxy stays as it is: %s", found.reason)
            self._unknown = found.reason
            return
        self._say_rejected(found)
        self._decided, self._assignment = found, found.assignment
        self.telemetry.requests.assign(found.assignment)
        self.driver.write(found)
        if live is not None:
            self._complete = await self.driver.apply(found, live)
            self._compared, self.applied = self._now(), True

    def _say_rejected(self, found: Decision) -> None:
        for reason in found.rejected if self._decided is None or found.rejected != self._decided.rejected else ():
            logger.warning("%s", reason)
        self.telemetry.addresses_rejected.set(len(found.rejected))
        self.telemetry.broken.set(len(self.cluster.broken))
        self.telemetry.routes.set(len(self.routes))

    def _tell(self, slots: Mapping[str, LiveSlot]) -> None:
        """Write what the activator reads; not before something is known, so that what is there stands."""
        if self._decided is None:
            return
        facts = (self._decided.routes, self._assignment, slots)
        if facts == self._told_facts and self._now() - self._told < TELL_SECONDS:
            return
        write_atomically(Path(self._setup.settings.path(STATE)), state_file(*facts, datetime.now(UTC)))
        self._told_facts, self._told = facts, self._now()

    async def _note_demand(self, slots: Mapping[str, LiveSlot]) -> None:
        """Note what is asked; not before the routes are known."""
        if self._decided is None:
            return
        now, at = self._now(), datetime.now(UTC)
        former = await self.driver.former()
        keys = [route.key for route in self._decided.routes]
        self._asked = demand.look(keys, self._assignment, slots, former, self._asked, now)
        self._looked = at, now

    @property
    def demand(self) -> GatewayDemand | None:
        """What is asked of the deployments, as of the last look at HAProxy that succeeded; None before any."""
        return self.demand_with(())

    def demand_with(self, results: Collection[str]) -> GatewayDemand | None:
        """The same, and how requests to the revisions of these deployments ended (NAMESPACE/NAME, or all)."""
        if self._looked is None:
            return None
        ended = self.telemetry.requests.results(lambda route: route in results or ALL_RESULTS in results)
        bounds = FIRST_BYTE_SECONDS, TOTAL_SECONDS
        return demand.told(self._asked, self._setup.pod, *self._looked, ended, bounds)

    def problem(self) -> str | None:
        """Why the process should be started anew, or None."""
        began = self._round_began
        if began is not None and self._now() - began > STALLED_SECONDS:
            return f"a round has been running for {self._now() - began:.0f} s and does not end"
        return None

    def unready(self) -> str | None:
        """Why HAProxy cannot carry requests yet, or None.

        The age of what is known is no reason: HAProxy serves on, and taking it away would serve nobody.
        """
        return None if self.applied else "HAProxy has not been given its routes yet; see the log"

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def demand_route(agent: Agent) -> web.RouteDef:
    """GET /demand: what `api/demand.py` says; 503 before anything is known. How old it is says the answer itself."""

    async def answer(request: web.Request) -> web.Response:
        told = agent.demand_with(frozenset(request.query.getall(RESULTS_QUERY, [])))
        if told is None:
            return web.Response(
                status=503, text="HAProxy has not been looked at yet, or the routes are not known; try again"
            )
        return web.json_response(told.to_json())

    return web.get(DEMAND_PATH, answer)


def main() -> int:
    """Run the agent until it is told to stop."""
    logging.basicConfig(
        level=os.environ.get("NIGHTSHIFT_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logger.info("Nightshift's gateway agent %s starts", __version__)
    return asyncio.run(_run(setup_from(os.environ)))


def _print(block: bytes) -> None:
    sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


async def _run(setup: Setup) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await connect()
    request_log = RequestLog(_print)
    agent = Agent(setup, kube, request_log.add)
    probes = await serve_probes(
        agent.problem, agent.unready, agent.telemetry.registry, setup.probe_port, [demand_route(agent)]
    )
    running, stopping = asyncio.create_task(agent.run()), asyncio.create_task(stop.wait())
    watching = asyncio.create_task(watch(agent.problem))
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return 0 if stopping.done() else 1
    finally:
        for task in (running, stopping, watching):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await probes.cleanup()
        await kube.close()
        request_log.close()
