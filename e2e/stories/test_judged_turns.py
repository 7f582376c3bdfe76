"""Judged rollouts beside others on few accelerators, while nobody asks, and while the operator is killed."""

import time
from dataclasses import replace
from functools import partial

import pytest

from e2e.model import data
from e2e.stories.rolling import (
    EVALUATION,
    NEW,
    OLD,
    PACE,
    SHAPE,
    Seen,
    candidate,
    clients,
    generation,
    golden_set,
    labelled,
    most_engines,
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
from e2e.stories.test_preflight import jobs
from e2e.stories.test_rollout import GPU, offer_gpus
from e2e.stories.world import CPU_ARGS, World, revision_of
from e2e.stories.zero import automatic, falls_asleep, replicas
from e2e.support.client import Object
from e2e.support.install import SYSTEM
from e2e.support.killing import kill_container
from e2e.support.load import Shape
from nightshift.api import names
from nightshift.api.rollout import Phase

PAIR = ("first", "second")
ENGINES = f"{names.LABEL_COMPONENT}={names.COMPONENT_ENGINE}"
DRAIN_SECONDS = 15
LOAD_SECONDS = 60
"""Longer than another operator takes to act: a phase that waits for a start is still there then."""
GOLDEN_QUESTIONS = 150
"""As many as one Job asks, and enough to tell by them alone that no more requests fail."""
SOUND, SLOW = None, {"slow": 2.0}
WAYS = {
    "a sound one": (SOUND, Phase.PROMOTING, Phase.PROMOTED),
    "one of half the speed": (SLOW, Phase.ROLLING_BACK, Phase.ROLLED_BACK),
}
TAKEOVER_SECONDS = 120.0
"""Of an operator whose Lease has to run out, and of one that its kubelet starts again later each time."""


def pair(world: World, version: str) -> list[Object]:
    """Two deployments of one replica on an accelerator each."""
    return [simulated(world, version, name, hardware=GPU) for name in PAIR]


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_two_rollouts_share_the_one_spare_accelerator(world: World) -> None:
    """Failed client requests: 0."""
    offer_gpus(world, 3)
    world.given("a node with three accelerators, two deployments that serve on one each, and clients of both")
    world.apply(*pair(world, OLD))
    for name in PAIR:
        world.becomes_ready(name, 120)
    old = {name: world.read(name)["status"]["revision"] for name in PAIR}
    first, second = (replace(SHAPE, model=name) for name in PAIR)
    with (
        watching(world, "first") as one,
        watching(world, "second") as other,
        world.client.following("pods", world.namespace, ENGINES) as pods,
        clients(world, first) as load,
        clients(world, second) as more,
    ):
        world.when(f"the specs of both ask for {NEW}")
        world.apply(*pair(world, NEW))
        changed = {name: generation(world, name) for name in PAIR}
        watched = {"first": one, "second": other}
        for name, seen in watched.items():
            promoted(world, seen, candidate(world, old[name], name), seconds=480, name=name)
        most = most_engines(pods())
        outcomes = load.outcome(120), more.outcome(120)
    world.then(f"at most {most} engines were asked for at once")
    for outcome in outcomes:
        served(world, outcome)
    assert most <= 4, "beside those that have an accelerator one waits for one, as that is what brings a node"
    for name, seen in watched.items():
        assert seen.told(changed[name], ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_rollout_that_is_paused_gives_its_place_to_another(world: World) -> None:
    """Failed client requests: 0."""
    offer_gpus(world, 3)
    world.given("a node with three accelerators, two deployments that serve on one each, and clients of both")
    world.apply(*pair(world, OLD))
    for name in PAIR:
        world.becomes_ready(name, 120)
    old = {name: world.read(name)["status"]["revision"] for name in PAIR}
    first, second = (replace(SHAPE, model=name) for name in PAIR)
    with (
        watching(world, "first") as one,
        watching(world, "second") as other,
        clients(world, first) as load,
        clients(world, second) as more,
    ):
        world.when(f"the spec of the first asks for {NEW}")
        world.apply(simulated(world, NEW, "first", hardware=GPU))
        changed = generation(world, "first")
        new = candidate(world, old["first"], "first")
        reaches(world, one, new, Phase.JUDGING, 120, "first")
        order(world, "pause Ada: the second one goes first", "first")
        paused(world, one, new)
        world.eventually("its candidate is gone", partial(only, world, old["first"], 1, "first"), 60)
        world.when(f"the spec of the second asks for {NEW}")
        world.apply(simulated(world, NEW, "second", hardware=GPU))
        beside = generation(world, "second")
        promoted(world, other, candidate(world, old["second"], "second"), name="second")
        assert one.latest(new) is not None
        paused(world, one, new)
        newer = str(world.read("second")["status"]["revision"])
        world.eventually("the second one's old accelerator is free", partial(only, world, newer, 1, "second"), 60)
        order(world, "resume Ada", "first")
        promoted(world, one, new, name="first")
        outcomes = load.outcome(120), more.outcome(120)
    for outcome in outcomes:
        served(world, outcome)
    assert "Ada: the second one goes first" in notes(world, "RolloutPaused", "first")[0]
    assert one.told(changed, ["InProgress", "Failed", "InProgress", "Current"]) == []
    assert other.told(beside, ["InProgress", "Current"]) == []


@pytest.mark.long
@pytest.mark.engine("real vLLM 0.32.0")
def test_a_candidate_without_room_has_not_failed_and_goes_on_once_there_is_some(world: World) -> None:
    """Failed client requests: 0."""
    offer_gpus(world, 1)
    world.given("a node with one accelerator, one replica of real vLLM on it, and clients")

    def real(*arguments: str) -> Object:
        return labelled(
            world.deployment(
                engine={"args": [*CPU_ARGS, *arguments]},
                hardware=GPU,
                rollout={**PACE, "deadlineSeconds": 3600},
                podTemplate={"resources": {"requests": {"cpu": "20m"}}},
            )
        )

    world.apply(real())
    world.becomes_ready()
    old = world.read()["status"]["revision"]
    with watching(world) as seen, clients(world, Shape("tiny", per_second=1, tokens=4)) as load:
        world.when("an argument is changed")
        world.apply(real("--max-num-batched-tokens=512"))
        changed = generation(world)
        new = candidate(world, old)
        assert reaches(world, seen, new, Phase.PAUSED, 120).reason == "NoGpuCapacity"
        said = world.eventually("the status says so", lambda: world.expect("Ready", "False", "NoGpuCapacity"), 30)
        world.tell("", said["message"])
        world.expect("Stalled", "False")
        world.expect("Available", "True")
        world.when("a second accelerator is added")
        offer_gpus(world, 2)
        reaches(world, seen, new, Phase.JUDGING, 300)
        order(world, "promote Ada: it was tried elsewhere")
        promoted(world, seen, new)
        world.eventually("the old one is gone", partial(only, world, new), 120)
        outcome = load.outcome(240)
    served(world, outcome)
    assert notes(world, "RolledBack") == []
    assert len(notes(world, "RolloutResumed")) == 1
    assert seen.told(changed, ["InProgress", "Current"]) == []


def paused(world: World, seen: Seen, revision: str) -> None:
    """Wait until the rollout of the first is paused for a person."""
    reaches(world, seen, revision, Phase.PAUSED, 60, "first")
    world.eventually(
        "the status calls for a person", lambda: world.expect("Stalled", "True", "RolloutPaused", "first"), 30
    )
    world.expect("Available", "True", name="first")


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_at_zero_a_candidate_is_judged_by_golden_questions_alone_and_leaves_again(world: World) -> None:
    """Failed client requests: 0."""
    questions = [*data.capitals(), *data.trained_sums()][:GOLDEN_QUESTIONS]

    def make(version: str) -> Object:
        return simulated(world, version, scaling=automatic(), evaluation=EVALUATION)

    world.given(f"a deployment on {OLD} that is at zero, as nobody asks, and {len(questions)} golden questions")
    world.apply(golden_set(world, questions, tokens=4), make(OLD))
    world.becomes_ready(seconds=120)
    old = world.read()["status"]["revision"]
    falls_asleep(world, gone=True)
    with watching(world) as seen, world.following_engine_pods() as history:
        world.when(f"the spec asks for {NEW}")
        world.apply(make(NEW))
        changed = generation(world)
        new = candidate(world, old)
        reaches(world, seen, new, Phase.JUDGING, 120)
        reaches(world, seen, new, Phase.PROMOTED, 900)
        falls_asleep(world, gone=True)
        pods = history()
    world.tell("", " -> ".join(seen.phases(new)))
    most = max(len(there) for there in pods)
    world.then(f"at most {most} engines ran at once, and none of them is left")
    assert most == 2, "one of each revision, which are asked the same"
    assert {revision_of(pod) for there in pods for pod in there.values()} == {old, new}
    assert seen.told(changed, ["InProgress", "Current"], available=False) == []
    assert "golden set alone" in notes(world, "RolloutJudging")[0]
    world.when("somebody asks")
    assert world.asked() is not None
    assert replicas(world) == 1
    assert {revision_of(pod) for pod in world.engine_pods()} == {new}


def kill_leader(world: World) -> None:
    """SIGKILL the operator that acts."""
    leader = world.eventually("an operator leads", world.leader, TAKEOVER_SECONDS)
    pod = world.client.get("pod", leader.rpartition("_")[0], SYSTEM)
    assert pod is not None, f"the lease names {leader}, and there is no such pod"
    world.when(f"the leader {kill_container(world.client, pod, 'operator')}")


def another_leads(world: World, former: str | None) -> None:
    world.eventually("another one leads", lambda: world.leader() not in (None, former) or None, TAKEOVER_SECONDS)


@pytest.mark.long
@pytest.mark.engine("simulator")
@pytest.mark.parametrize("what", WAYS)
def test_the_operator_is_killed_in_every_phase_and_the_rollout_ends_as_it_should(world: World, what: str) -> None:
    """Failed client requests: 0."""
    faults, last, end = WAYS[what]
    slow = {"VLLM_SIM_LOAD_SECONDS": str(LOAD_SECONDS)}
    world.given(f"two simulated replicas of {OLD}, and clients; a start takes {LOAD_SECONDS} s")
    # A third: of three replicas none is asked more than others, or slower times would not count against the candidate.
    pace = {**PACE, "steps": [33]}
    make = partial(simulated, world, variables=slow, replicas=2, rollout=pace, traffic={"drainSeconds": DRAIN_SECONDS})
    world.apply(make(OLD))
    world.becomes_ready(seconds=180)
    old = world.read()["status"]["revision"]
    killed: list[Phase] = []
    with watching(world) as seen, clients(world, SHAPE) as load:
        world.when(f"the spec asks for {NEW}: {what}")
        world.apply(make(NEW, faults=faults))
        changed = generation(world)
        world.eventually("its image is asked", lambda: jobs(world) or None, 60, every=0.1)
        first = world.leader()
        kill_leader(world)
        another_leads(world, first)
        new = candidate(world, old)
        deadline = time.monotonic() + 900
        while (state := seen.latest(new)) is None or state.phase is not end:
            assert time.monotonic() < deadline, f"it does not end: {state}"
            if state is None or state.phase in killed:
                time.sleep(0.05)
                continue
            killed.append(state.phase)
            former = world.leader()
            kill_leader(world)
            world.then(f"that was in phase {state.phase}")
            another_leads(world, former)
        if end is Phase.PROMOTED:
            world.becomes_ready(seconds=120)
        else:
            told = rolled_back(world, seen, new, "JudgedWorse")
            assert told.startswith(f"{NEW} rolled back: ")
        serving = new if end is Phase.PROMOTED else old
        world.eventually("only what is to serve is there", partial(only, world, serving, 2), 180)
        outcome = load.outcome(120)
    served(world, outcome)
    world.then(f"the operator was killed while the image was asked, and in {', '.join(killed)}")
    assert {Phase.LOADING, Phase.JUDGING, last} <= set(killed)
    assert seen.told(changed, ["InProgress", "Current" if end is Phase.PROMOTED else "Failed"]) == []
    phases = seen.phases(new)
    assert len(phases) == len(set(phases)), f"it went through a phase twice: {phases}"
