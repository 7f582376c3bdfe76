"""The load of one measurement, as a process of its own: `python -m bench.gateway.load JSON`.

It speaks just enough HTTP on asyncio's protocols to be cheap. It prints one JSON object: what clients saw in the time
that counts, and the processor time that processes used meanwhile, its own among them.
"""

import asyncio
import gc
import json
import os
import re
import resource
import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.gateway.engine import EVENTS_PER_SECOND
from bench.operator_process import cpu_seconds
from bench.support import percentiles

GAP_SECONDS = 1 / EVENTS_PER_SECOND
WARM_SECONDS = 0.5
SETTLE_SECONDS = 1.0
MARGIN_SECONDS = 2.0
"""That streams go on after the time that counts, so that none ends in it where it begins late."""
ENDING_SECONDS = 30.0
"""Within which streams have to end after their time; those that do not count as failed."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT = b"data: "


@dataclass(frozen=True)
class Load:
    """What is asked, of whom, and whose processor time is read."""

    host: str
    port: int
    path: str
    clients: int
    seconds: float
    """That count; some more come before."""
    model: str = "ml/bot"
    streams: bool = False
    opening_seconds: float = 2.0
    """In which streams are begun, one after the other."""
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Process ids by name."""

    def command(self) -> list[str]:
        """The process that does it."""
        return [sys.executable, "-m", "bench.gateway.load", json.dumps(asdict(self))]

    def request(self) -> bytes:
        """A request, the same for every side."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}], "model": self.model}
        if self.streams:
            body |= {"stream": True, "max_tokens": self.events}
        data = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    @property
    def events(self) -> int:
        """Of each stream."""
        seconds = self.opening_seconds + SETTLE_SECONDS + self.seconds + MARGIN_SECONDS
        return round(seconds * EVENTS_PER_SECOND)


class Usage:
    """Processor time of processes in the time that counts."""

    def __init__(self, processes: Mapping[str, Sequence[int]]) -> None:
        self._processes = {**processes, "load": [os.getpid()]}
        self._before = self._read()
        self._began = time.perf_counter()

    def _read(self) -> dict[str, float]:
        return {name: sum(cpu_seconds(pid) for pid in pids) for name, pids in self._processes.items()}

    def end(self) -> dict[str, Any]:
        """Seconds that passed, and those of the processor by name."""
        seconds = time.perf_counter() - self._began
        used = {name: after - self._before[name] for name, after in self._read().items()}
        return {"seconds": seconds, "cpu_seconds": used}


class Asking(asyncio.Protocol):
    """A client that asks again as soon as it is answered."""

    def __init__(self, request: bytes, seconds: "array[float]") -> None:
        self._request = request
        self._seconds = seconds
        self._buffer = b""
        self._began = 0.0
        self.failed = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if len(self._buffer) < end + 4 + int(length[1]) if length else not self._buffer.endswith(b"0\r\n\r\n"):
            return
        self._seconds.append(time.perf_counter() - self._began)
        self.failed += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if not self.stopped:
            self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody but us may close."""
        self.failed += not self.stopped

    def stop(self) -> None:
        """Ask no more."""
        self.stopped = True
        self._transport.close()


class Streaming(asyncio.Protocol):
    """A client of one stream."""

    counting = False
    """Whether the time counts."""

    def __init__(self, request: bytes, deviations: "array[float]") -> None:
        self._request = request
        self._deviations = deviations
        self._last = 0.0
        self._tail = b""
        self.first_byte_seconds: float | None = None
        self.good = False
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self._began = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Some events, or parts of one. Several that come at once have no time between them."""
        now = time.perf_counter()
        if self.first_byte_seconds is None:
            self.first_byte_seconds = now - self._began
            self.good = data.startswith(b"HTTP/1.1 200")
        data = self._tail + data
        self._tail = data[-(len(_EVENT) - 1) :]
        for _ in range(data.count(_EVENT)):
            if self.events and Streaming.counting:
                self._deviations.append(abs(now - self._last - GAP_SECONDS))
            self._last = now
            self.events += 1


async def ask(load: Load) -> dict[str, Any]:
    """Chat answers, one after the other for each client."""
    loop = asyncio.get_running_loop()
    seconds: array[float] = array("d")
    asking = [
        (await loop.create_connection(lambda: Asking(load.request(), seconds), load.host, load.port))[1]
        for _ in range(load.clients)
    ]
    await asyncio.sleep(WARM_SECONDS)
    del seconds[:]
    usage = Usage(load.processes)
    await asyncio.sleep(load.seconds)
    found = usage.end()
    counted = list(seconds)
    for one in asking:
        one.stop()
    milliseconds = {f"{name}_ms": 1000 * value for name, value in percentiles(counted).items()}
    return {**found, "requests": len(counted), **milliseconds, "failed": sum(one.failed for one in asking)}


async def stream(load: Load) -> dict[str, Any]:
    """Streams that are all open in the time that counts."""
    loop = asyncio.get_running_loop()
    deviations: array[float] = array("d")
    began = loop.time()
    opening = []
    for number in range(load.clients):
        await asyncio.sleep(began + load.opening_seconds * number / load.clients - loop.time())
        make = loop.create_connection(lambda: Streaming(load.request(), deviations), load.host, load.port)
        opening.append(asyncio.create_task(make))
    streams = [made[1] for made in await asyncio.gather(*opening)]
    await asyncio.sleep(began + load.opening_seconds + SETTLE_SECONDS - loop.time())
    Streaming.counting = True
    usage = Usage(load.processes)
    await asyncio.sleep(load.seconds)
    found = usage.end()
    Streaming.counting = False
    deadline = loop.time() + load.opening_seconds + ENDING_SECONDS
    while loop.time() < deadline and any(one.events <= load.events for one in streams):  # noqa: ASYNC110 - a peer ends them
        await asyncio.sleep(0.1)
    first = [one.first_byte_seconds if one.first_byte_seconds is not None else load.seconds for one in streams]
    whole = sum(one.good and one.events == load.events + 1 for one in streams)  # [DONE] is one more
    return {
        **found,
        "events": len(deviations),
        "due": load.clients * EVENTS_PER_SECOND * found["seconds"],
        **{f"jitter_{name}_ms": 1000 * value for name, value in percentiles(deviations).items()},
        **{f"first_byte_{name}_ms": 1000 * value for name, value in percentiles(first).items()},
        "failed": load.clients - whole,
    }


def main(text: str) -> None:
    """Do what is described, and print what came of it."""
    load = Load(**json.loads(text))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    gc.disable()  # a pause of ours would be counted as the side's
    print(json.dumps(asyncio.run((stream if load.streams else ask)(load))))


if __name__ == "__main__":
    main(sys.argv[1])
