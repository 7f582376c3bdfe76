"""Probes and metrics of a gateway process over HTTP."""

from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


async def serve_probes(
    problem: Callable[[], str | None],
    unready: Callable[[], str | None],
    registry: CollectorRegistry,
    port: int,
    more: Iterable[web.RouteDef] = (),
) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics.

    Args:
        problem: Why the process should be restarted, as a sentence, or None.
        unready: Why it cannot do its work, as a sentence, or None.
        registry: What /metrics tells.
        port: TCP port; 0 for any.
        more: What else is served there.
    """

    async def health(_: web.Request) -> web.Response:
        return _probe(problem())

    async def ready(_: web.Request) -> web.Response:
        return _probe(unready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/readyz", ready), web.get("/metrics", metrics)])
    application.add_routes(more)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104
    return runner


def _probe(found: str | None) -> web.Response:
    return web.Response(status=503 if found else 200, text=found or "ok")
