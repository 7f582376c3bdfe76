"""A judged rollout in the plan: which candidates are given up, and how many replicas may be missing meanwhile."""

from dataclasses import replace
from typing import Any

import pytest

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.judged.rolling import abandoned, missing
from nightshift.core.judged.steps import UNDONE
from nightshift.core.marks import Marks, Order, Ordered
from nightshift.core.observed import Observed
from tests.support.builders import NOW, deployment, model_spec, revision

STABLE = replace(revision(number=1), marks=Marks(proven=NOW))
CANDIDATE = revision(model_spec(engine={"args": ["--seed=1"]}), number=2)
NEXT = revision(model_spec(engine={"args": ["--seed=2"]}), number=3)


def state(phase: Phase, reason: str = "") -> RolloutState:
    return RolloutState(phase=phase, since=NOW, steps=(5,), stable=STABLE.hash, reason=reason, says="it was so")


def given_up(before: RolloutState | None) -> tuple[str, str] | None:
    """What becomes of the candidate's rollout once the spec asks for the next revision, and of its marks."""
    marks = Marks(started=NOW, ordered=Ordered(Order.IN_PLACE, NOW), rollout=before)
    seen = Observed(revisions=(STABLE, replace(CANDIDATE, marks=marks), NEXT))
    found = abandoned(deployment(), NEXT, seen, NOW)
    if not found:
        return None
    ((item, after, step),) = found
    assert (item.hash, after.rollout, after.ordered, after.started) == (CANDIDATE.hash, step.state, None, None)
    return step.state.phase.value, after.verdict.reason if after.verdict is not None else ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, None, id="one that was never judged has nothing to give up"),
        pytest.param(state(Phase.JUDGING), ("Abandoned", ""), id="one that is judged has not failed"),
        pytest.param(state(Phase.PAUSED), ("Abandoned", ""), id="nor has one that is paused"),
        pytest.param(
            state(Phase.ROLLING_BACK, "JudgedWorse"), ("RolledBack", "JudgedWorse"), id="one that failed stays failed"
        ),
        pytest.param(
            state(Phase.ROLLING_BACK, UNDONE), ("RolledBack", UNDONE), id="what a person took back stays taken back"
        ),
        pytest.param(state(Phase.ROLLED_BACK), None, id="what has ended is left alone"),
        pytest.param(state(Phase.PROMOTED), None, id="so is what took over"),
    ],
)
def test_a_new_spec_gives_a_candidate_up(before: RolloutState | None, after: tuple[str, str] | None) -> None:
    assert given_up(before) == after


FIRST_CHOICE = {"accelerator": "nvidia-gpu"}
NEXT_CHOICE = {"accelerator": "cpu"}
MOVED = "It found no room, and the next of hardware.candidates is tried."
CHANGED = "The spec asks for another revision."


@pytest.mark.parametrize(
    ("listed", "following", "says"),
    [
        pytest.param([FIRST_CHOICE, NEXT_CHOICE], {}, MOVED, id="the next accelerator is tried"),
        pytest.param([NEXT_CHOICE], {}, CHANGED, id="the spec lists another accelerator"),
        pytest.param([FIRST_CHOICE, NEXT_CHOICE], {"engine": {"version": "0.33.0"}}, CHANGED, id="another engine"),
    ],
)
def test_one_that_gives_way_to_the_next_accelerator_says_so(
    listed: list[dict[str, Any]], following: dict[str, Any], says: str
) -> None:
    one, other = (model_spec(hardware={"candidates": [choice]}) for choice in (FIRST_CHOICE, NEXT_CHOICE))
    tried = replace(revision(one, number=2), marks=Marks(started=NOW, rollout=state(Phase.PLACING)))
    asked = deployment(model_spec(hardware={"candidates": listed}, **following))
    ((_, _, step),) = abandoned(asked, revision(other | following, number=3), Observed(revisions=(tried,)), NOW)
    assert step.state.says == says


@pytest.mark.parametrize(
    ("replicas", "order", "phase", "allowed", "count"),
    [
        pytest.param(4, None, Phase.JUDGING, True, 0, id="beside what serves nothing is missing"),
        pytest.param(4, Order.IN_PLACE, Phase.JUDGING, False, 1, id="in place one is"),
        pytest.param(1, Order.IN_PLACE, Phase.JUDGING, False, 0, id="the only one is not replaced in place"),
        pytest.param(1, Order.OUTAGE, Phase.LOADING, True, 1, id="in an outage all may be"),
        pytest.param(1, Order.OUTAGE, Phase.LOADING, False, 0, id="an outage that is allowed no more has ended"),
        pytest.param(1, Order.OUTAGE, Phase.ROLLING_BACK, False, 1, id="but the way back from it needs the place too"),
    ],
)
def test_how_many_replicas_may_be_missing(
    replicas: int, order: Order | None, phase: Phase, allowed: bool, count: int
) -> None:
    ordered = Ordered(order, NOW) if order is not None else None
    target = replace(CANDIDATE, marks=Marks(ordered=ordered, rollout=state(phase)))
    assert missing(deployment(model_spec(replicas=replicas, rollout={"allowOutage": allowed})), target) == count
