"""What is read from the API server's audit log, from lines as Kubernetes 1.34 writes them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from e2e import run
from e2e.support.audit import AuditLog, Request, parse
from e2e.support.rights import complaints, of_rules, used, written

OPERATOR = "system:serviceaccount:nightshift-system:nightshift"
SECOND = "system:serviceaccount:story-a-1:second-nightshift"
ENGINE = "system:serviceaccount:story-a-1:tiny-engine"


def line(verb: str, resource: str = "", user: str = OPERATOR, code: int = 200, **more: Any) -> str:
    """One line; a resource is GROUP/RESOURCE or GROUP/RESOURCE/SUBRESOURCE, the core group being empty."""
    group, _, path = resource.partition("/")
    kind, _, subresource = path.partition("/")
    target = {"resource": kind, "subresource": subresource, "apiGroup": group, "namespace": "story-a-1", "name": "x"}
    event = {
        "kind": "Event",
        "level": "Metadata",
        "stage": "ResponseComplete",
        "requestURI": "/somewhere",
        "verb": verb,
        "user": {"username": user, "groups": ["system:authenticated"]},
        "responseStatus": {"metadata": {}, "code": code},
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    if resource:
        event["objectRef"] = {key: value for key, value in target.items() if value}
    return json.dumps(event | more)


def requests(*lines: str) -> list[Request]:
    return list(parse(lines))


FORBIDDEN: dict[str, Any] = {
    "code": 403,
    "responseStatus": {"code": 403, "message": 'pods is forbidden: User "x" cannot list resource "pods"'},
    "annotations": {"authorization.k8s.io/decision": "forbid"},
}
ENDING: dict[str, Any] = {
    "responseStatus": {"code": 403, "message": 'events "a" is forbidden: unable to create new content in namespace b'},
}
NO_CREATION: dict[str, Any] = {
    "responseStatus": {"code": 403, "message": 'services "a" is forbidden: User "x" cannot create resource "services"'},
}


def test_a_line_says_who_asked_for_what() -> None:
    (found,) = requests(line("get", "/pods/log"))
    assert found == Request(
        ("nightshift-system", "nightshift"), "get", "", "pods/log", "story-a-1", "x", 200, forbidden=False
    )


def test_accounts_are_told_apart() -> None:
    found = requests(*(line("get", "/pods", user) for user in (OPERATOR, SECOND, ENGINE, "system:admin")))
    assert [request.of_an_operator for request in found] == [True, True, False, False]
    assert found[-1].account is None


def test_a_watch_counts_once_and_when_it_begins() -> None:
    began, ended = line("watch", "/pods", stage="ResponseStarted"), line("watch", "/pods")
    listed = line("list", "/pods")
    assert [request.verb for request in requests(began, ended, listed)] == ["watch", "list"]
    assert len(requests(began)) == 1
    assert requests(ended) == []


def test_half_a_line_is_none() -> None:
    assert requests(line("get", "/pods")[:50]) == []


def test_leases_are_no_writes() -> None:
    renewed, status = requests(
        line("update", "coordination.k8s.io/leases"), line("patch", "nightshift.dev/llmdeployments/status")
    )
    assert (renewed.writes, status.writes) == (False, True)
    assert not requests(line("list", "/pods"))[0].writes


def test_an_apply_that_creates_uses_both_rights() -> None:
    created, changed = line("patch", "/services", code=201), line("patch", "apps/replicasets")
    assert used(requests(created, changed, line("get"))) == {
        ("", "services", "patch"),
        ("", "services", "create"),
        ("apps", "replicasets", "patch"),
    }


def test_rights_of_rules_are_compared_one_by_one() -> None:
    rules = [
        {"apiGroups": ["", "apps"], "resources": ["a", "b"], "verbs": ["get"]},
        {"nonResourceURLs": ["/"], "verbs": []},
    ]
    assert written(of_rules(rules) - {("", "b", "get")}) == ["get a", "get a.apps", "get b.apps"]


@pytest.mark.parametrize(
    ("rights", "code"),
    [([["", "pods", "list"], ["", "pods", "watch"]], 0), ([["", "pods", "list"]], 1), ([], 1)],
    ids=["all used, by two stories", "one is not", "nothing is used"],
)
def test_a_right_that_no_story_used_fails_the_run(
    rights: list[list[str]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = SimpleNamespace(local=True)
    monkeypatch.setattr(run, "access", lambda: local)
    monkeypatch.setattr(run, "green_stories", lambda: [{"rights": [right]} for right in rights])
    monkeypatch.setattr(run, "granted", lambda *_: {("", "pods", "list"), ("", "pods", "watch")})
    assert run.unused_rights() == code


def test_a_release_without_rights_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "access", lambda: SimpleNamespace(local=True))
    monkeypatch.setattr(run, "green_stories", list)
    monkeypatch.setattr(run, "granted", lambda *_: set())
    assert run.unused_rights() == 1


def test_rights_are_not_judged_where_the_log_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "access", lambda: SimpleNamespace(local=False))
    monkeypatch.setattr(run, "green_stories", list)
    assert run.unused_rights() == 0


def test_a_right_that_is_wanting_is_told_and_other_refusals_are_not() -> None:
    assert complaints(requests(line("list", "/pods", **FORBIDDEN))) == [
        "nightshift-system/nightshift may not list pods in story-a-1"
    ]
    assert len(complaints(requests(line("patch", "/services", **NO_CREATION)))) == 1
    gateway = "system:serviceaccount:nightshift-system-gateway:nightshift-gateway"
    (found,) = complaints(requests(line("list", "/pods", gateway, **FORBIDDEN), line("list", "/pods", gateway)))
    assert found.startswith("nightshift-system-gateway/nightshift-gateway may not list pods")
    assert complaints(requests(line("create", "/events", **ENDING), line("get", "/pods", code=404))) == []


def test_who_is_uninstalled_loses_its_rights_before_its_processes_end() -> None:
    binding = {"resource": "rolebindings", "apiGroup": "rbac", "namespace": "nightshift-system", "name": "nightshift"}
    away, back = (
        line(verb, "rbac/rolebindings", "system:admin", code, objectRef=binding)
        for verb, code in (("delete", 200), ("patch", 201))
    )
    refused = line("update", "coordination.k8s.io/leases", **FORBIDDEN)
    assert complaints(requests(away, refused)) == []
    assert len(complaints(requests(refused, away))) == 1
    assert len(complaints(requests(away, back, refused))) == 1


def test_an_engine_that_asks_for_anything_is_told() -> None:
    (found,) = complaints(requests(line("get", "", ENGINE), line("list", "/pods", "system:admin")))
    assert found.startswith("story-a-1/tiny-engine is no operator's account")


def test_what_was_written_after_a_mark_is_read_also_when_the_file_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(line("get", "/old") + "\n")
    log = AuditLog(path)
    mark = log.mark()
    assert list(log.since(mark)) == []
    with path.open("a") as file:
        file.write(line("get", "/moved") + "\n")
    path.rename(tmp_path / "audit-2026-11-24T15-00-00.000.log")
    path.write_text(line("get", "/new") + "\n")
    assert [request.resource for request in log.since(mark)] == ["moved", "new"]
    (tmp_path / "audit-2026-11-24T15-00-00.000.log").unlink()
    assert [request.resource for request in log.since(mark)] == ["new"]
