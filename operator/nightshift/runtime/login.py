"""Credentials for kopf's watches, also after the API server refused the ones before with 401."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
LAST_WAIT_SECONDS = 30.0
FORGOTTEN_SECONDS = 60.0
"""Credentials that were taken for so long and are refused then are read anew at once, as where a token expired."""

_NEVER = timedelta(days=36500)


def from_surroundings(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The pod's service account, whose token is read anew each time, or outside a cluster the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


class Login:
    """A login handler that is asked again whenever credentials were refused.

    kopf takes no credentials that equal refused ones, and ends all watches for good where it gets no others. But a 401
    may be the API server's fault and pass, and a kubelet renews a token in its own time. So the same credentials are
    handed out again, told apart by an expiry that never comes, and later each time.
    """

    def __init__(self, read: Callable[..., kopf.ConnectionInfo | None] = from_surroundings) -> None:
        self._read = read
        self._last: float | None = None
        """When credentials were handed out last, in seconds of the event loop."""
        self._refusals = 0
        """In a row, each soon after credentials were handed out."""
        self._count = 0

    async def __call__(self, **kwargs: Any) -> kopf.ConnectionInfo | None:
        """Credentials, after a pause where the ones before were refused soon."""
        now = asyncio.get_running_loop().time()
        if self._last is not None and now - self._last < FORGOTTEN_SECONDS:
            pause = wait_seconds(self._refusals)
            self._refusals += 1
            logger.warning("The API server refused our credentials (401); they are read again in %.0f s", pause)
            await asyncio.sleep(pause)
        else:
            self._refusals = 0
        found = self._read(**kwargs)
        self._last = asyncio.get_running_loop().time()
        self._count += 1
        expiry = datetime.now(UTC) + _NEVER + timedelta(seconds=self._count)
        return replace(found, expiration=expiry) if found is not None else None


def wait_seconds(refusals: int) -> float:
    """How long to wait before credentials are tried again.

    Args:
        refusals: How often in a row they were refused before.

    Worked example: 1, 2, 4, 8, 16 and then 30 s each time.
    """
    return min(LAST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(refusals, 16))
