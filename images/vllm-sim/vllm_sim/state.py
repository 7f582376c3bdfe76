"""What one simulated server holds, and the checks that every inference request passes."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from vllm_sim import text
from vllm_sim.adapters import Adapters
from vllm_sim.answers import Model
from vllm_sim.engine import SHUT_DOWN, Engine
from vllm_sim.errors import ApiError, bad_request, internal, not_found
from vllm_sim.faults import Roulette
from vllm_sim.settings import Settings
from vllm_sim.versions import ALIASES_IN_404, CONTEXT_LIMIT_WITHOUT_OUTPUT, FINGERPRINT, Version


@dataclass
class State:
    """A running server: its settings, engine, adapters and counters.

    Attributes:
        dead: the engine process is known to be dead, so /health answers 503.
        load: requests in progress, for /load.
    """

    settings: Settings
    arguments: argparse.Namespace
    environment: Mapping[str, str]
    max_model_len: int
    engine: Engine
    adapters: Adapters
    roulette: Roulette = field(default_factory=Roulette)
    dead: bool = False
    load: int = 0
    _open: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def request_open(self) -> Iterator[None]:
        """Count a request in progress."""
        self._open += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no request is in progress."""
        if self._open:
            await self._quiet.wait()

    @property
    def version(self) -> Version:
        """The simulated release."""
        return self.settings.release

    @property
    def names(self) -> list[str]:
        """The base model's names; the first is the one in metrics and answers."""
        return list(self.arguments.served_model_name or [self.arguments.model])

    @property
    def fingerprint(self) -> str | None:
        """``system_fingerprint``: version, parallelism and a hash of the configuration; None before 0.21."""
        arguments = self.arguments
        if self.version < FINGERPRINT or arguments.fingerprint_mode == "none":
            return None
        if arguments.fingerprint_mode == "custom":
            return str(arguments.fingerprint_value)
        degrees = {
            "tp": arguments.tensor_parallel_size,
            "pp": arguments.pipeline_parallel_size,
            "dp": arguments.data_parallel_size,
        }
        full = arguments.fingerprint_mode == "full"
        parallel = "".join(f"-{name}{degree}" for name, degree in degrees.items() if full and int(degree or 1) > 1)
        configuration = f"{arguments.model}|{self.max_model_len}|{arguments.dtype}|{arguments.quantization}"
        digest = hashlib.sha256(f"{self.version}|{configuration}".encode()).hexdigest()[:8]
        return f"vllm-{self.version}{parallel}-{digest}"

    def model(self, name: str | None) -> tuple[str, Model]:
        """The name to answer with and the model behind a request's name.

        Raises:
            ApiError: 404, the name is not served.
        """
        damage, words = self.engine.faults.damage, self.settings.answer_words
        if not name or name in self.names:
            return name or self.names[0], Model(damage=damage, typical_words=words)
        if adapter := self.adapters.loaded.get(name):
            return name, Model(adapter=f"{name} {adapter.path}", damage=damage, typical_words=words)
        aliases = f" Valid aliases: {', '.join(self.names)}." if self.version >= ALIASES_IN_404 else ""
        raise not_found(f"The model `{name}` does not exist.{aliases}", "model")

    def fail_by_chance(self) -> None:
        """Fail this request if it is one of the share that the faults hit.

        Raises:
            ApiError: the injected error.
        """
        self.engine.came()
        errors = self.engine.faults.errors
        if errors is not None and self.roulette.hit(errors.share):
            raise ApiError(errors.status, "InternalServerError", errors.message)

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids of a prompt.

        Raises:
            ApiError: 500, the server is shutting down and its tokenizer threads are gone.
        """
        if not self.engine.accepting:
            raise internal(SHUT_DOWN)
        return text.encode(prompt)

    def output_limit(self, prompt: str | None, tokens: list[int], wanted: int | None, parameter: str) -> int:
        """How many of the `wanted` tokens a request may generate; zero when its prompt fills the context.

        `prompt` is the text behind the tokens, None when it came as tokens; `parameter` names the limit.

        Raises:
            ApiError: 400, the context cannot hold it, in the words of the simulated release.
        """
        context = self.max_model_len
        if wanted is not None and wanted > context:
            raise bad_request(
                f"{parameter}={wanted} cannot be greater than max_model_len={context}. "
                "Please request fewer output tokens.",
                parameter,
                wanted,
            )
        check_prompt(
            prompt, len(tokens), context, None if self.version >= CONTEXT_LIMIT_WITHOUT_OUTPUT else wanted or 0
        )
        left = context - len(tokens)
        return left if wanted is None else min(wanted, left)


def check_prompt(prompt: str | None, count: int, context: int, reserved: int | None) -> None:
    """Refuse a prompt that is too long, as vLLM words it.

    A text far too long is refused by its characters; another one is tokenized up to one past the limit, so
    its true length is not known. `count` are the prompt's tokens; `reserved` are the output tokens that count
    against the context before 0.32, None for later releases, which cut the output instead.

    Raises:
        ApiError: 400.
    """
    limit = context - (reserved or 0)
    longest = limit * text.LONGEST_TOKEN
    old = reserved is not None
    asked = f"you requested {reserved} output tokens and your prompt" if old else "your prompt"
    advice = "Please reduce the length of the input prompt" + (
        " or the number of requested output tokens." if old else "."
    )
    opening = f"This model's maximum context length is {context} tokens. However, {asked} contains "
    if prompt is not None and len(prompt) > longest:
        raise bad_request(
            f"{opening}{len(prompt)} characters (more than {longest} characters, which is the upper bound for "
            f"{limit} input tokens). {advice}",
            "input_text",
            len(prompt),
        )
    if count > limit:
        count = count if prompt is None else limit + 1
        least = "at least " if count == limit + 1 else ""
        total = (
            f"for a total of {least}{count + reserved} tokens."
            if reserved is not None
            else "which exceeds this limit even without any output tokens."
        )
        raise bad_request(f"{opening}{least}{count} input tokens, {total} {advice}", "input_tokens", count)


STATE = web.AppKey("state", State)


def runtime_lora(state: State) -> bool:
    """Whether adapters may be loaded while running (VLLM_ALLOW_RUNTIME_LORA_UPDATING)."""
    return state.environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").strip().lower() in ("1", "true")


def api_keys(state: State) -> list[str]:
    """The keys that guard the API; empty when it is open."""
    keys = list(state.arguments.api_key or [])
    if key := state.environment.get("VLLM_API_KEY"):
        keys.append(key)
    return keys
