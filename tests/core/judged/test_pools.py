"""Who may ask for an accelerator, where several rollouts share those of one kind."""

from datetime import timedelta

import pytest

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.judged.pools import Claim, Contender, claim, has_turn, turns
from nightshift.core.judged.steps import BY_ORDER
from nightshift.runtime.pools import Pools
from tests.support.builders import NOW


def one(name: str, minute: int = 0, **more: object) -> Contender:
    values: dict[str, object] = {"pool": "gpu", "accelerators": 1, "claim": Claim.WAITING, "emergency": False}
    return Contender(key=("ml", name), since=NOW + timedelta(minutes=minute), **(values | more))  # type: ignore[arg-type]


def spare(count: int) -> Fact[int]:
    return Known(count, NOW)


NOT_KNOWN = Unknown("Nodes are not read.")
THREE = [one("a", 1), one("b", 2), one("c", 3)]


@pytest.mark.parametrize(
    ("contenders", "room", "names"),
    [
        pytest.param(THREE, spare(2), "ab", id="as many as there is room for, the oldest first"),
        pytest.param(THREE, spare(0), "a", id="the first may ask even where nothing is spare"),
        pytest.param(THREE, NOT_KNOWN, "a", id="where the room is not known one asks at a time"),
        pytest.param([*THREE, one("d", 9, emergency=True)], spare(0), "d", id="an emergency that came last goes first"),
        pytest.param(
            [one("a", 1, accelerators=4), one("b", 2)], spare(2), "a", id="nobody overtakes a large one that waits"
        ),
        pytest.param([one("a", 1, claim=Claim.NOTHING), one("b", 2)], spare(0), "b", id="a paused one holds no place"),
        pytest.param(
            [one("a", 1), one("b", 2, claim=Claim.ASKING)], spare(0), "b", id="who asks already is not interrupted"
        ),
        pytest.param(
            [one("a", 1, claim=Claim.AGAIN), one("b", 2)], spare(0), "b", id="who found no room lets others try"
        ),
        pytest.param(
            [one("a", 1, claim=Claim.AGAIN, emergency=True), one("b", 2)], spare(0), "b", id="also in an emergency"
        ),
        pytest.param([one("a", 1), one("b", 2, pool="other")], spare(0), "ab", id="pools do not wait for each other"),
        pytest.param(
            [one("a", 1, claim=Claim.ASKING), one("b", 2, claim=Claim.ASKING), one("c", 3)],
            NOT_KNOWN,
            "ab",
            id="of two who ask already neither is interrupted",
        ),
        pytest.param(
            [one("a", 1, claim=Claim.ASKING), one("b", 2, emergency=True)],
            NOT_KNOWN,
            "b",
            id="except by an emergency",
        ),
        pytest.param(
            [one("a", 1, claim=Claim.AGAIN), one("b", 2, claim=Claim.AGAIN)],
            NOT_KNOWN,
            "ab",
            id="of those that found no room all wait on while nobody else asks",
        ),
        pytest.param([], spare(3), "", id="nobody"),
    ],
)
def test_whose_turn_it_is(contenders: list[Contender], room: Fact[int], names: str) -> None:
    assert turns(contenders, {"gpu": room}) == {("ml", name) for name in names}


def test_there_is_always_one_whose_turn_it_is() -> None:
    assert turns(THREE, {}) == {("ml", "a")}


def state(phase: Phase, reason: str = "", before: Phase | None = None) -> RolloutState:
    return RolloutState(phase=phase, since=NOW, stable="s", reason=reason, before_pause=before)


@pytest.mark.parametrize(
    ("given", "placed", "wants"),
    [
        pytest.param(state(Phase.PREFLIGHT), False, Claim.WAITING, id="before it is placed it waits for its turn"),
        pytest.param(state(Phase.PLACING), False, Claim.ASKING, id="then it asks"),
        pytest.param(state(Phase.LOADING), True, Claim.NOTHING, id="with its place it wants no other"),
        pytest.param(state(Phase.PAUSED, BY_ORDER, Phase.JUDGING), False, Claim.NOTHING, id="a person paused it"),
        pytest.param(
            state(Phase.PAUSED, BY_ORDER, Phase.PLACING), False, Claim.NOTHING, id="a person paused it while it asked"
        ),
        pytest.param(
            state(Phase.PAUSED, "NoGpuCapacity", Phase.PLACING), False, Claim.AGAIN, id="it found no room and waits"
        ),
        pytest.param(state(Phase.ROLLED_BACK), False, Claim.NOTHING, id="it is over"),
    ],
)
def test_what_a_rollout_wants_of_its_pool(given: RolloutState, placed: bool, wants: Claim) -> None:
    assert claim(given, placed=placed) is wants


ASKS = one("b", 5, claim=Claim.ASKING)


@pytest.mark.parametrize(
    ("own", "others", "asks"),
    [
        pytest.param(one("b", 2), [], True, id="alone"),
        pytest.param(one("b", 2), [one("a", 1)], False, id="one that came before has told of itself"),
        pytest.param(one("b", 2), [one("c", 3)], True, id="one that came after has"),
        pytest.param(one("b", 2), [one("a", 1, pool="other")], True, id="others want another kind of accelerator"),
        pytest.param(ASKS, [one("a", 1)], True, id="a new process hears first of one that waits: who asks goes on"),
        pytest.param(ASKS, [one("a", 1, claim=Claim.ASKING)], True, id="it let that one ask: who asks goes on"),
        pytest.param(ASKS, [one("a", 9, emergency=True)], False, id="an emergency comes"),
        pytest.param(one("b", 2, claim=Claim.NOTHING), [one("a", 1)], True, id="it has its place"),
        pytest.param(one("b", 2), [one("b", 1, claim=Claim.AGAIN)], True, id="what it told before does not count"),
    ],
)
def test_a_rollout_speaks_for_itself_before_it_has_told_of_itself(
    own: Contender, others: list[Contender], asks: bool
) -> None:
    assert has_turn(own, others) is asks


def test_one_whose_model_is_still_fetched_is_in_nobodys_way() -> None:
    assert claim(state(Phase.PREFLIGHT), placed=False, cleared=False) is Claim.NOTHING
    assert claim(state(Phase.PLACING), placed=False, cleared=False) is Claim.ASKING


def test_when_one_is_done_the_next_is_looked_at() -> None:
    woken: list[tuple[str, str]] = []
    pools = Pools(wake=woken.append)
    pools.tell(("ml", "a"), one("a", 1))
    pools.tell(("ml", "b"), one("b", 2))
    assert pools.others(("ml", "b")) == (one("a", 1),)
    pools.tell(("ml", "a"), one("a", 1))
    assert woken == []
    pools.tell(("ml", "a"), None)
    assert woken == [("ml", "b")]
    assert pools.others(("ml", "b")) == ()


def test_one_that_gives_way_to_an_emergency_is_looked_at() -> None:
    woken: list[tuple[str, str]] = []
    pools = Pools(wake=woken.append)
    pools.tell(("ml", "a"), one("a", 1, claim=Claim.ASKING))
    pools.tell(("ml", "b"), one("b", 2, emergency=True))
    assert woken == [("ml", "a")]


def test_a_paused_rollout_gives_its_turn_to_the_next() -> None:
    woken: list[tuple[str, str]] = []
    pools = Pools(wake=woken.append)
    pools.tell(("ml", "a"), one("a", 1, claim=Claim.ASKING))
    pools.tell(("ml", "b"), one("b", 2))
    pools.tell(("ml", "a"), one("a", 1, claim=Claim.NOTHING))
    assert woken == [("ml", "b")]
