"""Bad candidates beside each other: each of a deployment of its own, in one namespace, over the same time."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from e2e.stories.bad_candidates import Bad
from e2e.stories.rolling import (
    NEW,
    OLD,
    SHAPE,
    VERDICT_SECONDS,
    Seen,
    candidate,
    clients_of_each,
    generation,
    notes,
    only,
    rolled_back,
    served,
    simulated,
    watching_each,
)
from e2e.stories.world import World
from e2e.support.client import KubectlError
from e2e.support.load import Shape
from nightshift.api.rollout import Phase

READY_SECONDS = 180.0
FEW = Shape("tiny", per_second=2, tokens=SHAPE.tokens)
"""Nothing is compared by them: they see that what serves goes on."""


def shape_for(name: str, bad: Bad) -> Shape:
    """What is asked of a deployment: as much as a verdict needs, where its candidate comes so far."""
    return replace(SHAPE if bad.judged else FEW, model=name)


@contextmanager
def gathering(amiss: list[str], name: str) -> Iterator[None]:
    """Note what a block finds amiss of a deployment, by its name, so that it hides nothing of the others."""
    try:
        yield
    except (AssertionError, KubectlError, subprocess.TimeoutExpired) as error:
        amiss.append(f"{name}: {error}")


def give_way(world: World, candidates: Mapping[str, Bad], **spec: Any) -> None:
    """Candidates come at once, and each gives way while clients ask all the time. No more fail than `Bad` says.

    The gateway sends a request again that an engine answered with 500 before the first byte, so that clients see none
    of the candidates' failures; they are counted all the same.

    Args:
        world: The story.
        candidates: By the names of their deployments.
        spec: Other parts of the spec of each deployment.
    """
    shapes = [shape_for(name, bad) for name, bad in candidates.items()]
    asked = sum(shape.per_second for shape in shapes)
    world.given(f"one simulated replica of {OLD} for each of {', '.join(candidates)}, and {asked:g} requests a second")
    world.apply(*(simulated(world, name=name, **spec) for name in candidates))
    for name in candidates:
        world.becomes_ready(name, READY_SECONDS)
    old = {name: str(world.read(name)["status"]["revision"]) for name in candidates}
    pods = {name: _uids(world, name) for name in candidates}
    amiss: list[str] = []
    with watching_each(world, candidates) as seen, clients_of_each(world, shapes) as loads:
        for name, bad in candidates.items():
            world.when(f"the spec of {name} asks for a {NEW}: {bad.what}: {json.dumps(bad.engine)[:200]}")
        world.apply(*(simulated(world, NEW, name, **(spec | bad.engine)) for name, bad in candidates.items()))
        deadline = time.monotonic() + VERDICT_SECONDS
        changed = {name: generation(world, name) for name in candidates}
        for name, bad in candidates.items():
            with gathering(amiss, name):
                _gives_way(world, seen[name], name, bad, old[name], deadline)
        for name, load in loads.items():
            with gathering(amiss, name):
                world.tell("", f"{name}:")
                served(world, load.outcome(120), candidates[name].failed)
    for name in candidates:
        with gathering(amiss, name):
            assert _uids(world, name) == pods[name], "what served was not touched"
        with gathering(amiss, name):
            assert notes(world, "Promoted", name) == []
        with gathering(amiss, name):
            assert seen[name].told(changed[name], ["InProgress", "Failed"]) == []
    assert not amiss, "\n".join(amiss)


def _gives_way(world: World, seen: Seen, name: str, bad: Bad, old: str, deadline: float) -> None:
    """Wait until a candidate is rolled back for its own reason, and gone."""
    world.tell("", f"{name}: {bad.what}")
    new = candidate(world, old, name)
    told = rolled_back(world, seen, new, bad.reason, seconds=max(0.0, deadline - time.monotonic()), name=name)
    assert told.startswith(f"{NEW} rolled back: "), told
    assert bad.says in told, told
    phases = seen.phases(new)
    assert (Phase.JUDGING in phases) is bad.judged, " -> ".join(phases)
    world.eventually(f"only the old one of {name} is there", partial(only, world, old, 1, name), 60)


def _uids(world: World, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.engine_pods(name)}
