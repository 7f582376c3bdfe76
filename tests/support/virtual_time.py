"""An event loop whose clock jumps to the next appointment: hours pass at once, and nothing waits."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_STEPS_IN_A_MOMENT = 10_000


class _Selector(selectors.DefaultSelector):
    """Never waits; tells how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._still = 0
        """Steps in a row in which time did not move."""

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits, and nothing will ever happen")
            before, self.now = self.now, self.now + max(0.0, timeout)
            self._still = self._still + 1 if self.now == before else 0
            if self._still > _STEPS_IN_A_MOMENT:
                # An appointment that is due but for rounding: it is asked for again and again, and never comes.
                self.now += 1e-9
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time() moves only while nobody has anything to do."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
