"""What to ask where status is silent: the logs of engines that ended, the Events about pods that do not begin."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from nightshift.api import names
from nightshift.core.causes import has_crashed, is_unbegun, pulls_in_vain, told_by_status
from nightshift.core.fetch_jobs import unfinished
from nightshift.core.observed import Observed
from nightshift.core.planning import ReadEngineLog, ReadEvents
from nightshift.core.times import moment

LOGS_PER_REVISION = 3
"""Replicas of a revision mostly fail alike: so many logs are read and no more."""

EVENTS_PER_OWNER = 3
"""Of so many pods of a revision or Job Events are read and no more."""
UNBEGUN_SECONDS = 30.0
"""Volumes are mounted, and sandboxes made, within seconds: who is given longer has something in the way."""
EVENTS_SECONDS = 30.0
"""Events are read again so often: they also tell that what was in the way is gone, as before a long pull."""


def engine_log_requests(observed: Observed) -> tuple[ReadEngineLog, ...]:
    """The logs to read: of engines that crashed, whose status does not say why, once for each crash."""
    asked: dict[str | None, int] = {}
    requests = []
    for pod in observed.engine_pods():
        engine = pod.container(names.ENGINE_CONTAINER)
        if pod.ready or engine is None or not has_crashed(engine) or told_by_status(engine) is not None:
            continue
        asked[pod.revision] = asked.get(pod.revision, 0) + 1
        known = observed.engine_logs.get(pod.name)
        if asked[pod.revision] <= LOGS_PER_REVISION and (known is None or known.restarts != engine.restarts):
            previous = engine.running_since is not None or engine.waiting_reason is not None
            requests.append(ReadEngineLog(pod.name, engine.name, engine.restarts, previous))
    return tuple(requests)


def event_requests(observed: Observed, now: datetime) -> tuple[tuple[ReadEvents, ...], float | None]:
    """About which pods and Jobs Events are to be read now; and seconds until the next are, where any wait for it.

    Pods that have a node and no container for a while, pods whose image cannot be pulled, and Jobs without a pod.
    """
    due, waits = [], []
    for question, since in _silent(observed):
        known = observed.events.get(question.uid)
        at = since if known is None else max(since, known.asked + timedelta(seconds=EVENTS_SECONDS))
        if at <= now:
            due.append(question)
        waits.append(EVENTS_SECONDS if at <= now else max(1.0, (at - now).total_seconds()))
    return tuple(due), min(waits, default=None)


def _silent(observed: Observed) -> Iterator[tuple[ReadEvents, datetime]]:
    """What may have Events worth reading, and from when on."""
    later, asked = timedelta(seconds=UNBEGUN_SECONDS), dict[str | None, int]()
    for pod in observed.pods:
        owner = pod.revision or pod.job
        if pod.advanced is None or not (is_unbegun(pod) or pulls_in_vain(pod)):
            continue
        asked[owner] = asked.get(owner, 0) + 1
        if asked[owner] <= EVENTS_PER_OWNER:
            yield ReadEvents(pod.name, pod.uid), pod.advanced + (later if is_unbegun(pod) else timedelta())
    with_pods = {pod.job for pod in observed.pods}
    for job in unfinished(observed, observed.jobs):
        metadata = observed.live.get(("Job", job.name), {}).get("metadata", {})
        made = moment(metadata.get("creationTimestamp"))
        if job.name not in with_pods and made is not None and "deletionTimestamp" not in metadata:
            yield ReadEvents(job.name, str(metadata.get("uid"))), made + later
