"""What watches of the gateway's namespace told: which pods there are, and which wake Leases.

Everything is read once, when it is told, and found by what it is asked for.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from nightshift.adapters.kube_watch import SILENCE_SECONDS
from nightshift.api.wake import parse_wake
from nightshift.core.autoscale.wakes import SeenWake, seen
from nightshift.runtime.cache import Key

logger = logging.getLogger(__name__)

UNHEARD_SECONDS = SILENCE_SECONDS + 30
"""What a watch told is not known any more after so long without a word of the API server."""


class Heard:
    """Whether what one watch told is known still; part of a listener.

    Args:
        what: The objects, in the plural.
        now: The present moment (UTC).
    """

    def __init__(self, what: str, now: Callable[[], datetime]) -> None:
        self._what = what
        self._now = now
        self._last: datetime | None = None

    @property
    def unknown(self) -> str:
        """Why it is not known which objects there are, as a sentence; empty where it is."""
        if self._last is None:
            return f"The gateway's {self._what} were not listed yet."
        if self._now() - self._last > timedelta(seconds=UNHEARD_SECONDS):
            return f"The API server has told nothing of the gateway's {self._what} since {self._last:%H:%M:%S} UTC."
        return ""

    def heard(self) -> None:
        """The API server is there."""
        self._last = self._now()

    def failed(self, problem: str) -> None:
        """The API server is not there; what it told is known for a while longer."""
        logger.warning("The gateway's %s are not told of: %s", self._what, problem)


class HeardPods(Heard):
    """The gateway's pods."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__("pods", now)
        self.addresses: dict[str, str] = {}
        """Of those that run, by name; those on their way out still carry requests."""

    def replace(self, objects: list[Any]) -> None:
        """These pods there are, and no others."""
        self.addresses = {}
        for raw in objects:
            self.change("ADDED", raw)

    def change(self, event: str, raw: Mapping[str, Any]) -> None:
        """A pod was added, changed or deleted."""
        name, status = raw["metadata"]["name"], raw.get("status") or {}
        if event != "DELETED" and status.get("podIP") and status.get("phase") == "Running":
            self.addresses[name] = str(status["podIP"])
        else:
            self.addresses.pop(name, None)


class HeardWakes(Heard):
    """The wake Leases, by deployment.

    Args:
        now: The present moment (UTC).
        changed: Told of a deployment one of whose Leases came, changed or went.
    """

    def __init__(self, now: Callable[[], datetime], changed: Callable[[Key], None]) -> None:
        super().__init__("wake Leases", now)
        self._changed = changed
        self._named: dict[str, SeenWake] = {}
        """By the name of the Lease."""
        self._asked: dict[Key, dict[str, SeenWake]] = {}

    def of(self, key: Key) -> tuple[SeenWake, ...]:
        """Those of a deployment."""
        return tuple(self._asked.get(key, {}).values())

    def replace(self, objects: list[Any]) -> None:
        """These Leases there are, and no others."""
        before, self._named, self._asked = self._named, {}, {}
        for raw in objects:
            self._keep(raw, before.get(raw["metadata"]["name"]), listed=True)
        self._tell([*before.values(), *self._named.values()])

    def change(self, event: str, raw: Mapping[str, Any]) -> None:
        """A Lease was added, changed or deleted."""
        before = self._named.pop(raw["metadata"]["name"], None)
        if before is not None:
            self._asked[_key(before)].pop(before.lease.object_name)
            if not self._asked[_key(before)]:
                del self._asked[_key(before)]
        after = None if event == "DELETED" else self._keep(raw, before, listed=False)
        self._tell(item for item in (before, after) if item is not None)

    def _keep(self, raw: Mapping[str, Any], before: SeenWake | None, *, listed: bool) -> SeenWake | None:
        lease = parse_wake(raw)
        if lease is None:
            return None
        found = seen(lease, before, self._now(), listed=listed)
        self._named[lease.object_name] = found
        self._asked.setdefault(_key(found), {})[lease.object_name] = found
        return found

    def _tell(self, concerned: Iterable[SeenWake]) -> None:
        for key in dict.fromkeys(_key(item) for item in concerned):
            self._changed(key)


def _key(item: SeenWake) -> Key:
    return (item.lease.namespace, item.lease.name)
