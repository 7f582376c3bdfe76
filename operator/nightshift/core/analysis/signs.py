"""Amounts that are compared once per window, since nothing finer is known of them: tokens per second, preemptions."""

import math
from dataclasses import dataclass

from nightshift.api.tally import SignTally
from nightshift.core.analysis.evalues import sign_evidence


@dataclass(frozen=True)
class Rates:
    """Both amounts of one window, and what they are per."""

    candidate: float
    candidate_base: float
    stable: float
    stable_base: float

    @property
    def candidate_rate(self) -> float:
        """The candidate's amount per base."""
        return self.candidate / self.candidate_base

    @property
    def stable_rate(self) -> float:
        """The stable revision's amount per base."""
        return self.stable / self.stable_base


def added(tally: SignTally, rates: Rates, *, worse: bool, better: bool) -> SignTally:
    """A tally with one more window."""
    return SignTally(
        worse=tally.worse + worse,
        better=tally.better + better,
        candidate=tally.candidate + rates.candidate,
        candidate_base=tally.candidate_base + rates.candidate_base,
        stable=tally.stable + rates.stable,
        stable_base=tally.stable_base + rates.stable_base,
    )


def rates_of(tally: SignTally) -> Rates | None:
    """The amounts of all windows; None before there are any."""
    if tally.candidate_base <= 0 or tally.stable_base <= 0:
        return None
    return Rates(tally.candidate, tally.candidate_base, tally.stable, tally.stable_base)


def is_worse_beyond_chance(tally: SignTally, alpha: float) -> bool:
    """Whether the candidate was worse in so many windows that chance does not explain it."""
    return sign_evidence(tally.worse, tally.better) >= -math.log(alpha)
