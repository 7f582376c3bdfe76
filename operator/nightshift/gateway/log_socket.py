"""Takes HAProxy's log lines on a UNIX socket. HAProxy waits for nobody there: it drops what is not taken."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from nightshift.core.gateway.log_line import LINE_BYTES

GATHER_SECONDS = 0.1
"""Between two looks at what HAProxy has sent: a look at each line costs several times what counting it does."""
FEW_BYTES = 16 * 1024
"""A look that finds more is followed by another at once, or HAProxy's ring would run over."""
Take = Callable[[bytes], None]


class LogServer:
    """Listens until it is closed."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._connections: set[asyncio.BaseTransport] = set()
        self._server: asyncio.AbstractServer | None = None

    async def start(self, socket: Path) -> "LogServer":
        """Listen at a path; what a former process left there is replaced. Its directory lets nobody else in."""
        _make_way(socket)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Lines(self._take, self._connections), str(socket))
        return self

    async def close(self) -> None:
        """End; HAProxy keeps what comes then for the next one, as far as its ring goes."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.close()
            await self._server.wait_closed()
            await asyncio.sleep(0)  # the connections end in the loop's next round


def _make_way(socket: Path) -> None:
    socket.unlink(missing_ok=True)


async def serve_log(socket: Path, take: Take) -> LogServer:
    """Listen.

    Args:
        socket: Where.
        take: Called with whole lines and their ends. It must not raise.
    """
    return await LogServer(take).start(socket)


class _Lines(asyncio.Protocol):
    """One HAProxy process; after a reload there are two for a while."""

    def __init__(self, take: Take, connections: set[asyncio.BaseTransport]) -> None:
        self._take = take
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it, to end it."""
        self._transport = transport if isinstance(transport, asyncio.Transport) else None
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._transport is not None:
            self._connections.discard(self._transport)
            self._transport = None

    def data_received(self, data: bytes) -> None:
        """Hand on what is complete; a line without an end is handed on in pieces and not kept."""
        found = self._rest + data
        end = found.rfind(b"\n") + 1
        lines, self._rest = found[:end], found[end:]
        if len(self._rest) > 2 * LINE_BYTES:
            lines, self._rest = lines + self._rest + b"\n", b""
        self._take(lines)
        if len(data) < FEW_BYTES and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
