"""Ending with the process that began this one."""

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


def end_with_parent() -> None:
    """End, with what this process waits for, when its parent ends, in whatever way.

    make that is killed tells nobody: its suite would go on, beside the one of the next make, on the same cluster.

    Raises:
        OSError: The kernel refuses.
    """
    signal.signal(signal.SIGTERM, _leave)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _leave(number: int, _: FrameType | None) -> None:
    """`subprocess.run` kills its child when an exception passes through it."""
    sys.exit(128 + number)
