"""Whether further replicas would find no room, while a candidate waits for some."""

from dataclasses import replace

import pytest

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.autoscale.scaling import short_of
from nightshift.core.marks import Marks
from nightshift.core.observed import Observed
from tests.support.builders import NOW, model_spec, pod, revision

FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("stable", "candidate", "phase", "waits", "short"),
    [
        pytest.param(("nvidia-gpu", 1), ("nvidia-gpu", 1), Phase.PAUSED, "c", True, id="both want the same"),
        pytest.param(("nvidia-gpu", 4), ("nvidia-gpu", 2), Phase.PAUSED, "c", True, id="the stable one wants more"),
        pytest.param(("nvidia-gpu", 1), ("nvidia-gpu", 2), Phase.PAUSED, "c", False, id="the candidate wants more"),
        pytest.param(("cpu", 1), ("nvidia-gpu", 1), Phase.PLACING, "c", False, id="it wants other accelerators"),
        pytest.param(("cpu", 1), ("nvidia-gpu", 1), Phase.PLACING, "s", True, id="the stable one finds no room itself"),
        pytest.param(("cpu", 1), ("nvidia-gpu", 1), Phase.PROMOTING, "c", True, id="the candidate is what grows"),
        pytest.param(("cpu", 1), ("nvidia-gpu", 1), None, "c", True, id="readiness alone decides"),
        pytest.param(("nvidia-gpu", 1), ("nvidia-gpu", 1), Phase.PAUSED, "", False, id="nobody waits"),
    ],
)
def test_whether_more_replicas_would_find_room(
    stable: tuple[str, int], candidate: tuple[str, int], phase: Phase | None, waits: str, short: bool
) -> None:
    places = [{"candidates": [{"accelerator": name, "count": count}]} for name, count in (stable, candidate)]
    old = revision(model_spec(hardware=places[0]))
    new = revision(model_spec(hardware=places[1], engine={"args": ["--seed=1"]}), number=2)
    state = RolloutState(phase=phase, since=NOW, steps=(5,), stable=old.hash) if phase is not None else None
    new = replace(new, marks=Marks(rollout=state))
    names = {"s": old.hash, "c": new.hash}
    pods = tuple(pod(names[item], unschedulable=FULL, unplaced_since=NOW) for item in waits)
    assert (short_of(new, Observed(revisions=(old, new), pods=pods)) is not None) is short
