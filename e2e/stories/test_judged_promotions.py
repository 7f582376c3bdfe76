"""Candidates that do as well as what serves: they get more and more of the requests, and take over without a gap."""

import pytest

from e2e.stories.rolling import (
    NEW,
    OLD,
    PACE,
    SHAPE,
    STREAM_SECONDS,
    STREAM_SHAPE,
    STREAM_STEP,
    STREAMS,
    candidate,
    clients,
    generation,
    labelled,
    notes,
    only,
    order,
    promoted,
    reaches,
    rolled_back,
    served,
    simulated,
    watching,
)
from e2e.stories.test_rollout import GPU, offer_gpus
from e2e.stories.world import CPU_ARGS, World, is_ready, revision_of
from e2e.support.client import Object
from e2e.support.load import Shape
from nightshift.api.rollout import Phase

REAL_SECONDS = 1800.0
"""Two engines and their clients share two cores: loading takes minutes, and so do enough requests."""
REAL_DRAIN_SECONDS = 120
"""A stream as long as the model's context takes a minute there."""
BEFORE = (Phase.PREFLIGHT, Phase.PLACING, Phase.LOADING)
"""Phases that may last for less than one write."""


@pytest.mark.engine("simulator")
def test_a_new_version_that_does_as_well_takes_over_by_itself(world: World) -> None:
    """Failed client requests: 0."""
    world.given(f"one simulated replica of {OLD}, and clients that ask all the time")
    world.apply(simulated(world))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world) as load:
        world.when(f"the spec asks for {NEW}")
        world.apply(simulated(world, NEW))
        changed = generation(world)
        new = candidate(world, old)
        reaches(world, seen, new, Phase.JUDGING, 120)
        said = world.eventually("the status says so", lambda: world.expect("Progressing", "True", "Judging"), 10)
        world.tell("", said["message"])
        world.expect("Available", "True")
        promoted(world, seen, new)
        world.eventually("the old one is gone", lambda: only(world, new), 60)
        outcome = load.outcome(120)
    served(world, outcome)
    assert [phase for phase in seen.phases(new) if phase not in BEFORE] == [
        Phase.JUDGING,
        Phase.PROMOTING,
        Phase.PROMOTED,
    ]
    assert notes(world, "Promoted") == [f"{NEW} has taken over from {OLD}."]
    assert notes(world, "RolloutJudging") == [f"{NEW} is compared with {OLD}: 50 % of the requests."]
    assert world.read()["status"]["version"] == NEW
    assert seen.told(changed, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("real vLLM 0.31.0 and 0.32.0")
def test_real_vllm_goes_from_one_version_to_the_next(world: World) -> None:
    """Failed client requests: 0, among them streams as long as the model's context."""
    world.given(f"the tiny model on real vLLM {OLD}, clients, and streams as long as its context")

    def real(version: str) -> Object:
        rollout = {**PACE, "deadlineSeconds": 3600}
        template = {"resources": {"requests": {"cpu": "20m"}}}
        engine = {"version": version, "args": list(CPU_ARGS)}
        traffic = {"drainSeconds": REAL_DRAIN_SECONDS}
        return labelled(world.deployment(engine=engine, rollout=rollout, podTemplate=template, traffic=traffic))

    world.apply(real(OLD))
    world.becomes_ready()
    old = world.read()["status"]["revision"]
    shape = Shape("tiny", per_second=3, tokens=4, streams=2, stream_tokens=440)
    with watching(world) as seen, clients(world, shape) as load:
        world.when(f"the spec asks for {NEW}")
        world.apply(real(NEW))
        changed = generation(world)
        new = candidate(world, old)
        promoted(world, seen, new, seconds=REAL_SECONDS)
        world.eventually("the old one is gone", lambda: only(world, new), REAL_DRAIN_SECONDS + 60)
        outcome = load.outcome(240)
    served(world, outcome)
    assert world.read()["status"]["version"] == NEW
    assert seen.told(changed, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_200_streams_of_up_to_150_seconds_all_end_with_their_last_token(world: World) -> None:
    """Failed client requests: 0, and no stream is cut."""
    world.given(f"two replicas that give a token every {STREAM_STEP:g} s, and {STREAMS} streams side by side")
    slow = {"VLLM_SIM_STEP_SECONDS": str(STREAM_STEP), "VLLM_SIM_STEP_SECONDS_PER_SEQUENCE": "0"}

    def make(version: str) -> Object:
        return simulated(world, version, variables=slow, replicas=2, traffic={"drainSeconds": 2 * STREAM_SECONDS})

    world.apply(make(OLD))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world, STREAM_SHAPE) as load:
        world.when(f"the spec asks for {NEW}")
        world.apply(make(NEW))
        changed = generation(world)
        new = candidate(world, old)
        promoted(world, seen, new, seconds=600)
        world.eventually("the old ones are gone", lambda: only(world, new, 2), 2 * STREAM_SECONDS + 60)
        outcome = load.outcome(2 * STREAM_SECONDS)
    served(world, outcome)
    assert outcome.whole >= STREAMS
    assert outcome.longest_stream_seconds > 0.95 * STREAM_SECONDS
    assert seen.told(changed, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_two_replicas_on_two_accelerators_are_judged_in_place(world: World) -> None:
    """Failed client requests: 0."""
    offer_gpus(world, 2)
    world.given("a node with two accelerators, two replicas that serve on them, and clients")
    world.apply(simulated(world, replicas=2, hardware=GPU))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, world.following_engine_pods() as history, clients(world) as load:

        def all_known() -> bool | None:
            return sum(is_ready(pod) for pod in history()[-1].values()) == 2 or None

        world.eventually("the watch tells of both", all_known)
        world.when(f"the spec asks for {NEW}")
        world.apply(simulated(world, NEW, replicas=2, hardware=GPU))
        changed = generation(world)
        new = candidate(world, old)
        promoted(world, seen, new)
        world.eventually("the old ones are gone", lambda: only(world, new, 2), 60)
        outcome = load.outcome(120)
        counts = [sum(is_ready(pod) for pod in pods.values()) for pods in history()]
    served(world, outcome)
    counts = counts[counts.index(2) :]
    world.then(f"at least {min(counts)} of 2 replicas were ready at every change that the watch told of")
    assert min(counts) >= 1
    assert len(notes(world, "ReplacingInPlace")) >= 1
    assert seen.told(changed, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_the_only_replica_gives_way_in_an_announced_outage_which_held_requests_survive(world: World) -> None:
    """Failed client requests: 0, for those of the gap are held."""
    offer_gpus(world, 1)
    world.given("a node with one accelerator, one replica on it, an outage that is allowed, and clients")
    allowed = {**PACE, "allowOutage": True}
    shape = Shape("tiny", per_second=4, tokens=6)
    world.apply(simulated(world, hardware=GPU, rollout=allowed))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, world.following_engine_pods() as history, clients(world, shape) as load:
        world.when(f"the spec asks for {NEW}")
        world.apply(simulated(world, NEW, hardware=GPU, rollout=allowed))
        changed = generation(world)
        new = candidate(world, old)
        told = world.eventually("the gap is announced", lambda: next(iter(notes(world, "OutageBegins")), None), 90)
        world.tell("", told)
        promoted(world, seen, new)
        outcome = load.outcome(120)
        lives = [{revision_of(pod) for pod in pods.values()} for pods in history()]
    served(world, outcome)
    longest = max(seconds for _, seconds in outcome.answers)
    world.then(f"the longest wait for an answer was {longest:.1f} s")
    assert lives[-1] == {new}
    assert Phase.JUDGING not in seen.phases(new), "nothing is there to compare with"
    assert seen.told(changed, ["InProgress", "Current"], available=False) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_new_spec_in_mid_canary_gives_the_candidate_up(world: World) -> None:
    """Failed client requests: 0."""
    world.given(f"a candidate that is compared with {OLD}, and clients")
    world.apply(simulated(world))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world) as load:
        world.apply(simulated(world, NEW, rollout={**PACE, "stepSeconds": 600}))
        changed = generation(world)
        first = candidate(world, old)
        reaches(world, seen, first, Phase.JUDGING, 120)
        world.when("the spec asks for something else")
        world.apply(simulated(world, NEW, arguments=["--seed=1"]))

        def another() -> str | None:
            found = world.read()["status"].get("targetRevision")
            return found if found not in (None, old, first) else None

        second = world.eventually("there is another candidate", another, 120)
        reaches(world, seen, first, Phase.ABANDONED, 60)
        promoted(world, seen, second)
        world.eventually("the others are gone", lambda: only(world, second), 60)
        outcome = load.outcome(120)
        (stable,) = {state.stable for state in seen.states(second)}
    served(world, outcome)
    assert stable == old, "the second one is measured by what served, not by the first one"
    assert len(notes(world, "RolloutAbandoned")) == 1
    assert notes(world, "RolledBack") == []
    assert seen.told(changed, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_person_undoes_a_promotion_and_has_it_tried_again(world: World) -> None:
    """Failed client requests: 0."""
    world.given(f"a promotion from {OLD} to {NEW} that was made, and clients")
    world.apply(simulated(world))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world, SHAPE) as load:
        world.apply(simulated(world, NEW))
        new = candidate(world, old)
        changed = generation(world)
        promoted(world, seen, new)
        order(world, "undo Ada: customers complain")
        told = rolled_back(world, seen, new, "Undone")
        assert "Ada: customers complain" in told
        world.eventually("the old one serves", lambda: only(world, old), 60)
        order(world, "retry Ada: it was the network")
        world.eventually("it serves in full again", lambda: only(world, new), 240)
        world.becomes_ready(seconds=60)
        outcome = load.outcome(120)
    served(world, outcome)
    assert seen.told(changed, ["InProgress", "Current", "InProgress", "Failed", "InProgress", "Current"]) == []
