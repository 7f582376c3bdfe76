"""The server in a thread of its own, for tests whose client blocks."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from e2e.hub.faults import Asked
from e2e.hub.server import HubServer


class RunningHub:
    """A context in which a Hub answers on loopback.

    Large files are redirected to another host name of the same server, as the Hub sends its clients to
    a content delivery network.
    """

    def __init__(self, root: Path, page_size: int = 1000) -> None:
        self._root = root
        self._page_size = page_size
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self._server: HubServer | None = None
        self.url = ""
        """Base address, for HF_ENDPOINT."""

    def __enter__(self) -> "RunningHub":
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._call(self._stop(self._runner))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def faults(self, *faults: dict[str, Any]) -> None:
        """Put these faults in force in place of all others; see `Fault` for the fields."""
        assert self._server is not None
        self._server.switchboard.replace(list(faults))

    def asked(self, path_part: str = "") -> list[Asked]:
        """Requests so far whose path holds this text."""
        assert self._server is not None
        return [asked for asked in list(self._server.switchboard.asked) if path_part in asked.path]

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        # Answers that a fault holds back would outlive the loop.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _start(self) -> None:
        server = HubServer(self._root, page_size=self._page_size)
        self._runner = web.AppRunner(server.application(), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        # Known only now that the socket listens.
        server.cdn = f"http://localhost:{port}"
        self._server = server
