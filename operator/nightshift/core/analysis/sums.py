"""Adding up what was counted of a revision, and taking one moment's counts from a later one's."""

from collections.abc import Iterable, Mapping, Sequence

from nightshift.api.comparison import Counted, Sums, Times

_COUNTS = ("requests", "failed", "left", "generation_tokens", "preemptions")
_TIMES = ("total", "first_token", "inter_token")


def added(parts: Iterable[Sums]) -> Sums:
    """Several together. A time that one of them does not tell is unknown of all."""
    items = tuple(parts)
    spent = [item.inference_seconds for item in items]
    return Sums(
        **{name: sum(getattr(item, name) for item in items) for name in _COUNTS},
        **{name: together([getattr(item, name) for item in items]) for name in _TIMES},
        finished=_finished([item.finished for item in items]),
        inference_seconds=None if None in spent else sum(item for item in spent if item is not None),
        replica_seconds=sum(item.replica_seconds for item in items),
    )


def since(before: Counted | None, now: Counted) -> Sums:
    """What came between two moments; everything where there is no earlier one, or where counting began anew since."""
    if before is None or anew(before, now):
        return now.sums
    then, later = before.sums, now.sums
    spent = None
    if then.inference_seconds is not None and later.inference_seconds is not None:
        spent = later.inference_seconds - then.inference_seconds
    return Sums(
        **{name: getattr(later, name) - getattr(then, name) for name in _COUNTS},
        **{name: _times_since(getattr(then, name), getattr(later, name)) for name in _TIMES},
        finished={reason: count - then.finished.get(reason, 0) for reason, count in later.finished.items()},
        inference_seconds=spent,
    )


def anew(before: Counted, now: Counted) -> bool:
    """Whether counting began anew in between: as it says itself, or since a number is smaller or gone.

    Worked example: 100 requests and then 40 began anew; 100, and then 100 and a first finish reason, did not.
    """
    then, later = before.sums, now.sums
    if before.since != now.since or any(getattr(later, name) < getattr(then, name) for name in _COUNTS):
        return True
    if any(later.finished.get(reason, 0) < count for reason, count in then.finished.items()):
        return True
    if (then.inference_seconds or 0.0) > (later.inference_seconds or 0.0) and later.inference_seconds is not None:
        return True
    return any(_smaller(getattr(later, name), getattr(then, name)) for name in _TIMES)


def _smaller(later: Times, then: Times) -> bool:
    """Whether observations are missing that were there before."""
    if not sum(then.counts):
        return False
    return then.bounds != later.bounds or any(
        after < count for count, after in zip(then.counts, later.counts, strict=True)
    )


def _times_since(then: Times, later: Times) -> Times:
    if not sum(then.counts):
        return later
    counts = tuple(after - count for count, after in zip(then.counts, later.counts, strict=True))
    return Times(bounds=later.bounds, counts=counts)


def _finished(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    reasons = dict.fromkeys(reason for part in parts for reason in part)
    return {reason: sum(part.get(reason, 0) for part in parts) for reason in reasons}


def together(parts: Iterable[Times]) -> Times:
    """Several as one. Where bounds differ, those that all have are left.

    Worked example: 1, 2 and 3 observations by the bounds 1 and 2, with 4, 5 and 6 by the bounds 2 and 5, are by the
    bound 2 alone: 7 and 14.
    """
    some = [item for item in parts if sum(item.counts)]
    if not some:
        return Times()
    if any(item.bounds != some[0].bounds for item in some):
        common = set(some[0].bounds).intersection(*(item.bounds for item in some[1:]))
        some = [_coarser(item, tuple(sorted(common))) for item in some]
    counts = tuple(map(sum, zip(*(item.counts for item in some), strict=True)))
    return Times(bounds=some[0].bounds, counts=counts)


def _coarser(item: Times, bounds: tuple[float, ...]) -> Times:
    upto = [sum(item.counts[: item.bounds.index(bound) + 1]) for bound in bounds]
    ends = [*upto, sum(item.counts)]
    return Times(bounds=bounds, counts=tuple(end - start for start, end in zip([0, *upto], ends, strict=True)))
