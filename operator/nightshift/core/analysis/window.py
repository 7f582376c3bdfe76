"""From counters that only grow to what both revisions did in a window.

A source is a gateway pod or an engine. Its counters go on for as long as it lives, so a window is the difference to
the baseline that stands in the comparison. A source whose counters went back has started anew and counts from zero. A
pod that cannot be read leaves its revision's part of the window unknown; one that is gone takes what it counted since
the window began with it, which is the same loss for both revisions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from nightshift.api.comparison import ArmName, Baseline, Comparison, Counters, Times
from nightshift.core.analysis.evidence import EMPTY, Arm, Histogram
from nightshift.core.analysis.ranks import merged
from nightshift.core.analysis.tally import with_window
from nightshift.core.facts import Fact, Known, Unknown

WINDOW_SECONDS = 60.0
"""A window is closed after so long, and when the weight changes. Requests of one minute meet much the same load, and a
rollout of 15 minutes has 15 windows to tell how much they vary."""


@dataclass(frozen=True)
class Reading:
    """What a source says of one revision."""

    source: str
    """The pod, and whatever tells apart its starts, such as its uid and its container's restarts."""
    arm: ArmName
    kind: Literal["gateway", "engine"]
    since: datetime
    """When it began to count."""
    counters: Fact[Counters]


@dataclass(frozen=True)
class Stalls:
    """Whether a replica had requests and came no further; None: not known."""

    stable: bool | None = None
    candidate: bool | None = None


def begun(readings: Sequence[Reading], now: datetime) -> Comparison:
    """A comparison that begins now. A source that cannot be read gets its baseline when it can."""
    return Comparison(began=now, baselines=_baselines((), readings, now))


def window(
    comparison: Comparison, readings: Sequence[Reading], now: datetime, stalls: Stalls
) -> tuple[Fact[Arm], Fact[Arm]]:
    """What the stable revision and the candidate did since the window began, as far as it is known.

    Worked example: a gateway pod had counted 100 requests of the candidate when the window began, and says 130 now;
    another that started after that says 4: 34 requests.
    """
    return (
        _arm("stable", comparison, readings, now, stalls.stable),
        _arm("candidate", comparison, readings, now, stalls.candidate),
    )


def is_due(comparison: Comparison, now: datetime) -> bool:
    """Whether the window has lasted long enough to be closed."""
    return comparison.lasts(now) >= WINDOW_SECONDS


def closed(comparison: Comparison, readings: Sequence[Reading], now: datetime) -> Comparison:
    """The window added to those before, and a new one that begins now.

    While a part of it is unknown it goes on, since its sources may be readable again soon.
    """
    stable, candidate = window(comparison, readings, now, Stalls())
    if isinstance(stable, Unknown) or isinstance(candidate, Unknown):
        return comparison
    tally = with_window(comparison.tally, stable.value, candidate.value, comparison.lasts(now))
    return Comparison(began=now, baselines=_baselines(comparison.baselines, readings, now), tally=tally)


def _baselines(before: Sequence[Baseline], readings: Iterable[Reading], now: datetime) -> tuple[Baseline, ...]:
    """Of every source that was read, its counters; of one that is there and was not read, those of before."""
    known = {(item.source, item.arm): item for item in before}
    found = []
    for reading in readings:
        if isinstance(reading.counters, Known):
            found.append(Baseline(source=reading.source, arm=reading.arm, counters=reading.counters.value))
        elif (reading.source, reading.arm) in known:
            found.append(known[reading.source, reading.arm])
    return tuple(sorted(found, key=lambda item: (item.source, item.arm)))


def _arm(
    arm: ArmName, comparison: Comparison, readings: Sequence[Reading], now: datetime, stalled: bool | None
) -> Fact[Arm]:
    total, busy, replica_seconds, seen = Arm(requests=0, failed=0, stalled=stalled), 0.0, 0.0, False
    for reading in readings:
        if reading.arm != arm:
            continue
        seen = True
        if isinstance(reading.counters, Unknown):
            return reading.counters
        counters = reading.counters.value
        before = comparison.baseline(reading.source, arm)
        if before is None:
            # One that counts since before the window has counted requests that are none of it.
            before = Counters() if reading.since >= comparison.began else counters
        if _went_back(counters, before):
            before = Counters()
        total = _together(total, _difference(counters, before))
        if reading.kind == "engine":
            replica_seconds += max(0.0, (now - max(comparison.began, reading.since)).total_seconds())
            busy += counters.busy_seconds - before.busy_seconds
    if not seen:
        return Unknown(f"Nothing counts the requests of the {arm} revision.")
    running = busy / replica_seconds if replica_seconds > 0 and busy > 0 else None
    return Known(replace(total, replica_seconds=replica_seconds, mean_running=running), now)


def _went_back(now: Counters, before: Counters) -> bool:
    pairs = [
        (now.requests, before.requests),
        (now.failed, before.failed),
        (now.generation_tokens, before.generation_tokens),
        (now.preemptions, before.preemptions),
        (now.busy_seconds, before.busy_seconds),
        *((now.finish_reasons.get(reason, 0), count) for reason, count in before.finish_reasons.items()),
    ]
    for times, earlier in _times(now, before):
        if times is not None and earlier is not None and times.bounds == earlier.bounds:
            pairs += zip(times.counts, earlier.counts, strict=True)
    return any(later < earlier for later, earlier in pairs)


def _times(now: Counters, before: Counters) -> list[tuple[Times | None, Times | None]]:
    return [
        (now.first_token, before.first_token),
        (now.inter_token, before.inter_token),
        (now.total, before.total),
    ]


def _difference(now: Counters, before: Counters) -> Arm:
    first_token, inter_token, total = (_grown(*pair) for pair in _times(now, before))
    return Arm(
        requests=now.requests - before.requests,
        failed=now.failed - before.failed,
        first_token=first_token,
        inter_token=inter_token,
        total=total,
        finish_reasons={
            reason: count - before.finish_reasons.get(reason, 0) for reason, count in now.finish_reasons.items()
        },
        generation_tokens=now.generation_tokens - before.generation_tokens,
        preemptions=now.preemptions - before.preemptions,
    )


def _grown(now: Times | None, before: Times | None) -> Histogram:
    if now is None:
        return EMPTY
    if before is None or before.bounds != now.bounds:
        return Histogram(now.bounds, now.counts)
    return Histogram(now.bounds, tuple(a - b for a, b in zip(now.counts, before.counts, strict=True)))


def _together(first: Arm, second: Arm) -> Arm:
    reasons = dict(first.finish_reasons)
    for reason, count in second.finish_reasons.items():
        reasons[reason] = reasons.get(reason, 0) + count
    return Arm(
        requests=first.requests + second.requests,
        failed=first.failed + second.failed,
        first_token=merged(first.first_token, second.first_token),
        inter_token=merged(first.inter_token, second.inter_token),
        total=merged(first.total, second.total),
        finish_reasons=reasons,
        generation_tokens=first.generation_tokens + second.generation_tokens,
        preemptions=first.preemptions + second.preemptions,
        stalled=first.stalled,
    )
