"""Tokenizing and back."""

from __future__ import annotations

from e2e.contract.engine import Client
from e2e.contract.observe import Observation, reply
from e2e.contract.registry import case

SENTENCE = "What is the capital of France?"


@case("tokens.text")
async def text(client: Client) -> Observation:
    """A text's tokens and their number, the context length with it."""
    answer = await client.post("/tokenize", {"model": client.engine.model, "prompt": SENTENCE})
    body = answer.json()
    return {
        **reply(answer),
        "count_is_length": body["count"] == len(body["tokens"]),
        "context": body["max_model_len"] == client.engine.max_model_len,
    }


@case("tokens.chat")
async def chat(client: Client) -> Observation:
    """A chat's tokens are those the chat is billed for."""
    messages = [{"role": "user", "content": SENTENCE}]
    answer = await client.post("/tokenize", {"model": client.engine.model, "messages": messages})
    used = (await client.post("/v1/chat/completions", client.chat_body(SENTENCE, max_tokens=1))).json()["usage"]
    body = answer.json()
    return {"status": answer.status, "as_billed": body.get("count") == used["prompt_tokens"]}


@case("tokens.strings")
async def strings(client: Client) -> Observation:
    """return_token_strs names each token."""
    request = {"model": client.engine.model, "prompt": SENTENCE, "return_token_strs": True}
    answer = await client.post("/tokenize", request)
    body = answer.json()
    return {"status": answer.status, "one_each": len(body.get("token_strs") or []) == body.get("count")}


@case("tokens.back")
async def back(client: Client) -> Observation:
    """Detokenizing gives the text back."""
    tokens = (await client.post("/tokenize", {"model": client.engine.model, "prompt": SENTENCE})).json()["tokens"]
    answer = await client.post("/detokenize", {"model": client.engine.model, "tokens": tokens})
    return {**reply(answer), "same": SENTENCE in (answer.json() or {}).get("prompt", "")}


@case("tokens.unknown-model")
async def unknown_model(client: Client) -> Observation:
    """Tokenizing for a model that is not served."""
    return reply(await client.post("/tokenize", {"model": "nobody", "prompt": SENTENCE}))
