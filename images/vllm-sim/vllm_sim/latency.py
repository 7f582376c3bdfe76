"""How long an engine step takes: a pure model, all times in seconds.

Continuous batching runs one step at a time; a step gives every decoding sequence one token and works off
some prompt tokens of the sequences that are still in prefill. A step costs a fixed part (kernel launches,
weights read once), a part per decoding sequence, a part per prompt token (compute bound), and a part per
token of context held in the KV cache (attention reads it all).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LatencyModel:
    """The coefficients of a step's time.

    Attributes:
        step: fixed seconds of a step that does any work.
        per_sequence: seconds per sequence that decodes in the step.
        per_prefill_token: seconds per prompt token computed in the step.
        per_context_token: seconds per token of context that decoding sequences read.
        jitter: largest relative deviation, 0 to below 1; the deviation of step i depends on seed and i only.
        seed: seed of the jitter.
    """

    step: float = 0.010
    per_sequence: float = 0.0002
    per_prefill_token: float = 0.00005
    per_context_token: float = 0.0
    jitter: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"jitter must be in [0, 1), got {self.jitter}")
        for name in ("step", "per_sequence", "per_prefill_token", "per_context_token"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number of seconds >= 0, got {value}")

    def step_seconds(
        self, *, decoding: int, prefill_tokens: int, context_tokens: int = 0, index: int = 0, slow: float = 1.0
    ) -> float:
        """Seconds of one step.

        ``(step + per_sequence*decoding + per_prefill_token*prefill_tokens + per_context_token*context_tokens)
        * slow * (1 + jitter*u)``, with u in [-1, 1) drawn from (seed, index); 0 when there is nothing to do.

        Example: step 10 ms, 0.2 ms per sequence, 0.05 ms per prompt token; 8 sequences decode while 512
        prompt tokens are computed: 0.010 + 8*0.0002 + 512*0.00005 = 0.0372 s.
        """
        if decoding == 0 and prefill_tokens == 0:
            return 0.0
        seconds = (
            self.step
            + self.per_sequence * decoding
            + self.per_prefill_token * prefill_tokens
            + self.per_context_token * context_tokens
        )
        return seconds * slow * (1.0 + self.jitter * _unit(self.seed, index))

    def request_seconds(self, *, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of one request alone on an idle engine, whole prompt in one step, without jitter.

        One prefill step gives the first token, then one decode step per further token; context grows by one
        each step: ``step + per_prefill_token*p + sum over i=1..o-1 of (step + per_sequence
        + per_context_token*(p+i))``.

        Example: step 10 ms, 0.2 ms per sequence, 0.05 ms per prompt token, p=100, o=11:
        0.010 + 0.005 + 10*0.0102 = 0.117 s.
        """
        steps = max(output_tokens - 1, 0)
        context = steps * prompt_tokens + steps * (steps + 1) // 2
        return (
            self.step
            + self.per_prefill_token * prompt_tokens
            + steps * (self.step + self.per_sequence)
            + self.per_context_token * context
        )


def _unit(seed: int, index: int) -> float:
    """A number in [-1, 1) that depends on its arguments only."""
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**63 - 1.0
