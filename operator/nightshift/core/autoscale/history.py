"""The highest load of the last minutes: what scaling down must not fall below."""

from datetime import datetime, timedelta

from nightshift.core.autoscale.demand import History, Load

WINDOW_SECONDS = 300.0
"""Replicas go when they were not needed for so long. The default of Kubernetes' own HorizontalPodAutoscaler
(--horizontal-pod-autoscaler-downscale-stabilization)."""

GAP_SECONDS = 30.0
"""A load that was not known for longer may have been anything meanwhile: the window begins anew."""

SPAN_SECONDS = 10.0
"""Highest loads are kept by spans of this length, so that a window has some thirty of them."""


def remembered(history: History, load: Load, now: datetime) -> History:
    """The history with the load of this moment; one that is not known adds nothing.

    Worked example: 40 at 12:00:00, 10 at 12:00:04 and 20 at 12:00:12 leave 40 for the span from 12:00:00 and 20 for
    the one from 12:00:12. Not known until 12:01:00, and 5 then: known since 12:01:00, and 5.
    """
    if load.at_most is None:
        return history
    if history.last is None or now - history.last > timedelta(seconds=GAP_SECONDS):
        return History(now, now, ((now, load.at_most),))
    span = timedelta(seconds=SPAN_SECONDS)
    begin, peak = history.peaks[-1]
    older = now - timedelta(seconds=WINDOW_SECONDS)
    kept = tuple(item for item in history.peaks[:-1] if item[0] + span > older)
    if now - begin < span:
        return History(history.since, now, (*kept, (begin, max(peak, load.at_most))))
    return History(history.since, now, (*kept, (begin, peak), (now, load.at_most)))


def peak(history: History, load: Load, now: datetime) -> int | None:
    """The highest load of the window and of this moment; None while it was not known for the whole of it."""
    if complete_in(history, now) > 0 or load.at_most is None:
        return None
    begin = now - timedelta(seconds=WINDOW_SECONDS + SPAN_SECONDS)
    return max([load.at_most, *(high for at, high in history.peaks if at > begin)])


def complete_in(history: History, now: datetime) -> float:
    """Seconds until the load was known for the whole window; 0 where it is."""
    if history.since is None or history.last is None or now - history.last > timedelta(seconds=GAP_SECONDS):
        return WINDOW_SECONDS
    return max(0.0, WINDOW_SECONDS - (now - history.since).total_seconds())
