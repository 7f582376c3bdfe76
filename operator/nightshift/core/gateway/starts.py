"""How long a deployment's start takes, learned from the last ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from statistics import median

KEPT_STARTS = 7
"""How many of the last starts count. An even share of slow ones (an image not on the node, a node that had to be
made) moves a mean of them a lot and their median hardly."""

LONGEST_START_SECONDS = 86400.0
"""Longer ones say nothing of the next: somebody had to do something."""


@dataclass(frozen=True)
class Starts:
    """The last starts of a deployment, in seconds, oldest first."""

    seconds: tuple[float, ...] = ()

    def and_then(self, seconds: float) -> "Starts":
        """With one more, without the oldest where there are too many; an impossible one changes nothing."""
        if not (isfinite(seconds) and 0 <= seconds <= LONGEST_START_SECONDS):
            return self
        return Starts((*self.seconds, seconds)[-KEPT_STARTS:])

    @property
    def typical(self) -> float | None:
        """The median in seconds, or None where nothing was learned.

        Worked example: 80, 85, 300, 82 and 79 s are typically 82 s.
        """
        return median(self.seconds) if self.seconds else None

    def to_text(self) -> str:
        """To tenths of a second, separated by commas."""
        return ",".join(f"{seconds:.1f}" for seconds in self.seconds)


def parse_starts(text: str) -> Starts:
    """Read what `to_text` wrote; what is no duration is passed over."""
    found = Starts()
    for part in text.split(",")[-KEPT_STARTS:]:
        try:
            found = found.and_then(float(part))
        except ValueError:
            continue
    return found


def newest(candidates: Iterable[tuple[float, Starts]]) -> Starts:
    """Of several processes' knowledge the one noted last that is not empty.

    Args:
        candidates: When each was noted (seconds on any common clock), and what it is.
    """
    filled = [(at, starts) for at, starts in candidates if starts.seconds]
    return max(filled, key=lambda candidate: candidate[0])[1] if filled else Starts()
