"""`GET /v1/models`: HAProxy hands it to the agent, which knows all routes. No other request comes this way."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web

from nightshift.api.route import Route
from nightshift.core.gateway.answers import error_body
from nightshift.core.gateway.listing import models_of

HEADER_ROUTE = "x-nightshift-route"
_PATH = "/v1/models"


async def serve_models(socket: Path, routes: Callable[[], Iterable[Route]]) -> web.AppRunner:
    """Answer on a UNIX socket.

    Args:
        socket: Its path; one that a former process left is replaced.
        routes: All routes.
    """

    async def models(request: web.Request) -> web.Response:
        return _answer(routes(), request.headers.get(HEADER_ROUTE), request.match_info.get("name", ""))

    application = web.Application()
    application.add_routes([web.get(_PATH, models), web.get(_PATH + "/{name:.+}", models)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    _make_way(socket)
    await web.UnixSite(runner, str(socket)).start()
    return runner


def _make_way(socket: Path) -> None:
    """Its directory lets nobody else in, so the socket needs no mode of its own."""
    socket.unlink(missing_ok=True)


def _answer(routes: Iterable[Route], only: str | None, name: str) -> web.Response:
    entries: list[dict[str, Any]] = models_of(routes, only)
    if not name:
        return web.json_response({"object": "list", "data": entries})
    for entry in entries:
        if entry["id"] == name:
            return web.json_response(entry)
    message = f"There is no model {name[:256]}; GET /v1/models lists those there are."
    body = error_body(message, "invalid_request_error", "model_not_found", "model")
    return web.Response(status=404, text=body, content_type="application/json")
