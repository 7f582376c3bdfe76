"""Text completions."""

from __future__ import annotations

from e2e.contract.engine import Client
from e2e.contract.observe import Observation, reply, stream
from e2e.contract.registry import case, require

PATH = "/v1/completions"


@case("completion.whole")
async def whole(client: Client) -> Observation:
    """A completion: every field, sixteen tokens by default."""
    answer = await client.post(PATH, client.prompt_body(ignore_eos=True))
    return {**reply(answer, client.engine.version), "tokens": answer.json()["usage"]["completion_tokens"]}


@case("completion.stream")
async def streamed(client: Client) -> Observation:
    """A stream: text from the first event on, and the same text as the whole answer."""
    body = client.prompt_body(max_tokens=5, ignore_eos=True)
    found = await client.stream(PATH, body)
    whole_text = (await client.post(PATH, body)).json()["choices"][0]["text"]
    text = "".join(choice["text"] for event in found.events for choice in event["choices"])
    require(text == whole_text, "stream and whole answer agree")
    return stream(found, client.engine.version)


@case("completion.stream-usage")
async def stream_usage(client: Client) -> Observation:
    """With include_usage the last event carries the usage."""
    body = client.prompt_body(max_tokens=3, ignore_eos=True, stream_options={"include_usage": True})
    return stream(await client.stream(PATH, body), client.engine.version)


@case("completion.logprobs")
async def logprobs(client: Client) -> Observation:
    """Log probabilities in the completion form: offsets follow the tokens."""
    answer = await client.post(PATH, client.prompt_body(logprobs=2, max_tokens=4, ignore_eos=True))
    found = answer.json()["choices"][0]["logprobs"]
    offsets = [sum(map(len, found["tokens"][:index])) for index in range(len(found["tokens"]))]
    return {
        "status": answer.status,
        "fields": {name: len(values) for name, values in found.items()},
        "offsets_follow": found["text_offset"] == offsets,
        "rivals": sorted({len(row) for row in found["top_logprobs"]}),
    }


@case("completion.logprobs-zero")
async def logprobs_zero(client: Client) -> Observation:
    """logprobs=0 names the sampled token alone."""
    answer = await client.post(PATH, client.prompt_body(logprobs=0, max_tokens=2, ignore_eos=True))
    rows = answer.json()["choices"][0]["logprobs"]["top_logprobs"]
    return {"rivals": sorted({len(row) for row in rows})}


@case("completion.echo")
async def echo(client: Client) -> Observation:
    """echo puts the prompt before the answer."""
    body = (await client.post(PATH, client.prompt_body(echo=True, max_tokens=2))).json()
    return {"starts_with_prompt": body["choices"][0]["text"].startswith("The capital of")}


@case("completion.prompts")
async def prompts(client: Client) -> Observation:
    """Several prompts in one request: one choice each, in order; usage counts them all."""
    answer = await client.post(PATH, client.prompt_body(["The capital", "The sum"], max_tokens=2, ignore_eos=True))
    body = answer.json()
    singles = [
        (await client.post(PATH, client.prompt_body(prompt, max_tokens=2, ignore_eos=True))).json()
        for prompt in ("The capital", "The sum")
    ]
    return {
        "indices": [choice["index"] for choice in body["choices"]],
        "texts_as_single": [choice["text"] for choice in body["choices"]]
        == [single["choices"][0]["text"] for single in singles],
        "prompt_tokens_add_up": body["usage"]["prompt_tokens"]
        == sum(single["usage"]["prompt_tokens"] for single in singles),
        "completion_tokens": body["usage"]["completion_tokens"],
    }


@case("completion.token-ids")
async def token_ids(client: Client) -> Observation:
    """A prompt as token ids gives the same answer as its text."""
    tokens = (await client.post("/tokenize", {"model": client.engine.model, "prompt": "The capital of"})).json()
    listed = await client.post(PATH, client.prompt_body(tokens["tokens"], max_tokens=4))
    text = await client.post(PATH, client.prompt_body(max_tokens=4))
    return {"status": listed.status, "same": listed.json().get("choices") == text.json().get("choices")}


@case("completion.choices")
async def choices(client: Client) -> Observation:
    """Two choices of one prompt."""
    body = (
        await client.post(PATH, client.prompt_body(n=2, temperature=1.0, seed=1, max_tokens=3, ignore_eos=True))
    ).json()
    return {
        "indices": [choice["index"] for choice in body["choices"]],
        "completion_tokens": body["usage"]["completion_tokens"],
    }


@case("completion.stop")
async def stop(client: Client) -> Observation:
    """A stop string that comes: its reason is the string."""
    first = (await client.post(PATH, client.prompt_body(max_tokens=8, ignore_eos=True))).json()
    text = first["choices"][0]["text"]
    wanted = text.strip()[2:5] or text
    body = (await client.post(PATH, client.prompt_body(max_tokens=8, ignore_eos=True, stop=wanted))).json()
    choice = body["choices"][0]
    return {
        "cut": choice["text"] == text[: text.find(wanted)],
        "finish_reason": choice["finish_reason"],
        "reason_is_string": choice["stop_reason"] == wanted,
    }
