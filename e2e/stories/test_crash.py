"""The operator's process is killed in the middle of its work; `make crash` does so at every kind of write."""

from pathlib import Path

import pytest

from e2e.crash.walk import Point, complaints, tell_all
from e2e.process.beside import operators_away
from e2e.stories.world import World
from e2e.support.direct import direct

TALE = "a correction and a change"
CRASHES = (
    Point(TALE, "apply ReplicaSet", "after"),
    Point(TALE, "status LLMDeployment", "before"),
    Point(TALE, "delete ReplicaSet", "before"),
)


@pytest.mark.long
@pytest.mark.engine("simulator")
def test_a_process_killed_at_a_write_leaves_what_one_that_was_not_killed_leaves(world: World, tmp_path: Path) -> None:
    if not world.client.access.local:
        pytest.skip("the process runs beside the cluster, and the pods of one given by KUBECONFIG are out of its reach")
    world.given("no operator in the cluster, and four of this checkout beside it, each for a namespace of its own")
    with operators_away(world.client), direct(world.client) as client:
        world.when("three of them are killed: " + ", ".join(point.kill for point in CRASHES))
        undisturbed, *crashed = tell_all(client, (Point(TALE, ""), *CRASHES), tmp_path, side_by_side=4)
    wrong = complaints([undisturbed], crashed)
    assert wrong == [], "\n\n".join(wrong)
    world.then("all four come to the same end")
    assert {point.write for point in CRASHES} <= set(undisturbed.writes)
