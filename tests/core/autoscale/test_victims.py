"""Which replicas go when there are to be fewer, whoever decides on their number."""

import pytest

from nightshift.core.exchange import COST_ANNOTATION
from tests.support.builders import model_spec
from tests.support.simulation import Simulation


def serving(replicas: int, **running: int) -> Simulation:
    """So many replicas serve, and their engines tell how many requests they work on."""
    simulation = Simulation(model_spec(replicas=replicas)).settle()
    says(simulation, **running)
    return simulation


def says(simulation: Simulation, **running: int) -> None:
    simulation.running = {pods(simulation)[int(name[1:]) - 1]: count for name, count in running.items()}


def pods(simulation: Simulation) -> list[str]:
    return sorted(raw["metadata"]["name"] for raw in simulation.server.of_kind("Pod"))


def marked(simulation: Simulation) -> list[str]:
    """Pods with a mark, by the end of their names."""
    found = simulation.server.of_kind("Pod")
    return sorted(
        raw["metadata"]["name"][-1] for raw in found if COST_ANNOTATION in (raw["metadata"].get("annotations") or {})
    )


@pytest.mark.parametrize(
    ("running", "wanted", "left"),
    [
        pytest.param({"p1": 4, "p2": 0, "p3": 2}, 2, "13", id="the idle one goes"),
        pytest.param({"p1": 0, "p2": 7, "p3": 0}, 1, "2", id="both idle ones go"),
        pytest.param({"p1": 3, "p2": 5, "p3": 4}, 1, "2", id="where all work the busiest stays"),
        pytest.param({"p1": 0, "p2": 0, "p3": 1}, 2, "23", id="of two idle ones one goes"),
    ],
)
def test_the_replicas_with_least_to_do_go(running: dict[str, int], wanted: int, left: str) -> None:
    simulation = serving(3, **running)
    simulation.change_spec(replicas=wanted)
    simulation.settle()
    assert "".join(name[-1] for name in pods(simulation)) == left
    assert marked(simulation) == []


@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        pytest.param({"p1": 2, "p2": 2, "p3": 2}, 1, id="all have as much to do"),
        pytest.param({"p1": 5, "p2": 0}, 1, id="one engine says nothing: it may be the idle one"),
        pytest.param({}, 1, id="nothing is known"),
        pytest.param({"p1": 5, "p2": 0, "p3": 0}, 0, id="all are to go"),
        pytest.param({"p1": 5, "p2": 0, "p3": 0}, 4, id="there are to be more"),
    ],
)
def test_nobody_is_marked_where(running: dict[str, int], wanted: int) -> None:
    simulation = serving(3, **running)
    simulation.change_spec(replicas=wanted)
    simulation.settle()
    assert not [line for line in simulation.log if "go first" in line]


def test_a_mark_that_is_out_of_date_is_taken_away() -> None:
    simulation = serving(3, p1=0, p2=5, p3=5)
    simulation.change_spec(replicas=2)
    simulation.tell_all()
    simulation.reconcile()
    assert marked(simulation) == ["1"]
    says(simulation, p1=9, p2=0, p3=5)
    simulation.change_spec(replicas=1)
    simulation.tell_all()
    simulation.reconcile()
    assert marked(simulation) == ["2", "3"]
    simulation.settle()
    assert [name[-1] for name in pods(simulation)] == ["1"]
