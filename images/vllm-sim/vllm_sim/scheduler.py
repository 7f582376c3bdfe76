"""Continuous batching as vLLM V1 does it, as a state machine without a clock.

`plan` decides what the next step works on, `finish` applies it and says what came out; the caller supplies
the time and sleeps in between. First come first served, prompts in chunks within a token budget, and the
youngest running sequence is preempted (its KV thrown away, to be computed again) when memory runs out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from vllm_sim.blocks import BlockPool, block_hashes


@dataclass
class Sequence:
    """One sequence in the engine; times are seconds of the caller's clock.

    Attributes:
        prompt: token ids of the prompt.
        output: token ids the sequence will produce, known beforehand.
        adapter: LoRA adapter, which has KV of its own; empty for the base model.
    """

    id: int
    prompt: Tokens[int]
    output: Tokens[int]
    arrival: float
    adapter: str = ""
    generated: int = 0
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    prompt_hashes: list[str] | None = None
    hashes: list[str] = field(default_factory=list)
    private: int = 0

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt) + self.generated

    @property
    def missing(self) -> int:
        """Known tokens whose KV is still to be computed before the next token can come."""
        return self.length - self.computed

    @property
    def decoding(self) -> bool:
        """Whether only the token that came last is missing."""
        return self.generated > 0 and self.missing == 1

    @property
    def done(self) -> bool:
        """Whether the last token has come."""
        return self.generated >= len(self.output)

    def block_hashes(self, blocks: int, block: int) -> list[str]:
        """Hashes of the full blocks up to the given number, beyond those already shared."""
        start, end = len(self.hashes) * block, blocks * block
        known = [*self.prompt[start:end], *self.output[max(start - len(self.prompt), 0) : self.generated]]
        return block_hashes(known[: end - start], block, self.hashes[-1] if self.hashes else self.adapter)


@dataclass(frozen=True)
class Plan:
    """What a step works on: prompt tokens per prefilling sequence, and the sequences that decode."""

    prefill: tuple[tuple[Sequence, int], ...]
    decode: tuple[Sequence, ...]

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens computed in this step."""
        return sum(count for _, count in self.prefill)

    @property
    def context_tokens(self) -> int:
        """Tokens of context that the decoding sequences read."""
        return sum(sequence.length for sequence in self.decode)


@dataclass(frozen=True)
class Progress:
    """What a step brought: sequences with a new token (true: its first), and how many were preempted."""

    tokens: tuple[tuple[Sequence, bool], ...]
    finished: tuple[Sequence, ...]


class Scheduler:
    """The waiting queue, the running batch and the KV blocks of one engine."""

    def __init__(self, *, max_seqs: int, token_budget: int, blocks: int, block: int, prefix_caching: bool = True):
        self.max_seqs = max_seqs
        self.token_budget = token_budget
        self.block = block
        self.prefix_caching = prefix_caching
        self.pool = BlockPool(blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0

    @property
    def busy(self) -> bool:
        """Whether a step would have anything to do."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> bool:
        """Take a sequence out wherever it is; False when it is not here any more."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._free(sequence)
            return True
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return True
        return False

    def plan(self, now: float) -> Plan:
        """Choose the next step's work, admitting waiting sequences while room lasts."""
        budget = self.token_budget
        before = self.preemptions
        work: list[tuple[Sequence, int]] = []
        for sequence in list(self.running):
            if sequence not in self.running or budget <= 0:
                continue
            count = min(sequence.missing, budget)
            if self._make_room(sequence, sequence.computed + count):
                budget -= count
                work.append((sequence, count))
        work = [(sequence, count) for sequence, count in work if sequence in self.running]
        prefill = [(sequence, count) for sequence, count in work if not sequence.decoding]
        decode = [sequence for sequence, _ in work if sequence.decoding]
        if self.preemptions == before:
            prefill.extend(self._admit(budget, now))
        return Plan(tuple(prefill), tuple(decode))

    def finish(self, plan: Plan, now: float) -> Progress:
        """Apply a planned step at its end; sequences aborted meanwhile are left out."""
        tokens: list[tuple[Sequence, bool]] = []
        finished: list[Sequence] = []
        for sequence, count in plan.prefill:
            if sequence not in self.running:
                continue
            sequence.computed += count
            self._share_full_blocks(sequence)
            if not sequence.missing:
                self._emit(sequence, now, tokens, finished)
        for sequence in plan.decode:
            if sequence in self.running:
                sequence.computed += 1
                self._emit(sequence, now, tokens, finished)
        return Progress(tuple(tokens), tuple(finished))

    def _emit(
        self, sequence: Sequence, now: float, tokens: list[tuple[Sequence, bool]], finished: list[Sequence]
    ) -> None:
        first = sequence.first_token is None
        if first:
            sequence.first_token = now
        sequence.generated += 1
        tokens.append((sequence, first))
        if sequence.done:
            self.running.remove(sequence)
            self._share_full_blocks(sequence)
            self._free(sequence)
            finished.append(sequence)

    def _admit(self, budget: int, now: float) -> list[tuple[Sequence, int]]:
        admitted: list[tuple[Sequence, int]] = []
        while self.waiting and len(self.running) < self.max_seqs and budget > 0:
            sequence = self.waiting[0]
            hits = self._cached(sequence)
            cached = len(hits) * self.block
            count = min(sequence.length - cached, budget)
            private = self._blocks(cached + count) - len(hits)
            self.pool.hold(hits)
            if not self.pool.reserve(private):
                self.pool.release(hits, 0)
                break
            self.waiting.popleft()
            sequence.hashes, sequence.private, sequence.computed = list(hits), private, cached
            if sequence.scheduled is None:
                sequence.scheduled, sequence.cached = now, cached
                self.prefix_queries += len(sequence.prompt) if self.prefix_caching else 0
                self.prefix_hits += cached
            self.running.append(sequence)
            admitted.append((sequence, count))
            budget -= count
        return admitted

    def _cached(self, sequence: Sequence) -> list[str]:
        if not self.prefix_caching:
            return []
        if sequence.prompt_hashes is None:
            sequence.prompt_hashes = block_hashes(sequence.prompt, self.block, sequence.adapter)
        # The last token is always computed, since its logits give the next one.
        return self.pool.hit(sequence.prompt_hashes[: (sequence.length - 1) // self.block])

    def _make_room(self, sequence: Sequence, computed: int) -> bool:
        """Blocks for a sequence that grows, preempting the youngest until they fit; False: it went itself."""
        wanted = self._blocks(computed) - len(sequence.hashes) - sequence.private
        while wanted > 0 and not self.pool.reserve(wanted):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.private += max(wanted, 0)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _share_full_blocks(self, sequence: Sequence) -> None:
        if not self.prefix_caching:
            return
        full = sequence.computed // self.block
        for digest in sequence.block_hashes(full, self.block) if full > len(sequence.hashes) else ():
            self.pool.share(digest)
            sequence.private -= 1
            sequence.hashes.append(digest)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.hashes, sequence.private)
        sequence.hashes, sequence.private = [], 0

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block)
