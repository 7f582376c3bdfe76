"""Clients of a deployment, and how gateway pods and engines count what they ask, as time passes.

Counters only grow, in proportion to the route's weights, with the scatter of a seed. What is drawn for a moment hangs
on that moment and on the order in which revisions came, not on their hashes, and not on what the operator did or when
its process ended.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.demand import GatewayDemand, RevisionResults, RouteDemand
from nightshift.api.route import parse_route
from nightshift.core.analysis.evidence import Histogram
from nightshift.core.engine_metrics import EngineDetails, EngineMetrics
from nightshift.core.observed import engine_start, pod_facts
from tests.support.world import is_ready

ROUTE = "ml/bot"
GATEWAY_PODS = ("gw-1", "gw-2")
TOTAL_BOUNDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
FIRST_TOKEN_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
INTER_TOKEN_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
"""The lower ones of vLLM."""

FIRST_TOKEN_SECONDS, INTER_TOKEN_SECONDS = 0.2, 0.04
"""Medians of an engine that is well."""


@dataclass(frozen=True)
class Answers:
    """How the engines of a revision answer."""

    failed: float = 0.002
    """Share of the requests that end with 500."""
    slower: float = 1.0
    """Times the usual time of every token."""
    wrong: float = 0.05
    """Share of the golden questions that are answered wrongly."""
    distance: float = 0.01
    """Of the log-probabilities from those of the other revision, in nats."""


USUAL = Answers()


@dataclass
class Ended:
    """What one gateway pod has counted of one revision."""

    ok: int = 0
    server_error: int = 0
    refused: int = 0
    total: list[int] = field(default_factory=lambda: [0] * (len(TOTAL_BOUNDS) + 1))


@dataclass
class Worked:
    """What one start of an engine has counted."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    inference_seconds: float = 0.0
    finished: dict[str, int] = field(default_factory=dict)
    first_token: list[int] = field(default_factory=lambda: [0] * (len(FIRST_TOKEN_BOUNDS) + 1))
    inter_token: list[int] = field(default_factory=lambda: [0] * (len(INTER_TOKEN_BOUNDS) + 1))
    running: int = 0
    """As of the last moment."""


class Traffic:
    """Clients that ask so often, and everything that counted it.

    Args:
        per_second: Requests to the deployment.
        began: When gateway pods began to count.
        seed: Of the scatter.
    """

    def __init__(self, per_second: float, began: datetime, seed: int = 0) -> None:
        self.per_second = per_second
        self.answers: Callable[[str], Answers] = lambda revision: USUAL
        """How a revision answers, as the world has it."""
        self.silent: frozenset[str] = frozenset()
        """Gateway pods that do not answer the operator."""
        self._began = began
        self._seed = seed
        self._moments = 0
        self._places: dict[str, int] = {}
        """In which order revisions came."""
        self._ended: dict[tuple[str, str], Ended] = {}
        """By gateway pod and revision."""
        self._worked: dict[str, Worked] = {}
        """By start of an engine."""

    def passes(self, seconds: float, weights: Mapping[str, int], engines: Mapping[str, Sequence[str]]) -> None:
        """Time passes, in which clients ask.

        Args:
            seconds: How much.
            weights: The route's, by revision.
            engines: Starts of the engines that serve, by revision.
        """
        self._moments += 1
        for worked in self._worked.values():
            worked.running = 0
        for revision, weight in weights.items():
            chooser = Random(f"{self._seed} {self._place(revision)} {self._moments}")
            mean = self.per_second * seconds * weight / (sum(weights.values()) or 1)
            for number in range(max(0, round(chooser.gauss(mean, math.sqrt(mean))))):
                counts = self._ended.setdefault((GATEWAY_PODS[number % len(GATEWAY_PODS)], revision), Ended())
                serving = engines.get(revision) or ()
                if serving:
                    worked = self._worked.setdefault(serving[number % len(serving)], Worked())
                    _answered(self.answers(revision), chooser, counts, worked)
                else:
                    counts.refused += 1

    def _place(self, revision: str) -> int:
        return self._places.setdefault(revision, len(self._places))

    def told(self, pod: str, now: datetime, known: Collection[str], results: Collection[str]) -> GatewayDemand:
        """What a gateway pod answers.

        Args:
            pod: Its name.
            now: The present moment.
            known: Revisions in the route.
            results: Deployments of which the results are wanted.
        """
        ended = {revision: self._results(pod, revision) for revision in known} if ROUTE in results else {}
        busy = self.per_second > 0
        route = RouteDemand(in_flight=int(busy), queued=0, idle_seconds=0.0 if busy else 3600.0, revisions=ended)
        return GatewayDemand(written=now, pod=pod, routes={ROUTE: route}, total_bounds=TOTAL_BOUNDS if ended else ())

    def _results(self, pod: str, revision: str) -> RevisionResults:
        counts = self._ended.get((pod, revision), Ended())
        return RevisionResults(
            since=self._began,
            ok=counts.ok,
            server_error=counts.server_error,
            refused=counts.refused,
            total=tuple(counts.total),
        )

    def metrics(self, start: str) -> EngineMetrics:
        """What an engine tells of itself since that start."""
        worked = self._worked.get(start, Worked())
        return EngineMetrics(
            running=worked.running,
            waiting=0,
            prompt_tokens=worked.prompt_tokens,
            generation_tokens=worked.generation_tokens,
            iterations=worked.generation_tokens,
            preemptions=0,
            kv_cache_usage=0.0,
            awake=True,
            details=EngineDetails(
                first_token=Histogram(FIRST_TOKEN_BOUNDS, tuple(worked.first_token)),
                inter_token=Histogram(INTER_TOKEN_BOUNDS, tuple(worked.inter_token)),
                finished=dict(worked.finished),
                inference_seconds=worked.inference_seconds,
            ),
        )


def _answered(answers: Answers, chooser: Random, counts: Ended, worked: Worked) -> None:
    """One request, counted by the gateway pod that it came through and the engine that it came to."""
    worked.running = 1
    if chooser.random() < answers.failed:
        counts.server_error += 1
        return
    first = FIRST_TOKEN_SECONDS * answers.slower * math.exp(chooser.gauss(0, 0.5))
    between = INTER_TOKEN_SECONDS * answers.slower * math.exp(chooser.gauss(0, 0.3))
    tokens = chooser.randint(10, 40)
    whole = first + between * (tokens - 1)
    counts.ok += 1
    counts.total[bisect_left(TOTAL_BOUNDS, whole)] += 1
    reason = "stop" if chooser.random() < 0.8 else "length"
    worked.finished[reason] = worked.finished.get(reason, 0) + 1
    worked.first_token[bisect_left(FIRST_TOKEN_BOUNDS, first)] += 1
    worked.inter_token[bisect_left(INTER_TOKEN_BOUNDS, between)] += tokens - 1
    worked.prompt_tokens += 100
    worked.generation_tokens += tokens
    worked.inference_seconds += whole


def serving(pods: Sequence[Object]) -> dict[str, list[str]]:
    """Starts of the engines that are ready, by revision, in the order of their pods' names."""
    found: dict[str, list[str]] = {}
    for raw in sorted(pods, key=lambda item: str(item["metadata"]["name"])):
        revision, start = raw["metadata"]["labels"].get(names.LABEL_REVISION), engine_start(pod_facts(raw))
        if revision is not None and start is not None and is_ready(raw):
            found.setdefault(revision, []).append(start)
    return found


def weights(routes: Iterable[Object]) -> dict[str, int]:
    """Weights of a deployment's revisions, as the gateway was told them; none where it was told nothing."""
    return {item.hash: item.weight for raw in routes for item in parse_route(raw).revisions}
