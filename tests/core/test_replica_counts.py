import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.rollout import RevisionState, replica_counts


def state(name: str, replicas: int, ready: int, number: int = 1) -> RevisionState:
    return RevisionState(name, number, replicas, ready)


A3 = state("a", 3, 3)


@pytest.mark.parametrize(
    ("wanted", "target", "others", "counts"),
    [
        pytest.param(3, state("b", 0, 0, 2), [A3], {"b": 1, "a": 3}, id="the new revision begins with one more"),
        pytest.param(3, state("b", 1, 0, 2), [A3], {"b": 1, "a": 3}, id="nothing moves until that one is ready"),
        pytest.param(3, state("b", 1, 1, 2), [A3], {"b": 2, "a": 2}, id="each that is ready replaces one"),
        pytest.param(
            3, state("b", 3, 3, 2), [state("a", 1, 1)], {"b": 3, "a": 0}, id="with all ready the old one goes"
        ),
        pytest.param(3, state("a", 0, 0), [], {"a": 3}, id="the first revision starts whole"),
        pytest.param(3, state("b", 0, 0, 2), [state("a", 0, 0)], {"b": 3, "a": 0}, id="beside an empty one too"),
        pytest.param(0, state("b", 0, 0, 2), [A3], {"b": 0, "a": 0}, id="off is off at once"),
        pytest.param(2, state("b", 0, 0, 2), [A3], {"b": 1, "a": 2}, id="scaling down goes with the rollout"),
        pytest.param(5, state("b", 0, 0, 2), [A3], {"b": 3, "a": 3}, id="scaling up goes to the new revision"),
        pytest.param(1, state("b", 1, 0, 2), [state("a", 1, 1)], {"b": 1, "a": 1}, id="a single one is surged"),
        pytest.param(
            2,
            state("c", 0, 0, 3),
            [state("a", 2, 2, 1), state("b", 1, 0, 2)],
            {"c": 1, "a": 2, "b": 0},
            id="an older revision that serves is kept before a newer one that does not",
        ),
        pytest.param(
            4,
            state("c", 0, 0, 3),
            [state("a", 1, 1, 1), state("b", 4, 3, 2)],
            {"c": 1, "a": 1, "b": 3},
            id="replicas that serve are kept before those that do not",
        ),
        pytest.param(
            2,
            state("c", 1, 1, 3),
            [state("a", 1, 1, 1), state("b", 1, 1, 2)],
            {"c": 2, "b": 1, "a": 0},
            id="of two that serve the newer is kept",
        ),
        pytest.param(
            3,
            state("b", 3, 0, 2),
            [A3],
            {"b": 1, "a": 3},
            id="a target that crashed gives back what exceeds one more",
        ),
        pytest.param(3, state("b", 2, 2, 2), [state("a", 2, 0)], {"b": 3, "a": 1}, id="unready ones go like others"),
        pytest.param(3, state("b", 4, 4, 2), [], {"b": 3}, id="surplus of the target goes"),
    ],
)
def test_the_next_step(wanted: int, target: RevisionState, others: list[RevisionState], counts: dict[str, int]) -> None:
    assert replica_counts(wanted, target, others) == counts


def states(name: str) -> st.SearchStrategy[RevisionState]:
    return st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)).map(
        lambda drawn: state(name, drawn[0], min(drawn[0], drawn[1]), drawn[2])
    )


@given(st.integers(0, 6), states("target"), states("a"), states("b"), states("c"))
def test_no_step_takes_what_serves_or_asks_for_more_than_one_beyond(
    wanted: int, target: RevisionState, a: RevisionState, b: RevisionState, c: RevisionState
) -> None:
    everyone = (target, a, b, c)
    counts = replica_counts(wanted, target, [a, b, c])
    ready = sum(item.ready for item in everyone)
    staying = sum(min(item.ready, counts[item.hash]) for item in everyone)
    assert staying >= min(ready, wanted)
    assert sum(counts.values()) <= wanted + (1 if wanted else 0)
    assert all(counts[item.hash] <= item.replicas for item in (a, b, c)), "no other revision grows"
    assert min(counts.values()) >= 0


@given(st.integers(0, 6), states("a"), states("b"), st.randoms(use_true_random=False))
def test_healthy_pods_in_any_order_lead_to_the_target_alone(
    wanted: int, a: RevisionState, b: RevisionState, chance: object
) -> None:
    choose = getattr(chance, "random")  # noqa: B009
    asked = {"target": 0, "a": a.replicas, "b": b.replicas}
    ready = {"target": 0, "a": a.ready, "b": b.ready}
    numbers = {"target": 10, "a": a.number, "b": b.number}
    for _ in range(200):
        now = {name: state(name, asked[name], ready[name], numbers[name]) for name in asked}
        before = sum(ready.values())
        asked = replica_counts(wanted, now["target"], [now["a"], now["b"]])
        ready = {name: min(ready[name], asked[name]) for name in asked}
        assert sum(ready.values()) >= min(before, wanted)
        if asked == {"target": wanted, "a": 0, "b": 0} and ready["target"] == wanted:
            return
        starting = [name for name in asked if ready[name] < asked[name] and (name == "target" or choose() < 0.5)]
        ready[starting[int(choose() * len(starting))]] += 1
    raise AssertionError("the rollout does not end")
