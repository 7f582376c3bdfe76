"""Who leads: the decision over a Lease, apart from reading and writing it.

As in client-go's leader election, the holder's times are never compared with the local clock; what counts
is how long, by the local monotonic clock, the record has not changed.
Source: k8s.io/client-go/tools/leaderelection.
"""

from dataclasses import dataclass
from enum import Enum, auto

LEASE_SECONDS = 12
"""A lease that was not renewed for so long may be taken over."""

RENEW_DEADLINE_SECONDS = 8.0
"""A leader that could not renew for so long stops leading, before anyone else may start."""

RETRY_SECONDS = 2.0

WRITE_MARGIN_SECONDS = 1.0
"""A write is given up so long before the lease may be taken over: requests under way need a moment to end."""


@dataclass(frozen=True)
class LeaseView:
    """A Lease as last read, and since when (local monotonic seconds) it reads so."""

    holder: str | None
    renewed: str | None
    """The renew time as text: only whether it changes matters."""
    seen_since: float


class LeaseStep(Enum):
    """What to do about the Lease now."""

    CREATE = auto()
    TAKE = auto()
    RENEW = auto()
    WAIT = auto()


def observe_lease(previous: LeaseView | None, holder: str | None, renewed: str | None, now: float) -> LeaseView:
    """Remember since when a record has not changed.

    Args:
        previous: What was seen before, if anything.
        holder: The holder's identity as it stands; empty counts as none.
        renewed: The renew time as it stands.
        now: Local monotonic seconds.
    """
    if previous is not None and (previous.holder, previous.renewed) == (holder or None, renewed):
        return previous
    return LeaseView(holder or None, renewed, now)


def lease_step(view: LeaseView | None, identity: str, now: float) -> LeaseStep:
    """Decide: no Lease is created, one's own renewed, an abandoned one taken, another's awaited."""
    if view is None:
        return LeaseStep.CREATE
    if view.holder == identity:
        return LeaseStep.RENEW
    if view.holder is None or now - view.seen_since >= LEASE_SECONDS:
        return LeaseStep.TAKE
    return LeaseStep.WAIT


def must_stop(last_renewed: float, now: float) -> bool:
    """Whether a leader that last renewed at a monotonic second has to stop leading."""
    return now - last_renewed >= RENEW_DEADLINE_SECONDS


def write_seconds(last_renewed: float, now: float) -> float:
    """For how long a write that is under way may go on, as the lease stands; zero or less: not at all.

    Worked example: renewed 3 s ago, a lease of 12 s and a margin of 1 s leave 8 s.
    """
    return LEASE_SECONDS - WRITE_MARGIN_SECONDS - (now - last_renewed)
