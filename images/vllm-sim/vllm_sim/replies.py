"""Response bodies and stream chunks, field by field as vLLM 0.32 writes them. Pure."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_sim import text
from vllm_sim.answers import Model
from vllm_sim.generation import Generation, alternatives


@dataclass(frozen=True)
class Heading:
    """What every body of one answer carries."""

    id: str
    created: int
    model: str
    fingerprint: str | None


def identifier(prefix: str, given: str | None) -> str:
    """An answer's id: the client's X-Request-Id, or a random one, after vLLM's prefix."""
    return f"{prefix}-{given or uuid.uuid4().hex[:16]}"


def heading(prefix: str, given: str | None, model: str, fingerprint: str | None) -> Heading:
    """A fresh heading."""
    return Heading(identifier(prefix, given), int(time.time()), model, fingerprint)


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """Token counts of an answer; total is their sum."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def brief_usage(prompt: int, completion: int) -> dict[str, Any]:
    """Token counts without the empty details, as streams carry them."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


def chat_body(head: Heading, choices: Sequence[dict[str, Any]], prompt: int, completion: int) -> dict[str, Any]:
    """The answer of a chat that is not streamed."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": list(choices),
        "service_tier": None,
        "system_fingerprint": head.fingerprint,
        "usage": usage(prompt, completion),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def chat_choice(index: int, content: str, logprobs: Any, finish: str, stop_reason: str | None) -> dict[str, Any]:
    """One choice of a chat that is not streamed."""
    message = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": finish,
        "stop_reason": stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def completion_body(head: Heading, choices: Sequence[dict[str, Any]], prompt: int, completion: int) -> dict[str, Any]:
    """The answer of a completion that is not streamed."""
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": list(choices),
        "service_tier": None,
        "system_fingerprint": head.fingerprint,
        "usage": usage(prompt, completion),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def completion_choice(index: int, content: str, logprobs: Any, finish: str, stop_reason: str | None) -> dict[str, Any]:
    """One choice of a completion that is not streamed."""
    return {
        "index": index,
        "text": content,
        "logprobs": logprobs,
        "finish_reason": finish,
        "stop_reason": stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }


def chunk(head: Heading, kind: str, choices: Sequence[dict[str, Any]], **more: Any) -> bytes:
    """One server-sent event of a stream."""
    body = {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "choices": list(choices),
        **more,
    }
    return b"data: " + json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def error_event(body: dict[str, Any]) -> bytes:
    """An error in the middle of a stream, whose status is already 200."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chat_logprobs(
    prompt: str, model: Model, generation: Generation, positions: Sequence[int], top: int
) -> dict[str, Any]:
    """Log probabilities of tokens in the chat form."""
    content = []
    for position in positions:
        entries = alternatives(prompt, model, position, generation.tokens[position], max(top, 1))
        rows = [_row(token, logprob) for token, logprob in entries]
        content.append({**rows[0], "top_logprobs": rows[:top]})
    return {"content": content}


def _row(token: int, logprob: float) -> dict[str, Any]:
    written = _name(token)
    return {"token": written, "logprob": logprob, "bytes": list(written.encode("utf-8", errors="replace"))}


def completion_logprobs(
    prompt: str, model: Model, generation: Generation, positions: Sequence[int], top: int, offset: int
) -> dict[str, Any]:
    """Log probabilities of tokens in the completion form; `offset` is where the first one starts."""
    offsets: list[int] = []
    names: list[str] = []
    values: list[float] = []
    tops: list[dict[str, float]] = []
    for position in positions:
        entries = alternatives(prompt, model, position, generation.tokens[position], max(top, 1))
        offsets.append(offset)
        names.append(_name(entries[0][0]))
        values.append(entries[0][1])
        tops.append({_name(token): logprob for token, logprob in entries})
        offset += len(names[-1])
    return {"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops}


def _name(token: int) -> str:
    return text.piece(token) if token != text.END_OF_TURN else "<|end|>"
