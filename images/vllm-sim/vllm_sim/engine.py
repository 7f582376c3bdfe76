"""The engine: runs the scheduler against the clock, hands out tokens as they come, keeps the metrics true."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from vllm_sim.faults import ENGINE_DEAD, Faults
from vllm_sim.latency import LatencyModel
from vllm_sim.metrics import EngineMetrics, Finished
from vllm_sim.scheduler import Plan, Progress, Scheduler, Sequence

SHUT_DOWN = "cannot schedule new futures after shutdown"


class EngineStoppedError(Exception):
    """The engine takes no new work; the message is vLLM's."""


class QueueFullError(Exception):
    """A queue limit refused the request; `reason` names it."""

    def __init__(self, reason: str) -> None:
        super().__init__("The engine is currently busy. Please retry later.")
        self.reason = reason


@dataclass(frozen=True)
class Work:
    """One sequence to generate; `max_tokens` is what the request allowed."""

    prompt: Tokens[int]
    output: Tokens[int]
    finish_reason: str
    max_tokens: int
    adapter: str = ""


class Ticket:
    """A sequence in the engine, as the request that waits for it sees it: one item per token."""

    def __init__(self, sequence: Sequence, work: Work) -> None:
        self.sequence = sequence
        self.work = work
        self.aborted = False
        self.failed = False
        self._arrived: asyncio.Queue[bool] = asyncio.Queue()

    def push(self, *, more: bool) -> None:
        """A token came, or (not more) the engine gave up on the sequence."""
        self._arrived.put_nowait(more)

    async def tokens(self) -> AsyncIterator[int]:
        """Positions of the tokens as they come; ends early when the engine aborts the sequence."""
        for position in range(len(self.work.output)):
            if not await self._arrived.get():
                self.aborted = True
                return
            yield position


class Engine:
    """One engine with its queue, batch, clock and metrics."""

    def __init__(
        self,
        scheduler: Scheduler,
        latency: LatencyModel,
        metrics: EngineMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_queued: int | None = None,
        max_queued_tokens: int | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.metrics = metrics
        self.steps = 0
        self.accepting = True
        self.on_death: Callable[[Faults], None] = lambda faults: None
        """Told of faults that end the process, once they are in force."""
        self._dead = False
        self._stopped = False
        self._latency = latency
        self._clock = clock
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens
        self._faults = self._coming = Faults()
        self._since: float | None = None
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tickets: dict[int, Ticket] = {}
        self._ids = itertools.count()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self._faults

    @property
    def coming(self) -> Faults:
        """The faults that were given last, whether they have begun or not."""
        return self._coming

    def inject(self, faults: Faults) -> None:
        """Have faults in place of those before, from now on or from when they are to begin."""
        running, self._coming, self._asked = self._since is not None, faults, 0
        self._since = self._clock() if running else None
        self._force(Faults())
        self._consider()

    def came(self) -> None:
        """A request came in: the one after those that are to be served soundly finds the faults in force."""
        self._asked += 1
        self._consider()

    def _consider(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._faults is self._coming:
            return
        after = self._coming.after
        if after is None:
            self._force(self._coming)
            return
        left = None if self._since is None else self._since + after.seconds - self._clock()
        if left is not None and left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._consider)
        elif left is not None and (not after.requests or self._asked > after.requests):
            self._force(self._coming)

    def _force(self, faults: Faults) -> None:
        self._faults = faults
        self._wake.set()
        if faults.death is not None:
            self.on_death(faults)

    def submit(self, work: Work) -> Ticket:
        """Queue a sequence.

        Raises:
            EngineStoppedError: the engine is shutting down.
            QueueFullError: --max-num-queued-reqs or --max-num-queued-tokens is reached.
        """
        if self._dead:
            raise EngineStoppedError(ENGINE_DEAD)
        if not self.accepting:
            raise EngineStoppedError(SHUT_DOWN)
        self._check_queue(work)
        sequence = Sequence(next(self._ids), work.prompt, work.output, self._clock(), work.adapter)
        ticket = self._tickets[sequence.id] = Ticket(sequence, work)
        self.scheduler.add(sequence)
        self._idle.clear()
        self._wake.set()
        return ticket

    def _check_queue(self, work: Work) -> None:
        waiting: deque[Sequence] = self.scheduler.waiting
        if self._max_queued is not None and len(waiting) >= self._max_queued:
            raise QueueFullError("max_num_queued_reqs")
        queued = sum(len(sequence.prompt) for sequence in waiting)
        if self._max_queued_tokens is not None and queued + len(work.prompt) > self._max_queued_tokens:
            raise QueueFullError("max_num_queued_tokens")

    def abort(self, ticket: Ticket) -> None:
        """Drop a sequence whose client went away."""
        if self.scheduler.abort(ticket.sequence):
            self._forget(ticket)
            if not (self._faults.hang or self._dead):  # the engine's process counts, and it does not hear of it
                self.metrics.set("num_requests_running", len(self.scheduler.running))

    async def stop(self, seconds: float) -> None:
        """Take no new work, give what runs up to `seconds`, then abort the rest.

        vLLM kills its engine process right after it told it to stop, so an aborted request may get its reason,
        an error, or neither of them (the fault `abort`).
        """
        self.accepting = False
        if seconds > 0 and self._tickets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        self._stopped = True
        for ticket in list(self._tickets.values()):
            if self._faults.abort != "silent":
                ticket.failed = self._faults.abort == "error"
                ticket.push(more=False)

    def die(self) -> None:
        """The engine's process is gone: what it worked on and all that comes fails, and its metrics stand still."""
        self._dead = self._stopped = True
        for ticket in list(self._tickets.values()):
            ticket.failed = True
            ticket.push(more=False)

    async def run(self) -> None:
        """Step for as long as there is work; never returns."""
        self._since = self._clock()
        self._consider()
        while True:
            if self._stopped or self._faults.hang or not self.scheduler.busy:
                self._wake.clear()
                await self._wake.wait()
                continue
            plan = self.scheduler.plan(self._clock())
            await asyncio.sleep(
                self._latency.step_seconds(
                    decoding=len(plan.decode),
                    prefill_tokens=plan.prefill_tokens,
                    context_tokens=plan.context_tokens,
                    index=self.steps,
                    slow=self._faults.slow,
                )
            )
            while self._stopped or self._faults.hang:
                self._wake.clear()
                await self._wake.wait()
            now = self._clock()
            self.steps += 1
            self._record(plan, self.scheduler.finish(plan, now), now)

    def _record(self, plan: Plan, progress: Progress, now: float) -> None:
        metrics = self.metrics
        computed = 0
        for sequence, first in progress.tokens:
            if first:
                computed += len(sequence.prompt) - sequence.cached
                metrics.observe("time_to_first_token_seconds", [now - sequence.arrival])
                metrics.add("prompt_tokens", len(sequence.prompt))
                metrics.add("prompt_tokens_by_source", len(sequence.prompt) - sequence.cached, "local_compute")
                metrics.add("prompt_tokens_by_source", sequence.cached, "local_cache_hit")
                metrics.add("prompt_tokens_cached", sequence.cached)
            else:
                gap = now - (sequence.last_token or now)
                metrics.observe("inter_token_latency_seconds", [gap])
                metrics.observe("time_per_output_token_seconds", [gap])
            sequence.last_token = now
        metrics.add("generation_tokens", len(progress.tokens))
        if progress.tokens:
            metrics.observe("iteration_tokens_total", [computed + len(progress.tokens)])
        for sequence in progress.finished:
            self._record_finished(sequence, now)
        for sequence, _ in progress.tokens:
            self._tickets[sequence.id].push(more=True)
        for sequence in progress.finished:
            self._forget(self._tickets[sequence.id])
        self._publish()

    def _record_finished(self, sequence: Sequence, now: float) -> None:
        scheduled = sequence.scheduled if sequence.scheduled is not None else now
        first = sequence.first_token if sequence.first_token is not None else now
        work = self._tickets[sequence.id].work
        self.metrics.finished(
            Finished(
                reason=work.finish_reason,
                e2e=now - sequence.arrival,
                queued=scheduled - sequence.arrival,
                prefill=first - scheduled,
                decode=now - first,
                inference=now - scheduled,
                prompt_tokens=len(sequence.prompt),
                generated=sequence.generated,
                cached=sequence.cached,
                preemptions=sequence.preemptions,
                max_tokens=work.max_tokens,
            )
        )

    def _publish(self) -> None:
        """Bring the gauges up to date; only a finished step does, so they freeze when the engine hangs."""
        scheduler, metrics = self.scheduler, self.metrics
        metrics.set("num_requests_running", len(scheduler.running))
        metrics.set("num_requests_waiting", len(scheduler.waiting))
        metrics.set("num_requests_waiting_by_reason", len(scheduler.waiting), "capacity")
        for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):
            metrics.set(name, scheduler.pool.usage)
        for prefix in ("", "gpu_"):
            metrics.advance(f"{prefix}prefix_cache_queries", scheduler.prefix_queries)
            metrics.advance(f"{prefix}prefix_cache_hits", scheduler.prefix_hits)
        metrics.advance("prompt_tokens_cached_by_source", scheduler.prefix_hits, "device")
        metrics.advance("num_preemptions", scheduler.preemptions)
        metrics.lora(
            (sequence.adapter for sequence in scheduler.running if sequence.adapter),
            (sequence.adapter for sequence in scheduler.waiting if sequence.adapter),
        )

    def _forget(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.sequence.id, None)
        if not self._tickets:
            self._idle.set()
