"""The requests of one deployment that wait, in the order in which they arrived, and those released from there."""

import heapq
from collections.abc import Callable, Iterator
from enum import Enum, auto

from nightshift.api.gateway_state import RouteState
from nightshift.core.gateway.refusals import Refusal
from nightshift.core.gateway.starts import Starts

Told = Callable[[Refusal | None], None]
"""Told once for each time of waiting: None is the word to go on, a Refusal the answer."""


class Stage(Enum):
    """How far a request is."""

    ARRIVING = auto()
    """Its body is being read; it has a place and no turn yet."""
    WAITING = auto()
    RELEASED = auto()
    """Its turn came; it is being handed to HAProxy."""
    SENT = auto()
    ANSWERING = auto()
    """Its answer began: it cannot come back."""
    GONE = auto()


class Ticket:
    """One request that is held, or was."""

    __slots__ = ("arrived", "begun", "forwards", "key", "number", "released", "size", "stage", "told")

    def __init__(self, key: str, arrived: float, size: int) -> None:
        self.key = key
        """NAMESPACE/NAME of its deployment."""
        self.arrived = arrived
        self.size = size
        """Bytes of the budget that it takes now."""
        self.stage = Stage.ARRIVING
        self.number = 0
        """Its place in the order, given once it arrived in full."""
        self.forwards = 0
        """How often it was released."""
        self.released = 0.0
        self.begun = False
        """Whether its client was sent something: it cannot be turned over to another gateway pod any more."""
        self.told: Told = lambda verdict: None


class Line:
    """The state of one deployment's queue."""

    def __init__(self, key: str) -> None:
        self.key = key
        """NAMESPACE/NAME."""
        self.state: RouteState | None = None
        """What is known of the deployment; None where there is none of this name."""
        self.arriving: set[Ticket] = set()
        self.own: set[Ticket] = set()
        """Released and not over."""
        self.handing_over: Ticket | None = None
        """The one that is being handed to HAProxy: the next one waits for it, which keeps the order."""
        self.still_until = 0.0
        """Nothing is released before, after one could not be handed over."""
        self.others = 0
        """Requests in flight that did not wait here."""
        self.others_at = 0.0
        """When they were counted."""
        self.last_left: float | None = None
        self.starts = Starts()
        self.cold_since: float | None = None
        """Since when requests wait for a start that is not over."""
        self.warm_since: float | None = None
        """Since when those that waited for the last start are being released."""
        self.first_due = False
        """Whether nobody was released since the last start was over."""
        self.first: Ticket | None = None
        """The first one released after a start, until its answer begins."""
        self._numbers: list[int] = []
        self._waiting: dict[int, Ticket] = {}

    @property
    def held(self) -> int:
        """Requests that have a place."""
        return len(self.arriving) + len(self._waiting)

    @property
    def waiting(self) -> int:
        """Requests that have a turn."""
        return len(self._waiting)

    @property
    def empty(self) -> bool:
        """Whether nobody is here."""
        return not (self.held or self.own)

    def oldest(self, now: float) -> float:
        """For how long the one that arrived first has been here, in seconds; 0 where there is none."""
        arrivals = [ticket.arrived for ticket in (*self._waiting.values(), *self.arriving)]
        return max(0.0, now - min(arrivals)) if arrivals else 0.0

    def push(self, ticket: Ticket) -> None:
        """Let one wait: behind all with smaller numbers, so that one that comes back stands in front."""
        ticket.stage = Stage.WAITING
        heapq.heappush(self._numbers, ticket.number)
        self._waiting[ticket.number] = ticket

    def pop(self) -> Ticket:
        """Take the first one."""
        while True:
            ticket = self._waiting.pop(heapq.heappop(self._numbers), None)
            if ticket is not None:
                return ticket

    def discard(self, ticket: Ticket) -> None:
        """Take one out, wherever it is."""
        self.arriving.discard(ticket)
        self.own.discard(ticket)
        if self.handing_over is ticket:
            self.handing_over = None
        if self._waiting.pop(ticket.number, None) is not None and not self._waiting:
            self._numbers.clear()

    def in_order(self) -> Iterator[Ticket]:
        """Those that wait, first come first."""
        for number in sorted(self._waiting):
            yield self._waiting[number]
