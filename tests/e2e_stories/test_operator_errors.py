"""The check of the operators' logs finds an error that is put there, and nothing else."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import ClusterAccess
from e2e.stories.judging import Judge
from e2e.support import operator_log
from e2e.support.client import Client, eventually
from e2e.support.operator_log import OperatorLogs, error_lines, unexpected

INFO = "2026-11-24 15:02:29,606 INFO nightshift.runtime.startup: Nightshift 0.1.0 starts"
WARNING = "2026-11-24 15:02:34,563 WARNING nightshift.runtime.apply: ml/tiny: The API server refuses NetworkPolicy tiny"
ERROR = (
    "2026-11-24 15:02:35,000 ERROR nightshift.runtime.controller: ml/tiny: a reconcile failed in a way that is a bug"
)
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nKeyError: 1'

KUBECTL = """#!/bin/sh
case "$1" in
  get) echo "nightshift-system nightshift-a containerd://0123456789 2026-11-24T15:02:29Z"
       echo "nightshift-system nightshift-b containerd://abcdef"
       exec sleep 60;;
  logs) cat "$(dirname "$0")/said"; exec sleep 60;;
esac
"""
"""Stands in for kubectl: one operator container that runs, and one that does not yet."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"{INFO}\n{WARNING}", [], id="what is worth a warning is no error"),
        pytest.param(f"{INFO}\n{ERROR}\n{INFO}", [ERROR], id="an error between others"),
        pytest.param(f"{ERROR}\n{TRACE}\n{INFO}", [ERROR], id="a logged exception is one"),
        pytest.param(f"{INFO}\n{TRACE}", [TRACE.splitlines()[0]], id="an exception that ended the process"),
        pytest.param(f"{WARNING}\nabout ERROR in words", [], id="the word in a message"),
        pytest.param(
            ERROR.replace("ERROR", "CRITICAL"), [ERROR.replace("ERROR", "CRITICAL")], id="worse than an error"
        ),
    ],
)
def test_errors_are_found(text: str, expected: list[str]) -> None:
    assert error_lines(text) == expected


def test_only_what_matches_a_pattern_is_expected() -> None:
    assert unexpected([ERROR], []) == [ERROR]
    assert unexpected([ERROR], ["stops leading"]) == [ERROR]
    assert unexpected([ERROR], [r"a reconcile failed"]) == []


def test_every_allowed_pattern_has_its_reason() -> None:
    assert [pattern for pattern, reason in operator_log.ALLOWED.items() if len(reason) < 20] == []


@pytest.fixture
def client(tmp_path: Path) -> Client:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "said").write_text(f"{INFO}\n{WARNING}\n")
    return Client(ClusterAccess("", kubectl, Path("helm"), "", "", plain_http=True, local=False, home=tmp_path))


@pytest.fixture
def judge(client: Client, tmp_path: Path) -> Iterator[Judge]:
    """A judge of a cluster whose operator logs what stands in the file ``said``."""
    found = Judge(client, tmp_path / "logs")
    yield found
    found.close()


def say(tmp_path: Path, *lines: str) -> None:
    with (tmp_path / "said").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def begun(judge: Judge, tmp_path: Path) -> None:
    judge.start()
    logs = tmp_path / "logs"
    eventually("the log is followed", lambda: [path for path in logs.glob("*.log") if path.stat().st_size] or None, 20)
    judge.begin()


def test_an_operator_that_logs_no_error_is_not_complained_of(judge: Judge, tmp_path: Path) -> None:
    begun(judge, tmp_path)
    assert judge.end() == set()


def test_an_error_that_is_put_into_the_log_fails_the_story(judge: Judge, tmp_path: Path) -> None:
    say(tmp_path, ERROR)
    begun(judge, tmp_path)
    with pytest.raises(AssertionError, match="a reconcile failed in a way that is a bug"):
        judge.end()
    judge.end()


def test_an_error_that_the_story_provoked_does_not(judge: Judge, tmp_path: Path) -> None:
    say(tmp_path, ERROR)
    begun(judge, tmp_path)
    judge.end(["a reconcile failed"])


def test_an_error_that_was_to_come_and_did_not_fails_the_story(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2e.stories.judging.SETTLE_SECONDS", 0.3)
    begun(judge, tmp_path)
    with pytest.raises(AssertionError, match="the check does not see what it should"):
        judge.end(["stops leading"])


def test_only_the_local_clusters_audit_log_is_read(client: Client, tmp_path: Path) -> None:
    assert Judge(client, tmp_path / "a").audit is None
    local = Client(replace(client.access, local=True))
    assert Judge(local, tmp_path / "b").audit is not None


def test_what_an_earlier_run_left_is_not_read(client: Client, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    (directory / "old.log").write_text(ERROR)
    logs = OperatorLogs(client, directory, "2026-11-24T15:00:00Z")
    logs.start()
    try:
        assert logs.new_errors() == []
    finally:
        logs.close()
