"""Requests that are refused: status, kind of error, field and message."""

from __future__ import annotations

from typing import Any

from e2e.contract.engine import Client
from e2e.contract.observe import Observation, error
from e2e.contract.registry import CASES, Case, CaseFunction, case

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"

# name, what it shows, path, fields of the request; a field that is None here is left out.
REFUSED: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("unknown-model", "A model that is not served.", CHAT, {"model": "nobody"}),
    ("unknown-model-text", "A completion for a model that is not served.", TEXT, {"model": "nobody"}),
    ("no-messages", "A chat without messages.", CHAT, {"messages": None}),
    ("messages-text", "Messages that are a text.", CHAT, {"messages": "hello"}),
    ("empty-messages", "An empty list of messages.", CHAT, {"messages": []}),
    ("max-tokens-text", "A number that is none.", CHAT, {"max_tokens": "many"}),
    ("max-tokens-zero", "No tokens at all.", CHAT, {"max_tokens": 0}),
    ("max-tokens-negative", "Fewer than none.", CHAT, {"max_tokens": -1}),
    ("max-tokens-beyond", "More tokens than the context holds.", CHAT, {"max_tokens": 100000}),
    ("temperature-negative", "A temperature below zero.", CHAT, {"temperature": -1}),
    ("temperature-high", "A temperature above two.", CHAT, {"temperature": 2.5}),
    ("top-p-zero", "top_p of zero.", CHAT, {"top_p": 0}),
    ("top-p-high", "top_p above one.", CHAT, {"top_p": 1.5}),
    ("penalty-high", "A penalty out of range.", CHAT, {"presence_penalty": 3}),
    ("n-zero", "No choices.", CHAT, {"n": 0}),
    ("n-greedy", "Two choices at temperature zero, which would be the same.", CHAT, {"n": 2}),
    ("top-logprobs-many", "More rivals than the limit.", CHAT, {"logprobs": True, "top_logprobs": 50}),
    ("top-logprobs-alone", "top_logprobs without logprobs.", CHAT, {"top_logprobs": 2}),
    ("top-logprobs-negative", "Fewer rivals than none.", CHAT, {"logprobs": True, "top_logprobs": -2}),
    ("stream-options", "stream_options without stream.", CHAT, {"stream_options": {"include_usage": True}}),
    ("seed-huge", "A seed beyond 64 bits.", CHAT, {"seed": 2**64}),
    ("no-prompt", "A completion without a prompt.", TEXT, {"prompt": None}),
    ("empty-prompt", "A completion of an empty prompt.", TEXT, {"prompt": ""}),
    ("empty-prompts", "A completion of an empty list.", TEXT, {"prompt": []}),
    ("suffix", "A suffix, which is not supported.", TEXT, {"suffix": "x"}),
    ("logprobs-many", "More rivals than the limit.", TEXT, {"logprobs": 50}),
    ("text-max-tokens-zero", "No tokens at all.", TEXT, {"max_tokens": 0}),
)


def _refused(path: str, fields: dict[str, Any]) -> CaseFunction:
    async def run(client: Client) -> Observation:
        body = {**(client.chat_body(max_tokens=2) if path == CHAT else client.prompt_body(max_tokens=2)), **fields}
        return error(await client.post(path, {name: value for name, value in body.items() if value is not None}))

    return run


for _name, _shows, _path, _fields in REFUSED:
    CASES[f"errors.{_name}"] = Case(f"errors.{_name}", _shows, _refused(_path, _fields))


@case("errors.not-json")
async def not_json(client: Client) -> Observation:
    """A body cut off in the middle."""
    return error(await client.post(CHAT, raw=b'{"model": "tiny", "messages": ['))


@case("errors.content-type")
async def content_type(client: Client) -> Observation:
    """A body that is not called JSON."""
    return error(await client.post(CHAT, raw=b"hello", headers={"Content-Type": "text/plain"}))


@case("errors.not-an-object")
async def not_an_object(client: Client) -> Observation:
    """JSON that is not an object."""
    return error(await client.post(CHAT, [1, 2]))


@case("errors.prompt-too-long")
async def prompt_too_long(client: Client) -> Observation:
    """A chat longer than the context."""
    return error(await client.post(CHAT, client.chat_body("word and " * 2 * client.engine.max_model_len)))


@case("errors.text-too-long")
async def text_too_long(client: Client) -> Observation:
    """A completion of a prompt as long as the context, in token ids."""
    tokens = (await client.post("/tokenize", {"model": client.engine.model, "prompt": "a"})).json()["tokens"]
    context = client.engine.max_model_len
    body = [tokens[-1]] * (context + 5)
    return {
        "beyond": error(await client.post(TEXT, client.prompt_body(body, max_tokens=4))),
        "exactly": error(await client.post(TEXT, client.prompt_body(body[:context], max_tokens=1))),
    }


@case("errors.output-cut")
async def output_cut(client: Client) -> Observation:
    """A prompt and an answer that together exceed the context: refused, or the answer cut to fit."""
    tokens = (await client.post("/tokenize", {"model": client.engine.model, "prompt": "a"})).json()["tokens"]
    context = client.engine.max_model_len
    request = client.prompt_body([tokens[-1]] * (context - 10), max_tokens=20, ignore_eos=True)
    answer = await client.post(TEXT, request)
    if answer.status != 200:
        return error(answer)
    return {"status": 200, "completion_tokens": answer.json()["usage"]["completion_tokens"]}


@case("errors.invocations")
async def invocations(client: Client) -> Observation:
    """A body that is neither chat nor completion."""
    answer = await client.post("/invocations", {"nothing": 1})
    return {"status": answer.status, "kind": ((answer.json() or {}).get("error") or {}).get("type")}
