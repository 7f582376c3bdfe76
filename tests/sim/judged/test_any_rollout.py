"""Judged rollouts in any order of events, with any fault at any time: what is promised holds after every write.

`make sim` tries 10,000 orders; the fast tests 500.
"""

import random

import pytest

from nightshift.core.judged.advance import OnInconclusive, Pace
from tests.sim.judged.fleet import Deployment, Fate, World
from tests.sim.judged.watching import Watch

FATES = (Fate.GOOD, Fate.GOOD, Fate.SLOW, Fate.CRASHES, Fate.HANGS, Fate.OUT_OF_MEMORY, Fate.LOADS_FOR_EVER, Fate.OPEN)
ORDERS = ("pause", "resume", "promote", "abort", "undo", "retry", "hurry")
POLICIES: tuple[OnInconclusive, ...] = ("Pause", "Promote", "Rollback")
ENOUGH_SECONDS = 120_000
QUIET = 10
"""Rounds of 900 s without a write: longer than any deadline."""


class Trouble:
    """Whatever can happen to a fleet, as a seed decides."""

    def __init__(self, seed: int) -> None:
        self.chooser = random.Random(seed)
        many = self.chooser.randint(1, 3)
        wanted = [self.chooser.choice([0, 1, 1, 2, 3, 4, 8]) for _ in range(many)]
        spare = self.chooser.choice([0, 0, 1, 1, 2, 5])
        self.world = World(sum(wanted) + spare, tells_spare=self.chooser.random() < 0.5)
        self.watch = Watch(self.world)
        for index, count in enumerate(wanted):
            it = self.world.serving(f"d{index}", count, allow_outage=self.chooser.random() < 0.3)
            it.pace = Pace(on_inconclusive=self.chooser.choice(POLICIES))
            it.steps = self.chooser.choice([(5, 25, 50), (50,), (1, 2, 100), (10, 20, 30, 40)])
            it.emergency = self.chooser.random() < 0.1
        self.given = 0

    def run(self, steps: int) -> None:
        its = list(self.world.deployments.values())
        for it in its:
            self.world.change(it, self.chooser.choice(FATES))
        for _ in range(steps):
            self.happen(self.chooser.choice(its))
        self.calm(its)

    def happen(self, it: Deployment) -> None:
        chance = self.chooser.random()
        if chance < 0.45:
            if self.chooser.random() < 0.9:
                self.world.tell(it)
            killed = self.chooser.randint(0, 3) if self.chooser.random() < 0.2 else None
            self.watch.reconcile(it, killed)
        elif chance < 0.82:
            self.world.pass_time(self.chooser.choice([1, 30, 120, 300, 900]))
        elif chance < 0.94:
            self.break_something(it)
        elif chance < 0.97:
            self.given += 1
            it.note = f"{self.chooser.choice(ORDERS)} Ada, {self.given}"
            self.world.say(f"{it.key[1]}: Ada writes {it.note}")
        else:
            self.edit(it)

    def break_something(self, it: Deployment) -> None:
        pods = [pod for pod in it.pods if pod.leaving is None]
        what = self.chooser.randrange(4)
        if what == 0 and pods:
            pod = self.chooser.choice(pods)
            pod.leaving = self.world.now
            self.world.say(f"{pod.name} dies")
        elif what == 1 and pods:
            pod = self.chooser.choice(pods)
            pod.lost = not pod.lost
            self.world.say(f"the node of {pod.name} {'is lost' if pod.lost else 'is back'}")
        elif what == 2:
            it.blind = not it.blind
            self.world.say(f"{it.key[1]}: the evidence {'cannot be read' if it.blind else 'is back'}")
        else:
            it.emergency = not it.emergency

    def edit(self, it: Deployment) -> None:
        what = self.chooser.randrange(4)
        if what == 0:
            self.world.change(it, self.chooser.choice(FATES))
        elif what == 1:
            it.target = self.chooser.choice(sorted(it.revisions))
            self.world.say(f"{it.key[1]}: the spec goes back to {it.target}")
        elif what == 2:
            it.allow_outage = not it.allow_outage
        elif it.wanted:
            more = self.chooser.choice([-1, 1])
            if it.wanted + more >= 1:
                it.wanted += more
                self.world.gpus += max(0, more)
                self.world.say(f"{it.key[1]}: {it.wanted} replicas are wanted")

    def calm(self, its: list[Deployment]) -> None:
        """Nothing more goes wrong; a node for each comes in the end."""
        self.world.say("nothing more goes wrong")
        for it in its:
            it.blind = False
            for pod in it.pods:
                if pod.lost:
                    pod.leaving = self.world.now
        begun = self.world.now
        quiet = 0
        while quiet < QUIET and (self.world.now - begun).total_seconds() < ENOUGH_SECONDS:
            writes = 0
            for it in its:
                for _ in range(4):
                    self.world.tell(it)
                    writes += self.watch.reconcile(it)
            quiet = 0 if writes else quiet + 1
            self.world.pass_time(900)
        for it in its:
            self.world.tell(it)
            self.watch.at_the_end(it)
        assert quiet >= QUIET, "it does not come to rest\n" + "\n".join(self.world.log[-60:])


def test_whatever_happens_the_promises_hold_and_every_rollout_ends(rollouts: range) -> None:
    for seed in rollouts:
        try:
            trouble = Trouble(seed)
            trouble.run(trouble.chooser.randint(20, 120))
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}")
