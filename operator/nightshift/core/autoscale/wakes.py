"""When a wake Lease is demand: by one clock, the operator's, whatever the clocks of the gateway's nodes say."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from nightshift.api.wake import Wake


@dataclass(frozen=True)
class SeenWake:
    """A wake Lease, and when it was renewed."""

    lease: Wake
    at: datetime
    """When its latest renewal was seen (UTC)."""

    @property
    def expires(self) -> datetime:
        """When it stops being demand, unless it is renewed."""
        return self.at + timedelta(seconds=self.lease.lease_seconds)


def seen(lease: Wake, before: SeenWake | None, now: datetime, *, listed: bool) -> SeenWake:
    """Take in a wake Lease.

    A renewal counts from when it is seen, as in leader election: what its renewTime says is another clock's. When a
    Lease was renewed that is in a list and was not known, nobody saw; its own word counts, though never for the future.
    If that clock is behind and requests wait, the next renewal is seen within five seconds.

    Args:
        lease: As it is.
        before: The same as it was known until now; None where it was not.
        now: The present moment (UTC).
        listed: Whether it stands in a list, and was not told by a watch as it changed.
    """
    if before is not None and before.lease.renewed == lease.renewed:
        return SeenWake(lease, before.at)
    if before is None and listed:
        return SeenWake(lease, min(lease.renewed, now))
    return SeenWake(lease, now)
