"""The HTTP surface: which path answers what, and what every request passes through."""

from __future__ import annotations

import hmac
import time
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from vllm_sim import text
from vllm_sim.errors import ApiError, bad_request, internal, json_response
from vllm_sim.http_metrics import HttpMetrics
from vllm_sim.inference import chat, chat_prompt, completion
from vllm_sim.logs import access
from vllm_sim.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    LoadAdapter,
    TokenizeRequest,
    UnloadAdapter,
    check_chat,
    check_completion,
    read,
)
from vllm_sim.replies import identifier
from vllm_sim.state import STATE, State, api_keys, runtime_lora
from vllm_sim.versions import GUARDED_BEYOND_V1, SAGEMAKER_ADAPTERS

_BARE = web.ResponseKey("bare", bool)


def application(state: State) -> web.Application:
    """The server's application."""
    http = HttpMetrics(state.engine.metrics.registry)
    app = web.Application(client_max_size=64 << 20, middlewares=[_surround(http), _guard(state)])
    app[STATE] = state
    app.on_response_prepare.append(_headers)
    app.router.add_get("/health", _health, allow_head=False)
    for method in ("GET", "POST"):
        app.router.add_route(method, "/ping", _health)
    app.router.add_get("/version", _version, allow_head=False)
    app.router.add_get("/load", _load, allow_head=False)
    app.router.add_get("/metrics", _metrics, allow_head=False)
    app.router.add_get("/kv_event_sources", _kv_event_sources, allow_head=False)
    for path in ("/docs", "/redoc"):
        app.router.add_get(path, _docs, allow_head=False)
    app.router.add_get("/openapi.json", _openapi, allow_head=False)
    app.router.add_get("/v1/models", _models, allow_head=False)
    app.router.add_post("/v1/chat/completions", _counted(_chat))
    app.router.add_post("/v1/completions", _counted(_completion))
    app.router.add_post("/invocations", _counted(_invocations))
    app.router.add_post("/tokenize", _tokenize)
    app.router.add_post("/detokenize", _detokenize)
    if runtime_lora(state):
        app.router.add_post("/v1/load_lora_adapter", _load_adapter)
        app.router.add_post("/v1/unload_lora_adapter", _unload_adapter)
        if state.version >= SAGEMAKER_ADAPTERS:
            app.router.add_post("/adapters", _load_alias)
            app.router.add_delete("/adapters/{adapter_name}", _unload_alias)
    return app


def _surround(http: HttpMetrics) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        state = request.app[STATE]
        with state.request_open():
            return await answered(request, handler, started)

    async def answered(request: web.Request, handler: Handler, started: float) -> web.StreamResponse:
        state = request.app[STATE]
        try:
            response = await handler(request)
        except ApiError as error:
            response = json_response(error.body(), error.status)
        except web.HTTPException as error:
            response = json_response({"detail": HTTPStatus(error.status).phrase}, error.status)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except ConnectionResetError:
            raise
        except Exception as error:
            response = json_response(internal(str(error)).body(), 500)
        http.record(request, response, started)
        access(request, response.status, state.arguments)
        return response

    return middleware


def _guard(state: State) -> Middleware:
    keys = [key.encode() for key in api_keys(state)]
    prefixes = ("/v1", "/v2", "/inference") if state.version >= GUARDED_BEYOND_V1 else ("/v1",)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if keys and request.method != "OPTIONS" and request.path.startswith(prefixes):
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            known = [hmac.compare_digest(given.encode(), key) for key in keys]
            if scheme.lower() != "bearer" or not any(known):
                return json_response({"error": "Unauthorized"}, 401)
        return await handler(request)

    return middleware


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    """Name the server as vLLM's does, and give no content type to bodies that have none there."""
    response.headers["Server"] = "uvicorn"
    if response.get(_BARE):
        response.headers.popall("Content-Type", None)
    if request.app[STATE].arguments.enable_request_id_headers:
        response.headers["X-Request-Id"] = identifier("", request.headers.get("X-Request-Id")).lstrip("-")


def _bare(body: str = "", status: int = 200) -> web.Response:
    response = web.Response(body=body.encode(), status=status)
    response[_BARE] = True
    return response


def _counted(handler: Handler) -> Handler:
    async def counted(request: web.Request) -> web.StreamResponse:
        state = request.app[STATE]
        if not state.arguments.enable_server_load_tracking:
            return await handler(request)
        state.load += 1
        try:
            return await handler(request)
        finally:
            state.load -= 1

    return counted


async def _health(request: web.Request) -> web.StreamResponse:
    return _bare(status=503 if request.app[STATE].dead else 200)


async def _version(request: web.Request) -> web.StreamResponse:
    return json_response({"version": str(request.app[STATE].version)})


async def _load(request: web.Request) -> web.StreamResponse:
    return json_response({"server_load": request.app[STATE].load})


async def _metrics(request: web.Request) -> web.StreamResponse:
    body = generate_latest(request.app[STATE].engine.metrics.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _kv_event_sources(request: web.Request) -> web.StreamResponse:
    return json_response({})


async def _docs(request: web.Request) -> web.StreamResponse:
    return web.Response(
        body=b"<!DOCTYPE html><title>vLLM simulator</title>", headers={"Content-Type": "text/html; charset=utf-8"}
    )


async def _openapi(request: web.Request) -> web.StreamResponse:
    paths: dict[str, Any] = {route.resource.canonical: {} for route in request.app.router.routes() if route.resource}
    info = {"title": "FastAPI", "version": "0.1.0"}
    return json_response({"openapi": "3.1.0", "info": info, "paths": paths})


async def _models(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    cards = [_card(name, state.arguments.model, None, state.max_model_len) for name in state.names]
    cards += [_card(one.name, one.path, state.names[0], None) for one in state.adapters.loaded.values()]
    return json_response({"object": "list", "data": cards})


def _card(name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    now = int(time.time())
    permission = {
        "id": identifier("modelperm", None),
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }


async def _chat(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    return await chat(request, read(ChatRequest, raw, request.headers.get("Content-Type", ""), check_chat))


async def _completion(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    kind = request.headers.get("Content-Type", "")
    return await completion(request, read(CompletionRequest, raw, kind, check_completion))


async def _invocations(request: web.Request) -> web.StreamResponse:
    """Whatever the body turns out to be: chat with messages, completion with a prompt."""
    body = await request.json()
    if isinstance(body, dict) and "messages" in body:
        return await _chat(request)
    if isinstance(body, dict) and "prompt" in body:
        return await _completion(request)
    raise bad_request("Cannot find suitable handler for request.")


async def _tokenize(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    body = read(TokenizeRequest, await request.read(), request.headers.get("Content-Type", ""))
    state.model(body.model)
    prompt = chat_prompt(body.messages) if body.messages is not None else body.prompt
    if prompt is None:
        raise bad_request("Field required", "body.prompt")
    tokens = state.tokenize(prompt)
    names = [text.piece(token) for token in tokens] if body.return_token_strs else None
    answer = {"count": len(tokens), "max_model_len": state.max_model_len, "tokens": tokens, "token_strs": names}
    return json_response(answer)


async def _detokenize(request: web.Request) -> web.StreamResponse:
    body = read(DetokenizeRequest, await request.read(), request.headers.get("Content-Type", ""))
    request.app[STATE].model(body.model)
    return json_response({"prompt": text.decode(body.tokens)})


async def _load_adapter(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    body = read(LoadAdapter, await request.read(), request.headers.get("Content-Type", ""))
    return _bare(state.adapters.load(body, state.names))


async def _unload_adapter(request: web.Request) -> web.StreamResponse:
    body = read(UnloadAdapter, await request.read(), request.headers.get("Content-Type", ""))
    return _bare(request.app[STATE].adapters.unload(body.lora_name))


async def _load_alias(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    body = await request.json()
    wanted = LoadAdapter(lora_name=body.get("name", ""), lora_path=body.get("src", ""))
    state.adapters.load(wanted, state.names)
    return _bare(f"Adapter {wanted.lora_name} registered")


async def _unload_alias(request: web.Request) -> web.StreamResponse:
    name = request.match_info["adapter_name"]
    request.app[STATE].adapters.unload(name)
    return _bare(f"Adapter {name} unregistered")
