"""What may be wrong with an API server, for how long: each by name, for the proxy."""

import random
from collections.abc import Callable

from e2e.process.proxy import Faults, Refusal, Request

FAULT_SECONDS = 8.0
OUTAGE_SECONDS = 5.0
"""Of faults that refuse everything; a leader may go for 8 s without renewing its Lease."""

WITHOUT_RIGHTS_SECONDS = 60.0


def half(refusal: Refusal, kinds: str) -> Callable[[Request], Refusal | None]:
    """Refuse every other request of some kinds, by lot."""
    lot = random.Random(7)
    return lambda request: refusal if request.kind in kinds and lot.random() < 0.5 else None


def all_but_the_lease(refusal: Refusal) -> Callable[[Request], Refusal | None]:
    """Refuse everything that is not about Leases."""
    return lambda request: refusal if "/leases" not in request.path else None


def writes_but_the_lease(refusal: Refusal) -> Callable[[Request], Refusal | None]:
    """Refuse every change that is not of a Lease."""
    return lambda request: refusal if request.kind == "write" and "/leases" not in request.path else None


def cut_off() -> Callable[[Request], bool]:
    """Four of ten answers; watches, which are asked about four times a second, every five seconds on average."""
    lot = random.Random(13)
    return lambda request: lot.random() < (0.05 if request.watch else 0.4)


def by_lot(share: float) -> Callable[[object], bool]:
    """True for a share of what is asked about."""
    lot = random.Random(11)
    return lambda _: lot.random() < share


FAULTS: dict[str, tuple[Callable[[], Faults], float]] = {
    "conflicts": (lambda: Faults(refuse=half(Refusal(409, "Conflict"), "write")), FAULT_SECONDS),
    "watches that are too old": (lambda: Faults(end_watches=True), OUTAGE_SECONDS),
    "too many requests": (lambda: Faults(refuse=lambda _: Refusal(429, "TooManyRequests", 1)), OUTAGE_SECONDS),
    "internal errors": (lambda: Faults(refuse=half(Refusal(500, "InternalError"), "read write watch")), FAULT_SECONDS),
    "unavailable": (
        lambda: Faults(refuse=lambda _: Refusal(503, "ServiceUnavailable"), end_watches=True),
        OUTAGE_SECONDS,
    ),
    "answers that are lost": (lambda: Faults(reset=cut_off()), FAULT_SECONDS),
    "frames that are dropped or late": (lambda: Faults(drop=by_lot(0.5), delay_seconds=3), FAULT_SECONDS),
    "stale lists": (lambda: Faults(stale=True, end_watches=True), OUTAGE_SECONDS),
    "an expired token": (
        lambda: Faults(refuse=lambda _: Refusal(401, "Unauthorized"), end_watches=True),
        OUTAGE_SECONDS,
    ),
    "missing rights": (
        lambda: Faults(refuse=all_but_the_lease(Refusal(403, "Forbidden")), end_watches=True),
        WITHOUT_RIGHTS_SECONDS,
    ),
    "missing rights to write": (
        lambda: Faults(refuse=writes_but_the_lease(Refusal(403, "Forbidden"))),
        WITHOUT_RIGHTS_SECONDS,
    ),
}
"""By name: what goes wrong, and for how many seconds."""
