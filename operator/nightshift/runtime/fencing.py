"""Writes end before anybody else may lead: a deposed leader must not write against its successor.

The API server knows no epoch of leaders, so this is kept by time, and where time fails (a request that was sent and
is carried out late) by content: deletions carry uid and resourceVersion, applies carry the uid and state what is
desired, which the successor, told by its watch, states again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from nightshift.adapters.kube import Kube, KubeError
from nightshift.runtime.leadership import Leadership

_READS = frozenset({"events_about", "find", "get", "list", "log_tail", "served"})


def fenced(kube: Kube, leadership: Leadership) -> Kube:
    """The same API server, on which everything but reading asks for leadership first."""
    return cast(Kube, _Fenced(kube, leadership))


class _Fenced:
    """What is not known to be a read counts as a write: that is the safe mistake."""

    def __init__(self, kube: Kube, leadership: Leadership) -> None:
        self._kube = kube
        self._leadership = leadership

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._kube, name)
        if name in _READS:
            return method

        async def write(*args: Any, **kwargs: Any) -> Any:
            if not self._leadership.may_write():
                raise _not_leading()
            return await self._in_time(asyncio.ensure_future(method(*args, **kwargs)))

        return write

    async def _in_time(self, writing: "asyncio.Future[Any]") -> Any:
        """Wait for a write, and give it up when the Lease, which is renewed beside it, comes near its end."""
        try:
            while not writing.done():
                left = self._leadership.write_seconds()
                if left <= 0:
                    raise _not_leading()
                await asyncio.wait({writing}, timeout=left)
            return writing.result()
        finally:
            writing.cancel()


def _not_leading() -> KubeError:
    return KubeError(0, "NotLeading", "this process may not write: its Lease was not renewed in time")
