"""Hostile load from a process of its own: slow clients, headers without end, random bodies; now and then, by turns.

`python -m e2e.support.attacks ADDRESS PORT NAMESPACE/NAME SECONDS TURNS` is quiet for so many seconds and hostile for
as many, so many times, and then says when it was what, and what it did, as one line of JSON.
"""

import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from e2e.support.hostile import random_body

SLOW_CLIENTS = 500
BOMBS_PER_SECOND = 10.0
BODIES_PER_SECOND = 100.0
SETTLE_SECONDS = 1.0
"""After each change, in which it is neither quiet nor hostile."""


@dataclass(frozen=True)
class Target:
    """A model behind a gateway."""

    address: str
    port: int
    key: str

    def head(self, size: int, extra: bytes = b"", path: str = "") -> bytes:
        """A request's head."""
        line = f"POST {path or f'/{self.key}/v1/chat/completions'} HTTP/1.1\r\nHost: g\r\n"
        return line.encode() + extra + b"Content-Length: %d\r\n\r\n" % size


async def send(target: Target, data: bytes, seconds: float) -> bytes:
    """Send bytes and read until the other side closes, or for so long."""
    answer = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(target.address, target.port)
            try:
                writer.write(data)
                while chunk := await reader.read(65536):
                    answer += chunk
            finally:
                writer.close()
    return answer


def status(answer: bytes) -> str:
    """The status of the first answer in these bytes; empty where there is none."""
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.") else ""


class Attack:
    """Everything at once, until it is cancelled."""

    def __init__(self, target: Target, dice: random.Random) -> None:
        self._target, self._dice = target, dice
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(SLOW_CLIENTS):
                group.create_task(self._slow(number))
            group.create_task(self._regularly("bomb", BOMBS_PER_SECOND, self._bomb))
            group.create_task(self._regularly("body", BODIES_PER_SECOND, self._body))

    async def _slow(self, number: int) -> None:
        """A request that comes a byte a second: in the headers, or in the body."""
        head = self._target.head(1000)
        await asyncio.sleep(number / SLOW_CLIENTS)
        while True:
            data = head[:20] if number % 2 else head
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(self._target.address, self._target.port)
                self.counts["slow clients"] += 1
                try:
                    writer.write(data)
                    reading = asyncio.ensure_future(reader.read())
                    while not reading.done():
                        await asyncio.wait([reading], timeout=1)
                        writer.write(b"x")
                    self.counts[f"slow clients: {status(reading.result())}"] += 1
                finally:
                    writer.close()

    async def _regularly(self, what: str, per_second: float, make: Callable[[int], bytes]) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                group.create_task(self._one(what, make(number)))
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self, what: str, data: bytes) -> None:
        self.counts[f"{what}: {status(await send(self._target, data, 5))}"] += 1

    def _bomb(self, number: int) -> bytes:
        bombs = (b"X: " + b"y" * 100_000 + b"\r\n", b"".join(b"X-%d: y\r\n" % index for index in range(5000)))
        return self._target.head(2, bombs[number % 2]) + b"{}"

    def _body(self, number: int) -> bytes:
        body = random_body(self._dice, self._target.key)
        return self._target.head(len(body), b"Connection: close\r\n", "/v1/completions") + body


async def by_turns(target: Target, seconds: float, turns: int) -> dict[str, object]:
    """Quiet and hostile, so many times each; when it was what (seconds since the epoch), and what was done."""
    when: dict[str, list[tuple[float, float]]] = {"quiet": [], "hostile": []}
    counts: Counter[str] = Counter()
    dice = random.Random(20260301)
    for _ in range(turns):
        for kind in ("quiet", "hostile"):
            attack = Attack(target, dice)
            running = asyncio.create_task(attack.run()) if kind == "hostile" else None
            await asyncio.sleep(SETTLE_SECONDS)
            begun = time.time()
            await asyncio.sleep(seconds)
            when[kind].append((begun, time.time()))
            if running is not None:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
                counts += attack.counts
    return {"when": when, "counts": dict(counts), "processor_seconds": time.process_time()}


def main(arguments: Sequence[str]) -> int:
    """Attack by turns."""
    address, port, key, seconds, turns = arguments
    print(json.dumps(asyncio.run(by_turns(Target(address, int(port), key), float(seconds), int(turns)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
