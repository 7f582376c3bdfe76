"""Request bodies: the fields the simulator reads, checked as vLLM checks them.

Checks on the raw body come first and name their field, as vLLM's own validators do; types are checked by
pydantic, whose texts vLLM passes on. Unknown fields are allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vllm_sim.errors import ApiError, bad_request, invalid

_INT64 = 2**63
_GREEDY = 1e-5
_NO_OBJECT = "Input should be a valid dictionary or object to extract fields from"


class Body(BaseModel):
    """A request body; extra fields are ignored, as in vLLM."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Sampling(Body):
    """What chat and text completions share."""

    n: int | None = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: Annotated[int, Field(ge=-_INT64, le=_INT64 - 1)] | None = None
    stop: str | list[str] | None = []
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    echo: bool | None = False
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_running_usage(self) -> bool:
        """Whether every chunk of a stream carries usage."""
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0

    @property
    def limit(self) -> int | None:
        """The output limit the request asks for."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class CompletionRequest(Sampling):
    """``POST /v1/completions``."""

    prompt: list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    suffix: str | None = None


class TokenizeRequest(Body):
    """``POST /tokenize`` with either a prompt or messages."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = False


class DetokenizeRequest(Body):
    """``POST /detokenize``."""

    tokens: list[Annotated[int, Field(ge=0, le=_INT64 - 1)]]


class LoadAdapter(BaseModel):
    """``POST /v1/load_lora_adapter``."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class UnloadAdapter(BaseModel):
    """``POST /v1/unload_lora_adapter``."""

    lora_name: str
    lora_int_id: int | None = None


T = TypeVar("T", bound=BaseModel)
Check = Callable[[Mapping[str, Any]], None]


def read(model: type[T], raw: bytes, content_type: str, check: Check | None = None) -> T:
    """Read and check a body.

    Raises:
        ApiError: 400 in vLLM's words.
    """
    if content_type.lower().split(";", maxsplit=1)[0] != "application/json":
        raise ApiError(400, "Bad Request", _wrong_media_type())
    try:
        body = json.loads(raw)
    except (ValueError, UnicodeDecodeError) as error:
        raise _undecodable(error) from error
    if not isinstance(body, dict):
        raise invalid([{"type": "model_attributes_type", "loc": ("body",), "msg": _NO_OBJECT, "input": body}])
    if check is not None:
        check(body)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise invalid([{**item, "loc": ("body", *item["loc"])} for item in details]) from error


def _wrong_media_type() -> str:
    return "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"


def _undecodable(error: Exception) -> ApiError:
    if not isinstance(error, json.JSONDecodeError):
        return ApiError(400, "Bad Request", "There was an error parsing the body")
    item = {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.msg},
    }
    return invalid([item])


def check_chat(body: Mapping[str, Any]) -> None:
    """vLLM's checks of a chat request's raw body."""
    _check_stream_options(body)
    _check_integers(body, "prompt_logprobs", "top_logprobs")
    top = body.get("top_logprobs")
    if top is not None:
        if top < 0 and top != -1:
            raise bad_request("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
        if (top > 0 or top == -1) and not body.get("logprobs"):
            raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")


def check_completion(body: Mapping[str, Any]) -> None:
    """vLLM's checks of a completion request's raw body."""
    _check_integers(body, "prompt_logprobs", "logprobs")
    logprobs = body.get("logprobs")
    if logprobs is not None and logprobs < 0 and logprobs != -1:
        raise bad_request("`logprobs` must be a positive value or -1.", "logprobs", logprobs)
    _check_stream_options(body)
    if body.get("prompt") in (None, "") and not body.get("prompt_embeds"):
        raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")


def _check_stream_options(body: Mapping[str, Any]) -> None:
    if body.get("stream_options") and not body.get("stream"):
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")


def _check_integers(body: Mapping[str, Any], *names: str) -> None:
    for name in names:
        value = body.get(name)
        if value is not None and not isinstance(value, (int, float)):
            raise bad_request(f"`{name}` must be an integer.", name, value)


def check_sampling(request: Sampling, limit: int, max_logprobs: int, logprobs: int | None) -> None:
    """vLLM's checks of sampling parameters; `limit` is how many tokens the request may generate.

    Raises:
        ApiError: 400 in vLLM's words.
    """
    count = 1 if request.n is None else request.n
    if count < 1:
        raise bad_request(f"n must be at least 1, got {count}.")
    _between(request.presence_penalty, -2.0, 2.0, "presence_penalty must be in [-2, 2]", None)
    _between(request.frequency_penalty, -2.0, 2.0, "frequency_penalty must be in [-2, 2]", None)
    temperature = request.temperature
    if temperature is not None and not math.isfinite(temperature):
        raise bad_request(f"temperature must be a finite number, got {temperature}.", "temperature", temperature)
    if temperature is not None and temperature < 0:
        raise bad_request(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    _between(temperature, 0.0, 2.0, "temperature must be in [0, 2]", "temperature")
    if request.top_p is not None and not 0.0 < request.top_p <= 1.0:
        raise bad_request(f"top_p must be in (0, 1], got {request.top_p}.", "top_p", request.top_p)
    if limit < 1:
        raise bad_request(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if count > 1 and temperature is not None and temperature < _GREEDY:
        raise bad_request(f"n must be 1 when using greedy sampling, got {count}.")
    if logprobs is not None and logprobs > max_logprobs >= 0:
        raise bad_request(
            f"Requested sample logprobs of {logprobs}, which is greater than max allowed: {max_logprobs}",
            "logprobs",
            logprobs,
        )


def _between(value: float | None, low: float, high: float, rule: str, param: str | None) -> None:
    if value is not None and not low <= value <= high:
        raise bad_request(f"{rule}, got {value}.", param, value if param else None)
