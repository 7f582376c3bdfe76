"""One simulated rollout through the operator's own judgement, by the schedule of the planner's steps."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.analysis.world import TICK_SECONDS, World
from nightshift.api.tally import Tally
from nightshift.core.analysis.evidence import Arm, Evidence, GoldenPair
from nightshift.core.analysis.judge import judge
from nightshift.core.analysis.power import needs
from nightshift.core.analysis.rules import DEFAULT_RULES, Rules
from nightshift.core.analysis.tally import with_window
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.facts import Known

STEPS = (5, 25, 50)
STEP_SECONDS = 300
DEADLINE_SECONDS = 7200
"""The defaults of spec.rollout."""

GOLDEN_PAIRS_PER_SECOND = 0.5
"""How fast a golden Job asks: two at a time, four seconds each."""
GOLDEN_START_SECONDS = 30
MOST_PAIRS = 100
"""Of one Job, whose result is at most 4096 bytes."""

PROMOTED, ROLLED_BACK, INCONCLUSIVE = "promoted", "rolled back", "inconclusive"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Outcome:
    """How one rollout ended."""

    end: str
    minutes: float
    requests: int
    """That the candidate answered: clients' and golden ones."""
    by: str
    """The metric that failed, or the ones that were missing."""


@dataclass
class Course:
    """A rollout under way."""

    world: World
    rules: Rules
    tally: Tally = field(default_factory=Tally)
    pairs: tuple[GoldenPair, ...] = ()
    requests: int = 0
    ordered: int = 0
    """Pairs of the golden Job under way; 0: none is."""
    ready_at: float = 0.0
    asked: int = 0
    judged_seconds: float = 0.0
    judged: int = 0

    def order(self, pairs: int) -> None:
        """Start a golden Job, unless one runs."""
        if not self.ordered and pairs > 0:
            self.ordered = min(pairs, MOST_PAIRS)
            self.ready_at = self.world.seconds + GOLDEN_START_SECONDS + self.ordered / GOLDEN_PAIRS_PER_SECOND

    def collect(self) -> None:
        """Take what a golden Job found; from a hanging candidate there is nothing."""
        if self.ordered and self.world.seconds >= self.ready_at and not self.world.hangs_now:
            self.pairs += tuple(self.world.golden(self.asked, self.ordered))
            self.asked += self.ordered
            self.requests += self.ordered
            self.ordered = 0

    def look(self, percent: int) -> tuple[Judgement, Evidence]:
        """A minute, and the verdict after it."""
        stable, candidate = self.world.tick(percent, asked_golden=bool(self.ordered))
        self.requests += candidate.requests
        self.collect()
        evidence = self._evidence(stable, candidate)
        began = time.process_time()
        judgement = judge(evidence, self.rules)
        self.judged_seconds += time.process_time() - began
        self.judged += 1
        self.tally = with_window(self.tally, stable, candidate, TICK_SECONDS)
        return judgement, evidence

    def _evidence(self, stable: Arm, candidate: Arm) -> Evidence:
        return Evidence(
            stable=Known(stable, _NOW),
            candidate=Known(candidate, _NOW),
            golden=Known(self.pairs, _NOW),
            seconds=TICK_SECONDS,
            golden_expected=self.world.kind.golden_set,
            earlier=self.tally,
        )


def roll_out(world: World, rules: Rules = DEFAULT_RULES) -> tuple[Outcome, Course]:
    """One rollout: a look every minute, a step further on Pass, back on Fail, golden traffic where clients are few."""
    course = Course(world, rules)
    course.order(world.golden_questions)
    step, since = 0, 0.0
    judgement = None
    while world.seconds < DEADLINE_SECONDS:
        judgement, evidence = course.look(STEPS[step])
        if judgement.verdict is Verdict.FAIL:
            failed = next(item.metric for item in judgement.findings if item.verdict is Verdict.FAIL)
            return Outcome(ROLLED_BACK, world.seconds / 60, course.requests, str(failed)), course
        if world.seconds - since < STEP_SECONDS:
            continue
        if judgement.verdict is Verdict.PASS:
            if step == len(STEPS) - 1:
                return Outcome(PROMOTED, world.seconds / 60, course.requests, ""), course
            step, since = step + 1, world.seconds
            continue
        wanted = needs(evidence, rules)
        if wanted.only_golden or wanted.requests > world.rate * STEPS[step] / 100 * STEP_SECONDS:
            course.order(wanted.golden_pairs)
    missing = [item.metric for item in judgement.findings if item.verdict is not Verdict.PASS] if judgement else []
    return Outcome(INCONCLUSIVE, world.seconds / 60, course.requests, ", ".join(map(str, missing))), course
