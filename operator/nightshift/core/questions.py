"""What to ask engines that ended without a clear cause: the end of their logs."""

from nightshift.api import names
from nightshift.core.causes import has_crashed, told_by_status
from nightshift.core.observed import Observed
from nightshift.core.planning import ReadEngineLog

LOGS_PER_REVISION = 3
"""Replicas of a revision mostly fail alike: so many logs are read and no more."""


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
