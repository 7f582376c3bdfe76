"""What the benchmark of idleness makes of the audit log."""

from dataclasses import replace
from typing import Any

import pytest

from bench.audit_log import Request
from bench.idle import claims, idle_requests

OPERATOR = "system:serviceaccount:nightshift-bench:nightshift-bench"
LIST = Request(OPERATOR, "list", "pods", "", "", 200, 1.0, 1.1)
RENEWAL = replace(LIST, verb="update", resource="leases")


def test_reads_watches_and_the_lease_are_counted_apart() -> None:
    requests = [LIST, LIST, RENEWAL, replace(RENEWAL, verb="get"), replace(LIST, verb="watch")]
    found = idle_requests([*requests, replace(LIST, user="system:admin", verb="patch")], OPERATOR)
    assert found == {
        "writes": 0,
        "writes_by_kind": {},
        "reads": 2,
        "reads_by_kind": {"list pods": 2},
        "watches_that_ended": 1,
        "lease_renewals": 1,
        "lease_reads": 1,
        "refused": 0,
    }


@pytest.mark.parametrize("verb", ["patch", "create", "update", "delete"])
def test_one_write_is_seen_by_its_kind_also_where_it_was_refused(verb: str) -> None:
    write = replace(LIST, verb=verb, resource="llmdeployments/status", code=409)
    found = idle_requests([LIST, write], OPERATOR)
    assert (found["writes"], found["writes_by_kind"], found["refused"]) == (1, {f"{verb} llmdeployments/status": 1}, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [True, True, True], id="nothing was written"),
        pytest.param({"writes": 1}, [False, True, True], id="one status was written"),
        pytest.param({"lease_renewals": 0}, [True, False, True], id="the log does not see the operator"),
        pytest.param({"serving_at_the_end": 99}, [True, True, False], id="one does not serve any more"),
    ],
)
def test_what_holds(changes: dict[str, Any], expected: list[bool]) -> None:
    results = {"seconds": 600.0, "writes": 0, "lease_renewals": 290, "serving_at_the_end": 100}
    assert [claim.holds for claim in claims(results | changes, 100)] == expected
