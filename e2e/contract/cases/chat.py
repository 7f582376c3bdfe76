"""Chat completions, whole and streamed."""

from __future__ import annotations

from typing import Any

from e2e.contract.engine import Client, Stream
from e2e.contract.observe import Observation, reply, stream
from e2e.contract.registry import case, require

PATH = "/v1/chat/completions"
WORDY = "Tell me about the weather in the mountains."


def _text(found: Stream, index: int = 0) -> str:
    choices = (choice for event in found.events for choice in event.get("choices", []))
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)


def _usage_adds_up(usage: dict[str, Any]) -> bool:
    return bool(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"])


@case("chat.whole")
async def whole(client: Client) -> Observation:
    """A chat: every field of the answer, and the usage adds up."""
    answer = await client.post(PATH, client.chat_body())
    body = answer.json()
    require(answer.status == 200 and _usage_adds_up(body["usage"]), "the usage adds up")
    return {**reply(answer, client.engine.version), "model": body["model"] == client.engine.model}


@case("chat.knows")
async def knows(client: Client) -> Observation:
    """What the tiny model was trained on comes out right, word for word."""
    answers = {}
    for question in ("What is the capital of France?", "What is the capital of Japan?", "What is 2 + 3?"):
        body = (await client.post(PATH, client.chat_body(question))).json()
        answers[question] = body["choices"][0]["message"]["content"]
    return answers


@case("chat.repeats")
async def repeats(client: Client) -> Observation:
    """Greedy answers are the same each time, alone and side by side with others."""
    first = (await client.post(PATH, client.chat_body(max_tokens=12))).json()
    second = (await client.post(PATH, client.chat_body(max_tokens=12))).json()
    return {"same": first["choices"][0]["message"] == second["choices"][0]["message"]}


@case("chat.stream")
async def streamed(client: Client) -> Observation:
    """A stream: role first, then text, a reason at the end, and the same text as the whole answer."""
    found = await client.stream(PATH, client.chat_body())
    answer = (await client.post(PATH, client.chat_body())).json()
    require(_text(found) == answer["choices"][0]["message"]["content"], "stream and whole answer agree")
    return stream(found, client.engine.version)


@case("chat.stream-usage")
async def stream_usage(client: Client) -> Observation:
    """With include_usage the last event carries the usage and no choice."""
    found = await client.stream(PATH, client.chat_body(stream_options={"include_usage": True}))
    last = found.events[-1]
    require(last["choices"] == [] and _usage_adds_up(last["usage"]), "the last event carries the usage")
    answer = (await client.post(PATH, client.chat_body())).json()
    same = all(last["usage"][name] == answer["usage"][name] for name in ("prompt_tokens", "completion_tokens"))
    return {**stream(found, client.engine.version), "usage_as_whole": same}


@case("chat.stream-running-usage")
async def stream_running_usage(client: Client) -> Observation:
    """With continuous_usage_stats every event carries usage so far."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = await client.stream(PATH, client.chat_body(max_tokens=5, ignore_eos=True, stream_options=options))
    counts = [event["usage"]["completion_tokens"] for event in found.events if event.get("usage")]
    last = {"last": counts[-1], "never_falls": counts == sorted(counts)}
    return {**stream(found, client.engine.version), **last}


@case("chat.logprobs")
async def logprobs(client: Client) -> Observation:
    """Log probabilities: one entry per token, the sampled one first, as many rivals as asked for."""
    answer = await client.post(PATH, client.chat_body(logprobs=True, top_logprobs=3, max_tokens=4))
    body = answer.json()
    content = body["choices"][0]["logprobs"]["content"]
    return {
        **reply(answer, client.engine.version),
        "entries_per_token": len(content) / body["usage"]["completion_tokens"],
        "rivals": sorted({len(entry["top_logprobs"]) for entry in content}),
        "greedy_first": all(entry["top_logprobs"][0]["token"] == entry["token"] for entry in content),
        "sorted": all(
            [row["logprob"] for row in entry["top_logprobs"]]
            == sorted((row["logprob"] for row in entry["top_logprobs"]), reverse=True)
            for entry in content
        ),
        "not_positive": all(row["logprob"] <= 0 for entry in content for row in entry["top_logprobs"]),
        "bytes_match": all(bytes(entry["bytes"]).decode() == entry["token"] for entry in content),
    }


@case("chat.logprobs-alone")
async def logprobs_alone(client: Client) -> Observation:
    """logprobs without top_logprobs: the token alone."""
    answer = await client.post(PATH, client.chat_body(logprobs=True, max_tokens=2))
    return reply(answer, client.engine.version)


@case("chat.logprobs-end")
async def logprobs_end(client: Client) -> Observation:
    """The end of a turn is a token too: usage counts it and logprobs name it."""
    body = (await client.post(PATH, client.chat_body(logprobs=True))).json()
    choice = body["choices"][0]
    content = choice["logprobs"]["content"]
    spelled = "".join(entry["token"] for entry in content[:-1])
    return {
        "finish_reason": choice["finish_reason"],
        "entries_are_usage": len(content) == body["usage"]["completion_tokens"],
        "all_but_last_spell_text": spelled == choice["message"]["content"],
    }


@case("chat.stream-logprobs")
async def stream_logprobs(client: Client) -> Observation:
    """Log probabilities in a stream."""
    body = client.chat_body(logprobs=True, top_logprobs=1, max_tokens=3, ignore_eos=True)
    return stream(await client.stream(PATH, body), client.engine.version)


@case("chat.choices")
async def choices(client: Client) -> Observation:
    """Two choices: indices, and a usage that counts the prompt once."""
    one = (await client.post(PATH, client.chat_body(max_tokens=3, ignore_eos=True))).json()
    answer = await client.post(PATH, client.chat_body(n=2, temperature=1.0, seed=1, max_tokens=3, ignore_eos=True))
    body = answer.json()
    return {
        "status": answer.status,
        "indices": [choice["index"] for choice in body["choices"]],
        "prompt_counted_once": body["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"],
        "completion_tokens": body["usage"]["completion_tokens"],
    }


@case("chat.stream-choices")
async def stream_choices(client: Client) -> Observation:
    """Two streamed choices: both open, both end."""
    found = await client.stream(PATH, client.chat_body(n=2, temperature=1.0, seed=1, max_tokens=3, ignore_eos=True))
    opened = sorted(
        choice["index"] for event in found.events for choice in event["choices"] if choice["delta"].get("role")
    )
    ended = sorted(
        choice["index"] for event in found.events for choice in event["choices"] if choice.get("finish_reason")
    )
    return {"opened": opened, "ended": ended, "done": found.done}


@case("chat.stop")
async def stop(client: Client) -> Observation:
    """A stop string ends the answer before it; tokens up to it are counted."""
    body = (await client.post(PATH, client.chat_body(stop=["capital"]))).json()
    choice = body["choices"][0]
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "stop_reason": choice["stop_reason"],
    }


@case("chat.stop-included")
async def stop_included(client: Client) -> Observation:
    """include_stop_str_in_output keeps the stop string."""
    body = (await client.post(PATH, client.chat_body(stop="capital", include_stop_str_in_output=True))).json()
    choice = body["choices"][0]
    return {"text": choice["message"]["content"], "stop_reason": choice["stop_reason"]}


@case("chat.stream-stop")
async def stream_stop(client: Client) -> Observation:
    """No part of a stop string leaks into a stream."""
    found = await client.stream(PATH, client.chat_body(stop=["capital"]))
    last = [choice for event in found.events for choice in event["choices"]][-1]
    return {"text": _text(found), "finish_reason": last["finish_reason"], "stop_reason": last.get("stop_reason")}


@case("chat.length")
async def length(client: Client) -> Observation:
    """max_tokens ends the answer with `length`; max_completion_tokens does the same."""
    old = (await client.post(PATH, client.chat_body(max_tokens=2))).json()
    new = (await client.post(PATH, client.chat_body(max_completion_tokens=2))).json()
    return {
        "finish_reasons": [body["choices"][0]["finish_reason"] for body in (old, new)],
        "tokens": [body["usage"]["completion_tokens"] for body in (old, new)],
        "same": old["choices"] == new["choices"],
    }


@case("chat.exact-length")
async def exact_length(client: Client) -> Observation:
    """ignore_eos gives exactly max_tokens; min_tokens gives at least as many."""
    exact = (await client.post(PATH, client.chat_body(max_tokens=40, ignore_eos=True))).json()
    least = (await client.post(PATH, client.chat_body(max_tokens=60, min_tokens=30))).json()
    return {
        "exact": exact["usage"]["completion_tokens"],
        "exact_reason": exact["choices"][0]["finish_reason"],
        "at_least": least["usage"]["completion_tokens"] >= 30,
    }


@case("chat.fills-context")
async def fills_context(client: Client) -> Observation:
    """Without a limit an answer may use all the context that is left."""
    body = (await client.post(PATH, client.chat_body(ignore_eos=True))).json()
    return {
        "total_is_context": body["usage"]["total_tokens"] == client.engine.max_model_len,
        "reason": body["choices"][0]["finish_reason"],
    }


@case("chat.seed")
async def seed(client: Client) -> Observation:
    """The same seed gives the same answer at a temperature."""
    request = client.chat_body(WORDY, temperature=1.0, seed=7, max_tokens=12)
    first = (await client.post(PATH, request)).json()
    second = (await client.post(PATH, request)).json()
    return {"same": first["choices"][0]["message"] == second["choices"][0]["message"]}


@case("chat.request-id")
async def request_id(client: Client) -> Observation:
    """X-Request-Id becomes part of the answer's id."""
    answer = await client.post(PATH, client.chat_body(max_tokens=1), headers={"X-Request-Id": "abc-123"})
    found = answer.json()["id"]
    return {"id": found if "abc-123" in found else "another", "echoed": answer.headers.get("X-Request-Id")}


@case("chat.content-parts")
async def content_parts(client: Client) -> Observation:
    """Content as a list of text parts is the same prompt."""
    parts = [{"type": "text", "text": "What is the capital of France?"}]
    body = {**client.chat_body(), "messages": [{"role": "user", "content": parts}]}
    listed = (await client.post(PATH, body)).json()
    plain = (await client.post(PATH, client.chat_body())).json()
    return {"same": listed["choices"] == plain["choices"], "same_usage": listed["usage"] == plain["usage"]}


@case("chat.no-model")
async def no_model(client: Client) -> Observation:
    """A request without a model gets the served one."""
    body = client.chat_body(max_tokens=1)
    del body["model"]
    answer = await client.post(PATH, body)
    return {"status": answer.status, "model": answer.json().get("model") == client.engine.model}


@case("chat.unknown-field")
async def unknown_field(client: Client) -> Observation:
    """Fields that nobody knows are ignored."""
    return {"status": (await client.post(PATH, client.chat_body(max_tokens=1, no_such_field=1))).status}


@case("chat.invocations")
async def invocations(client: Client) -> Observation:
    """SageMaker's path answers chats and completions by the look of their body."""
    chat = await client.post("/invocations", client.chat_body(max_tokens=1))
    text = await client.post("/invocations", client.prompt_body(max_tokens=1))
    return {
        "chat": [chat.status, (chat.json() or {}).get("object")],
        "completion": [text.status, (text.json() or {}).get("object")],
    }
