"""How much is asked of each deployment: what one look at HAProxy's counters says of its routes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.core.gateway.slots import Assignment
from nightshift.core.gateway.state import LiveSlot

Slots = Mapping[str, LiveSlot]
Results = Mapping[str, Mapping[str, RevisionResults]]
"""By NAMESPACE/NAME and revision."""
Bounds = tuple[tuple[float, ...], tuple[float, ...]]
"""Of the buckets for first bytes, and for whole requests."""


@dataclass(frozen=True)
class Asked:
    """What is known of the requests for one route, as of one look."""

    in_flight: int | None = None
    """Requests that replicas work on; None: unknown."""
    queued: int | None = None
    """Requests that wait for a replica with room; None: unknown."""
    last: float | None = None
    """No request came after this moment, in seconds on the agent's clock; None: unknown."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Requests that ever came into each of its slots."""


def look(
    routes: Iterable[str],
    assignment: Assignment,
    live: Slots,
    former: Sequence[Slots] | None,
    before: Mapping[str, Asked],
    now: float,
) -> dict[str, Asked]:
    """What is known of each route's requests after a look.

    Args:
        routes: Keys of all routes.
        assignment: Which slot is whose.
        live: The slots as they are.
        former: The slots of processes that a reload replaced and that still have requests; None: unknown, and with it
            everything that they may have.
        before: What was known after the look before; empty after the agent's start.
        now: Seconds on the agent's clock.
    """
    names: dict[str, list[str]] = {key: [] for key in routes}
    for name, key in assignment.owners.items():
        if key.route in names:
            names[key.route].append(name)
    return {key: _asked(found, live, former, before.get(key), now) for key, found in sorted(names.items())}


def _asked(names: list[str], live: Slots, former: Sequence[Slots] | None, before: Asked | None, now: float) -> Asked:
    """One route's. Where nothing tells of a request, the time that is known to be without one begins now."""
    slots = [live[name] for name in names if name in live]
    totals = {name: live[name].total for name in names if name in live}
    if former is None or len(slots) < len(names):
        return Asked(None, None, None, totals)
    slots += [process[name] for process in former for name in names if name in process]
    queued = in_flight = 0
    moments = []
    for slot in slots:
        queued += slot.waiting
        in_flight += max(0, slot.connections - slot.waiting)
        if slot.since_last is not None:
            moments.append(now - slot.since_last)
    if before is not None:
        moments.append(now if before.last is None else before.last)
    if queued or in_flight or (before is not None and _came(totals, before.totals)):
        moments.append(now)
    return Asked(in_flight, queued, max(moments) if moments else now, totals)


def _came(totals: Mapping[str, int], before: Mapping[str, int]) -> bool:
    """Whether requests came into a slot since; of one that is new nothing is known."""
    return totals != before and any(total > before.get(name, total) for name, total in totals.items())


def told(
    asked: Mapping[str, Asked],
    pod: str,
    at: datetime,
    now: float,
    results: Results | None = None,
    bounds: Bounds = ((), ()),
) -> GatewayDemand:
    """What the operator is told.

    Args:
        asked: As of the last look.
        pod: Name of this gateway pod.
        at: When HAProxy was looked at.
        now: The same moment on the agent's clock.
        results: How requests ended, of the deployments that are asked about.
        bounds: Of the buckets in results.
    """
    ended = results or {}
    first_byte, total = bounds if ended else ((), ())
    return GatewayDemand(
        written=at,
        pod=pod,
        routes={
            key: RouteDemand(
                in_flight=one.in_flight,
                queued=one.queued,
                idle_seconds=None if one.last is None else round(max(0.0, now - one.last), 1),
                revisions=dict(ended.get(key, {})),
            )
            for key, one in sorted(asked.items())
        },
        first_byte_bounds=first_byte,
        total_bounds=total,
    )
