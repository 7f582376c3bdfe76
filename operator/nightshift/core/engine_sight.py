"""What was seen of one engine by asking it: the latest reading, and since when it says the same."""

from dataclasses import dataclass, replace
from datetime import datetime

from nightshift.core.engine_metrics import EngineMetrics, ProbeAnswer
from nightshift.core.facts import Fact, Known, Unknown

NEVER_READ = Unknown("The engine's metrics were not read yet.")


@dataclass(frozen=True)
class EngineSight:
    """What is known of one start of one engine. Losing it costs the time of seeing it again, nothing else."""

    start: str
    """Which start of which pod, as `core.observed.engine_start` names it: counters begin anew with each."""
    metrics: Fact[EngineMetrics] = NEVER_READ
    """The latest reading."""
    last: Known[EngineMetrics] | None = None
    """The latest reading that came."""
    still_since: datetime | None = None
    """When the engine was first seen as it was in the last reading: it has made no step since then."""
    unanswered: int = 0
    """Questions for one token in a row that the engine took and did not answer, since it last moved."""
    asked_at: datetime | None = None
    """When the last question ended, however it did, since the engine last moved."""


def looked(before: EngineSight | None, start: str, reading: Fact[EngineMetrics]) -> EngineSight:
    """What is known after the metrics were read once more.

    A reading that did not come leaves everything else as it was. Two equal readings mean that nothing moved in
    between, since the counters only grow within one start.

    Worked example: readings at 12:00:00 and 12:00:30 that are alike, none at 12:01:00, and a like one at 12:01:30:
    still since 12:00:00.
    """
    known = before if before is not None and before.start == start else EngineSight(start)
    if isinstance(reading, Unknown):
        return replace(known, metrics=reading)
    if known.last is None or known.last.value.mark != reading.value.mark:
        return EngineSight(start, reading, reading, reading.at)
    return replace(known, metrics=reading, last=reading)


def asked(before: EngineSight, answer: Fact[ProbeAnswer], at: datetime) -> EngineSight:
    """What is known after the engine was asked for one token.

    Args:
        before: What was known when the question was put.
        answer: What came of it. Unknown counts neither for nor against the engine.
        at: When the question ended (UTC).
    """
    if isinstance(answer, Unknown):
        return replace(before, asked_at=at)
    if answer.value.answered:
        return replace(before, still_since=at, unanswered=0, asked_at=at)
    return replace(before, unanswered=before.unanswered + 1, asked_at=at)
