"""Ends a gateway process that hangs; what keeps it in its container starts it anew.

A liveness probe would end the container, and with it the pod's readiness, for longer each time.
"""

import asyncio
import faulthandler
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

HANG_SECONDS = 30.0
"""A process that was not well for so long is ended."""

LOOKS = 6
"""In that time."""


async def watch(problem: Callable[[], str | None], hang_seconds: float = HANG_SECONDS) -> None:
    """End this process, with status 1 and the stacks of its threads on stderr, once it has not been well for a while.

    It is a thread of the interpreter's own that ends it, so that an event loop that stands still ends too.

    Args:
        problem: Why the process should be started anew, as a sentence, or None.
        hang_seconds: For how long that must be so, or the event loop stand still.
    """
    found = None
    try:
        while True:
            if found is None:
                faulthandler.dump_traceback_later(hang_seconds, exit=True)
            else:
                logger.error(
                    "This process ends itself within %.0f s, unless it is well until then: %s", hang_seconds, found
                )
            await asyncio.sleep(hang_seconds / LOOKS)
            found = problem()
    finally:
        faulthandler.cancel_dump_traceback_later()
