from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nightshift.core.marks import Marks, Order, Ordered
from nightshift.core.observed import Observed, PodFacts, ReplicaSetFacts
from nightshift.core.placing import Move, Placing, Situation, next_move, placing
from nightshift.core.revisions import Revision
from tests.support.builders import NOW, deployment, model_spec, pod, revision

ONE = Situation(
    wanted=1,
    waited=900,
    timeout=900,
    ready=0,
    ready_beside=1,
    makes_room=1,
    leaving=False,
    allow_outage=False,
    others_listed=False,
    order=None,
)
TWO = replace(ONE, wanted=2, ready_beside=2, makes_room=2)


@pytest.mark.parametrize(
    ("now", "move"),
    [
        pytest.param(replace(TWO, waited=899), Move.WAIT, id="a node may still come"),
        pytest.param(TWO, Move.IN_PLACE, id="two serve: in place"),
        pytest.param(replace(TWO, leaving=True), Move.WAIT, id="what is being stopped will make room"),
        pytest.param(replace(TWO, others_listed=True), Move.IN_PLACE, id="in place comes before other hardware"),
        pytest.param(replace(TWO, allow_outage=True), Move.IN_PLACE, id="in place comes before an outage"),
        pytest.param(replace(TWO, makes_room=0), Move.REFUSE, id="in place on other hardware would make no room"),
        pytest.param(
            replace(TWO, makes_room=0, others_listed=True), Move.FALL_BACK, id="then other hardware, where it is listed"
        ),
        pytest.param(replace(TWO, wanted=1), Move.REFUSE, id="of two one goes anyway: nothing more is taken"),
        pytest.param(
            replace(TWO, ready_beside=1, makes_room=1), Move.REFUSE, id="of two wanted one serves: it is kept"
        ),
        pytest.param(ONE, Move.REFUSE, id="one serves: refused"),
        pytest.param(replace(ONE, allow_outage=True), Move.OUTAGE, id="one serves, and an outage is allowed"),
        pytest.param(replace(ONE, others_listed=True), Move.FALL_BACK, id="one serves, and other hardware is listed"),
        pytest.param(
            replace(ONE, allow_outage=True, others_listed=True), Move.OUTAGE, id="an allowed outage keeps the hardware"
        ),
        pytest.param(
            replace(ONE, allow_outage=True, makes_room=0), Move.REFUSE, id="an outage that makes no room is none"
        ),
        pytest.param(
            replace(ONE, ready_beside=0, makes_room=0, others_listed=True), Move.FALL_BACK, id="the first placement"
        ),
        pytest.param(replace(ONE, ready_beside=0, makes_room=0), Move.REFUSE, id="the first placement, no other place"),
        pytest.param(
            replace(ONE, ready=1, ready_beside=0, makes_room=0, wanted=2, others_listed=True),
            Move.REFUSE,
            id="a revision that serves and cannot grow is not abandoned",
        ),
        pytest.param(replace(TWO, order=Order.IN_PLACE), Move.REFUSE, id="in place was begun and somebody else came"),
        pytest.param(
            replace(TWO, order=Order.IN_PLACE, others_listed=True),
            Move.FALL_BACK,
            id="in place was begun, somebody else came, and other hardware is listed",
        ),
        pytest.param(
            replace(ONE, wanted=2, order=Order.IN_PLACE, allow_outage=True),
            Move.OUTAGE,
            id="in place went down to one, and an outage is allowed",
        ),
        pytest.param(
            replace(ONE, order=Order.OUTAGE, allow_outage=True), Move.REFUSE, id="an outage is announced once"
        ),
    ],
)
def test_the_next_move(now: Situation, move: Move) -> None:
    assert next_move(now) is move


FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available."
OTHER_LABEL = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
OLD = revision()
NEW = revision(model_spec(engine={"args": ["--seed=1"]}), number=2)


def waiting(seconds: float, message: str = FULL, of: Revision = NEW, **changes: Any) -> PodFacts:
    since = NOW - timedelta(seconds=seconds)
    return pod(of.hash, name="bot-new", unschedulable=message, unplaced_since=since, **changes)


def serving(count: int, of: Revision = OLD) -> tuple[PodFacts, ...]:
    return tuple(pod(of.hash, name=f"bot-old-{index}", ready=True, node="n") for index in range(count))


def placed(spec: dict[str, Any], *pods: PodFacts, new: Revision = NEW, old: Revision = OLD) -> Placing:
    return placing(deployment(model_spec(**spec)), new, Observed(revisions=(old, new), pods=pods), NOW)


def test_a_pod_that_nobody_could_place_for_other_reasons_takes_nobodys_place() -> None:
    assert placed({"replicas": 2}, *serving(2), waiting(1e6, OTHER_LABEL)).move is Move.GO_ON


def test_the_time_to_wait_is_the_specs_and_the_next_look_is_when_it_ends() -> None:
    found = placed({"replicas": 2, "rollout": {"placementTimeoutSeconds": 100}}, *serving(2), waiting(60))
    assert (found.move, found.due) == (Move.WAIT, 40.0)
    assert placed({"replicas": 2, "rollout": {"placementTimeoutSeconds": 60}}, *serving(2), waiting(60)).due is None


@pytest.mark.parametrize(
    ("spec", "pods", "move", "said"),
    [
        pytest.param(
            {"replicas": 2},
            (*serving(2), waiting(10)),
            Move.WAIT,
            "A node may come until 12:14:50 UTC (rollout.placementTimeoutSeconds). Then: Replicas are replaced in",
            id="what follows is told beforehand",
        ),
        pytest.param(
            {},
            (*serving(1), waiting(10)),
            Move.WAIT,
            "or set rollout.allowOutage to true, which stops it before the new one starts.",
            id="what a person can do is told beforehand",
        ),
        pytest.param(
            {},
            (*serving(1), waiting(900)),
            Move.REFUSE,
            "The only replica that serves goes on serving. Add an accelerator, add another entry to",
            id="a refusal names the remedies",
        ),
        pytest.param(
            {"rollout": {"allowOutage": True}},
            (*serving(1), waiting(900)),
            Move.OUTAGE,
            "stopped first, as rollout.allowOutage permits.",
            id="an outage names who permits it",
        ),
        pytest.param({}, (waiting(1e6),), Move.REFUSE, "choose another hardware candidate.", id="nothing serves"),
    ],
)
def test_what_is_said(spec: dict[str, Any], pods: tuple[PodFacts, ...], move: Move, said: str) -> None:
    found = placed(spec, *pods)
    assert found.move is move
    assert found.cause is not None
    assert found.cause.reason == "NoGpuCapacity"
    assert said in found.cause.message
    assert not found.cause.definite


@pytest.mark.parametrize(
    ("old", "new", "move"),
    [
        pytest.param(2, 2, Move.IN_PLACE, id="as many accelerators: each that goes makes room"),
        pytest.param(4, 2, Move.IN_PLACE, id="fewer accelerators: too"),
        pytest.param(1, 2, Move.REFUSE, id="more accelerators: one that goes would not make room"),
    ],
)
def test_what_goes_must_make_room_for_what_comes(old: int, new: int, move: Move) -> None:
    before = revision(model_spec(hardware={"candidates": [{"accelerator": "nvidia-gpu", "count": old}]}))
    after = revision(
        model_spec(
            hardware={"candidates": [{"accelerator": "nvidia-gpu", "count": new}]}, engine={"args": ["--seed=1"]}
        ),
        number=2,
    )
    pods = (*serving(2, before), waiting(900, of=after))
    assert placed({"replicas": 2}, *pods, new=after, old=before).move is move


def test_an_order_gives_what_is_stopped_the_time_to_go() -> None:
    def ordered(ago: float) -> Move:
        since = NOW - timedelta(seconds=ago)
        begun = replace(NEW, marks=Marks(ordered=Ordered(Order.IN_PLACE, since)))
        return placed({"replicas": 2, "rollout": {"placementTimeoutSeconds": 5}}, waiting(900), new=begun).move

    assert ordered(630) is Move.WAIT, "600 s to drain and 30 s to end"
    assert ordered(635) is Move.REFUSE


def test_a_quota_that_is_used_up_is_a_lack_of_room_too() -> None:
    refused = ReplicaSetFacts("bot-new", NEW.hash, 1, 0, True, "exceeded quota: gpus", NOW - timedelta(seconds=900))
    observed = Observed(revisions=(OLD, NEW), pods=serving(2), replica_sets=(refused,))
    found = placing(deployment(model_spec(replicas=2)), NEW, observed, NOW)
    assert found.move is Move.IN_PLACE
    assert found.cause is not None
    assert found.cause.reason == "QuotaExceeded"
    other = replace(refused, failure="forbidden: violates PodSecurity")
    assert placing(deployment(), NEW, replace(observed, replica_sets=(other,)), NOW).move is Move.GO_ON
