"""What the benchmark of zero makes of its wakes."""

import pytest

from bench.zero import claims, judged

WAKE = {
    "asked_to_pod_seconds": 0.4,
    "pod_to_healthy_seconds": 5.0,
    "healthy_to_answered_seconds": 1.1,
    "own_seconds": 0.3,
    "added_seconds": 0.8,
    "waited_seconds": 6.5,
}


@pytest.mark.parametrize(
    ("added", "value", "holds"),
    [
        pytest.param([0.8, 0.9, 1.0], 0.9, True, id="all are below the bound"),
        pytest.param([0.2, 1.0, 9.0], 1.0, True, id="one slow wake among them moves the median little"),
        pytest.param([0.9, 1.1, 1.1], 1.1, False, id="most are over it"),
    ],
)
def test_what_holds(added: list[float], value: float, holds: bool) -> None:
    (claim,) = claims([WAKE | {"added_seconds": seconds} for seconds in added])
    assert (claim.value, claim.holds) == (value, holds)
    assert f"median of {len(added)}" in claim.claim


def test_every_part_of_each_wake_is_kept() -> None:
    found = judged([WAKE, WAKE | {"waited_seconds": 8.0}])
    assert set(WAKE) < set(found.results)
    assert found.results["waited_seconds"] == {"p50": 6.5, "p95": 8.0, "worst": 8.0}
    assert len(found.results["each"]) == found.inputs["wakes"] == 2
