"""Runs the work in a thread of its own and watches from outside that it moves.

A thread that waits for the network cannot notice that it waits too long; and each library below has
time limits and repetitions of its own. The limit that counts is kept here: time without any movement.
"""

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from nightshift.adapters.hub import HubRefused, HubUnavailable
from nightshift.api.fetch import Failed, FetchOutcome, FetchReason, Progress

T = TypeVar("T")

REPORT_SECONDS = 5.0
"""Longest time between two progress lines while bytes move."""

_POLL_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


class Phase(StrEnum):
    """What the work is doing, to word a failure."""

    ASKING = "asking"
    WAITING = "waiting"
    DOWNLOADING = "downloading"


class Cancelled(Exception):  # noqa: N818 - asked for, not an error
    """The work was given up from outside."""


class Meter:
    """Where the work and its supervisor meet; safe to use from several threads."""

    def __init__(self) -> None:
        self.phase = Phase.ASKING
        self.last_trouble: str | None = None
        self._lock = threading.Lock()
        self._progress = Progress(bytes_done=0, bytes_total=0, files_done=0, files_total=0)
        self._moved_at = time.monotonic()
        self._cancelled = threading.Event()

    def expect(self, files: int, size: int) -> None:
        """Set what there is to do, in files and bytes."""
        with self._lock:
            self._progress = Progress(bytes_done=0, bytes_total=size, files_done=0, files_total=files)
            self._moved_at = time.monotonic()

    def moved(self, size: int = 0, files: int = 0) -> None:
        """Count bytes and files in place; negative when something must be done again.

        Raises:
            Cancelled: The supervisor has given up.
        """
        if self._cancelled.is_set():
            raise Cancelled
        with self._lock:
            before = self._progress
            self._progress = before.model_copy(
                update={"bytes_done": before.bytes_done + size, "files_done": before.files_done + files}
            )
            if size > 0 or files > 0:
                self._moved_at = time.monotonic()

    def touch(self) -> None:
        """Note movement that is not counted in bytes."""
        with self._lock:
            self._moved_at = time.monotonic()

    def progress(self) -> Progress:
        """How far the work is."""
        with self._lock:
            return self._progress

    def idle_seconds(self) -> float:
        """Time since anything moved."""
        with self._lock:
            return time.monotonic() - self._moved_at

    def pause(self, seconds: float) -> None:
        """Sleep in the work.

        Raises:
            Cancelled: The supervisor has given up.
        """
        if self._cancelled.wait(seconds):
            raise Cancelled

    def cancel(self) -> None:
        """Make the work end at its next step."""
        self._cancelled.set()


def retrying(meter: Meter, call: Callable[[], T]) -> T:
    """Repeat a call while the Hub is unavailable, with growing pauses; the supervisor sets the end."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        before = meter.progress().bytes_done
        try:
            return call()
        except HubUnavailable as error:
            meter.last_trouble = str(error)
        if meter.progress().bytes_done > before:
            pause = _FIRST_PAUSE_SECONDS
        meter.pause(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def supervise(
    work: Callable[[Meter], FetchOutcome], limit_seconds: float, report: Callable[[Progress], None]
) -> FetchOutcome:
    """Do the work; give it up when nothing moves for too long.

    Args:
        work: Gets the meter; may raise HubRefused. Any other exception is raised here.
        limit_seconds: Longest time without movement.
        report: Called with the progress, every few seconds while it changes.

    Returns:
        The work's outcome, or Failed.
    """
    meter = Meter()
    results: list[FetchOutcome | BaseException] = []

    def run() -> None:
        try:
            results.append(work(meter))
        except HubRefused as refusal:
            results.append(Failed(reason=refusal.reason, message=refusal.message))
        except BaseException as error:
            # Raised again in the caller's thread.
            results.append(error)

    # A daemon: the process must be able to end while this thread hangs in a read.
    thread = threading.Thread(target=run, name="fetch", daemon=True)
    thread.start()
    reported, reported_at = meter.progress(), time.monotonic()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            progress, now = meter.progress(), time.monotonic()
            if progress != reported and now - reported_at >= min(REPORT_SECONDS, limit_seconds / 2):
                report(progress)
                reported, reported_at = progress, now
            if thread.is_alive() and meter.idle_seconds() > limit_seconds:
                return _given_up(meter, limit_seconds)
    finally:
        meter.cancel()
    if meter.progress() != reported:
        report(meter.progress())
    result = results[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _given_up(meter: Meter, limit_seconds: float) -> Failed:
    trouble = f" ({meter.last_trouble})" if meter.last_trouble else ""
    waited = f"{limit_seconds:g} s"
    if meter.phase is Phase.ASKING:
        return Failed(
            reason=FetchReason.HUB_UNREACHABLE,
            message=f"The Hub gave no usable answer within {waited}{trouble}; check the cluster's way out, its "
            "name resolution, NetworkPolicies and the operator's Hub address.",
        )
    if meter.phase is Phase.WAITING:
        return Failed(
            reason=FetchReason.MODEL_DOWNLOAD_STALLED,
            message=f"Another download holds the model's directory and has not moved for {waited}; "
            "delete its pod, and the next attempt goes on from there.",
        )
    progress = meter.progress()
    return Failed(
        reason=FetchReason.MODEL_DOWNLOAD_STALLED,
        message=f"No byte arrived for {waited} at {progress.bytes_done} of {progress.bytes_total} bytes{trouble}; "
        "check the network to the Hub. The next attempt goes on from there.",
    )
