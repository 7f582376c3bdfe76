"""What users of other operators complained of in rollouts, one named test each, against the planner of judged ones.

The number is that of the issue in the project's tracker. Those about the whole of an operator stand in
`tests/core/test_peer_complaints.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nightshift.api.rollout import Phase
from tests.sim.judged.fleet import Deployment, Fate
from tests.sim.judged.test_judged_stories import Tale


def rolling(wanted: int, gpus: int, fate: Fate = Fate.GOOD) -> tuple[Tale, Deployment]:
    tale = Tale(gpus)
    bot = tale.world.serving("bot", wanted)
    tale.world.change(bot, fate)
    return tale, bot


def phase(it: Deployment) -> Phase | None:
    return it.now.state.phase if it.now.state is not None else None


def ready(it: Deployment, revision: str) -> int:
    return sum(pod.serves for pod in it.pods if pod.revision == revision)


def asked(it: Deployment) -> dict[str, int]:
    return {made.hash: made.asked for made in it.revisions.values()}


def minutes_until(tale: Tale, it: Deployment, wanted: Phase, within: int = 90) -> Iterator[int]:
    """Minute by minute, until the rollout is in a phase; a planner that never gets there fails, and does not hang."""
    for minute in range(within):
        tale.pass_minutes(1)
        yield minute
        if phase(it) is wanted:
            return
    raise AssertionError(f"not {wanted.value} within {within} minutes, but {phase(it)}:\n" + "\n".join(tale.world.log))


@contextmanager
def at_each_write(tale: Tale, look: Callable[[Deployment, str], None]) -> Iterator[None]:
    """Look after every single write of the operator, beside what is looked at there anyway."""
    hold = tale.watch.hold

    def both(it: Deployment, what: str, serving: int, before: int) -> None:
        hold(it, what, serving, before)
        look(it, what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tale.watch, "hold", both)
        yield


def test_kuberay_1476_an_upgrade_without_a_spare_accelerator_is_not_stuck() -> None:
    """The new cluster waited for accelerators that the old one held, for ever."""
    tale, bot = rolling(wanted=2, gpus=2)
    tale.pass_minutes(60)
    assert phase(bot) is Phase.PROMOTED
    assert (ready(bot, "r1"), ready(bot, "r2")) == (0, 2)


def test_dynamo_3567_old_pods_do_not_count_for_the_new_revision() -> None:
    """The rollout was "successful" while old pods satisfied the count."""
    tale, bot = rolling(wanted=2, gpus=3, fate=Fate.LOADS_FOR_EVER)
    tale.pass_minutes(4)
    assert ready(bot, "r1") == 2
    assert phase(bot) is Phase.LOADING
    tale.pass_minutes(60)
    assert phase(bot) is Phase.ROLLED_BACK


def test_dynamo_13620_taking_the_change_back_in_mid_rollout_deletes_nothing_that_serves() -> None:
    """A revert in mid-rollout deleted the generation that served."""
    tale, bot = rolling(wanted=4, gpus=5)
    tale.pass_minutes(18)
    assert phase(bot) is Phase.JUDGING
    bot.target = "r1"
    for _ in range(60):
        tale.pass_minutes(1)
        assert ready(bot, "r1") + ready(bot, "r2") >= 4
        assert ready(bot, "r1") >= 3, "what served before goes on serving"
    assert asked(bot) == {"r1": 4, "r2": 0}


def test_dynamo_13622_a_ready_pod_has_no_replica_taken_away_for_it_before_requests_can_reach_it() -> None:
    """Ready pods that were not routable yet replaced others: 404 and 503 in between."""
    tale, bot = rolling(wanted=4, gpus=5)

    def reachable(it: Deployment, what: str) -> None:
        count = sum(ready(it, revision) for revision in it.route)
        assert count >= 4, f"requests reach {count} ready replicas of {it.route} after: {what}"

    with at_each_write(tale, reachable):
        for _ in minutes_until(tale, bot, Phase.PROMOTED):
            assert sum(bot.route.values()) == 100
    assert bot.route == {"r2": 100}


def test_kserve_5984_a_canary_gets_no_request_before_it_is_ready() -> None:
    """The canary got its weight before it was ready: 503."""
    tale, bot = rolling(wanted=2, gpus=3)
    waited = 0

    def only_ready(it: Deployment, what: str) -> None:
        nonlocal waited
        if not ready(it, "r2"):
            waited += 1
            assert it.route == {"r1": 100}, f"{it.route} after: {what}"
            assert ready(it, "r1") == 2, f"the stable revision is not whole after: {what}"

    with at_each_write(tale, only_ready):
        for _ in minutes_until(tale, bot, Phase.PROMOTED):
            pass
    assert waited > 1, "it was looked at while the canary loaded"


def test_kubeai_442_a_rollout_asks_for_one_replica_more_at_a_time() -> None:
    """All new pods were created before the old ones were removed."""
    tale, bot = rolling(wanted=4, gpus=100)
    counts: list[int] = []
    with at_each_write(tale, lambda it, what: counts.append(sum(asked(it).values()))):
        for _ in minutes_until(tale, bot, Phase.PROMOTED):
            pass
    assert max(counts) == 5, "the one that is more comes first, and only one"


def test_aibrix_2413_a_replica_goes_when_no_request_is_left_on_it() -> None:
    """Pods were stopped with their requests on a rollout and when scaling in."""
    tale, bot = rolling(wanted=2, gpus=3, fate=Fate.SLOW)
    for _ in minutes_until(tale, bot, Phase.ROLLING_BACK):
        pass
    assert bot.route == {"r1": 100}, "requests first"
    assert asked(bot)["r2"] == 1, "pods after"

    def without_requests(it: Deployment, what: str) -> None:
        assert "r2" not in it.route, what

    with at_each_write(tale, without_requests):
        for _ in minutes_until(tale, bot, Phase.ROLLED_BACK):
            pass
    assert asked(bot) == {"r1": 2, "r2": 0}


def test_kaito_an_upgrade_that_never_becomes_ready_ends_and_frees_its_place() -> None:
    """A stuck upgrade stayed "upgrading" for ever and blocked all others."""
    tale, bot = rolling(wanted=1, gpus=3, fate=Fate.LOADS_FOR_EVER)
    search = tale.world.serving("search", 1)
    tale.world.change(search, Fate.GOOD)
    tale.pass_minutes(60)
    assert phase(bot) is Phase.ROLLED_BACK
    assert phase(search) is Phase.PROMOTED


def test_llmkube_1250_a_crash_loop_does_not_hold_up_the_rollout_that_would_end_it() -> None:
    """A rollout waited for the pods to be idle, and a crash loop is never idle."""
    tale, bot = rolling(wanted=1, gpus=2, fate=Fate.CRASHES)
    tale.pass_minutes(3)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(60)
    assert (phase(bot), asked(bot)) == (Phase.PROMOTED, {"r1": 0, "r2": 0, "r3": 1})


def test_llmkube_1307_a_replica_that_is_not_ready_is_not_taken_for_idle() -> None:
    """NotReady was read as idle, and running work was killed."""
    tale, bot = rolling(wanted=3, gpus=4)
    tale.pass_minutes(10)
    assert phase(bot) is Phase.JUDGING
    next(pod for pod in bot.pods if pod.revision == "r1").lost = True
    before = asked(bot)["r1"]
    tale.pass_minutes(3)
    assert asked(bot)["r1"] == before, "its node does not report; what it works on is not known"


def test_llmkube_1793_without_any_pod_nothing_is_waited_for() -> None:
    """Zero pods were read as busy, and a timeout of 24 h stalled the swap."""
    tale = Tale(gpus=1)
    bot = tale.world.serving("bot", 0)
    tale.world.change(bot, Fate.GOOD)
    tale.pass_minutes(20)
    assert phase(bot) is Phase.PROMOTED
    assert not bot.pods
