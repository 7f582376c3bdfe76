import pytest

from nightshift.core.liveness import Vitals, liveness_problem, readiness_problem

BOUND = 300.0


@pytest.mark.parametrize(
    ("vitals", "expected"),
    [
        pytest.param(Vitals(leading=True), None, id="nothing is due"),
        pytest.param(Vitals(leading=True, overdue_seconds=300), None, id="a key has been due for as long as it may"),
        pytest.param(
            Vitals(leading=True, overdue_seconds=301),
            "a reconcile has been overdue for 301 s; at most 300 s are fine",
            id="a key has been due for longer",
        ),
        pytest.param(
            Vitals(leading=False, overdue_seconds=9000, working_seconds=9000, silent_watches=("Pod",)),
            None,
            id="a standby has nothing to do, whatever is measured",
        ),
        pytest.param(Vitals(leading=True, working_seconds=590), None, id="a long reconcile is under way"),
        pytest.param(
            Vitals(leading=True, working_seconds=601),
            "a reconcile has been running for 601 s and does not end",
            id="a reconcile never ends",
        ),
        pytest.param(
            Vitals(leading=True, silent_watches=("Job", "Pod")),
            "the watches of Job, Pod tell nothing, though lists show changes",
            id="watches went silent",
        ),
    ],
)
def test_what_makes_the_process_be_restarted(vitals: Vitals, expected: str | None) -> None:
    assert liveness_problem(vitals, BOUND) == expected


def test_the_bound_is_the_administrators() -> None:
    assert liveness_problem(Vitals(leading=True, overdue_seconds=301), 600) is None


@pytest.mark.parametrize(
    ("lease_answered", "leading", "unprepared", "expected"),
    [
        pytest.param(
            False, False, "not listed", "the Lease could not be read yet; see the log", id="nothing answered yet"
        ),
        pytest.param(True, False, "not listed", None, id="a standby lists nothing before it leads"),
        pytest.param(True, True, "the definition is not there", "the definition is not there", id="a leader waits"),
        pytest.param(True, True, None, None, id="a leader works"),
    ],
)
def test_whether_the_process_can_do_its_work(
    lease_answered: bool, leading: bool, unprepared: str | None, expected: str | None
) -> None:
    found = readiness_problem(lease_answered=lease_answered, leading=leading, unprepared=unprepared)
    assert found == expected
