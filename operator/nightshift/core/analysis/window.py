"""Windows of a comparison: what came to two revisions between two moments, as differences of cumulative counters.

A counter that went back, a gateway pod that counts anew and an engine that started since begin at zero: what they had
counted before is lost, and told. A pod that is there and cannot be read makes the whole Unknown; one that is gone for
good takes with it what it counted since the base was noted last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nightshift.api.comparison import Base, Compared, Comparison, Counted, Sums, Times
from nightshift.core.analysis.evidence import EMPTY, Arm, Histogram
from nightshift.core.analysis.sums import added, anew, since
from nightshift.core.analysis.tally import with_window
from nightshift.core.facts import Fact, Known, Unknown

MOST_ENGINES = 32
"""Of a revision are counted: as many as an annotation has room for. Which ones is chance, and stays as it is."""

_MOST_LOST = 6
_LOST_CHARACTERS = 200


@dataclass(frozen=True)
class Counters:
    """What was counted of one revision up to a moment."""

    at: datetime
    gateways: Mapping[str, Fact[Counted]] = field(default_factory=dict)
    """By gateway pod: all that there are."""
    engines: Mapping[str, Fact[Counted]] = field(default_factory=dict)
    """By start: all that serve."""
    resting: Mapping[str, str] = field(default_factory=dict)
    """Starts of engines that run and do not serve at the moment, each with why it is not read, as a sentence."""
    unlisted: str = ""
    """Why it is not known which gateway pods there are, as a sentence."""
    stalled: bool | None = None
    """Whether an engine had requests and came no further; None: unknown."""


def begin(stable: tuple[str, Counters], candidate: tuple[str, Counters]) -> Fact[Comparison]:
    """A comparison that begins now.

    Args:
        stable: Hash and counters of the stable revision.
        candidate: The same of the candidate.

    Returns:
        The comparison; Unknown while one of the pods cannot be read.
    """
    at = max(stable[1].at, candidate[1].at)
    why = _unread(Base(), stable[1]) or _unread(Base(), candidate[1])
    if why:
        return Unknown(why)
    sides = [Compared(revision=revision, base=_base(Base(), now)) for revision, now in (stable, candidate)]
    return Known(Comparison(began=at, since=at, at=at, stable=sides[0], candidate=sides[1]), at)


def arms(comparison: Comparison, stable: Counters, candidate: Counters) -> tuple[Fact[Arm], Fact[Arm]]:
    """What the stable revision and the candidate did in the present window, in this order.

    Args:
        comparison: Where the counters stood.
        stable: What the stable revision has counted by now.
        candidate: The same of the candidate.

    Worked example: 100 requests when the window began and 160 now are 60, whatever windows before came to.
    """
    return (
        _arm(comparison.stable, stable, comparison.at),
        _arm(comparison.candidate, candidate, comparison.at),
    )


def _arm(side: Compared, now: Counters, at: datetime) -> Fact[Arm]:
    if why := _unread(side.base, now):
        return Unknown(why)
    sums = added([side.present, _sums(side.base, now, at)])
    spent, inference = sums.replica_seconds, sums.inference_seconds
    arm = Arm(
        requests=sums.requests,
        failed=sums.failed,
        first_token=_histogram(sums.first_token),
        inter_token=_histogram(sums.inter_token),
        total=_histogram(sums.total),
        finish_reasons=dict(sums.finished),
        generation_tokens=sums.generation_tokens,
        preemptions=sums.preemptions,
        replica_seconds=spent,
        mean_running=None if inference is None or spent <= 0 else inference / spent,
        stalled=now.stalled,
        left=sums.left,
    )
    return Known(arm, now.at)


def _histogram(item: Times) -> Histogram:
    return Histogram(item.bounds, item.counts) if item.bounds else EMPTY


def renewed(comparison: Comparison, stable: Counters, candidate: Counters) -> Comparison:
    """The comparison with the counters of now as its base, and what came until now added up.

    A pod that cannot be read keeps its place in the base: what it counts meanwhile is counted once it can be.

    Args:
        comparison: As it is.
        stable: What the stable revision has counted by now.
        candidate: The same of the candidate.
    """
    at = max(stable.at, candidate.at)
    return Comparison(
        began=comparison.began,
        since=comparison.since,
        at=at,
        stable=_renewed(comparison.stable, stable, comparison.at),
        candidate=_renewed(comparison.candidate, candidate, comparison.at),
        tally=comparison.tally,
        lost=lost(comparison, stable, candidate),
    )


def _renewed(side: Compared, now: Counters, at: datetime) -> Compared:
    present = added([side.present, _sums(side.base, now, at)])
    return Compared(revision=side.revision, base=_base(side.base, now), present=present)


def closed(comparison: Comparison, stable: Counters, candidate: Counters) -> Comparison:
    """The comparison with its present window closed, as before other weights; a new one begins.

    While something cannot be read it is renewed instead: the window goes on until it is known what it came to.

    Worked example: 60 requests in a window of 60 s are added to the tally once; the window after it begins with none.

    Args:
        comparison: As it is.
        stable: What the stable revision has counted by now.
        candidate: The same of the candidate.
    """
    ones, others = arms(comparison, stable, candidate)
    after = renewed(comparison, stable, candidate)
    if isinstance(ones, Unknown) or isinstance(others, Unknown):
        return after
    seconds = max(0.0, (after.at - comparison.since).total_seconds())
    sides = {
        "stable": after.stable.model_copy(update={"present": Sums()}),
        "candidate": after.candidate.model_copy(update={"present": Sums()}),
    }
    tally = with_window(comparison.tally, ones.value, others.value, seconds)
    return after.model_copy(update={**sides, "since": after.at, "tally": tally})


def worth_renewing(comparison: Comparison, stable: Counters, candidate: Counters) -> bool:
    """Whether something that can be read is not counted until the base is noted anew."""
    return any(
        isinstance(fact, Known) and not _counts(before, fact.value, comparison.at)
        for side, now in ((comparison.stable, stable), (comparison.candidate, candidate))
        for before, fact in _sources(side.base, now)
    )


def lost(comparison: Comparison, stable: Counters, candidate: Counters) -> tuple[str, ...]:
    """What could not be counted since the comparison began, as sentences; the latest few, each once."""
    told = list(comparison.lost)
    for side, now in ((comparison.stable, stable), (comparison.candidate, candidate)):
        told += _losses(side, now, comparison.at)
    return tuple(dict.fromkeys(item[:_LOST_CHARACTERS] for item in told))[-_MOST_LOST:]


def _losses(side: Compared, now: Counters, at: datetime) -> list[str]:
    told, after = [], _time(at)
    for pod, before in side.base.gateways.items():
        what = f"of revision {side.revision} after {after} is lost."
        fact = now.gateways.get(pod)
        if fact is None and not now.unlisted:
            told.append(f"Gateway pod {pod} is gone: what it counted {what}")
        elif isinstance(fact, Known) and anew(before, fact.value):
            told.append(f"Gateway pod {pod} counts anew: what it had counted {what}")
    for start, before in side.base.engines.items():
        engine = f"The engine of revision {side.revision} that started at {_time(before.since)}"
        fact = now.engines.get(start)
        if fact is None and start not in now.resting:
            told.append(f"{engine} serves no more: what it counted after {after} is lost.")
        elif isinstance(fact, Known) and anew(before, fact.value):
            told.append(f"{engine} counts anew: what it had counted after {after} is lost.")
    return told


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _chosen(base: Base, now: Counters) -> tuple[str, ...]:
    """The starts of engines that are counted: those of the base that serve still, then others."""
    return tuple(sorted(now.engines, key=lambda start: (start not in base.engines, start))[:MOST_ENGINES])


def _sources(base: Base, now: Counters) -> list[tuple[Counted | None, Fact[Counted]]]:
    """Everything that counts, as it stood and as it is."""
    gateways = [(base.gateways.get(pod), fact) for pod, fact in now.gateways.items()]
    return gateways + [(base.engines.get(start), now.engines[start]) for start in _chosen(base, now)]


def _unread(base: Base, now: Counters) -> str:
    """Why not everything can be told, as a sentence; empty where it can."""
    silent = [fact.reason for _, fact in _sources(base, now) if isinstance(fact, Unknown)]
    resting = [why for start, why in now.resting.items() if start in base.engines]
    return next(filter(None, (now.unlisted, *silent, *resting)), "")


def _counts(before: Counted | None, now: Counted, at: datetime) -> bool:
    """Whether a source is counted. One that is older than the base and not in it has a past that nobody knows."""
    return before is not None or now.since > at


def _sums(base: Base, now: Counters, at: datetime) -> Sums:
    """What came since the base was noted, of everything that can be read."""
    parts = []
    for before, fact in _sources(base, now):
        if isinstance(fact, Known) and _counts(before, fact.value, at):
            seconds = _seconds(before, fact.value, at)
            parts.append(since(before, fact.value).model_copy(update={"replica_seconds": seconds}))
    return added(parts)


def _seconds(before: Counted | None, now: Counted, at: datetime) -> float:
    """For how long an engine served; one that started since serves from when its pod was ready."""
    if now.serving is None:
        return 0.0
    served = max(at, now.serving) if before is None else before.at
    return max(0.0, (now.at - served).total_seconds())


def _base(base: Base, now: Counters) -> Base:
    """Where the counters stand: of what can be read as of now, of the rest as before; what is gone has no place."""
    gateways = {pod: _kept(base.gateways.get(pod), fact) for pod, fact in now.gateways.items()}
    engines = {start: _kept(base.engines.get(start), now.engines[start]) for start in _chosen(base, now)}
    resting = {start: counted for start, counted in base.engines.items() if start in now.resting}
    unlisted = base.gateways if now.unlisted else {}
    return Base(
        gateways={**unlisted, **{pod: counted for pod, counted in gateways.items() if counted is not None}},
        engines={**resting, **{start: counted for start, counted in engines.items() if counted is not None}},
    )


def _kept(before: Counted | None, fact: Fact[Counted]) -> Counted | None:
    return fact.value if isinstance(fact, Known) else before
