"""A clock that goes as a test says."""

from datetime import datetime, timedelta

from tests.support.builders import NOW


class Clock:
    """The time that a test says."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
