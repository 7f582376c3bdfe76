"""How the benchmark of reconciling reads the audit log, and what it makes of it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.audit_log import AuditLog, Request, counts, parse
from bench.fleet import GPUS_PER_NODE, keys, manifest
from bench.operator_process import cpu_seconds, memory_mib
from bench.reconcile import applied, claims, delays, of_operator, per_resource, pods_requested, spread
from nightshift.api.resource import parse as parse_resource

OPERATOR = "system:serviceaccount:nightshift-bench:nightshift-bench"


def line(verb: str = "patch", resource: str = "replicasets", second: float = 1.0, **changes: Any) -> str:
    """A line of the audit log, answered a tenth of a second after it came in."""
    whole, part = divmod(round(second * 10), 10)
    event = {
        "kind": "Event",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": OPERATOR},
        "objectRef": {"resource": resource, "namespace": "bench-0", "name": "bot-0000-h1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "requestReceivedTimestamp": f"2026-03-01T12:00:{whole:02}.{part}00000Z",
        "stageTimestamp": f"2026-03-01T12:00:{whole:02}.{part + 1}00000Z",
    }
    return json.dumps(event | changes)


def request(*arguments: Any, **changes: Any) -> Request:
    found = parse(line(*arguments, **changes))
    assert found is not None
    return found


def test_a_line_is_read() -> None:
    found = request("patch", "llmdeployments", objectRef={"resource": "llmdeployments", "subresource": "status"})
    assert (found.user, found.verb, found.resource, found.code) == (OPERATOR, "patch", "llmdeployments/status", 201)
    assert found.answered - found.received == pytest.approx(0.1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stage": "ResponseStarted"}, id="a watch that goes on"),
        pytest.param({"objectRef": None}, id="an object that is none"),
    ],
)
def test_what_is_no_answer_about_an_object_is_passed_over(changes: dict[str, Any]) -> None:
    event = json.loads(line()) | changes
    if event["objectRef"] is None:
        del event["objectRef"]
    assert parse(json.dumps(event)) is None


def test_the_log_is_read_from_now_on_and_across_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(line("get") + "\n")
    log = AuditLog(path)
    with path.open("a") as old:
        old.write(line("create") + "\n" + line("patch")[:50])
        old.flush()
        assert [item.verb for item in log.read()] == ["create"]
        old.write(line("patch")[50:] + "\n")
    path.rename(tmp_path / "audit-1.log")
    path.write_text(line("delete") + "\n")
    assert [item.verb for item in log.read()] == ["patch", "delete"]
    assert log.read() == []
    log.close()


def test_only_the_operators_requests_count_and_neither_leases_nor_watches() -> None:
    others = [
        request("patch", user={"username": "system:admin"}),
        request("watch", "pods"),
        request("update", "leases"),
    ]
    own = [request("patch"), request("get", "services"), request("patch")]
    found = of_operator([*others, *own], OPERATOR)
    assert per_resource(counts(found), 2) == {"patch replicasets": 1.0, "get services": 0.5}


def test_an_object_is_applied_with_the_first_apply_that_was_not_refused() -> None:
    requests = [
        request(second=1, responseStatus={"code": 409}),
        request(second=2),
        request(second=3, responseStatus={"code": 200}),
    ]
    when = applied(requests, OPERATOR, "replicasets")
    assert {key: round(at % 60, 1) for key, at in when.items()} == {("bench-0", "bot-0000-h1"): 2.1}
    latest = pods_requested(requests, OPERATOR)
    assert {key: round(at % 60, 1) for key, at in latest.items()} == {("bench-0", "bot-0000"): 3.1}


def test_what_never_ended_is_told_and_not_left_out() -> None:
    first, second = ("ns", "a"), ("ns", "b")
    assert delays({first: 1.0}, {first: 3.5, second: 9.0}) == [2.5]
    with pytest.raises(ValueError, match="1 of 2 have no end"):
        delays({first: 1.0, second: 1.0}, {first: 3.5})


def test_a_claim_that_does_not_hold_says_so() -> None:
    results = {
        "burst": {"objects_applied_seconds": 31, "pods_created_seconds": 32},
        "operator_peak_memory_mib": 250.0,
        "change": {"acted_on_seconds": spread([0.1] * 98 + [1.2, 3.0])},
        "restart": {"writes": 0},
    }
    assert [claim.holds for claim in claims(results, 1000)] == [False, True, True, False, True]


def test_the_fleet_is_understood_and_has_room() -> None:
    found = keys(25)
    assert len(set(found)) == 25
    body = manifest(found[3])
    body["metadata"] |= {"uid": "u", "generation": 1}
    deployment = parse_resource(body)
    assert deployment.spec.hardware is None
    assert deployment.spec.replicas == 1
    assert GPUS_PER_NODE > 0


def test_this_process_has_used_processor_and_memory() -> None:
    assert cpu_seconds(os.getpid()) >= 0
    assert memory_mib(os.getpid(), "VmHWM") >= memory_mib(os.getpid(), "VmRSS") > 0
