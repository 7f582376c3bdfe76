"""A queue of keys with due times: one worker per key, the earliest due time wins, failures back off."""

import asyncio
import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 300.0


class KeyedQueue(Generic[K]):
    """Keys waiting for their due time; a key that is being worked on is not given out again until it is done."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._working: dict[K, float] = {}
        """Keys that are worked on, and since when."""
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()
        self._counter = 0

    def add(self, key: K, delay: float = 0.0) -> None:
        """Ask for a key to be worked on after some seconds, or earlier if that was asked for before."""
        due = self._now() + delay
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._counter += 1
        heapq.heappush(self._heap, (due, self._counter, key))
        self._changed.set()

    async def get(self) -> K:
        """The next key that is due and that nobody works on."""
        while True:
            key, wait = self._next()
            if key is not None:
                self._working[key] = self._now()
                del self._due[key]
                return key
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue

    def done(self, key: K, failed: bool) -> None:
        """Work on a key ended; after a failure it is due again, later each time.

        Worked example: the first failure waits 0.5 s, the second 1 s, the tenth 256 s, later ones 300 s.
        """
        self._working.pop(key, None)
        if failed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            self.add(key, min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16)))
        else:
            self._failures.pop(key, None)
        self._changed.set()

    def failures(self, key: K) -> int:
        """How often in a row work on a key failed."""
        return self._failures.get(key, 0)

    def overdue_seconds(self) -> float:
        """For how long the oldest due key has been waiting for a worker."""
        waiting = [due for key, due in self._due.items() if key not in self._working]
        return max(0.0, self._now() - min(waiting)) if waiting else 0.0

    def working_seconds(self) -> float:
        """For how long the key is being worked on that has been for longest."""
        return self._now() - min(self._working.values()) if self._working else 0.0

    def backing_off(self) -> int:
        """Keys whose last work failed."""
        return len(self._failures)

    def depth(self) -> int:
        """Keys that are due now."""
        now = self._now()
        return sum(due <= now for due in self._due.values())

    def _next(self) -> tuple[K | None, float | None]:
        """The next key, or the seconds until one is due (None where none is waiting)."""
        held: list[tuple[float, int, K]] = []
        found: K | None = None
        wait: float | None = None
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)
                continue
            if key in self._working:
                held.append(heapq.heappop(self._heap))
                continue
            if due <= self._now():
                heapq.heappop(self._heap)
                found = key
            else:
                wait = due - self._now()
            break
        for entry in held:
            heapq.heappush(self._heap, entry)
        return found, wait

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
