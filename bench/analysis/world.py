"""A candidate and a stable revision that serve clients, minute by minute, as the operator would read their counters."""

import math
import random
from dataclasses import dataclass, replace

from bench.analysis.shapes import Shape
from nightshift.core.analysis.evidence import Arm, GoldenPair

TICK_SECONDS = 60
"""Between two looks."""
BASE_ERRORS = 0.002
"""Share of the requests that fail without any fault of the revision."""
HANG_WITHIN_SECONDS = 600.0
"""A hanging candidate stops at a moment of the first so many seconds of its judging, all alike."""
HANG_SEEN_SECONDS = 155.0
"""From the first request that is stuck: 60 s of stillness, up to 30 s to the next look, two questions (core.hang)."""
QUIET_SECONDS = 755.0
"""The same where no request comes."""
QUESTIONS = 50
"""Of the golden set."""
BUILT_IN_QUESTIONS = 24
"""Of the set without expected answers, for deployments that have none."""
STABLE_RIGHT = 0.85
DAMAGED_RIGHT = 0.25
FLIPPED = 0.03
"""Answers that change between two runs of the same revision."""
REPLICAS = 4


@dataclass(frozen=True)
class Kind:
    """What is the matter with a candidate."""

    name: str
    errors: float = BASE_ERRORS
    first_token: float = 1.0
    """Times the stable revision's."""
    damaged: bool = False
    hangs: bool = False
    golden_set: bool = True
    """Whether the user has a golden set."""


IDENTICAL = Kind("identical")
KINDS = (
    IDENTICAL,
    Kind("5 % errors", errors=0.05),
    Kind("TTFT x1.5", first_token=1.5),
    Kind("damaged model", damaged=True),
    Kind("hang", hangs=True),
)
BESIDE = (Kind("damaged model, no golden set", damaged=True, golden_set=False),)
"""Told beside the cells that something is promised of."""


def poisson(mean: float, source: random.Random) -> int:
    """A Poisson variable; by the normal one where the mean is large."""
    if mean > 60:
        return max(0, round(source.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, source.random()
    while product > limit:
        count += 1
        product *= source.random()
    return count


def binomial(count: int, share: float, source: random.Random) -> int:
    """A binomial variable, by the gaps between successes."""
    if share <= 0 or not count:
        return 0
    if share >= 1:
        return count
    if share > 0.5:
        return count - binomial(count, 1 - share, source)
    if count * share > 200:
        found = round(source.gauss(count * share, math.sqrt(count * share * (1 - share))))
        return min(count, max(0, found))
    scale, successes, at = math.log1p(-share), 0, 0
    while True:
        at += int(math.log(1.0 - source.random()) / scale) + 1
        if at > count:
            return successes
        successes += 1


@dataclass(frozen=True)
class Shapes:
    """The latencies of the stable revision and of the candidate."""

    stable: Shape
    candidate: Shape


class World:
    """One rollout's clients and replicas."""

    def __init__(self, kind: Kind, rate: float, shapes: Shapes, source: random.Random) -> None:
        self.kind, self.rate, self.shapes, self.source = kind, rate, shapes, source
        self.seconds = 0.0
        self._hang = source.random() * HANG_WITHIN_SECONDS if kind.hangs else math.inf
        self._stuck = math.inf
        self._easy = [source.random() < STABLE_RIGHT for _ in range(QUESTIONS)]

    def tick(self, percent: int, *, asked_golden: bool = False) -> tuple[Arm, Arm]:
        """A minute with some percent of the requests on the candidate: the stable revision's part and the candidate's.

        Args:
            percent: The candidate's weight.
            asked_golden: Whether golden questions are asked in this minute, which also get stuck.
        """
        share = percent / 100
        everything = poisson(self.rate * TICK_SECONDS, self.source)
        mine = binomial(everything, share, self.source)
        stable = self._arm(everything - mine, BASE_ERRORS, self.shapes.stable, 1 - share)
        answered, stalled = self._answered(mine, asked_golden)
        candidate = self._arm(answered, self.kind.errors, self.shapes.candidate, share)
        return replace(stable, stalled=False), replace(candidate, stalled=stalled)

    def candidate_tick(self, percent: int) -> Arm:
        """A minute, for those who look at the candidate's failures and times to first token alone."""
        answered, stalled = self._answered(poisson(self.rate * TICK_SECONDS * percent / 100, self.source), False)
        failed = binomial(answered, self.kind.errors, self.source)
        first = self.shapes.candidate.draw_first(answered - failed, self.source)
        return Arm(requests=answered, failed=failed, first_token=first, stalled=stalled)

    def _answered(self, requests: int, asked_golden: bool) -> tuple[int, bool]:
        """How many requests of a minute the candidate answers, and whether it is seen to hang after it."""
        answered = requests
        if self._hang < self.seconds + TICK_SECONDS:
            alive = max(0.0, self._hang - self.seconds) / TICK_SECONDS
            answered = binomial(requests, alive, self.source)
            self._sticks(requests - answered, asked_golden)
        self.seconds += TICK_SECONDS
        return answered, self.seconds >= min(self._stuck + HANG_SEEN_SECONDS, self._hang + QUIET_SECONDS)

    def _sticks(self, requests: int, asked_golden: bool) -> None:
        """Note the first request that got stuck, taken to come at the end of its minute."""
        if self._stuck == math.inf and (requests or asked_golden):
            self._stuck = max(self._hang, self.seconds + TICK_SECONDS)

    def _arm(self, requests: int, errors: float, shape: Shape, share: float) -> Arm:
        failed = binomial(requests, errors, self.source)
        first, inter, tokens, busy = shape.draw(requests - failed, self.source)
        replica_seconds = max(1, round(REPLICAS * share)) * float(TICK_SECONDS)
        return Arm(
            requests=requests,
            failed=failed,
            first_token=first,
            inter_token=inter,
            finish_reasons={"stop": requests - failed},
            generation_tokens=tokens,
            replica_seconds=replica_seconds,
            mean_running=busy / replica_seconds,
        )

    @property
    def hangs_now(self) -> bool:
        """Whether the candidate answers nothing any more."""
        return self._hang <= self.seconds

    def golden(self, first: int, count: int) -> list[GoldenPair]:
        """Some pairs, of which the first is this question of the set."""
        shot = int(self.source.random() * len(self.shapes.stable))
        return [self._pair((first + index) % self.golden_questions, shot + 2 * index) for index in range(count)]

    @property
    def golden_questions(self) -> int:
        """Of the set that is asked."""
        return QUESTIONS if self.kind.golden_set else BUILT_IN_QUESTIONS

    def _pair(self, question: int, shot: int) -> GoldenPair:
        """Neighbours of the recording are the two requests of a pair, asked one after the other."""
        source, kind = self.source, self.kind
        stable_failed, candidate_failed = source.random() < BASE_ERRORS, source.random() < kind.errors
        stable = self.shapes.stable.shots[shot % len(self.shapes.stable)]
        candidate = self.shapes.candidate.shots[(shot + 1) % len(self.shapes.candidate)]
        right = self._easy[question] ^ (source.random() < FLIPPED)
        same = self._easy[question] ^ (source.random() < FLIPPED)
        mine = source.random() < DAMAGED_RIGHT if kind.damaged else same
        scored = kind.golden_set and not stable_failed and not candidate_failed
        noise = 0.02 * math.exp(0.8 * source.gauss(0, 1))
        distance = (2.0 if kind.damaged else 0.02) * math.exp(0.8 * source.gauss(0, 1))
        return GoldenPair(
            question=str(question),
            stable_score=float(right) if scored else None,
            candidate_score=float(mine) if scored else None,
            stable_failed=stable_failed,
            candidate_failed=candidate_failed,
            stable_first_token=None if stable_failed else stable.first_token,
            candidate_first_token=None if candidate_failed else candidate.first_token,
            stable_inter_token=None if stable_failed else stable.inter_token,
            candidate_inter_token=None if candidate_failed else candidate.inter_token,
            logprob_distance=distance if not candidate_failed else None,
            stable_noise=noise,
        )
