"""Which slot is whose, and what becomes of the requests that wait in one: pure tables."""

from typing import Any

import pytest

from nightshift.core.gateway.slots import Assignment, SlotKey, kind_of
from nightshift.core.gateway.state import LiveSlot
from tests.core.gateway.test_decisions import TWO, decided, servers
from tests.support.real_haproxy import Model, Pod, route

X_ON_P = [{"name": "x", "pods": ["p"]}]


def test_a_slot_stays_whose_it_is_and_a_freed_one_is_handed_out_once_nothing_is_left_in_it() -> None:
    first = decided(Model(route("a"), {}), Model(route("b"), {}))
    assert first.assignment.slots[SlotKey("ml/b", "r1")] == "be_l600_1"
    waiting = {"be_l600_0": LiveSlot(waiting=1)}
    second = decided(Model(route("b"), {}), Model(route("c"), {}), before=first.assignment, processes=[waiting])
    assert dict(second.assignment.slots) == {SlotKey("ml/b", "r1"): "be_l600_1", SlotKey("ml/c", "r1"): "be_l600_2"}
    third = decided(*(Model(route(name), {}) for name in "bcd"), before=second.assignment)
    assert third.assignment.slots[SlotKey("ml/d", "r1")] == "be_l600_0"


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        pytest.param([[None]], "be_l600_1", id="while HAProxy does not answer, none is free that was in use"),
        pytest.param([[{}, None]], "be_l600_1", id="nor while a process that a reload replaced does not"),
        pytest.param([[None], [None]], "be_l600_1", id="nor in a later round in which it does not"),
        pytest.param([[None], [{}]], "be_l600_0", id="one is when a later answer says that nothing is left in it"),
        pytest.param([[{}]], "be_l600_0", id="or the first one does"),
        pytest.param([[{}, {"be_l600_0": LiveSlot(connections=1)}]], "be_l600_1", id="of all processes"),
    ],
)
def test_a_slot_is_handed_out_only_when_it_is_known_that_nothing_is_left_in_it(
    rounds: list[list[Any]], expected: str
) -> None:
    found = decided(Model(route("a"), {}))
    for processes in rounds[:-1]:
        found = decided(before=found.assignment, processes=processes)
    found = decided(Model(route("b"), {}), before=found.assignment, processes=rounds[-1])
    assert dict(found.assignment.slots) == {SlotKey("ml/b", "r1"): expected}


def test_a_slot_in_which_something_is_left_goes_back_to_whose_it_was() -> None:
    first = decided(Model(route("a"), {})).assignment
    gone = decided(before=first, processes=[None]).assignment
    assert (dict(gone.slots), dict(gone.left)) == ({}, {"be_l600_0": SlotKey("ml/a", "r1")})
    assert decided(Model(route("a"), {}), before=gone, processes=[None]).assignment == first


def test_a_pool_doubles_when_it_is_full_and_its_fingerprint_is_another_then() -> None:
    four = decided(*(Model(route(name), {}) for name in "abcd"))
    five = decided(*(Model(route(name), {}) for name in "abcde"), before=four.assignment)
    assert [four.assignment.pools[kind] for kind in four.assignment.pools] == [4]
    assert [five.assignment.pools[kind] for kind in five.assignment.pools] == [8]
    assert four.desired.fingerprint != five.desired.fingerprint
    assert decided(Model(route("a"), {}), before=five.assignment).desired.fingerprint == five.desired.fingerprint


def test_a_route_that_balances_otherwise_or_waits_longer_gets_a_slot_of_another_kind() -> None:
    first = decided(Model(route(), {}))
    other = decided(Model(route(affinity="Prefix", queue={"timeoutSeconds": 30}), {}), before=first.assignment)
    assert list(first.assignment.slots.values()) == ["be_l600_0"]
    assert list(other.assignment.slots.values()) == ["be_h30_0"]


@pytest.mark.parametrize(
    ("seconds", "waits"),
    [
        pytest.param(1, 5, id="the shortest step is 5 s"),
        pytest.param(30, 30, id="a step is kept as it is"),
        pytest.param(31, 60, id="what lies between two waits up to the longer one"),
        pytest.param(86_400, 86_400, id="the longest that a route may say is a step"),
    ],
)
def test_for_how_long_requests_wait_in_a_slot(seconds: int, waits: int) -> None:
    assert kind_of(route(queue={"timeoutSeconds": seconds})).queue_seconds == waits


def test_whatever_times_routes_ask_for_there_are_few_kinds_of_slots_so_that_nobody_forces_reloads_without_end() -> None:
    found = Assignment()
    fingerprints = set()
    for seconds in range(1, 86_401, 199):
        for affinity in ("None", "Prefix"):
            one = decided(Model(route(affinity=affinity, queue={"timeoutSeconds": seconds}), {}), before=found)
            found = one.assignment
            fingerprints.add(one.desired.fingerprint)
    assert len(fingerprints) <= 22


@pytest.mark.parametrize("held", [LiveSlot(waiting=3, connections=3), LiveSlot(connections=1)], ids=["wait", "work"])
def test_requests_stranded_in_a_slot_are_lent_replicas_until_none_is_left(held: LiveSlot) -> None:
    model = Model(
        route(weights={"r1": 0, "r2": 100}), {"r1": [Pod("p", 1, deleting=True)], "r2": [Pod("q", 1), Pod("s", 1)]}
    )
    calm = decided(model)
    assert servers(calm) == {"be_l600_0": {"p": 0}, "be_l600_1": {"q": 100, "s": 100}}
    live = {"be_l600_0": held}
    stranded = decided(model, before=calm.assignment, processes=[live])
    assert servers(stranded)["be_l600_0"] == {"p": 0, "q": 100, "s": 100}
    assert servers(decided(model, before=calm.assignment)) == servers(calm)


@pytest.mark.parametrize(
    ("key", "after", "expected"),
    [
        pytest.param(
            SlotKey("ml/bot", "r1"), Model(route(), TWO), {"p": 100, "q": 100}, id="those of its revision stand in"
        ),
        pytest.param(
            SlotKey("ml/bot", "r1"),
            Model(route(weights={"r1": 0, "r2": 100}), {"r1": [Pod("p", 1)], "r2": [Pod("q", 1)]}),
            {"p": 100},
            id="also when it takes nothing new",
        ),
        pytest.param(
            SlotKey("ml/bot", "r0"),
            Model(route(weights={"r1": 0, "r2": 100}), {"r1": [Pod("p", 1)], "r2": [Pod("q", 1)]}),
            {"q": 100},
            id="else those of the revisions that take requests, and not of one that was rolled back",
        ),
        pytest.param(
            SlotKey("ml/bot", "r1", "x"),
            Model(route(adapters=X_ON_P), TWO),
            {"p": 100},
            id="an adapter's are those that have it",
        ),
        pytest.param(
            SlotKey("ml/bot", "r1", "x"),
            Model(route(adapters=[{"name": "x", "pods": []}]), TWO),
            {},
            id="while none has it, requests wait",
        ),
        pytest.param(
            SlotKey("ml/bot", "r1", "gone"),
            Model(route(), TWO),
            {"p": 100, "q": 100},
            id="an adapter that is gone is any engine's to refuse",
        ),
        pytest.param(SlotKey("ml/gone", "r1"), Model(route(), TWO), {}, id="no other deployment's ever do"),
    ],
)
def test_who_stands_in_where_a_slot_is_needed_no_more(key: SlotKey, after: Model, expected: dict[str, int]) -> None:
    before = Assignment(left={"be_l30_0": key})
    waiting = {"be_l30_0": LiveSlot(waiting=1)}
    assert servers(decided(after, before=before, processes=[waiting])).get("be_l30_0", {}) == expected
    calm = decided(after, before=before, processes=[{"be_l30_0": LiveSlot()}])
    assert "be_l30_0" not in servers(calm), "where nothing is left nobody is needed"
