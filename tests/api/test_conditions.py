from datetime import UTC, datetime, timedelta, timezone

from nightshift.api.conditions import ORDER, Condition, Verdict, merge
from tests.support.builders import NOW

LATER = NOW + timedelta(minutes=5)


def verdict(kind: str, status: str = "True", reason: str = "Because", message: str = "So.") -> Verdict:
    return Verdict.model_validate({"type": kind, "status": status, "reason": reason, "message": message})


def test_a_new_condition_begins_now() -> None:
    found = merge((), [verdict("Ready")], 3, NOW)
    assert found == (
        Condition(
            type="Ready",
            status="True",
            observed_generation=3,
            last_transition_time=NOW,
            reason="Because",
            message="So.",
        ),
    )


def test_the_transition_time_stays_while_only_reason_and_message_change() -> None:
    before = merge((), [verdict("Ready", "False")], 1, NOW)
    after = merge(before, [verdict("Ready", "False", "Another", "Text.")], 2, LATER)
    assert after[0].last_transition_time == NOW
    assert (after[0].reason, after[0].message, after[0].observed_generation) == ("Another", "Text.", 2)


def test_the_transition_time_moves_with_the_status() -> None:
    before = merge((), [verdict("Ready", "False")], 1, NOW)
    assert merge(before, [verdict("Ready", "True")], 1, LATER)[0].last_transition_time == LATER


def test_conditions_that_nobody_speaks_of_any_more_are_dropped() -> None:
    before = merge((), [verdict("Ready"), verdict("Old")], 1, NOW)
    assert [item.type for item in merge(before, [verdict("Ready")], 1, LATER)] == ["Ready"]


def test_conditions_come_in_their_order_and_unknown_ones_after_them() -> None:
    found = merge((), [verdict(kind) for kind in ("Zeta", *reversed(ORDER), "Alpha")], 1, NOW)
    assert [item.type for item in found] == [*ORDER, "Alpha", "Zeta"]


def test_a_message_that_is_too_long_is_cut() -> None:
    assert len(merge((), [verdict("Ready", message="x" * 9000)], 1, NOW)[0].message) == 4096


def test_times_are_written_in_utc_to_whole_seconds_and_read_back() -> None:
    berlin = datetime(2026, 3, 1, 13, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))
    condition = merge((), [verdict("Ready")], 1, berlin)[0]
    assert condition.to_json()["lastTransitionTime"] == "2026-03-01T12:00:00Z"
    assert Condition.model_validate(condition.to_json()).last_transition_time == datetime(2026, 3, 1, 12, tzinfo=UTC)
