"""The control endpoints, on a port of their own: switch faults on and off, look at the engine's state."""

from __future__ import annotations

from aiohttp import web

from vllm_sim.errors import json_response
from vllm_sim.faults import Faults, FaultsError, parse
from vllm_sim.state import STATE, State


def application(state: State) -> web.Application:
    """The control application."""
    app = web.Application()
    app[STATE] = state

    def apply(faults: Faults) -> web.Response:
        state.engine.inject(faults)
        return json_response(faults.model_dump())

    async def show(request: web.Request) -> web.Response:
        return json_response(state.engine.coming.model_dump())

    async def put(request: web.Request) -> web.Response:
        try:
            return apply(parse(await request.read()))
        except FaultsError as error:
            return json_response({"error": str(error)}, 400)

    async def clear(request: web.Request) -> web.Response:
        return apply(Faults())

    async def status(request: web.Request) -> web.Response:
        scheduler = state.engine.scheduler
        return json_response(
            {
                "version": str(state.version),
                "steps": state.engine.steps,
                "running": len(scheduler.running),
                "waiting": len(scheduler.waiting),
                "kv_blocks": scheduler.pool.blocks,
                "kv_blocks_used": scheduler.pool.used,
                "preemptions": scheduler.preemptions,
                "accepting": state.engine.accepting,
            }
        )

    app.router.add_get("/sim/faults", show)
    app.router.add_put("/sim/faults", put)
    app.router.add_delete("/sim/faults", clear)
    app.router.add_get("/sim/state", status)
    return app
