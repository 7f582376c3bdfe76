"""How Argo Rollouts and Flagger judge, by their documentation, on the same streams.

Argo Rollouts: docs/features/analysis.md and utils/evaluate/evaluate.go; Flagger: docs/gitbook/usage/how-it-works.md and
pkg/controller/scheduler.go. Written from what these say; no code of theirs is used. What `examples` says of each is an
example of its own documentation, which the re-implementation reproduces before anything is measured.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.analysis.driver import INCONCLUSIVE, PROMOTED, ROLLED_BACK, Outcome
from bench.analysis.world import TICK_SECONDS, World
from nightshift.core.analysis.evidence import Arm, Histogram
from nightshift.core.analysis.ranks import merged


def success_rate(arms: Sequence[Arm]) -> float:
    """Of the requests of several minutes; not a number where there were none, as Prometheus says of 0 / 0."""
    requests = sum(arm.requests for arm in arms)
    return 1 - sum(arm.failed for arm in arms) / requests if requests else math.nan


def percentile(arms: Sequence[Arm], share: float) -> float:
    """A quantile of the time to first token in seconds, as Prometheus's histogram_quantile; not a number of nothing."""
    together = Histogram((), (0,))
    for arm in arms:
        together = merged(together, arm.first_token)
    left = share * together.total
    if not together.total:
        return math.nan
    for index, count in enumerate(together.counts):
        if count and left <= count:
            if index == len(together.bounds):
                return together.bounds[-1]
            low = together.bounds[index - 1] if index else 0.0
            return low + (together.bounds[index] - low) * left / count
        left -= count
    return together.bounds[-1]


@dataclass(frozen=True)
class Flagger:
    """A Canary's analysis."""

    threshold: int = 1
    """Failed checks until it is rolled back; the default (how-it-works.md leaves it empty, the code takes 1)."""
    interval: int = 60
    step_weight: int = 10
    max_weight: int = 50
    success: float = 0.99
    duration: float = 0.5
    """Seconds of the 99th percentile."""

    def events(self, checks: Iterator[str]) -> Iterator[str]:
        """What it tells, given what is wrong with the canary at each check; empty: nothing.

        A weight is raised and checked in turns; a check that fails halts it and counts, also across weights. The check
        after the one that reached the threshold rolls back.
        """
        weight = failed = 0
        while True:
            if failed >= self.threshold:
                yield f"Rolling back failed checks threshold reached {failed}"
                return
            if weight:
                wrong = next(checks)
                if wrong:
                    failed += 1
                    yield f"Halt advancement {wrong}"
                    continue
            if weight >= self.max_weight:
                yield "Promotion"
                return
            weight = min(self.max_weight, weight + self.step_weight)
            yield f"Advance canary weight {weight}"

    def wrong(self, arms: Sequence[Arm]) -> str:
        """What a check finds; no values are a failed check."""
        rate, duration = success_rate(arms), percentile(arms, 0.99)
        if math.isnan(rate) or math.isnan(duration):
            return "no values found"
        if rate < self.success:
            return f"success rate {100 * rate:.2f}% < {100 * self.success:g}%"
        return f"request duration {duration:.3f}s > {self.duration:g}s" if duration > self.duration else ""

    def roll_out(self, world: World) -> Outcome:
        """One rollout."""
        weight, requests = 0, 0
        seen: list[Arm] = []

        def checks() -> Iterator[str]:
            nonlocal requests
            while True:
                seen.clear()
                for _ in range(self.interval // TICK_SECONDS):
                    arm = world.candidate_tick(weight)
                    seen.append(arm)
                    requests += arm.requests
                yield self.wrong(seen)

        for event in self.events(checks()):
            if event.startswith("Advance"):
                weight = int(event.rpartition(" ")[2])
            elif event.startswith("Rolling back"):
                return Outcome(ROLLED_BACK, world.seconds / 60, requests, "")
        return Outcome(PROMOTED, world.seconds / 60, requests, "")


SUCCESSFUL, FAILED, UNDECIDED = "Successful", "Failed", "Inconclusive"


@dataclass(frozen=True)
class Argo:
    """A background analysis beside the steps of the documentation's example: 20, 40, 60 and 80 %, ten minutes each."""

    failure_limit: int = 0
    interval: int = 300
    success: float = 0.95
    duration: float = math.inf
    """Seconds of the 95th percentile; without a limit, as in the documentation's templates, which have none."""
    weights: tuple[int, ...] = (20, 40, 60, 80)
    pause: int = 600

    @staticmethod
    def phase(value: float, success: Callable[[float], bool], failure: Callable[[float], bool] | None = None) -> str:
        """Of a measurement: no condition but success makes anything else a failure, also what is no number."""
        if failure and failure(value):
            return FAILED
        if success(value):
            return SUCCESSFUL
        return UNDECIDED if failure else FAILED

    def run(self, measurements: Sequence[str]) -> str:
        """Of an analysis, by what its measurements came to: failed when they are more than failureLimit."""
        failures = measurements.count(FAILED)
        if failures > self.failure_limit:
            return FAILED
        return UNDECIDED if UNDECIDED in measurements else SUCCESSFUL

    def roll_out(self, world: World) -> Outcome:
        """One rollout. The first measurement is after one interval (initialDelay), else it would be of no request."""
        requests, seen = 0, list[Arm]()
        rates, durations = list[str](), list[str]()
        for weight in self.weights:
            for _ in range(self.pause // TICK_SECONDS):
                arm = world.candidate_tick(weight)
                seen.append(arm)
                requests += arm.requests
                if len(seen) * TICK_SECONDS < self.interval:
                    continue
                rates.append(self.phase(success_rate(seen), lambda value: value >= self.success))
                if math.isfinite(self.duration):
                    durations.append(self.phase(percentile(seen, 0.95), lambda value: value <= self.duration))
                seen.clear()
                if FAILED in (self.run(rates), self.run(durations)):
                    return Outcome(ROLLED_BACK, world.seconds / 60, requests, "")
        if UNDECIDED in (self.run(rates), self.run(durations)):
            return Outcome(INCONCLUSIVE, world.seconds / 60, requests, "")
        return Outcome(PROMOTED, world.seconds / 60, requests, "")


def flagger_grid(p99: float) -> list[Flagger]:
    """Settings that a careful person would try, knowing the stable revision's 99th percentile."""
    return [
        Flagger(threshold=threshold, interval=interval, success=success, duration=times * p99)
        for threshold in (1, 3, 5, 10)
        for interval in (60, 300)
        for success in (0.99, 0.97)
        for times in (1.2, 1.5, 2.0, 3.0)
    ]


def argo_grid(p95: float) -> list[Argo]:
    """Settings that a careful person would try, knowing the stable revision's 95th percentile."""
    return [
        Argo(failure_limit=limit, interval=interval, success=success, duration=times * p95)
        for limit in (0, 1, 3)
        for interval in (60, 300)
        for success in (0.99, 0.97, 0.95)
        for times in (1.15, 1.3, 1.5, 2.0)
    ]


def examples() -> dict[str, bool]:
    """Examples of the peers' own documentation, and whether the re-implementation says the same."""
    tutorial = Flagger(threshold=10, step_weight=5)
    halting = list(tutorial.events(iter(["", "", *["success rate < 99%"] * 10])))
    promoting = list(tutorial.events(iter([""] * 10)))
    documented = Argo(failure_limit=3)

    def between(value: float) -> str:
        return documented.phase(value, lambda found: found >= 0.90, lambda found: found < 0.50)

    return {
        "Flagger, automated rollback of the Istio tutorial: advance to 5, 10, 15, ten halts, rolled back": halting
        == [
            *(f"Advance canary weight {weight}" for weight in (5, 10, 15)),
            *["Halt advancement success rate < 99%"] * 10,
            "Rolling back failed checks threshold reached 10",
        ],
        "Flagger, automated promotion of the Istio tutorial: 5 to 50 in steps of 5, promoted": promoting
        == [*(f"Advance canary weight {weight}" for weight in range(5, 55, 5)), "Promotion"],
        "Argo Rollouts, success >= 0.90 and failure < 0.50: 0.95 succeeds, 0.70 is inconclusive, 0.40 fails": (
            between(0.95),
            between(0.70),
            between(0.40),
        )
        == (SUCCESSFUL, UNDECIDED, FAILED),
        "Argo Rollouts, failureLimit 3: three failures go on, the fourth fails the analysis": (
            documented.run([FAILED] * 3),
            documented.run([FAILED] * 4),
        )
        == (SUCCESSFUL, FAILED),
    }
