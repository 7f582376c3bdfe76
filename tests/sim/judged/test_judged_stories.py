"""Named judged rollouts, whose logs are kept beside this file and read like stories."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sim.judged.fleet import Deployment, Fate, World
from tests.sim.judged.watching import Watch
from tests.support.golden import assert_golden

STORIES = Path(__file__).parent / "stories"


class Tale:
    """A fleet in which everybody does at once what is due, a minute at a time."""

    def __init__(self, gpus: int) -> None:
        self.world = World(gpus)
        self.watch = Watch(self.world)

    def pass_minutes(self, minutes: int) -> None:
        for _ in range(minutes):
            for it in self.world.deployments.values():
                for _ in range(4):
                    self.world.tell(it)
                    if not self.watch.reconcile(it):
                        break
            self.world.pass_time(60)

    def order(self, it: Deployment, text: str) -> None:
        it.note = text
        self.world.say(f"{it.key[1]}: a person writes {text!r}")


def promoted_step_by_step() -> Tale:
    tale = Tale(gpus=5)
    bot = tale.world.serving("bot", 4)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    return tale


def slower_and_rolled_back() -> Tale:
    tale = Tale(gpus=5)
    bot = tale.world.serving("bot", 4)
    tale.world.change(bot, Fate.SLOW)
    tale.pass_minutes(30)
    return tale


def out_of_memory_hanging_and_crashing() -> Tale:
    tale = Tale(gpus=3)
    bot = tale.world.serving("bot", 2)
    for fate in (Fate.OUT_OF_MEMORY, Fate.HANGS, Fate.CRASHES):
        tale.world.change(bot, fate)
        tale.pass_minutes(30)
    return tale


def two_replicas_on_two_accelerators() -> Tale:
    tale = Tale(gpus=2)
    bot = tale.world.serving("bot", 2)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(90)
    return tale


def one_accelerator_without_and_with_an_outage() -> Tale:
    tale = Tale(gpus=1)
    bot = tale.world.serving("bot", 1)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    tale.world.say("bot: rollout.allowOutage is set to true")
    bot.allow_outage = True
    tale.pass_minutes(30)
    return tale


def candidate_that_finds_no_room_until_a_node_comes() -> Tale:
    tale = Tale(gpus=1)
    bot = tale.world.serving("bot", 1)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    tale.world.say("a node with an accelerator comes")
    tale.world.gpus = 2
    tale.pass_minutes(60)
    return tale


def new_spec_in_the_middle() -> Tale:
    tale = Tale(gpus=5)
    bot = tale.world.serving("bot", 4)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(18)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    return tale


def taken_back_to_what_served_in_the_middle() -> Tale:
    tale = Tale(gpus=5)
    bot = tale.world.serving("bot", 4)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(18)
    bot.target = "r1"
    tale.world.say("bot: the spec goes back to r1")
    tale.pass_minutes(60)
    return tale


def two_deployments_and_one_spare_accelerator() -> Tale:
    tale = Tale(gpus=3)
    for name in ("bot", "search"):
        tale.world.change(tale.world.serving(name, 1), Fate.GOOD)
    tale.pass_minutes(90)
    return tale


def paused_one_beside_another() -> Tale:
    tale = Tale(gpus=3)
    bot, search = (tale.world.serving(name, 1) for name in ("bot", "search"))
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(8)
    tale.world.change(search, Fate.GOOD)
    tale.pass_minutes(3)
    tale.order(bot, "pause Ada: let search go first")
    tale.pass_minutes(60)
    tale.order(bot, "resume Ada")
    tale.pass_minutes(60)
    return tale


def at_zero() -> Tale:
    tale = Tale(gpus=2)
    bot = tale.world.serving("bot", 0)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(30)
    return tale


def evidence_that_goes_and_comes_back() -> Tale:
    tale = Tale(gpus=2)
    bot = tale.world.serving("bot", 1)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(6)
    tale.world.say("bot: the gateway's counts cannot be read")
    bot.blind = True
    tale.pass_minutes(30)
    tale.world.say("bot: they can be read again")
    bot.blind = False
    tale.pass_minutes(60)
    return tale


def never_enough_to_say() -> Tale:
    tale = Tale(gpus=2)
    bot = tale.world.serving("bot", 1)
    tale.world.change(bot, Fate.OPEN)
    tale.pass_minutes(140)
    tale.order(bot, "promote Ada: the golden answers are good")
    tale.pass_minutes(30)
    return tale


def undone_after_it_was_promoted() -> Tale:
    tale = Tale(gpus=3)
    bot = tale.world.serving("bot", 2)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    tale.order(bot, "undo Ada: customers complain")
    tale.pass_minutes(30)
    tale.order(bot, "undo Bob: is it gone?")
    tale.pass_minutes(2)
    return tale


def operator_killed_at_every_write() -> Tale:
    tale = Tale(gpus=5)
    bot = tale.world.serving("bot", 4)
    tale.world.change(bot, Fate.SLOW)
    for _ in range(120):
        tale.world.tell(bot)
        tale.watch.reconcile(bot, killed_after=1)
        tale.world.pass_time(30)
    return tale


TALES: tuple[Callable[[], Tale], ...] = (
    promoted_step_by_step,
    slower_and_rolled_back,
    out_of_memory_hanging_and_crashing,
    two_replicas_on_two_accelerators,
    one_accelerator_without_and_with_an_outage,
    candidate_that_finds_no_room_until_a_node_comes,
    new_spec_in_the_middle,
    taken_back_to_what_served_in_the_middle,
    two_deployments_and_one_spare_accelerator,
    paused_one_beside_another,
    at_zero,
    evidence_that_goes_and_comes_back,
    never_enough_to_say,
    undone_after_it_was_promoted,
    operator_killed_at_every_write,
)


@pytest.mark.parametrize("tell", TALES, ids=lambda tell: tell.__name__)
def test_a_judged_rollout_goes_as_it_is_told(tell: Callable[[], Tale], regenerate: bool) -> None:
    tale = tell()
    for it in tale.world.deployments.values():
        tale.world.tell(it)
        tale.watch.at_the_end(it)
    assert_golden(STORIES / f"{tell.__name__}.log", "\n".join(tale.world.log) + "\n", regenerate=regenerate)
