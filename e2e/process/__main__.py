"""``python -m e2e.process``: the operator, whose process may be killed at a write to the API server.

The seam is the adapter of the API server: a subclass of it notes every write, and sends SIGKILL to its own process
before a chosen one, or after it was answered. Everything else is what runs in a cluster.
"""

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nightshift.adapters.kube import KubeClient, Object, Reference, Told, connect
from nightshift.core import hang
from nightshift.runtime import health, lookout, startup

T = TypeVar("T")


class MortalClient(KubeClient):
    """The API server, at whose first write of a kind the process ends."""

    kill = ""
    """VERB KIND before|after; empty for never."""
    told: Path | None = None
    """Where writes are noted, one a line."""

    @classmethod
    async def connect(cls, told: Told) -> "MortalClient":
        """Connect as the operator does."""
        return cls((await connect(told))._client, told)

    async def apply(self, manifest: Object, field_manager: str, subresource: str = "") -> Object:
        """Server-side apply."""
        doing = partial(super().apply, manifest, field_manager, subresource)
        return await self._write(f"{subresource or 'apply'} {manifest['kind']}", doing)

    async def create(self, manifest: Object) -> Object:
        """Create."""
        return await self._write(f"create {manifest['kind']}", partial(super().create, manifest))

    async def replace(self, manifest: Object) -> Object:
        """Replace."""
        return await self._write(f"replace {manifest['kind']}", partial(super().replace, manifest))

    async def delete(self, where: Reference, uid: str, resource_version: str, grace_seconds: int | None = None) -> bool:
        """Delete."""
        doing = partial(super().delete, where, uid, resource_version, grace_seconds)
        return await self._write(f"delete {where.kind}", doing)

    async def _write(self, what: str, doing: Callable[[], Awaitable[T]]) -> T:
        if self.told is not None:
            with self.told.open("a") as notes:
                notes.write(f"{what}\n")
        self._end_at(f"{what} before")
        result = await doing()
        self._end_at(f"{what} after")
        return result

    def _end_at(self, point: str) -> None:
        if point == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


def find_hung_engines_sooner(times: int) -> None:
    """Shorten everything that stands between an engine that hangs and its being found."""
    for name in ("LOOK_SECONDS", "STILL_SECONDS", "QUIET_SECONDS", "ANSWER_SECONDS", "ASK_AGAIN_SECONDS"):
        setattr(hang, name, getattr(hang, name) / times)
    process: Any = lookout
    process.LOOK_SECONDS = hang.LOOK_SECONDS


def main() -> int:
    """Run the operator; its probes and metrics on any free port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kill", default="", help="VERB KIND before|after")
    parser.add_argument("--told", type=Path, help="a file for the writes, one a line")
    parser.add_argument("--hurry", type=int, default=1, help="how many times sooner engines are found that hang")
    options = parser.parse_args()
    find_hung_engines_sooner(options.hurry)
    MortalClient.kill, MortalClient.told = options.kill, options.told
    process: Any = startup
    process.connect = MortalClient.connect
    process.health.serve = partial(health.serve, port=0)
    return startup.main()


if __name__ == "__main__":
    sys.exit(main())
