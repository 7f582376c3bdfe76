import pytest

from nightshift.core.lease import (
    LEASE_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_SECONDS,
    WRITE_MARGIN_SECONDS,
    LeaseStep,
    LeaseView,
    lease_step,
    must_stop,
    observe_lease,
    write_seconds,
)


@pytest.mark.parametrize(
    ("view", "now", "step"),
    [
        pytest.param(None, 0.0, LeaseStep.CREATE, id="no lease is created"),
        pytest.param(LeaseView("me", "t1", 0.0), 1.0, LeaseStep.RENEW, id="one's own is renewed"),
        pytest.param(LeaseView("me", "t1", 0.0), 99.0, LeaseStep.RENEW, id="one's own is renewed also when it is late"),
        pytest.param(LeaseView("you", "t1", 0.0), 11.9, LeaseStep.WAIT, id="another's is awaited"),
        pytest.param(LeaseView("you", "t1", 0.0), 12.0, LeaseStep.TAKE, id="an abandoned one is taken"),
        pytest.param(LeaseView(None, "t1", 0.0), 0.1, LeaseStep.TAKE, id="a released one is taken at once"),
    ],
)
def test_what_to_do_about_the_lease(view: LeaseView | None, now: float, step: LeaseStep) -> None:
    assert lease_step(view, "me", now) is step


def test_an_unchanged_record_keeps_its_age_and_a_renewed_one_is_young() -> None:
    first = observe_lease(None, "you", "t1", 10.0)
    assert observe_lease(first, "you", "t1", 15.0) is first
    assert observe_lease(first, "you", "t2", 15.0).seen_since == 15.0
    assert observe_lease(first, "other", "t1", 15.0).seen_since == 15.0


def test_an_empty_holder_is_none() -> None:
    assert observe_lease(None, "", "t1", 1.0).holder is None


def test_a_leader_stops_before_anybody_may_take_over() -> None:
    assert not must_stop(0.0, RENEW_DEADLINE_SECONDS - 0.1)
    assert must_stop(0.0, RENEW_DEADLINE_SECONDS)
    assert RENEW_DEADLINE_SECONDS + RETRY_SECONDS < LEASE_SECONDS


@pytest.mark.parametrize(
    ("renewed", "now", "left"),
    [
        pytest.param(0.0, 3.0, 8.0, id="renewed 3 s ago"),
        pytest.param(0.0, LEASE_SECONDS - WRITE_MARGIN_SECONDS, 0.0, id="the margin is all that is left"),
        pytest.param(0.0, 60.0, -49.0, id="long over"),
    ],
)
def test_how_long_a_write_may_go_on(renewed: float, now: float, left: float) -> None:
    assert write_seconds(renewed, now) == left


def test_a_write_that_may_begin_has_time_left() -> None:
    assert write_seconds(0.0, RENEW_DEADLINE_SECONDS) > 0
