"""What benchmarks share, and the form of the results that are kept."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from bench.support import RESULTS, Claim, Measured, percentiles, report, rounded, run

KEYS = ("bench", "commit", "machine", "took_seconds", "inputs", "results", "claims")
CLAIM_KEYS = ("claim", "value", "unit", "bound", "better", "holds")
FAST = Claim("It is fast.", 3.0, "s", 5.0, "lower")
MANY = Claim("It takes many.", 3.0, "requests/s", 5.0, "higher")


@pytest.mark.parametrize(
    ("value", "better", "holds"),
    [
        pytest.param(4.9, "lower", True, id="less where less is better"),
        pytest.param(5.0, "lower", True, id="the bound itself"),
        pytest.param(5.1, "lower", False, id="more where less is better"),
        pytest.param(5.1, "higher", True, id="more where more is better"),
        pytest.param(4.9, "higher", False, id="less where more is better"),
    ],
)
def test_whether_a_claim_holds(value: float, better: str, holds: bool) -> None:
    claim = Claim("It is so.", value, "s", 5.0, "lower" if better == "lower" else "higher")
    assert claim.holds is holds


@pytest.mark.parametrize(
    ("value", "better", "told", "holds"),
    [
        pytest.param(0.3797, "higher", 0.379, False, id="too little by a hair is told as too little"),
        pytest.param(0.3801, "higher", 0.38, True, id="enough by a hair is told as the bound"),
        pytest.param(0.3803, "lower", 0.381, False, id="too much by a hair is told as too much"),
        pytest.param(0.29, "lower", 0.29, True, id="a number of so many places stays as it is"),
        pytest.param(4400.0, "higher", 4400.0, True, id="a whole number stays as it is"),
    ],
)
def test_rounding_makes_no_claim_hold(
    value: float, better: Literal["lower", "higher"], told: float, holds: bool
) -> None:
    claim = Claim("It is so.", value, "", 0.38, better)
    assert (claim.told, claim.holds) == (told, holds)
    assert claim.to_json()["value"] == told


def test_figures_are_kept_to_four_digits() -> None:
    assert rounded({"a": 12345.6, "b": 0.00123456}) == {"a": 12350, "b": 0.001235}


def test_figures_are_kept_to_four_digits_at_any_depth_and_counts_as_they_are() -> None:
    found = {"runs": [{"p50": {"ms": 0.123456}}, (1.0,)], "requests": 12345, "failed": False, "engine": "simulator"}
    assert rounded(found) == {**found, "runs": [{"p50": {"ms": 0.1235}}, [1.0]]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([4, 1, 3, 2], {"p50": 2, "p95": 4, "p99": 4}, id="few values, in any order"),
        pytest.param([7], {"p50": 7, "p95": 7, "p99": 7}, id="one value"),
        pytest.param(list(range(1, 1001)), {"p50": 500, "p95": 950, "p99": 990}, id="a thousand values"),
    ],
)
def test_percentiles_by_nearest_rank(values: list[float], expected: dict[str, float]) -> None:
    assert percentiles(values) == expected


def test_a_result_names_its_commit_and_machine() -> None:
    written = report("reconcile", 12.345, Measured({"resources": 3}, {"cpu_seconds": 1.5}, [FAST]))
    assert tuple(written) == KEYS
    assert len(written["commit"].rstrip("+")) == 40
    assert written["machine"] != ""
    assert written["claims"][0] == {**dict(zip(CLAIM_KEYS, ("It is fast.", 3.0, "s", 5.0, "lower", True), strict=True))}


@pytest.mark.parametrize(
    ("claims", "code"),
    [pytest.param([FAST], 0, id="all hold"), pytest.param([FAST, MANY], 1, id="one does not, and is kept")],
)
def test_results_are_written_whether_claims_hold_or_not(
    claims: list[Claim], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "x.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(out)])
    assert run("x", lambda options: Measured({}, {}, claims)) == code
    assert [claim["holds"] for claim in json.loads(out.read_text())["claims"]] == [claim.holds for claim in claims]


def problems(kept: dict[str, Any], name: str) -> list[str]:
    """What is wrong with a kept result."""
    found = [] if tuple(kept) == KEYS else [f"has {', '.join(kept)}"]
    if kept["bench"] != name:
        found.append(f"is of {kept['bench']}")
    if kept["commit"].endswith("+"):
        found.append("is of a tree that was not committed: measure again")
    for row in kept["claims"]:
        claim = Claim(*(row[key] for key in CLAIM_KEYS[:-1]))
        if claim.to_json() != row:
            found.append(f"does not hold what it says: {row['claim']}")
    return found


def test_every_kept_result_is_whole_and_of_a_committed_tree() -> None:
    kept = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    assert {name: found for name, result in kept.items() if (found := problems(result, name))} == {}


def test_a_wrong_result_is_found() -> None:
    row = FAST.to_json()
    right = report("x", 1, Measured({}, {}, [FAST])) | {"commit": "0" * 40}
    assert problems(right, "x") == []
    assert problems(right, "y") != []
    assert problems(right | {"commit": "0" * 40 + "+"}, "x") != []
    assert problems(right | {"claims": [row | {"holds": False}]}, "x") != []
