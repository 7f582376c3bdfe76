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


def giving_way(name: str, replicas: int, ready: int, lost: int = 0) -> RevisionState:
    return RevisionState(name, 1, replicas, ready, gives_way=True, lost=lost)


@pytest.mark.parametrize(
    ("wanted", "missing", "target", "others", "counts"),
    [
        pytest.param(3, 1, state("b", 0, 0, 2), [A3], {"b": 1, "a": 2}, id="in place: one old goes, one new comes"),
        pytest.param(3, 1, state("b", 1, 0, 2), [state("a", 2, 2)], {"b": 1, "a": 2}, id="nothing until it is ready"),
        pytest.param(3, 1, state("b", 1, 1, 2), [state("a", 2, 2)], {"b": 2, "a": 1}, id="then the next"),
        pytest.param(3, 1, state("b", 2, 2, 2), [state("a", 1, 1)], {"b": 3, "a": 0}, id="and the last"),
        pytest.param(2, 1, state("b", 0, 0, 2), [state("a", 2, 2)], {"b": 1, "a": 1}, id="of two one serves on"),
        pytest.param(
            3, 1, state("b", 1, 1, 2), [state("a", 2, 0)], {"b": 2, "a": 1}, id="an old one that starts may stay"
        ),
        pytest.param(
            3,
            1,
            state("b", 1, 1, 2),
            [giving_way("a", 2, 0)],
            {"b": 3, "a": 0},
            id="unless it holds what is waited for",
        ),
        pytest.param(
            1, 1, state("b", 1, 0, 2), [state("a", 1, 1)], {"b": 1, "a": 0}, id="an outage takes the only one"
        ),
        pytest.param(
            3, 0, state("a", 3, 2), [giving_way("b", 1, 0)], {"a": 3, "b": 0}, id="what failed and does not serve goes"
        ),
        pytest.param(
            3, 0, state("a", 3, 2), [giving_way("b", 1, 1)], {"a": 3, "b": 1}, id="what failed and serves goes later"
        ),
        pytest.param(
            2, 0, state("b", 1, 0), [giving_way("a", 2, 1, 1)], {"b": 1, "a": 2}, id="a lost one is not given up"
        ),
    ],
)
def test_the_next_step_where_room_is_short(
    wanted: int, missing: int, target: RevisionState, others: list[RevisionState], counts: dict[str, int]
) -> None:
    assert replica_counts(wanted, target, others, missing) == counts


@given(st.integers(2, 6), st.integers(0, 6), st.randoms(use_true_random=False))
def test_in_place_never_less_than_one_below_and_never_more_than_were_there(
    wanted: int, started: int, chance: object
) -> None:
    choose = getattr(chance, "random")  # noqa: B009
    asked, ready = {"b": 0, "a": wanted}, {"b": 0, "a": min(started, wanted)}
    for _ in range(100):
        before = sum(ready.values())
        asked = replica_counts(wanted, state("b", asked["b"], ready["b"], 2), [state("a", asked["a"], ready["a"])], 1)
        ready = {name: min(ready[name], asked[name]) for name in asked}
        assert sum(ready.values()) >= min(before, wanted - 1)
        assert sum(asked.values()) == wanted
        if asked == {"b": wanted, "a": 0} and ready["b"] == wanted:
            return
        if asked["b"] > ready["b"]:
            ready["b"] += choose() < 0.7
    raise AssertionError("the rollout does not end")


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
