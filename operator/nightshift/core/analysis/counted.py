"""What gateway pods and engines have counted of a revision by now."""

from datetime import datetime, timedelta

from nightshift.api.comparison import Counted, Sums, Times
from nightshift.api.demand import GatewayDemand, RevisionResults
from nightshift.core import hang
from nightshift.core.analysis.evidence import Histogram
from nightshift.core.analysis.window import Counters
from nightshift.core.autoscale.demand import GatewaySight
from nightshift.core.autoscale.load import ENGINE_FRESH_SECONDS, told_of
from nightshift.core.engine_metrics import EngineMetrics
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.observed import Observed, PodFacts, engine_start
from nightshift.core.times import moment

_UNASKED = GatewaySight(pods_unknown="The gateway's pods were not asked yet.")


def counters(route: str, revision: str, observed: Observed, now: datetime) -> Counters:
    """What was counted of a revision.

    Args:
        route: NAMESPACE/NAME of the deployment.
        revision: The revision's hash.
        observed: What exists, and what gateway pods and engines told.
        now: The present moment (UTC).
    """
    gateway = observed.gateway or _UNASKED
    serving = {start: pod for pod, start in hang.engines(observed) if pod.revision == revision}
    running = [(pod, engine_start(pod)) for pod in observed.engine_pods(revision)]
    return Counters(
        at=now,
        gateways={pod: _by_gateway(route, revision, pod, gateway.answers[pod], now) for pod in sorted(gateway.answers)},
        engines={start: _by_engine(pod, start, observed.engines.get(pod.name), now) for start, pod in serving.items()},
        resting={
            start: f"Pod {pod.name} is not ready, so its engine is not read."
            for pod, start in running
            if start is not None and start not in serving
        },
        unlisted=gateway.pods_unknown,
        stalled=_stalled(list(serving.values()), observed),
    )


def _by_gateway(route: str, revision: str, pod: str, answer: Fact[GatewayDemand], now: datetime) -> Fact[Counted]:
    told = told_of(route, pod, answer, now)
    if isinstance(told, Unknown) or isinstance(answer, Unknown):
        return told if isinstance(told, Unknown) else Unknown("It does not say.")
    found = told.value.revisions.get(revision)
    if found is None:
        return Unknown(
            f"Gateway pod {pod} does not say how requests to revision {revision} ended; if that lasts, it is of an "
            "older version of Nightshift: see its image."
        )
    return Known(Counted(since=found.since, at=told.at, sums=_ended(found, answer.value.total_bounds)), told.at)


def _ended(found: RevisionResults, bounds: tuple[float, ...]) -> Sums:
    """How requests ended. One that was answered at another try failed all the same, once.

    Each try by itself would weigh as much as another request, but they are one question: one that no engine can answer
    would fail four times, and roll back a candidate to which it came by chance.

    Worked example: of 100 requests 94 are answered at once, 5 after one to three tries, and 1 not at all: 6 failed.
    """
    total = Times(bounds=bounds, counts=found.total) if bounds and len(found.total) == len(bounds) + 1 else Times()
    return Sums(
        requests=found.ok + found.client_error + found.server_error + found.cut,
        failed=found.server_error + found.cut + found.retried,
        left=found.left,
        total=total,
    )


def _by_engine(pod: PodFacts, start: str, sight: EngineSight | None, now: datetime) -> Fact[Counted]:
    last = sight.last if sight is not None and sight.start == start else None
    if sight is None or last is None:
        why = f" yet: {sight.metrics.reason}" if sight is not None and isinstance(sight.metrics, Unknown) else " yet."
        return Unknown(f"The engine of pod {pod.name} was not read{why}")
    if now - last.at > timedelta(seconds=ENGINE_FRESH_SECONDS):
        return Unknown(f"The engine of pod {pod.name} was not read since {last.at:%H:%M:%S} UTC.")
    began = moment(start.rpartition(" ")[2])
    if last.value.details is None or began is None:
        return Unknown(f"The engine of pod {pod.name} was not read in detail yet.")
    serving = pod.advanced or began
    return Known(Counted(since=began, serving=serving, at=last.at, sums=_worked(last.value)), last.at)


def _worked(metrics: EngineMetrics) -> Sums:
    details = metrics.details
    if details is None:
        return Sums()
    return Sums(
        first_token=_times(details.first_token),
        inter_token=_times(details.inter_token),
        finished={reason: count for reason, count in details.finished.items() if count > 0},
        generation_tokens=max(0, metrics.generation_tokens),
        preemptions=max(0, metrics.preemptions),
        inference_seconds=details.inference_seconds,
    )


def _times(found: Histogram | None) -> Times:
    return Times() if found is None else Times(bounds=found.bounds, counts=found.counts)


def _stalled(pods: list[PodFacts], observed: Observed) -> bool | None:
    """Whether one of the engines hangs; None where one was not read, or is yet to be asked.

    An engine that has requests and makes no step may compile for its first one, or work on a long prompt as a whole:
    only a question for one token, which it does not answer, tells that from a hang (core.hang).
    """
    sights = [observed.engines.get(pod.name) for pod in pods]
    seen = [sight for sight in sights if sight is not None and sight.last is not None]
    if any(hang.is_hung(sight) for sight in seen):
        return True
    if any(hang.is_suspect(sight) and _busy(sight) for sight in seen):
        return None
    return False if seen and len(seen) == len(sights) else None


def _busy(sight: EngineSight) -> bool:
    return sight.last is not None and sight.last.value.busy
