"""Health, version, models and what else answers without a model."""

from __future__ import annotations

from e2e.contract.engine import Client
from e2e.contract.observe import Observation, error, reply
from e2e.contract.registry import case, require


@case("basic.health")
async def health(client: Client) -> Observation:
    """A ready engine answers 200 with no body."""
    answer = await client.get("/health")
    require(answer.status == 200, "a ready engine is healthy")
    return reply(answer)


@case("basic.health-post")
async def health_post(client: Client) -> Observation:
    """Another method is refused."""
    return reply(await client.post("/health", {}))


@case("basic.ping")
async def ping(client: Client) -> Observation:
    """SageMaker's health check, by GET and POST."""
    return {"get": reply(await client.get("/ping")), "post": reply(await client.post("/ping"))}


@case("basic.version")
async def version(client: Client) -> Observation:
    """The version is the one that runs."""
    answer = await client.get("/version")
    body = answer.json() or {}
    return {**reply(answer), "is_own_version": body.get("version") == client.engine.version}


@case("basic.load")
async def load(client: Client) -> Observation:
    """The server's load, zero without tracking."""
    answer = await client.get("/load")
    return {**reply(answer), "value": (answer.json() or {}).get("server_load")}


@case("basic.models")
async def models(client: Client) -> Observation:
    """The served model with its context length."""
    answer = await client.get("/v1/models")
    cards = (answer.json() or {}).get("data", [])
    require(any(card["id"] == client.engine.model for card in cards), "the served model is listed")
    first = cards[0]
    return {**reply(answer), "context_is_set": first.get("max_model_len") == client.engine.max_model_len}


@case("basic.unknown-path")
async def unknown_path(client: Client) -> Observation:
    """A path that is not there."""
    return error(await client.get("/no/such/path"))


@case("basic.ready-path")
async def ready_path(client: Client) -> Observation:
    """There is no readiness path of its own."""
    return error(await client.get("/ready"))


@case("basic.open-paths")
async def open_paths(client: Client) -> Observation:
    """What answers a bare GET besides the API."""
    paths = ("/docs", "/redoc", "/openapi.json", "/kv_event_sources", "/tokenizer_info", "/server_info", "/is_sleeping")
    return {path: (await client.get(path)).status for path in paths}


@case("basic.wrong-methods")
async def wrong_methods(client: Client) -> Observation:
    """GET where POST belongs."""
    paths = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/invocations")
    return {path: (await client.get(path)).status for path in paths}
