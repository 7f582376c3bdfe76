"""An engine that answers at once: `python -m bench.gateway.engine PORT`.

It speaks as much HTTP as the proxies need, so that little of the machine is its own: a short chat answer, or 20 events
a second of a stream, for as many tokens as asked. It listens on all addresses, so one process is every replica.
"""

import asyncio
import gc
import json
import re
import resource
import sys

EVENTS_PER_SECOND = 20
_TICKS = 50
"""Ticks of a millisecond between two events of a stream."""
assert _TICKS * EVENTS_PER_SECOND == 1000
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_tokens": *(\d+)')
_STREAM = re.compile(rb'"stream": *true')

CHAT = {
    "id": "chatcmpl-4f1c9a52e1b84d0f8f7d4c3b2a190817",
    "object": "chat.completion",
    "created": 1772366400,
    "model": "ml/bot",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": None},
}
EVENT = {
    "id": "chatcmpl-4f1c9a52e1b84d0f8f7d4c3b2a190817",
    "object": "chat.completion.chunk",
    "created": 1772366400,
    "model": "ml/bot",
    "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
}


def _whole(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    )
    return head.encode() + body


def _chunk(text: str) -> bytes:
    data = f"data: {text}\n\n"
    return f"{len(data):x}\r\n{data}\r\n".encode()


_ANSWER = _whole(json.dumps(CHAT).encode())
_HEALTHY = _whole(b"{}")
_MODELS = _whole(json.dumps({"object": "list", "data": [{"id": "ml/bot", "object": "model"}]}).encode())
_BEGIN = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EVENT = _chunk(json.dumps(EVENT))
_END = _chunk("[DONE]") + b"0\r\n\r\n"


class Streams:
    """Sends the next event of each stream when it is due: a wheel of ticks, with the streams of each tick."""

    def __init__(self) -> None:
        self._wheel: list[dict[Connection, int]] = [{} for _ in range(_TICKS)]
        self._tick = 0
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()

    def begin(self, connection: "Connection", events: int) -> None:
        """A stream whose first event is sent now."""
        connection.transport.write(_BEGIN + _EVENT)
        self._wheel[self._tick % _TICKS][connection] = events - 1

    async def run(self) -> None:
        """Send for ever."""
        while True:
            now = int((self._loop.time() - self._origin) * 1000)
            while self._tick < now:
                self._tick += 1
                self._send(self._wheel[self._tick % _TICKS])
            await asyncio.sleep(self._origin + (self._tick + 1) / 1000 - self._loop.time())

    @staticmethod
    def _send(due: "dict[Connection, int]") -> None:
        for connection, left in list(due.items()):
            if left == 0 or connection.transport.is_closing():
                connection.transport.write(_END)
                del due[connection]
            else:
                connection.transport.write(_EVENT)
                due[connection] = left - 1


class Connection(asyncio.Protocol):
    """A client's connection: requests, whole or in parts, and their answers."""

    transport: asyncio.Transport

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers are written."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what has arrived as a whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if not request.startswith(b"POST "):
            self.transport.write(_MODELS if b"/v1/models" in request[:64] else _HEALTHY)
        elif _STREAM.search(request):
            asked = _TOKENS.search(request)
            self._streams.begin(self, int(asked[1]) if asked else 16)
        else:
            self.transport.write(_ANSWER)


async def _serve(port: int) -> None:
    streams = Streams()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(streams), "0.0.0.0", port, backlog=4096)
    gc.freeze()
    async with server:
        await streams.run()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_serve(int(sys.argv[1])))
