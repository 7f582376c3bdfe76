"""HAProxy's log on this process's standard output: one line for each request.

HAProxy could write it itself. A system call for each line, which wakes a reader each, took it a sixth of its processor
time; here many lines are one call.
"""

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

PENDING_BYTES = 4 * 1024 * 1024
"""What waits to be written; about 10,000 lines. More is dropped, and how much is said in its place."""
CLOSE_SECONDS = 1.0


class RequestLog:
    """Writes in a thread of its own: who reads slowly, or not at all, keeps nobody waiting.

    Args:
        write: Writes bytes, and may block.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def add(self, block: bytes) -> None:
        """Have whole lines written, soon."""
        if not block:
            return
        with self._lock:
            if self._pending + len(block) > PENDING_BYTES:
                self._dropped += block.count(b"\n")
                return
            if self._dropped:
                block = f"{self._dropped} lines dropped: standard output was not read in time\n".encode() + block
                self._dropped = 0
            self._pending += len(block)
        self._blocks.put(block)

    def close(self) -> None:
        """Write what is still to be written, for a moment."""
        self._blocks.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            try:
                self._write(block)
            except (OSError, ValueError) as error:
                logger.warning("Lines of requests cannot be written to standard output and are left out: %s", error)
                return
            with self._lock:
                self._pending -= len(block)
