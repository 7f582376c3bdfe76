"""One answer of one engine: read from its stream, and laid beside the other revision's."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from nightshift.core.analysis.evidence import GoldenPair

LEAST_LOGPROB = -50.0
"""Less likely is as good as impossible: vLLM writes -9999 for what it rules out."""

_FIRST_TEXTS = ("content", "reasoning", "reasoning_content")
"""Fields of a chat's delta that hold what was generated; older versions of vLLM say reasoning_content."""


class Ending(Enum):
    """What became of a question."""

    ANSWERED = "Answered"
    REFUSED = "Refused"
    """With 4xx: the engine does not take this question."""
    FAILED = "Failed"
    """5xx, broken off, nonsense, or not in time."""
    UNREACHABLE = "Unreachable"
    """No connection was made, so nothing is known of the engine."""


@dataclass(frozen=True)
class EngineAnswer:
    """What an engine answered, and how fast."""

    ending: Ending
    text: str = ""
    first_token: float | None = None
    """Seconds until the first token."""
    inter_token: float | None = None
    """Mean seconds between the first token and the last."""
    likely: Mapping[str, float] = field(default_factory=dict)
    """Log-probabilities of the likeliest first tokens."""
    note: str = ""
    """Why there is none, for the log."""


@dataclass(frozen=True)
class Chunk:
    """One event of a stream."""

    text: str
    """Of the answer itself, not of reasoning."""
    generated: bool
    """Whether a token came with it."""
    likely: Mapping[str, float] = field(default_factory=dict)
    tokens: int | None = None
    """Generated so far, where it tells."""
    finished: bool = False
    error: str | None = None


def read_chunk(data: str) -> Chunk | None:
    """Read what follows `data:` in a stream of completions or chat completions; None where it makes no sense.

    Source: vllm/entrypoints/openai, completion and chat_completion protocol, 0.32.0.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if "error" in found:
        return Chunk("", generated=False, error=str(found["error"])[:200])
    usage, choices = found.get("usage"), found.get("choices")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
    tokens = counted if isinstance(counted, int) and counted >= 0 else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if choice is None:
        return Chunk("", generated=False, tokens=tokens)
    text, spoke = _said(choice)
    likely = _likely(choice.get("logprobs"))
    finished = choice.get("finish_reason") is not None
    return Chunk(text, spoke or bool(likely), likely, tokens, finished)


def _said(choice: Mapping[str, Any]) -> tuple[str, bool]:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        text = choice.get("text")
        return (text, bool(text)) if isinstance(text, str) else ("", False)
    content = delta.get("content")
    spoke = any(isinstance(delta.get(name), str) and delta[name] for name in _FIRST_TEXTS)
    return content if isinstance(content, str) else "", spoke or bool(delta.get("tool_calls"))


def _likely(logprobs: Any) -> dict[str, float]:
    """The likeliest tokens of the first position: chats list them, completions map them."""
    if not isinstance(logprobs, dict):
        return {}
    content, tops = logprobs.get("content"), logprobs.get("top_logprobs")
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, list) and content and isinstance(content[0], dict):
        rows = content[0].get("top_logprobs")
        rows = rows if isinstance(rows, list) else []
        pairs = [(row.get("token"), row.get("logprob")) for row in rows if isinstance(row, dict)]
    elif isinstance(tops, list) and tops and isinstance(tops[0], dict):
        pairs = list(tops[0].items())
    found: dict[str, float] = {}
    for token, logprob in pairs:
        if isinstance(token, str) and isinstance(logprob, int | float) and not math.isnan(logprob):
            bounded = min(0.0, max(LEAST_LOGPROB, float(logprob)))
            # Tokens that are no whole character are written alike; the likeliest of them stands for all.
            found[token] = max(found.get(token, LEAST_LOGPROB), bounded)
    return found


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Mean absolute difference of two engines' log-probabilities of their likeliest first tokens, in nats.

    A token that one of them does not list is at most as likely as the least likely that it lists, and counts as that.
    Source: left-censoring of arXiv 2512.03816. Worked example: {a: -0.1, b: -2.5} and {a: -0.3, c: -1.5} differ by 0.2
    at a, |-2.5 - -1.5| = 1.0 at b and |-2.5 - -1.5| = 1.0 at c: 2.2 / 3 = 0.733.
    """
    if not one or not other:
        return None
    least_one, least_other = min(one.values()), min(other.values())
    tokens = one.keys() | other.keys()
    return sum(abs(one.get(token, least_one) - other.get(token, least_other)) for token in tokens) / len(tokens)


def pair(
    question: str,
    weight: int,
    stable: EngineAnswer,
    candidate: EngineAnswer,
    again: EngineAnswer | None = None,
    scores: tuple[float | None, float | None] = (None, None),
) -> GoldenPair | None:
    """Two answers side by side; None where one of the engines was not reached, so that nothing is known.

    A question that one revision answers and the other refuses counts as failed by that one; what both refuse is the
    question's fault.

    Args:
        question: Its id.
        weight: What it counts.
        stable: The stable revision's answer.
        candidate: The candidate's.
        again: A second answer of the stable revision, for its own noise.
        scores: The stable revision's and the candidate's, of whole answers.
    """
    if Ending.UNREACHABLE in (stable.ending, candidate.ending):
        return None
    return GoldenPair(
        question=question,
        weight=weight,
        stable_score=scores[0] if stable.ending is Ending.ANSWERED else None,
        candidate_score=scores[1] if candidate.ending is Ending.ANSWERED else None,
        stable_failed=_failed(stable, candidate),
        candidate_failed=_failed(candidate, stable),
        stable_first_token=stable.first_token,
        candidate_first_token=candidate.first_token,
        stable_inter_token=stable.inter_token,
        candidate_inter_token=candidate.inter_token,
        logprob_distance=distance(stable.likely, candidate.likely),
        stable_noise=distance(stable.likely, again.likely) if again is not None else None,
    )


def _failed(one: EngineAnswer, other: EngineAnswer) -> bool:
    refused_alone = one.ending is Ending.REFUSED and other.ending is Ending.ANSWERED
    return one.ending is Ending.FAILED or refused_alone
