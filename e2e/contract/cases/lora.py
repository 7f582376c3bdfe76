"""LoRA adapters: loading, using, unloading; each case leaves none behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from e2e.contract.engine import Client, Reply
from e2e.contract.observe import Observation, reply
from e2e.contract.registry import case, require

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
NAME = "contract-adapter"


@asynccontextmanager
async def _loaded(client: Client, name: str = NAME) -> AsyncIterator[Reply]:
    answer = await client.post(LOAD, {"lora_name": name, "lora_path": client.engine.adapter_path})
    try:
        yield answer
    finally:
        await client.post(UNLOAD, {"lora_name": name})


@case("lora.load", needs_adapter=True)
async def load(client: Client) -> Observation:
    """Loading, and the adapter in the list of models with its parent and path."""
    async with _loaded(client) as answer:
        listed = (await client.get("/v1/models")).json()["data"]
        card: dict[str, object] = next((card for card in listed if card["id"] == NAME), {})
    return {
        "answer": reply(answer),
        "parent": card.get("parent") == client.engine.model,
        "root_is_path": card.get("root") == client.engine.adapter_path,
        "context": card.get("max_model_len"),
    }


@case("lora.answers", needs_adapter=True)
async def answers(client: Client) -> Observation:
    """An adapter answers under its own name, and differently from the base."""
    async with _loaded(client):
        adapted = (await client.post("/v1/chat/completions", {**client.chat_body(), "model": NAME})).json()
        base = (await client.post("/v1/chat/completions", client.chat_body())).json()
    return {
        "model": adapted.get("model"),
        "differs": adapted["choices"][0]["message"]["content"] != base["choices"][0]["message"]["content"],
    }


@case("lora.twice", needs_adapter=True)
async def twice(client: Client) -> Observation:
    """Loading a name again is refused, unless in place."""
    async with _loaded(client):
        body = {"lora_name": NAME, "lora_path": client.engine.adapter_path}
        again = await client.post(LOAD, body)
        in_place = await client.post(LOAD, {**body, "load_inplace": True})
    return {"again": reply(again), "in_place": reply(in_place)}


@case("lora.several", needs_adapter=True)
async def several(client: Client) -> Observation:
    """More adapters than --max-loras (two) can be loaded: the limit is on a batch."""
    names = [f"{NAME}-{index}" for index in range(4)]
    body = {"lora_path": client.engine.adapter_path}
    statuses = [(await client.post(LOAD, {**body, "lora_name": name})).status for name in names]
    for name in names:
        await client.post(UNLOAD, {"lora_name": name})
    return {"statuses": statuses}


@case("lora.no-such-path", needs_adapter=True)
async def no_such_path(client: Client) -> Observation:
    """A path with no adapter."""
    return reply(await client.post(LOAD, {"lora_name": NAME, "lora_path": "/models/no-such-adapter"}))


@case("lora.bad-requests", needs_adapter=True)
async def bad_requests(client: Client) -> Observation:
    """Empty names, missing fields, and the base model's name."""
    path = client.engine.adapter_path
    return {
        "empty": reply(await client.post(LOAD, {"lora_name": "", "lora_path": path})),
        "missing": reply(await client.post(LOAD, {"lora_name": NAME})),
        "base": reply(await client.post(LOAD, {"lora_name": client.engine.model, "lora_path": path})),
    }


@case("lora.unload", needs_adapter=True)
async def unload(client: Client) -> Observation:
    """Unloading, and what is left of the name."""
    async with _loaded(client):
        pass
    async with _loaded(client):
        answer = await client.post(UNLOAD, {"lora_name": NAME})
    used = await client.post("/v1/chat/completions", {**client.chat_body(), "model": NAME})
    return {
        "answer": reply(answer),
        "again": reply(await client.post(UNLOAD, {"lora_name": NAME})),
        "empty": reply(await client.post(UNLOAD, {"lora_name": ""})),
        "used_after": reply(used),
    }


@case("lora.aliases", needs_adapter=True)
async def aliases(client: Client) -> Observation:
    """SageMaker's paths load and unload too."""
    loaded = await client.post("/adapters", {"name": NAME, "src": client.engine.adapter_path})
    dropped = await client.call("DELETE", f"/adapters/{NAME}")
    gone = await client.call("DELETE", f"/adapters/{NAME}")
    return {"load": reply(loaded), "unload": reply(dropped), "again": reply(gone)}


@case("lora.metric", needs_adapter=True)
async def metric(client: Client) -> Observation:
    """A request to an adapter shows in lora_requests_info, and counts under the base model's name."""
    async with _loaded(client):
        await client.post("/v1/chat/completions", {**client.chat_body(max_tokens=4), "model": NAME})
        text = (await client.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("vllm:")]
    info = [line for line in lines if line.startswith("vllm:lora_requests_info{")]
    require(all(f'model_name="{NAME}"' not in line for line in lines), "no metric is split by adapter")
    return {
        "labels": sorted(
            {label.split("=")[0] for line in info for label in line.split("{")[1].split(",") if "=" in label}
        ),
        "names_the_adapter": any(f'running_lora_adapters="{NAME}"' in line for line in info),
        "max_lora": any('max_lora="2"' in line for line in info),
    }
