"""`python -m nightshift.gateway activator`: holds requests while no replica is up, and lets them go in order.

HAProxy sends it the requests of deployments without a usable replica by a unix socket; it hands them back by another.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from nightshift import __version__
from nightshift.adapters.kube import Kube, connect
from nightshift.core.gateway.forwarding import HEADER_ROUTE
from nightshift.core.gateway.refusals import Refusal
from nightshift.gateway.activator_telemetry import Telemetry
from nightshift.gateway.hall import Hall
from nightshift.gateway.probes import serve_probes
from nightshift.gateway.state_file import StateFile
from nightshift.gateway.visit import Visit, released_session
from nightshift.gateway.wakes import Wakes
from nightshift.gateway.watchdog import watch

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""How often the state file is looked at."""

STALLED_SECONDS = 10.0
"""If it was not looked at for so long, the process is to be started anew."""

STATE_FILE = "state.json"
SOCKET = "activator.sock"
RELEASED_SOCKET = "released.sock"
_LAST_SECONDS = 2.0
"""Of the time to end: for answers to those who still wait."""


@dataclass(frozen=True)
class Settings:
    """What the pod says."""

    directory: Path = Path("/run/nightshift")
    namespace: str = "nightshift-gateway"
    pod: str = "gateway-0"
    budget_bytes: int = 256 * 1024 * 1024
    """For all that waits together."""
    gateway_pods: int = 1
    """Those that share the deployments' limits."""
    drain_seconds: float = 25.0
    """From SIGTERM to the end, whatever still goes on."""
    probe_port: int = 8082


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the process's environment.

    Raises:
        ValueError: A number is none.
    """
    default = Settings()
    return Settings(
        directory=Path(environment.get("NIGHTSHIFT_RUN_DIRECTORY", str(default.directory))),
        namespace=environment.get("POD_NAMESPACE", default.namespace),
        pod=environment.get("POD_NAME", default.pod),
        budget_bytes=int(environment.get("NIGHTSHIFT_ACTIVATOR_BYTES", default.budget_bytes)),
        gateway_pods=int(environment.get("NIGHTSHIFT_GATEWAY_REPLICAS", default.gateway_pods)),
        drain_seconds=float(environment.get("NIGHTSHIFT_ACTIVATOR_DRAIN_SECONDS", default.drain_seconds)),
        probe_port=int(environment.get("NIGHTSHIFT_ACTIVATOR_PORT", default.probe_port)),
    )


class Activator:
    """The process, but for its environment and its signals."""

    def __init__(self, settings: Settings, kube: Kube) -> None:
        self._settings = settings
        self.telemetry = Telemetry()
        self.hall = Hall(settings.budget_bytes, settings.gateway_pods, self.telemetry)
        self.state = StateFile(settings.directory / STATE_FILE)
        self._wakes = Wakes(
            kube,
            self.hall,
            namespace=settings.namespace,
            pod=settings.pod,
            told=lambda ok: self.telemetry.renewed(ok=ok),
        )
        self._visits = 0
        self._looked = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow the state and to serve."""
        self.telemetry.watch(self.hall, self._now, lambda: self.state.age)
        self._session = released_session(str(self._settings.directory / RELEASED_SOCKET))
        self._look()
        self._following = asyncio.create_task(self._follow())
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=65536,
            max_field_size=65536,
            read_bufsize=65536,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        socket = self._settings.directory / SOCKET
        await web.UnixSite(self._runner, str(socket)).start()
        socket.chmod(0o660)

    async def stop(self) -> None:
        """Take nobody any more; answer those who wait; end answers that go on when the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.drain_seconds
        self.hall.stop(self._now())
        await self._quiet(end - _LAST_SECONDS)
        self.hall.close(self._now())
        await self._quiet(end)
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        if self._runner is not None:
            await self._runner.cleanup()
        await self._wakes.close()
        if self._session is not None:
            await self._session.close()

    def problem(self) -> str | None:
        """Why the process should be started anew, or None."""
        if self._following is not None and self._following.done():
            return "nobody follows the gateway's state any more"
        if self._now() - self._looked > STALLED_SECONDS:
            return f"the gateway's state was not looked at for {self._now() - self._looked:.0f} s"
        return None

    def unready(self) -> str | None:
        """Why it should get no requests, or None."""
        if self.hall.stopping:
            return "it is being stopped"
        return None if self.state.read else "the agent has not told how the deployments stand"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._session is None:
            raise RuntimeError("the activator was not started")
        key = request.headers.get(HEADER_ROUTE, "")
        entered = self.hall.enter(key, request.content_length or 0, self._now())
        if isinstance(entered, Refusal):
            return web.Response(status=entered.status, body=entered.body(), headers=entered.headers())
        self._visits += 1
        try:
            return await Visit(request, entered, self.hall, self._session).serve()
        except ConnectionError:
            return _gone(request)
        finally:
            self._visits -= 1
            self.hall.leave(entered, self._now())

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        now = self._looked = self._now()
        if self.state.changed():
            self.hall.observe(self.state.routes, now - (self.state.age or 0.0), now)
            self.telemetry.keep(self.state.routes)
        self.hall.tick(now)
        self._wakes.tick(now)

    async def _quiet(self, until: float) -> None:
        """Wait until nobody is here, or until a moment."""
        while self._visits and self._now() < until:  # noqa: ASYNC110 - a few looks at the end of the process
            await asyncio.sleep(LOOK_SECONDS)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _gone(request: web.BaseRequest) -> web.StreamResponse:
    """The client went away while something was written to it."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=499)


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(
        level=os.environ.get("NIGHTSHIFT_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logger.info("The activator of Nightshift %s starts", __version__)
    return asyncio.run(_run(settings_from(os.environ)))


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    kube = await connect()
    activator = Activator(settings, kube)
    await activator.start()
    probes = await serve_probes(activator.problem, activator.unready, activator.telemetry.registry, settings.probe_port)
    watching = asyncio.create_task(watch(activator.problem))
    try:
        await stop.wait()
        await activator.stop()
    finally:
        watching.cancel()
        await probes.cleanup()
        await kube.close()
    return 0
