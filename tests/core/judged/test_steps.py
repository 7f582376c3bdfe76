"""Replicas and requests of a candidate, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.judged.steps import BY_ORDER, NO_EVIDENCE, UNDONE, Fleet, counts, needed, share, shares
from nightshift.core.rollout import RevisionState
from tests.support.builders import NOW

STEPS = (5, 25, 50)


def state(phase: Phase, step: int = 0, reason: str = "", before: Phase | None = None) -> RolloutState:
    return RolloutState(phase=phase, since=NOW, step=step, steps=STEPS, stable="s", reason=reason, before_pause=before)


def some(name: str, replicas: int, ready: int, number: int = 1) -> RevisionState:
    return RevisionState(name, number, replicas, ready)


def fleet(wanted: int, candidate: tuple[int, int], stable: tuple[int, int], **more: object) -> Fleet:
    values: dict[str, object] = {"missing": 0, "others": ()}
    return Fleet(
        wanted,
        candidate=some("c", *candidate, number=2),
        stable=some("s", *stable),
        **(values | more),  # type: ignore[arg-type]
    )


JUDGING, LOADING, PROMOTING = (state(phase) for phase in (Phase.JUDGING, Phase.LOADING, Phase.PROMOTING))
WORSE = state(Phase.ROLLING_BACK, reason="JudgedWorse")
LEFT = some("a", 2, 2, number=3)
"""A candidate that was abandoned, with two replicas that serve."""


@pytest.mark.parametrize(
    ("wanted", "percent", "count"), [(4, 5, 1), (4, 25, 1), (4, 26, 2), (4, 50, 2), (1, 5, 1), (0, 5, 1), (100, 7, 7)]
)
def test_a_candidate_has_as_many_replicas_as_its_share_needs(wanted: int, percent: int, count: int) -> None:
    assert needed(wanted, percent) == count


@pytest.mark.parametrize(
    ("given", "of", "expected"),
    [
        pytest.param(LOADING, fleet(4, (0, 0), (4, 4)), {"c": 1, "s": 4}, id="the first comes beside all that serve"),
        pytest.param(
            LOADING, fleet(4, (0, 0), (4, 4), missing=1), {"c": 1, "s": 3}, id="in place an old one goes for it"
        ),
        pytest.param(
            LOADING, fleet(1, (0, 0), (1, 1), missing=1), {"c": 1, "s": 0}, id="in an outage the only one goes"
        ),
        pytest.param(JUDGING, fleet(4, (1, 1), (4, 4)), {"c": 1, "s": 4}, id="at 5 % all old ones stay"),
        pytest.param(
            state(Phase.JUDGING, 2),
            fleet(4, (1, 1), (4, 4)),
            {"c": 2, "s": 3},
            id="at 50 % one gives way to the second",
        ),
        pytest.param(
            state(Phase.JUDGING, 2), fleet(8, (1, 1), (8, 8)), {"c": 2, "s": 7}, id="one at a time where it is many"
        ),
        pytest.param(
            state(Phase.JUDGING, 2), fleet(4, (2, 0), (3, 3)), {"c": 1, "s": 4}, id="what does not serve is given back"
        ),
        pytest.param(
            state(Phase.JUDGING, 2, before=Phase.JUDGING),
            fleet(4, (2, 2), (3, 3)),
            {"c": 2, "s": 3},
            id="then it rests",
        ),
        pytest.param(WORSE, fleet(4, (2, 2), (3, 3)), {"c": 2, "s": 3}, id="a failed one keeps its pods until drained"),
        pytest.param(WORSE, fleet(4, (2, 0), (3, 3)), {"c": 0, "s": 4}, id="but not those that do not serve"),
        pytest.param(WORSE, fleet(1, (1, 1), (1, 0)), {"c": 1, "s": 1}, id="one that alone serves stays for now"),
        pytest.param(
            state(Phase.PAUSED, reason=BY_ORDER, before=Phase.JUDGING),
            fleet(4, (1, 1), (4, 4)),
            {"c": 0, "s": 4},
            id="a paused one frees its accelerator",
        ),
        pytest.param(
            state(Phase.PAUSED, reason=BY_ORDER, before=Phase.JUDGING),
            fleet(4, (2, 2), (3, 3)),
            {"c": 1, "s": 4},
            id="as soon as another serves for it",
        ),
        pytest.param(
            state(Phase.PAUSED, reason=NO_EVIDENCE, before=Phase.JUDGING),
            fleet(4, (1, 1), (4, 4)),
            {"c": 1, "s": 4},
            id="without evidence it keeps what it has",
        ),
        pytest.param(
            state(Phase.PAUSED, reason="NoGpuCapacity", before=Phase.PLACING),
            fleet(4, (1, 0), (4, 4)),
            {"c": 1, "s": 4},
            id="without room one goes on waiting",
        ),
        pytest.param(
            state(Phase.ROLLING_BACK, reason=UNDONE),
            fleet(2, (2, 2), (0, 0)),
            {"c": 2, "s": 1},
            id="taken back: the one before comes first",
        ),
        pytest.param(
            PROMOTING, fleet(2, (1, 1), (2, 2)), {"c": 2, "s": 1}, id="promoted: each that is ready replaces one"
        ),
        pytest.param(LOADING, fleet(0, (0, 0), (0, 0)), {"c": 1, "s": 0}, id="idle: one is started"),
        pytest.param(JUDGING, fleet(0, (1, 1), (0, 0)), {"c": 1, "s": 1}, id="and then one to compare it with"),
        pytest.param(PROMOTING, fleet(0, (1, 1), (1, 1)), {"c": 0, "s": 0}, id="and both go again"),
        pytest.param(WORSE, fleet(0, (1, 1), (1, 1)), {"c": 1, "s": 0}, id="idle: a failed one is drained, and goes"),
        pytest.param(
            LOADING,
            fleet(4, (0, 0), (3, 3), others=(LEFT,)),
            {"c": 0, "s": 4, "a": 1},
            id="an abandoned one stays for what the stable one lacks",
        ),
        pytest.param(
            LOADING, fleet(4, (0, 0), (4, 4), others=(LEFT,)), {"c": 1, "s": 4, "a": 0}, id="and goes when it is whole"
        ),
    ],
)
def test_replicas(given: RolloutState, of: Fleet, expected: dict[str, int]) -> None:
    assert counts(given, of, turn=True, drained=False) == expected


def test_a_failed_candidate_goes_once_it_is_drained() -> None:
    assert counts(WORSE, fleet(4, (2, 2), (3, 3)), turn=True, drained=True) == {"c": 0, "s": 4}


def test_who_has_not_its_turn_asks_for_nothing() -> None:
    for phase in (state(Phase.PLACING), state(Phase.PAUSED, reason="NoGpuCapacity", before=Phase.PLACING)):
        assert counts(phase, fleet(2, (1, 0), (2, 2)), turn=False, drained=False) == {"c": 0, "s": 2}


@pytest.mark.parametrize(
    ("wanted", "candidate", "stable", "asked", "percent"),
    [
        pytest.param(4, 1, 4, 5, 5, id="with a spare accelerator: as asked"),
        pytest.param(4, 1, 3, 5, 25, id="in place: the part of the one that gave way"),
        pytest.param(2, 1, 1, 5, 50, id="in place of two: half"),
        pytest.param(4, 1, 4, 50, 25, id="not more than its replicas carry"),
        pytest.param(4, 1, 2, 5, 33, id="where one is missing all carry alike"),
        pytest.param(1, 1, 1, 5, 5, id="a single one"),
        pytest.param(1, 1, 1, 100, 100, id="all that is asked"),
        pytest.param(4, 0, 4, 50, 0, id="no replica, no request"),
        pytest.param(4, 1, 0, 5, 100, id="alone"),
    ],
)
def test_requests_by_capacity(wanted: int, candidate: int, stable: int, asked: int, percent: int) -> None:
    assert share(wanted, candidate, stable, asked) == percent


@pytest.mark.parametrize(
    ("given", "wanted", "ready", "expected"),
    [
        pytest.param(LOADING, 2, {"c": 1, "s": 2}, {"s": 100}, id="before it is judged it gets nothing"),
        pytest.param(
            LOADING, 4, {"c": 3, "s": 1}, {"c": 75, "s": 25}, id="unless it carries what the stable one lacks"
        ),
        pytest.param(
            state(Phase.PREFLIGHT), 4, {"c": 2, "s": 3}, {"c": 25, "s": 75}, id="so also when it is resumed quickly"
        ),
        pytest.param(JUDGING, 2, {"c": 1, "s": 2}, {"c": 5, "s": 95}, id="then the step's percent"),
        pytest.param(JUDGING, 2, {"c": 0, "s": 2}, {"s": 100}, id="only ready replicas get requests"),
        pytest.param(JUDGING, 2, {"c": 1, "s": 0}, {"c": 100}, id="whoever is ready serves"),
        pytest.param(JUDGING, 2, {"c": 0, "s": 0}, {}, id="nobody is ready: they wait"),
        pytest.param(JUDGING, 0, {"c": 1, "s": 0}, {}, id="idle: they wait for the stable revision"),
        pytest.param(WORSE, 2, {"c": 1, "s": 1}, {"s": 100}, id="a failed one gets nothing"),
        pytest.param(WORSE, 2, {"c": 1, "s": 0}, {"c": 100}, id="unless it alone serves"),
        pytest.param(state(Phase.PROMOTING, 2), 4, {"c": 2, "s": 3}, {"c": 50, "s": 50}, id="promoted: not less again"),
        pytest.param(PROMOTING, 4, {"c": 4, "s": 1}, {"c": 100}, id="and all when it serves in full"),
        pytest.param(
            state(Phase.PAUSED, reason=BY_ORDER, before=Phase.JUDGING),
            4,
            {"c": 2, "s": 3},
            {"c": 25, "s": 75},
            id="paused: no more than the stable one lacks",
        ),
        pytest.param(
            state(Phase.JUDGING), 3, {"c": 1, "s": 2, "a": 1}, {"c": 5, "s": 64, "a": 31}, id="others share the rest"
        ),
    ],
)
def test_shares(given: RolloutState, wanted: int, ready: dict[str, int], expected: dict[str, int]) -> None:
    of = fleet(wanted, (1, 1), (1, 1), others=(LEFT,))
    assert shares(given, of, ready) == expected


revisions = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (max(pair), min(pair)))
states = st.builds(
    state,
    st.sampled_from(Phase),
    st.integers(0, 3),
    st.sampled_from(["", "NoGpuCapacity", NO_EVIDENCE, BY_ORDER, UNDONE, "JudgedWorse"]),
    st.sampled_from([None, Phase.PLACING, Phase.JUDGING]),
)


@given(states, st.integers(0, 9), st.booleans(), revisions, revisions, st.lists(revisions, max_size=2), st.booleans())
def test_never_more_replicas_than_allowed_and_never_fewer_ready_ones_than_the_floor(
    given: RolloutState,
    wanted: int,
    in_place: bool,
    candidate: tuple[int, int],
    stable: tuple[int, int],
    others: list[tuple[int, int]],
    turn: bool,
) -> None:
    missing = int(in_place and wanted > 1)
    more = tuple(some(f"o{index}", *item, number=index + 3) for index, item in enumerate(others))
    of = fleet(wanted, candidate, stable, missing=missing, others=more)
    planned = counts(given, of, turn=turn, drained=False)
    assert all(count >= 0 for count in planned.values())
    everybody = (of.candidate, of.stable, *more)
    bad = given.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) and given.reason != UNDONE
    if not bad:
        assert sum(planned.values()) <= of.together
    trusted = [item for item in everybody if not (bad and item.hash == "c")]
    ready = sum(min(item.ready, item.replicas) for item in trusted)
    if wanted and not (bad and candidate[1] > 1):
        staying = sum(min(item.ready, item.replicas, planned[item.hash]) for item in trusted)
        assert staying >= min(ready, wanted - missing)


@given(states, st.integers(0, 9), revisions, revisions, st.lists(revisions, max_size=2))
def test_requests_add_up_and_go_to_ready_replicas_only(
    given: RolloutState,
    wanted: int,
    candidate: tuple[int, int],
    stable: tuple[int, int],
    others: list[tuple[int, int]],
) -> None:
    more = tuple(some(f"o{index}", *item, number=index + 3) for index, item in enumerate(others))
    of = fleet(wanted, candidate, stable, others=more)
    ready = {"c": candidate[1], "s": stable[1], **{item.hash: item.ready for item in more}}
    found = shares(given, of, ready)
    assert sum(found.values()) == (100 if wanted and any(ready.values()) else 0)
    assert all(weight > 0 and ready[name] > 0 for name, weight in found.items())
