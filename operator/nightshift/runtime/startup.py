"""The operator's process: configuration, leadership, watches, workers, in this order."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from pathlib import Path

import aiohttp
import kopf
import yaml

from nightshift import __version__
from nightshift.adapters.engine import Engines
from nightshift.adapters.gateway_pods import GatewayPods
from nightshift.adapters.kube import KubeClient, KubeError, connect
from nightshift.adapters.registry import Registry
from nightshift.adapters.sidecar import Sidecars
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.core.liveness import liveness_problem, readiness_problem
from nightshift.runtime import handlers, health
from nightshift.runtime.cache import Cache
from nightshift.runtime.controller import Controller
from nightshift.runtime.demand import Demands
from nightshift.runtime.fencing import fenced
from nightshift.runtime.leadership import Leadership, holder_identity
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.lookups import Lookups
from nightshift.runtime.reconcile import Reconciler
from nightshift.runtime.telemetry import count_request
from nightshift.runtime.tender import Tender

logger = logging.getLogger(__name__)

CONFIG_VARIABLE = "NIGHTSHIFT_CONFIG"
_CRD_WAIT_SECONDS = 2.0


def load_config(path: Path) -> OperatorConfig:
    """Read the operator's configuration from the file that the chart mounts."""
    return OperatorConfig.model_validate(yaml.safe_load(path.read_text()))


def main() -> int:
    """Run the operator until it is told to stop or stops leading."""
    logging.basicConfig(
        level=os.environ.get("NIGHTSHIFT_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    config = load_config(Path(os.environ.get(CONFIG_VARIABLE, "/etc/nightshift/config.yaml")))
    logger.info("Nightshift %s starts", __version__)
    return asyncio.run(_run(config))


async def _run(config: OperatorConfig) -> int:
    stop = asyncio.Event()
    _obey(stop)
    kube = await connect(count_request)
    session = aiohttp.ClientSession()
    registry = Registry(session, frozenset(config.insecure_registries))
    identity = holder_identity(os.environ.get("POD_NAME", socket.gethostname()))
    leadership = Leadership(kube, config.namespace, config.lease_name, identity)
    engines, sidecars, gateways = Engines(), Sidecars(), GatewayPods()
    lookout = Lookout(engines)
    demands = Demands(lookout, config.gateway, gateways)
    lookups = Lookups(kube, registry, lookout, Tender(engines, sidecars), demands=demands)
    reconciler = Reconciler(config, fenced(kube, leadership), Cache(), lookups)
    controller = Controller(reconciler, kube)
    server = await health.serve(
        lambda: _problem(controller, leadership, config), lambda: _unready(controller, leadership)
    )
    try:
        return await _lead(kube, leadership, controller, config, stop)
    finally:
        await server.cleanup()
        await session.close()
        await engines.close()
        await sidecars.close()
        await gateways.close()
        await kube.close()


def _obey(stop: asyncio.Event) -> None:
    """Take SIGTERM and SIGINT for the word to stop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _problem(controller: Controller, leadership: Leadership, config: OperatorConfig) -> str | None:
    return liveness_problem(controller.vitals(leading=leadership.leading), config.liveness_overdue_seconds)


def _unready(controller: Controller, leadership: Leadership) -> str | None:
    return readiness_problem(
        lease_answered=leadership.answered, leading=leadership.leading, unprepared=controller.unprepared
    )


async def _lead(
    kube: KubeClient, leadership: Leadership, controller: Controller, config: OperatorConfig, stop: asyncio.Event
) -> int:
    """Wait to lead, then work until told to stop (0) or until leadership or a part is lost (1)."""
    stopping = asyncio.create_task(stop.wait())
    if await _first(leadership.acquire(), stopping) is stopping:
        return 0
    holding = asyncio.create_task(leadership.hold())
    work = asyncio.create_task(_work(kube, controller, config, stop))
    try:
        await asyncio.wait({stopping, work, holding}, return_when=asyncio.FIRST_COMPLETED)
        told = stopping.done()
    finally:
        lost = holding.done()
        stop.set()
        await _end(work)
        await _end(holding)
        if not lost:
            await leadership.release()
    return 0 if told else 1


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for it; what it raised is logged, so that everything else can still be ended."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    except Exception:
        logger.exception("A part of the operator failed")


async def _first(work: object, stopping: "asyncio.Task[bool]") -> "asyncio.Task[None] | asyncio.Task[bool]":
    """Run something until it ends or the process is told to stop; which of the two it was."""
    task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return stopping


async def _prepare(kube: KubeClient, controller: Controller) -> None:
    """Wait for the CRD (kopf watches nothing, for good, where it is missing) and fill the cache."""
    while True:
        try:
            if await kube.served(names.API_VERSION):
                await controller.fill()
                return
            controller.unprepared = f"the CustomResourceDefinition of {names.KIND} is not there; install crds/"
        except KubeError as error:
            controller.unprepared = f"what there is cannot be listed: {error}"
        logger.warning("Not working yet: %s", controller.unprepared)
        await asyncio.sleep(_CRD_WAIT_SECONDS)


async def _work(kube: KubeClient, controller: Controller, config: OperatorConfig, stop: asyncio.Event) -> None:
    """Watches and workers; the end of either is the end of both."""
    await _prepare(kube, controller)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(controller.run())
        for watch in controller.watches():
            tasks.create_task(watch.run())
        tasks.create_task(_watch(controller, config, stop))


async def _watch(controller: Controller, config: OperatorConfig, stop: asyncio.Event) -> None:
    others = asyncio.all_tasks()
    watches = await kopf.spawn_tasks(
        registry=handlers.register(controller),
        settings=handlers.settings(config.label_selector),
        clusterwide=not config.watch_namespaces,
        namespaces=config.watch_namespaces,
        standalone=True,
        identity=names.FIELD_MANAGER,  # type: ignore[arg-type]
        stop_flag=stop,
    )
    # kopf took the signals for itself: told to stop, the watches would end as if they had failed.
    _obey(stop)
    await kopf.run_tasks(watches, ignored=others)
    if not stop.is_set():
        raise RuntimeError("the watches ended")
