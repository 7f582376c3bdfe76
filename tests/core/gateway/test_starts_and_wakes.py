"""What is learned of starts, and the Leases that tell of demand and keep it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.wake import LEASE_SECONDS, Wake, parse_wake
from nightshift.core.gateway.starts import KEPT_STARTS, Starts, newest, parse_starts
from nightshift.core.gateway.wake import Demand, lease_manifest, lease_name, renewal_due, superfluous, wanted

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "typical"),
    [
        pytest.param((), None, id="nothing is typical of what nobody has seen"),
        pytest.param((80.0,), 80.0, id="one start is typical"),
        pytest.param((80, 85, 300, 82, 79), 82, id="a slow one among them moves little"),
        pytest.param((300, 300, 80, 81, 82, 83, 84), 83, id="the middle one counts"),
    ],
)
def test_what_is_typical(seconds: tuple[float, ...], typical: float | None) -> None:
    assert Starts(tuple(seconds)).typical == typical


def test_only_the_last_starts_count() -> None:
    starts = Starts()
    for seconds in range(20):
        starts = starts.and_then(float(seconds))
    assert starts.seconds == tuple(float(seconds) for seconds in range(20 - KEPT_STARTS, 20))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 86401.0])
def test_an_impossible_start_is_not_learned(seconds: float) -> None:
    assert Starts((5.0,)).and_then(seconds) == Starts((5.0,))


@given(st.lists(st.floats(0, 86400), max_size=12))
def test_what_was_written_is_read_again_to_a_tenth_of_a_second(seconds: list[float]) -> None:
    starts = Starts()
    for one in seconds:
        starts = starts.and_then(one)
    assert parse_starts(starts.to_text()).seconds == pytest.approx(starts.seconds, abs=0.051)


@given(st.text())
def test_whatever_stands_there_is_read_without_harm(text: str) -> None:
    assert all(0 <= seconds <= 86400 for seconds in parse_starts(text).seconds)


def test_the_knowledge_noted_last_counts_and_an_empty_note_does_not() -> None:
    assert newest([(1.0, Starts((5.0,))), (2.0, Starts((6.0,))), (3.0, Starts())]) == Starts((6.0,))
    assert newest([]) == Starts()


@pytest.mark.parametrize(
    ("held", "since_last", "awake"),
    [
        pytest.param(1, None, True, id="somebody waits"),
        pytest.param(0, None, False, id="nobody ever waited"),
        pytest.param(0, 14.9, True, id="the last one left a moment ago and may come again"),
        pytest.param(0, 15.0, False, id="the last one left long ago"),
    ],
)
def test_who_is_woken(held: int, since_last: float | None, awake: bool) -> None:
    assert wanted(held, since_last) is awake


@pytest.mark.parametrize(
    ("success", "attempt", "due"),
    [
        pytest.param(None, None, True, id="the first renewal is due at once"),
        pytest.param(4.9, 4.9, False, id="a young Lease is left alone"),
        pytest.param(5.0, 5.0, True, id="every five seconds"),
        pytest.param(None, 0.9, False, id="one that failed is not tried again at once"),
        pytest.param(None, 1.0, True, id="but after a second"),
        pytest.param(9.0, 1.0, True, id="and again while the last success grows old"),
    ],
)
def test_when_a_lease_is_renewed(success: float | None, attempt: float | None, due: bool) -> None:
    assert renewal_due(success, attempt) is due


@pytest.mark.parametrize(
    ("held", "told", "attempt", "due"),
    [
        pytest.param(32, 1, 1.0, True, id="a burst is told a second after its first request"),
        pytest.param(32, 1, 0.9, False, id="but not sooner: each renewal is a write"),
        pytest.param(35, 32, 4.0, False, id="a few more can wait"),
        pytest.param(40, 32, 1.0, True, id="a quarter more cannot"),
        pytest.param(1, 0, 1.0, False, id="one who comes back to a Lease of none changes nothing"),
        pytest.param(2, 0, 1.0, True, id="two do"),
        pytest.param(3, 32, 4.0, False, id="fewer can wait"),
    ],
)
def test_a_queue_that_grows_is_told_at_once(held: int, told: int, attempt: float, due: bool) -> None:
    assert renewal_due(attempt, attempt, held, told) is due


def test_a_lease_can_fail_to_be_renewed_once_before_it_runs_out() -> None:
    assert LEASE_SECONDS > 2 * 5.0


def test_a_lease_says_what_waits_and_is_read_back() -> None:
    demand = Demand("ml", "bot", held=3, oldest_seconds=12.4, starts=Starts((80.0, 90.0)))
    raw = lease_manifest(demand, gateway_namespace="nightshift-gateway", pod="gateway-6c9f-x7k2p", now=NOW)
    assert raw["metadata"]["name"] == lease_name("ml", "bot", "gateway-6c9f-x7k2p") == "wake.ml.bot.x7k2p"
    found = parse_wake(raw)
    assert found is not None
    assert (found.namespace, found.name, found.held, found.oldest_seconds) == ("ml", "bot", 3, 12.0)
    assert (found.typical_start_seconds, found.starts) == (85.0, "80.0,90.0")
    assert found.expires == NOW + timedelta(seconds=15)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"metadata": {"labels": {"nightshift.dev/wake": "true"}}}, id="no deployment"),
        pytest.param({"metadata": {"labels": {"nightshift.dev/wake": "no"}}}, id="another Lease"),
    ],
)
def test_what_is_no_wake_lease_is_passed_over(raw: dict[str, object]) -> None:
    assert parse_wake(raw) is None


def lease(pod: str, days: float, starts: str = "", name: str = "bot") -> Wake:
    renewed = NOW - timedelta(days=days)
    return Wake(object_name=pod, namespace="ml", name=name, renewed=renewed, lease_seconds=15, starts=starts)


@pytest.mark.parametrize(
    ("leases", "deleted"),
    [
        pytest.param([lease("a", 0)], [], id="a live one stays"),
        pytest.param([lease("a", 80, "5.0")], [], id="the last one that knows something stays for long"),
        pytest.param([lease("a", 91, "5.0")], ["a"], id="but not for ever"),
        pytest.param([lease("a", 1, "5.0"), lease("b", 0, "6.0")], ["a"], id="one whose pod is gone goes"),
        pytest.param([lease("a", 1, "5.0"), lease("b", 0)], [], id="unless the later one knows nothing"),
        pytest.param([lease("a", 1, "5.0"), lease("b", 0.01, "6.0")], ["a"], id="the later one need not be live"),
        pytest.param([lease("a", 1), lease("b", 0.02, name="other")], [], id="another deployment's does not count"),
    ],
)
def test_which_leases_nobody_needs(leases: list[Wake], deleted: list[str]) -> None:
    assert [found.object_name for found in superfluous(leases, NOW)] == deleted
