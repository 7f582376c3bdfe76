"""Requests in a hall, as tests play them."""

from nightshift.core.gateway.refusals import Refusal
from nightshift.gateway.hall import Hall
from nightshift.gateway.line import Stage, Ticket


class Guest:
    """A request, and what it was told."""

    def __init__(self, hall: Hall, ticket: Ticket) -> None:
        self.hall, self.ticket = hall, ticket
        self.told: list[Refusal | None] = []

    def join(self, now: float = 0.0) -> "Guest":
        assert self.hall.join(self.ticket, self.told.append, now) is None
        return self

    def at(self, *stages: Stage) -> bool:
        return self.ticket.stage in stages

    @property
    def released(self) -> bool:
        return self.told[-1:] == [None]
