"""What stories of judged rollouts share: engines whose times scatter as real ones do, and what is seen meanwhile."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from e2e.model.data import Pair, golden_lines
from e2e.stories.bad_inputs import SMALL
from e2e.stories.world import World, is_ready, revision_of, simulator_repository
from e2e.support.client import Events, Object
from e2e.support.kstatus import Verdict, verdict
from e2e.support.load import Load, Outcome, Shape
from nightshift.api import names
from nightshift.api.rollout import Phase, RolloutState

OLD, NEW = "0.31.0", "0.32.0"
PACE: Mapping[str, Any] = {
    "strategy": "Auto",
    "steps": [50],
    "stepSeconds": 10,
    "deadlineSeconds": 900,
    "placementTimeoutSeconds": 3,
}
"""One step, as short as it may be; it lasts until the comparison has passed all the same."""
VARIABLES: Mapping[str, str] = {"VLLM_SIM_STEP_SECONDS": "0.025", "VLLM_SIM_JITTER": "0.3"}
"""Times of tokens that fall on both sides of a bound of vLLM's buckets: nothing is seen of what stays inside of one."""
SHAPE = Shape("tiny", per_second=15, tokens=6)
"""Each revision answers 450 requests in a minute: so many tell twice the time from the same by themselves."""
STREAM_SECONDS, STREAM_STEP = 150, 0.5
STREAMS = 200
"""With half a second between two tokens they are 400 pieces a second, which one client can read."""
STREAM_SHAPE = Shape("tiny", per_second=5, tokens=2, streams=STREAMS, stream_tokens=round(STREAM_SECONDS / STREAM_STEP))
"""Beside the streams short requests, by which the first tokens are told."""
VERDICT_SECONDS = 240.0
"""From a change to the end of its rollout. Engines are read every half minute, so two readings after the last request
that was needed are two thirds of a minute."""
LABEL = "story-rollout"
GOLDEN = "golden"
EVALUATION: Mapping[str, Any] = {"goldenSetRef": {"name": GOLDEN}}
"""spec.evaluation with the questions of `golden_set`."""
EXCLUSIVE = ("Ready", "Reconciling", "Stalled")
"""Of these conditions one is True at any time."""


def simulated(
    world: World,
    version: str = OLD,
    name: str = "tiny",
    *,
    faults: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    deadline: int | None = None,
    **spec: Any,
) -> Object:
    """A simulated engine of a version, judged at the shortest pace; keyword arguments replace parts of its spec.

    Args:
        world: The story.
        version: Of vLLM.
        name: The deployment's.
        faults: What is wrong with the engine from its start.
        variables: For the simulator, beside VARIABLES.
        arguments: For the engine, beside the length of its context.
        deadline: spec.engine.startDeadlineSeconds.
        spec: Other parts of the spec.
    """
    found = {**VARIABLES, **(variables or {})}
    if faults is not None:
        found["VLLM_SIM_FAULTS"] = json.dumps(faults)
    engine = {
        "image": simulator_repository(),
        "version": version,
        "args": ["--max-model-len=1024", *arguments],
        "env": [{"name": key, "value": value} for key, value in found.items()],
        **({} if deadline is None else {"startDeadlineSeconds": deadline}),
    }
    full: dict[str, Any] = {"engine": engine, "rollout": dict(PACE), "podTemplate": dict(SMALL)}
    return labelled(world.simulated(name, **(full | spec)))


def labelled(deployment: Object) -> Object:
    """The same with a label by which a watch finds this one alone."""
    metadata = deployment["metadata"]
    return deployment | {"metadata": metadata | {"labels": {LABEL: metadata["name"]}}}


def golden_set(world: World, pairs: Sequence[Pair], tokens: int = 24) -> Object:
    """A ConfigMap with questions to the tiny model, each with its true answer."""
    metadata = {"name": GOLDEN, "namespace": world.namespace}
    lines = "\n".join(golden_lines(pairs, tokens))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"golden.jsonl": lines}}


@dataclass(frozen=True)
class Seen:
    """What everybody can see of a deployment, from the begin of a watch on, after each change."""

    deployments: Callable[[], Events]
    revisions: Callable[[], Events]

    def readings(self, generation: int) -> list[Verdict]:
        """What kstatus made of it since a generation, one after the other."""
        return readings(self.deployments(), generation)

    def states(self, revision: str) -> list[RolloutState]:
        """Where the rollout of a revision stood."""
        return states(self.revisions(), revision)

    def phases(self, revision: str) -> list[Phase]:
        """Its phases, one after the other."""
        return [phase for phase, _ in groupby(state.phase for state in self.states(revision))]

    def latest(self, revision: str) -> RolloutState | None:
        """Where the rollout of a revision stands; None before it began."""
        return next(reversed(self.states(revision)), None)

    def told(self, generation: int, path: Sequence[Verdict], *, available: bool = True) -> list[str]:
        """What is wrong with the conditions since a generation, as sentences; empty where all is as DESIGN wants it.

        Args:
            generation: Of the change that is rolled out.
            path: What kstatus is to make of it, one after the other.
            available: Whether something good is to serve all the time.
        """
        found = complaints(self.deployments(), generation, available=available)
        read = self.readings(generation)
        if read == list(path):
            return found
        said = "; ".join(ready_says(self.deployments(), generation))
        return [*found, f"kstatus read {read}, not {list(path)}: {said}"]


@contextmanager
def watching(world: World, name: str = "tiny") -> Iterator[Seen]:
    """Follow a deployment and its revisions for as long as the block lasts."""
    with watching_each(world, [name]) as seen:
        yield seen[name]


@contextmanager
def watching_each(world: World, deployments: Collection[str]) -> Iterator[Mapping[str, Seen]]:
    """Follow some deployments and their revisions, by two watches in all; what is seen of each, by its name."""
    client, where, any_of = world.client, world.namespace, f"in ({','.join(deployments)})"
    with (
        client.following("llmdeployments", where, f"{LABEL} {any_of}") as resources,
        client.following("controllerrevisions", where, f"{names.LABEL_DEPLOYMENT} {any_of}") as revisions,
    ):
        yield {
            name: Seen(
                partial(labelled_so, resources, LABEL, name),
                partial(labelled_so, revisions, names.LABEL_DEPLOYMENT, name),
            )
            for name in deployments
        }


def labelled_so(events: Callable[[], Events], label: str, value: str) -> Events:
    """Of what happened by now, what happened to objects whose label has a value."""
    return [(kind, item) for kind, item in events() if item["metadata"]["labels"].get(label) == value]


def readings(events: Events, generation: int) -> list[Verdict]:
    """What kstatus makes of a deployment since a generation, each once until it changes."""
    found = [verdict(item) for _, item in events if item["metadata"]["generation"] >= generation]
    return [reading for reading, _ in groupby(found)]


def ready_says(events: Events, generation: int) -> list[str]:
    """What Ready said of a deployment since a generation, each once until it changes."""
    conditions = [
        entry
        for _, item in events
        if item["metadata"]["generation"] >= generation
        for entry in (item.get("status") or {}).get("conditions", [])
        if entry["type"] == "Ready"
    ]
    said = [f"{entry['status']} ({entry['reason']}: {entry['message'][:100]})" for entry in conditions]
    return [text for text, _ in groupby(said)]


def complaints(events: Events, generation: int, *, available: bool = True) -> list[str]:
    """What is wrong with conditions, as sentences, at every change since a generation.

    One of Ready, Reconciling and Stalled is True. Progressing is True only while the operator goes on by itself.
    Available is True for as long as something serves.

    Worked example: Ready True and Stalled True at once: `Ready and Stalled are True at once`.

    Args:
        events: Of one deployment.
        generation: Of the change that is rolled out.
        available: Whether Available is to be True all the time.
    """
    found: list[str] = []
    for _, item in events:
        status = item.get("status") or {}
        if not item["metadata"]["generation"] >= generation or status.get("observedGeneration") is None:
            continue
        said = {entry["type"]: entry for entry in status.get("conditions", [])}
        true = [kind for kind in EXCLUSIVE if said[kind]["status"] == "True"]
        if len(true) != 1:
            found.append(f"{' and '.join(true) or 'None of Ready, Reconciling and Stalled'} are True at once")
        if said["Progressing"]["status"] == "True" and true != ["Reconciling"]:
            found.append(f"Progressing is True while {' and '.join(true)} is")
        if available and said["Available"]["status"] != "True":
            found.append(f"Available is {said['Available']['status']}: {said['Available']['message']}")
    return list(dict.fromkeys(found))


def states(events: Events, revision: str) -> list[RolloutState]:
    """The states of a revision's rollout, as they were written, each once until it changes."""
    texts = [
        (item["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROLLOUT)
        for _, item in events
        if item["metadata"]["labels"].get(names.LABEL_REVISION) == revision
    ]
    return [RolloutState.model_validate_json(text) for text, _ in groupby(texts) if text is not None]


@contextmanager
def clients(world: World, shape: Shape = SHAPE) -> Iterator[Load]:
    """Clients who ask through the gateway for as long as the block lasts."""
    with clients_of_each(world, [shape]) as loads:
        yield loads[shape.model]


@contextmanager
def clients_of_each(world: World, shapes: Iterable[Shape]) -> Iterator[Mapping[str, Load]]:
    """Clients of some deployments, each in a process of its own, by the deployment's name."""
    with world.gateway() as base, ExitStack() as stack:
        yield {
            shape.model: stack.enter_context(Load(f"{base}/{world.namespace}/{shape.model}/v1", shape))
            for shape in shapes
        }


def served(world: World, outcome: Outcome, failed: int = 0) -> None:
    """Tell what came of all requests; no more than so many failed, and no stream was cut."""
    world.then(
        f"of {outcome.asked} requests {outcome.failed} failed; of {outcome.streams} streams, the longest of "
        f"{outcome.longest_stream_seconds:.0f} s, {outcome.cut} were cut; the client took "
        f"{outcome.processor_share:.0%} of a core"
    )
    assert outcome.asked > 0
    assert outcome.failed <= failed, "\n".join(outcome.words)
    assert (outcome.cut, outcome.whole) == (0, outcome.streams), "\n".join(outcome.words)
    assert outcome.processor_share < 0.5, "the client was too busy to judge others"


def generation(world: World, name: str = "tiny") -> int:
    """Of the spec as it stands."""
    return int(world.read(name)["metadata"]["generation"])


def candidate(world: World, stable: str, name: str = "tiny") -> str:
    """Wait until the present spec has a revision other than the stable one; its hash."""

    def named() -> str | None:
        status = world.read(name)["status"]
        target, current = status.get("targetRevision"), status.get("observedGeneration") == generation(world, name)
        return target if current and target != stable else None

    return world.eventually(f"{name} has a new revision", named, 300)


def reaches(
    world: World, seen: Seen, revision: str, phase: Phase, seconds: float = VERDICT_SECONDS, name: str = "tiny"
) -> RolloutState:
    """Wait until a revision's rollout is in a phase."""

    def there() -> RolloutState:
        state = seen.latest(revision)
        assert state is not None, "it did not begin"
        assert state.phase is phase, f"it is {state.phase}, {state.reason}: {state.says}"
        return state

    return world.eventually(f"the rollout of {name} is {phase}", there, seconds, every=0.2)


def order(world: World, text: str, name: str = "tiny") -> None:
    """What a person orders of a rollout."""
    world.when(f"a person orders of {name}: {text}")
    arguments = ["annotate", "lld", name, "-n", world.namespace, "--overwrite", f"{names.ANNOTATION_PERSON}={text}"]
    world.client.kubectl(*arguments)


def notes(world: World, reason: str, name: str = "tiny") -> list[str]:
    """What the Events of a reason say of a deployment."""
    return [
        item["message"]
        for item in world.events()
        if item["reason"] == reason and item["involvedObject"]["name"] == name
    ]


def only(world: World, revision: str, replicas: int = 1, name: str = "tiny") -> bool | None:
    """Whether so many pods of a revision are ready, and no others are there."""
    pods = world.engine_pods(name)
    there = [revision_of(pod) for pod in pods]
    return (there == [revision] * replicas and all(map(is_ready, pods))) or None


def promoted(world: World, seen: Seen, revision: str, *, seconds: float = VERDICT_SECONDS, name: str = "tiny") -> None:
    """Wait until a revision has taken over, and tell its way."""
    reaches(world, seen, revision, Phase.PROMOTED, seconds, name)
    world.becomes_ready(name, 60)
    world.tell("", " -> ".join(seen.phases(revision)))
    (said,) = notes(world, "Promoted", name)
    world.tell("", said)


def rolled_back(
    world: World, seen: Seen, revision: str, *reasons: str, seconds: float = VERDICT_SECONDS, name: str = "tiny"
) -> str:
    """Wait until a revision has given way, for one of these reasons; the evidence in one sentence."""
    state = reaches(world, seen, revision, Phase.ROLLED_BACK, seconds, name)
    world.tell("", " -> ".join(seen.phases(revision)))
    reason = state.reason
    assert reason in reasons, f"{reason}: {state.says}"
    said = world.eventually("the status says so", lambda: world.expect("Stalled", "True", reason, name), 30)
    world.expect("Ready", "False", reason, name)
    world.expect("Reconciling", "False", name=name)
    world.expect("Available", "True", name=name)
    told = world.eventually("an Event tells why", lambda: next(iter(notes(world, "RolledBack", name)), None), 30)
    world.tell("", told)
    assert told.partition(" back: ")[2].rstrip(".") in said["message"], said["message"]
    assert notes(world, "JudgedWorse") == [], "told once, by RolledBack"
    assert seen.phases(revision)[-2:] == [Phase.ROLLING_BACK, Phase.ROLLED_BACK]
    return told


def most_engines(events: Events) -> int:
    """Engine pods of all deployments that were there at once and stayed, those that wait for a node included."""
    there: set[str] = set()
    most = 0
    for kind, pod in events:
        stays = kind != "DELETED" and "deletionTimestamp" not in pod["metadata"]
        there = there | {pod["metadata"]["uid"]} if stays else there - {pod["metadata"]["uid"]}
        most = max(most, len(there))
    return most
