"""Candidates that do worse than what serves: they give way by themselves, with the evidence in one sentence."""

from contextlib import ExitStack
from functools import partial

import pytest

from e2e.model import data
from e2e.stories.bad_candidates import HANGS, OTHERS, SLOWER
from e2e.stories.enduring import filled_claim
from e2e.stories.rolling import (
    EVALUATION,
    NEW,
    OLD,
    PACE,
    candidate,
    clients,
    generation,
    golden_set,
    labelled,
    only,
    reaches,
    rolled_back,
    served,
    simulated,
    watching,
)
from e2e.stories.side_by_side import give_way
from e2e.stories.test_hung_engines import CONTROL_PORT, Engines
from e2e.stories.world import World, is_ready, revision_of
from e2e.support.client import Object
from e2e.support.load import Shape
from nightshift.api.rollout import Phase

HANG_SECONDS = 400.0
"""An engine is read every half minute, and suspected after a minute of stillness."""
HELD_BY_THE_HUNG = 40
"""A tenth of two requests a second, until it is found out."""
REAL_SECONDS = 900.0
CONTROLLED = {"VLLM_SIM_ADMIN_PORT": str(CONTROL_PORT)}


@pytest.mark.engine("simulator")
def test_a_candidate_of_half_the_speed_gives_way(world: World) -> None:
    """Failed client requests: 0."""
    give_way(world, {"tiny": SLOWER})


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_bad_candidates_give_way_side_by_side_each_for_its_own_reason(world: World) -> None:
    """Failed client requests: 0; of the one that dies while it serves, up to 40, as many as it gets in five seconds.

    Engines that download a model themselves ask for so much processor that two of each deployment have no room.
    """
    give_way(world, OTHERS, model={"uri": filled_claim(world)})


@pytest.mark.long
@pytest.mark.engine("simulator")
@pytest.mark.parametrize("when", HANGS)
def test_a_candidate_that_hangs_while_health_says_200_gives_way(world: World, when: str) -> None:
    """Failed client requests: those that the hung engine held, which it answers as aborted when it has to end.

    Where it ends without a word they are asked again of the stable revision (tests/gateway).
    """
    world.given(f"one simulated replica of {OLD}, and clients that ask all the time")
    world.apply(simulated(world, variables=CONTROLLED))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    shape = Shape("tiny", per_second=2, tokens=6)
    pace = {**PACE, "steps": [10], "stepSeconds": 600}
    with watching(world) as seen, clients(world, shape) as load, ExitStack() as stack:
        world.when(f"the spec asks for a {NEW} whose engine hangs {when}")
        world.apply(simulated(world, NEW, variables=CONTROLLED, faults=HANGS[when], rollout=pace))
        changed = generation(world)
        new = candidate(world, old)
        reaches(world, seen, new, Phase.JUDGING, 120)
        (pod,) = [pod for pod in world.engine_pods() if revision_of(pod) == new and is_ready(pod)]
        if HANGS[when] is None:
            world.when("a request of it is under way, and it hangs")
            Engines(world, stack).hang("tiny", pod)
        assert world.proxied(f"pods/{pod['metadata']['name']}:8000", "/health") is not None, "it says that it is well"
        told = rolled_back(world, seen, new, "JudgedWorse", "EngineHung", seconds=HANG_SECONDS)
        world.eventually("only the old one is there", partial(only, world, old), 120)
        outcome = load.outcome(330)
    served(world, outcome, failed=HELD_BY_THE_HUNG)
    assert all("abort" in words for words in outcome.words), "\n".join(outcome.words)
    assert "came no further" in told or "makes no step" in told, told
    assert seen.told(changed, ["InProgress", "Failed"]) == []


@pytest.mark.long
@pytest.mark.engine("real vLLM 0.32.0")
def test_a_damaged_model_is_caught_by_the_golden_set(world: World) -> None:
    """Failed client requests: 0."""
    pairs = data.golden_pairs()
    world.given(f"the tiny model on real vLLM, and a golden set of {len(pairs)} capitals and sums")

    def real(model: str) -> Object:
        template = {"resources": {"requests": {"cpu": "20m"}}}
        return labelled(
            world.deployment(
                model={"uri": f"hf://nightshift/{model}"},
                rollout={**PACE, "deadlineSeconds": 3600},
                evaluation=EVALUATION,
                podTemplate=template,
            )
        )

    world.apply(golden_set(world, pairs), real("tiny"))
    world.becomes_ready()
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world, Shape("tiny", per_second=1, tokens=4)) as load:
        world.when("the spec asks for weights that are damaged: a third of the capitals is wrong")
        world.apply(real("tiny-damaged"))
        changed = generation(world)
        new = candidate(world, old)
        told = rolled_back(world, seen, new, "JudgedWorse", seconds=REAL_SECONDS)
        world.eventually("only the old one is there", partial(only, world, old), 120)
        outcome = load.outcome(120)
    served(world, outcome)
    assert "golden" in told, told
    assert seen.told(changed, ["InProgress", "Failed"]) == []
