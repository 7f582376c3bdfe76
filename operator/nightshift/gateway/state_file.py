"""The file in which the agent tells the activator how the deployments stand."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from nightshift.api.gateway_state import RouteState, parse_gateway_state

logger = logging.getLogger(__name__)


class StateFile:
    """Follows the file; what cannot be read changes nothing."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Follow a file.

        Args:
            path: The agent replaces it as a whole.
            clock: UTC.
        """
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._written: datetime | None = None
        self.routes: Mapping[str, RouteState] = {}
        """As last read; of a route that is broken now, what was read of it last."""

    @property
    def read(self) -> bool:
        """Whether it was ever read."""
        return self._written is not None

    @property
    def age(self) -> float | None:
        """Seconds since it was written as it was last read, at least 0; None where it never was."""
        if self._written is None:
            return None
        return max(0.0, (self._clock() - self._written).total_seconds())

    def changed(self) -> bool:
        """Read the file if it is another one than before; whether it was and could be read."""
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            if version == self._seen:
                return False
            self._seen = version
            state = parse_gateway_state(self._path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            logger.error("%s cannot be read, what was read before stands: %s", self._path, error)
            return False
        kept = {key: self.routes[key] for key in state.broken if key in self.routes}
        for key, problem in state.broken.items():
            logger.error("Route %s is broken, its last good version stands: %s", key, problem)
        self.routes, self._written = {**state.routes, **kept}, state.written
        return True
