"""A request's generation, planned whole before the engine runs it: tokens, text per token, log probabilities.

The engine then only decides when each token comes. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vllm_sim import text
from vllm_sim.answers import Model, answer, confidence, filler


@dataclass(frozen=True)
class Limits:
    """What a request says about length and stopping."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False


@dataclass(frozen=True)
class Generation:
    """The planned answer.

    Attributes:
        tokens: token ids, the end of turn included when the answer ends by itself.
        deltas: text that each token adds for the client.
        finish_reason: ``stop`` or ``length``.
        stop_reason: the stop string that ended it, if one did.
    """

    tokens: tuple[int, ...]
    deltas: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None

    @property
    def text(self) -> str:
        """The whole text the client gets."""
        return "".join(self.deltas)

    def cut(self, tokens: int) -> Generation:
        """The generation as an abort leaves it after some tokens."""
        return Generation(self.tokens[:tokens], self.deltas[:tokens], "abort", None)


def plan(prompt: str, model: Model, limits: Limits, *, seed: int = 0) -> Generation:
    """Plan the answer to a rendered prompt under a request's limits."""
    tokens = _tokens(prompt, model, limits, seed)
    reason = "stop" if tokens[-1] == text.END_OF_TURN and not limits.ignore_eos else "length"
    if not limits.stop:
        return Generation(tuple(tokens), tuple(text.piece(token) for token in tokens), reason, None)
    return _stopped(tokens, limits, reason)


def alternatives(prompt: str, model: Model, position: int, token: int, count: int) -> list[tuple[int, float]]:
    """The sampled token and its most likely rivals with log probabilities, most likely first.

    `count` entries in all, at least one. The rivals share what probability the sampled token leaves, each
    half of the one before: rival i has ``(1 - exp(logprob)) / 2^i``.
    """
    chosen = confidence(prompt, model, position)
    entries = [(token, chosen)]
    words = filler(f"{position}:{prompt}", model, seed=1)
    rest = 1.0 - math.exp(chosen)
    taken = {token}
    while len(entries) < count:
        rival = text.encode(next(words))[0]
        if rival in taken:
            rival = text.encode(f"{len(entries)}")[0]
        taken.add(rival)
        entries.append((rival, min(math.log(max(rest, 1e-9)) - len(entries) * math.log(2), chosen)))
    return entries


def _tokens(prompt: str, model: Model, limits: Limits, seed: int) -> list[int]:
    tokens = [*text.encode(answer(prompt, model, seed=seed)), text.END_OF_TURN]
    if limits.ignore_eos or len(tokens) < limits.min_tokens:
        wanted = limits.max_tokens if limits.ignore_eos else limits.min_tokens
        words = filler(prompt, model, seed=seed)
        tokens.pop()
        while len(tokens) < wanted:
            tokens.extend(text.encode(next(words)))
        if not limits.ignore_eos:
            tokens[wanted - 1 :] = [text.END_OF_TURN]
    return tokens[: limits.max_tokens]


def _stopped(tokens: Sequence[int], limits: Limits, reason: str) -> Generation:
    """Cut at the first stop string; text that could still become one is held back until it cannot."""
    hold = 0 if limits.include_stop else max(map(len, limits.stop)) - 1
    shown, whole = 0, ""
    deltas: list[str] = []
    for index, token in enumerate(tokens):
        start = max(0, len(whole) - max(map(len, limits.stop)) + 1)
        whole += text.piece(token)
        hits = [(at, stop) for stop in limits.stop if (at := whole.find(stop, start)) >= 0]
        if hits and index + 1 >= limits.min_tokens:
            at, stop = min(hits)
            end = at + (len(stop) if limits.include_stop else 0)
            deltas.append(whole[shown:end])
            return Generation(tuple(tokens[: index + 1]), tuple(deltas), "stop", stop)
        end = len(whole) if index == len(tokens) - 1 else max(shown, len(whole) - hold)
        deltas.append(whole[shown:end])
        shown = end
    return Generation(tuple(tokens), tuple(deltas), reason, None)
