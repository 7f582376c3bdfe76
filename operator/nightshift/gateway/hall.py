"""Everybody who waits, in one byte budget: who enters, whose turn it is, who is sent away. No I/O, no clock.

The rules are in core.gateway.holding. `now` is seconds of one monotonic clock.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from nightshift.api.gateway_state import RouteState
from nightshift.core.gateway import holding
from nightshift.core.gateway.refusals import Refusal, Why
from nightshift.core.gateway.starts import Starts
from nightshift.core.gateway.wake import Demand, wanted
from nightshift.gateway.line import Line, Stage, Ticket

Phase = Literal["start", "release", "first_byte"]

HANDING_OVER_SECONDS = 1.0
"""The next one waits for so long at most until HAProxy has taken the one before it."""


class Notes:
    """Who wants to know what happens; this one does not."""

    def refused(self, key: str, why: Why) -> None:
        """A request was not served. The key is empty where the deployment is not known."""

    def released(self, key: str, waited: float) -> None:
        """A request's turn came after so many seconds."""

    def left(self, key: str) -> None:
        """A client left before its turn."""

    def put_back(self, key: str) -> None:
        """A request could not be handed over and waits again."""

    def cold_start(self, key: str, phase: Phase, seconds: float) -> None:
        """A phase of a cold start is over."""


class Hall:
    """Holds requests of all deployments."""

    def __init__(self, budget: int, members: int = 1, notes: Notes | None = None) -> None:
        """Begin empty.

        Args:
            budget: Bytes for everybody who waits together.
            members: Gateway pods that share the deployments' limits.
            notes: Is told what happens.
        """
        self.budget = budget
        self.used = 0
        """Bytes of the budget that are taken."""
        self.stopping = False
        self._members = members
        self._notes = notes or Notes()
        self._lines: dict[str, Line] = {}
        self._numbers = 0

    # What is known of the deployments

    def observe(self, routes: Mapping[str, RouteState], written: float, now: float) -> None:
        """Take a new version of the gateway's state: answer whom it concerns, release whom it lets.

        Args:
            routes: All of them.
            written: When the agent wrote it.
            now: The present.
        """
        for key in [*routes, *(key for key in self._lines if key not in routes)]:
            line = self._lines.setdefault(key, Line(key))
            line.state = routes.get(key)
            self._count_others(line, written, now)
            self._judge(line, now)
            self._warm(line, now)
            self._pump(line, now)
            self._drop_idle(key)

    def learn(self, key: str, starts: Starts) -> None:
        """Take over what an earlier process knew, unless this one knows better by now."""
        line = self._lines.setdefault(key, Line(key))
        if not line.starts.seconds:
            line.starts = starts

    def tick(self, now: float) -> None:
        """Let time pass: pauses end, and starts that nobody waits for are not measured."""
        for key in list(self._lines):
            line = self._lines[key]
            handing_over = line.handing_over
            if handing_over is not None and now - handing_over.released >= HANDING_OVER_SECONDS:
                line.handing_over = None
            if not wanted(line.held, _since(line.last_left, now)):
                line.cold_since = None
            self._pump(line, now)

    def awake(self, now: float) -> Iterator[str]:
        """The deployments that are to be woken or kept awake."""
        for key, line in self._lines.items():
            if line.state is not None and wanted(line.held, _since(line.last_left, now)):
                yield key

    def held(self, key: str) -> int:
        """How many requests of one of them wait."""
        return self._lines[key].held

    def demand(self, key: str, now: float) -> Demand:
        """What waits for one of them."""
        line = self._lines[key]
        namespace, _, name = key.partition("/")
        return Demand(namespace, name, line.held, line.oldest(now), line.starts)

    def lines(self) -> Iterator[tuple[str, Line]]:
        """What waits where, to be read."""
        yield from self._lines.items()

    # The way of a request

    def enter(self, key: str, announced: int, now: float) -> Ticket | Refusal:
        """Give a request a place while its body is read; the ticket must be handed back by `leave`.

        Args:
            key: NAMESPACE/NAME of its deployment.
            announced: Bytes of its body, as far as they are known.
            now: The present.
        """
        line = self._lines.get(key)
        state = line.state if line is not None else None
        refusal = holding.stopping(key) if self.stopping else holding.standing(key, state)
        if line is None or state is None:
            return self._refuse(key, line, refusal or holding.unknown(key), now)
        refusal = refusal or holding.admission(
            state,
            held=line.held,
            members=self._members,
            size=holding.OVERHEAD_BYTES + announced,
            free=self.budget - self.used,
            again=self._again(line, now),
        )
        if refusal is not None:
            return self._refuse(key, line, refusal, now)
        ticket = Ticket(key, now, holding.OVERHEAD_BYTES)
        self.used += ticket.size
        line.arriving.add(ticket)
        return ticket

    def grow(self, ticket: Ticket, size: int, now: float) -> Refusal | None:
        """Take more of the budget for what has arrived of a body; a refusal where there is none, or the body too large.

        Args:
            ticket: The request.
            size: Bytes that arrived.
            now: The present.
        """
        line = self._lines[ticket.key]
        limit = line.state.route.limits.body_bytes if line.state is not None else None
        if limit is not None and ticket.size - holding.OVERHEAD_BYTES + size > limit:
            return self._answer(ticket, holding.too_large(ticket.key, limit), now)
        if size > self.budget - self.used:
            return self._answer(ticket, holding.no_memory(ticket.key, self._again(line, now)), now)
        ticket.size += size
        self.used += size
        return None

    def give_up_arriving(self, ticket: Ticket, now: float) -> Refusal:
        """The answer to a request whose body takes too long."""
        return self._answer(ticket, holding.slow_body(ticket.key), now)

    def join(self, ticket: Ticket, told: Callable[[Refusal | None], None], now: float) -> Refusal | None:
        """Let a request that arrived in full wait for its turn; or why not.

        Args:
            ticket: The request.
            told: Told once: None when its turn comes, or why it never will. Not called where `leave` comes first.
            now: The present.
        """
        line = self._lines[ticket.key]
        refusal = holding.stopping(ticket.key) if self.stopping else holding.standing(ticket.key, line.state)
        if refusal is not None:
            return self._answer(ticket, refusal, now)
        line.arriving.discard(ticket)
        self._numbers += 1
        ticket.number = self._numbers
        self._wait(line, ticket, told, now)
        return None

    def deadline(self, ticket: Ticket) -> float:
        """Until when a request may wait."""
        state = self._lines[ticket.key].state
        return ticket.arrived + (state.route.queue.timeout_seconds if state is not None else 0.0)

    def expire(self, ticket: Ticket, now: float) -> Refusal:
        """The answer to a request that waited until its deadline."""
        line = self._lines[ticket.key]
        refusal = holding.timed_out(ticket.key, now - ticket.arrived, self._again(line, now))
        return self._answer(ticket, refusal, now)

    def handed_over(self, ticket: Ticket, now: float) -> None:
        """HAProxy has a request that was released: the next one may follow."""
        line = self._lines[ticket.key]
        if ticket.stage is Stage.RELEASED:
            ticket.stage = Stage.SENT
        if line.handing_over is ticket:
            line.handing_over = None
        self._pump(line, now)

    def answered(self, ticket: Ticket, now: float) -> None:
        """The answer to a request began: its body is not needed any more."""
        line = self._lines[ticket.key]
        self.handed_over(ticket, now)
        ticket.stage = Stage.ANSWERING
        self._free(ticket)
        if line.first is ticket:
            line.first = None
            self._notes.cold_start(ticket.key, "first_byte", now - ticket.released)

    def may_come_back(self, ticket: Ticket) -> bool:
        """Whether a request that could not be handed over may wait again, as far as its tries go."""
        return holding.pause_after_failure(ticket.forwards) is not None

    def come_back(self, ticket: Ticket, told: Callable[[Refusal | None], None], now: float) -> Refusal | None:
        """Let a request that could not be handed over wait again, in front of those behind it; or why not.

        Args:
            ticket: The request, of whose answer nothing came.
            told: As for `join`.
            now: The present.
        """
        line = self._lines[ticket.key]
        line.discard(ticket)
        pause = holding.pause_after_failure(ticket.forwards)
        refusal = holding.stopping(ticket.key) if self.stopping else holding.standing(ticket.key, line.state)
        if refusal is None and pause is None:
            refusal = holding.not_forwarded(ticket.key, self._again(line, now))
        if refusal is not None:
            return self._answer(ticket, refusal, now)
        line.still_until = max(line.still_until, now + (pause or 0.0))
        self._notes.put_back(ticket.key)
        self._wait(line, ticket, told, now)
        return None

    def leave(self, ticket: Ticket, now: float) -> None:
        """Forget a request, however far it is; again and again does no harm."""
        if ticket.stage is Stage.GONE:
            return
        line = self._lines[ticket.key]
        if ticket.stage in (Stage.ARRIVING, Stage.WAITING):
            self._notes.left(ticket.key)
        self._take_out(line, ticket, now)
        self._pump(line, now)
        self._drop_idle(ticket.key)

    # The end

    def stop(self, now: float) -> None:
        """Take nobody any more, and send those to another gateway pod whose clients heard nothing yet."""
        self.stopping = True
        self._send_away(lambda ticket: not ticket.begun, now)

    def close(self, now: float) -> None:
        """Answer everybody who still waits."""
        self._send_away(lambda ticket: True, now)

    def _send_away(self, concerned: Callable[[Ticket], bool], now: float) -> None:
        for line in list(self._lines.values()):
            for ticket in [ticket for ticket in line.in_order() if concerned(ticket)]:
                ticket.told(self._answer(ticket, holding.stopping(line.key), now))

    # Inside

    def _count_others(self, line: Line, written: float, now: float) -> None:
        counted = sum(ticket.released <= written - holding.SAMPLED_SECONDS for ticket in line.own)
        in_flight = line.state.in_flight if line.state is not None else None
        line.others = holding.others_in_flight(in_flight, now - written, counted)
        line.others_at = written

    def _judge(self, line: Line, now: float) -> None:
        """Answer all who wait at once where nothing is held any more."""
        refusal = holding.standing(line.key, line.state)
        if refusal is not None:
            for ticket in list(line.in_order()):
                ticket.told(self._answer(ticket, refusal, now))

    def _warm(self, line: Line, now: float) -> None:
        """A start is over once a replica is usable."""
        if line.cold_since is None or line.state is None or not line.state.usable_servers:
            return
        took, line.cold_since, line.warm_since, line.first_due = now - line.cold_since, None, now, True
        line.starts = line.starts.and_then(took)
        self._notes.cold_start(line.key, "start", took)

    def _wait(self, line: Line, ticket: Ticket, told: Callable[[Refusal | None], None], now: float) -> None:
        ticket.told = told
        line.push(ticket)
        if line.cold_since is None and line.state is not None and not line.state.usable_servers:
            line.cold_since = now
        self._pump(line, now)

    def _pump(self, line: Line, now: float) -> None:
        """Release the first one, if it may go. The next one follows when it was handed over."""
        if line.waiting and line.handing_over is None and now >= line.still_until and line.state is not None:
            others = line.others if now - line.others_at <= holding.IN_FLIGHT_SECONDS else 0
            if holding.room(line.state, others, len(line.own)):
                self._release(line, line.pop(), now)
        if line.warm_since is not None and not line.waiting:
            self._notes.cold_start(line.key, "release", now - line.warm_since)
            line.warm_since = None

    def _release(self, line: Line, ticket: Ticket, now: float) -> None:
        ticket.stage, ticket.released = Stage.RELEASED, now
        ticket.forwards += 1
        line.own.add(ticket)
        line.handing_over = ticket
        line.last_left = now
        if line.first_due:
            line.first, line.first_due = ticket, False
        self._notes.released(line.key, now - ticket.arrived)
        ticket.told(None)

    def _answer(self, ticket: Ticket, refusal: Refusal, now: float) -> Refusal:
        """End a request that has a place with a refusal."""
        line = self._lines[ticket.key]
        self._take_out(line, ticket, now)
        return self._refuse(ticket.key, line, refusal, now)

    def _refuse(self, key: str, line: Line | None, refusal: Refusal, now: float) -> Refusal:
        self._notes.refused(key if line is not None and line.state is not None else "", refusal.why)
        if line is not None and refusal.why is Why.START_FAILED:
            line.last_left = now  # Somebody wants it: whoever can mend the start should see the demand.
        return refusal

    def _take_out(self, line: Line, ticket: Ticket, now: float) -> None:
        line.discard(ticket)
        if line.first is ticket:
            line.first = None
        if ticket.stage in (Stage.ARRIVING, Stage.WAITING):
            line.last_left = now
        ticket.stage = Stage.GONE
        self._free(ticket)

    def _free(self, ticket: Ticket) -> None:
        self.used -= ticket.size
        ticket.size = 0

    def _again(self, line: Line, now: float) -> int:
        if line.state is not None and line.state.usable_servers:
            return holding.LEAST_RETRY_SECONDS
        waited = now - line.cold_since if line.cold_since is not None else 0.0
        return holding.retry_after(line.starts.typical, waited)

    def _drop_idle(self, key: str) -> None:
        """A deployment that is gone needs no line any more."""
        line = self._lines[key]
        if line.state is None and line.empty and not line.starts.seconds:
            del self._lines[key]


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else now - moment
