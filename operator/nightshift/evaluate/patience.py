"""Scores that may take for ever: looking for some patterns takes longer than anybody waits."""

import signal
from types import FrameType

from nightshift.api.golden import GoldenQuestion
from nightshift.core.golden.score import needs_time, score

PATTERN_SECONDS = 1.0
"""A pattern that is not found by then is given up. A sensible one takes less than a thousandth of it."""


class _TooLong(Exception):  # noqa: N818 - it carries no fault, it is a bell
    """The time is over."""


def patient_score(question: GoldenQuestion, answer: str, seconds: float = PATTERN_SECONDS) -> tuple[float | None, bool]:
    """The score of an answer, and whether it was given up; only for the main thread.

    Python looks for signals within a search, so an alarm ends one that would go on for years.

    Args:
        question: With what is expected.
        answer: What the engine wrote.
        seconds: Time limit.
    """
    if not needs_time(question):
        return score(question, answer), False
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return score(question, answer), False
    except _TooLong:
        return None, True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise _TooLong
