import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api.fetch import (
    TERMINATION_MESSAGE_LIMIT,
    Downloaded,
    Failed,
    FetchOutcome,
    FetchReason,
    Progress,
    Resolved,
    parse_outcome,
    parse_progress,
    to_line,
)
from nightshift.api.termination import MESSAGE_LIMIT

SHA = "0123456789abcdef0123456789abcdef01234567"
PROGRESS = Progress(bytes_done=1, bytes_total=2, files_done=0, files_total=1)
OUTCOMES: list[FetchOutcome] = [
    Resolved(sha=SHA, files=3, bytes=10),
    Downloaded(sha=SHA, files=0, bytes=0),
    Failed(reason=FetchReason.MODEL_NOT_FOUND, message="There is no such model; correct spec.model.uri."),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_survives_the_way_through_kubernetes(outcome: FetchOutcome) -> None:
    assert parse_outcome(to_line(outcome)) == outcome


def test_an_outcome_is_found_at_the_end_of_a_log() -> None:
    log = f"Traceback: something\n{to_line(PROGRESS)}\n{to_line(OUTCOMES[0])}\n{{broken\n"
    assert parse_outcome(log) == OUTCOMES[0]


def test_progress_survives_the_way_through_a_log() -> None:
    assert parse_progress(to_line(PROGRESS) + "\n") == PROGRESS


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "null",
        "[]",
        '"Resolved"',
        "{}",
        '{"kind":"Resolved"}',
        '{"kind":"Other","sha":"' + SHA + '"}',
        '{"kind":"Resolved","sha":"main","files":1,"bytes":1}',
        '{"kind":"Resolved","sha":"' + SHA + '\\n","files":1,"bytes":1}',
        '{"kind":"Resolved","sha":"' + SHA + '","files":-1,"bytes":1}',
        '{"kind":"Resolved","sha":"' + SHA + '","files":true,"bytes":1}',
        '{"kind":"Resolved","sha":"' + SHA + '","files":1,"bytes":1e300}',
        '{"kind":"Resolved","sha":"' + SHA + '","files":1,"bytes":' + "9" * 30 + "}",
        '{"kind":"Failed","reason":"AnythingElse","message":"x"}',
        '{"kind":"Failed","reason":"ModelNotFound","message":""}',
        "[" * 100_000,
        "9" * 10_000,
        "\ud800",
        to_line(PROGRESS),
    ],
)
def test_what_is_no_outcome_is_none(text: str | None) -> None:
    assert parse_outcome(text) is None


@pytest.mark.parametrize("line", [None, "", "5", "{", to_line(OUTCOMES[0]), '{"kind":"Progress","bytesDone":1}'])
def test_what_is_no_progress_is_none(line: str | None) -> None:
    assert parse_progress(line) is None


@given(st.text())
@settings(deadline=None)
def test_no_text_breaks_the_readers(text: str) -> None:
    assert parse_outcome(text) is None
    assert parse_progress(text) is None


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=3000))
@settings(deadline=None)
def test_a_failure_fits_a_termination_message(message: str) -> None:
    failed = Failed(reason=FetchReason.MODEL_DOWNLOAD_STALLED, message="x" + message)
    assert len(to_line(failed).encode()) <= TERMINATION_MESSAGE_LIMIT
    assert len(failed.message) <= MESSAGE_LIMIT
    assert parse_outcome(to_line(failed)) == failed


def test_a_failure_is_one_line() -> None:
    failed = Failed(reason=FetchReason.MODEL_CORRUPT, message="one\n\ttwo\x1b[31m \u2028three")
    assert failed.message == "one two [31m three"


def test_fields_of_a_newer_writer_are_passed_over() -> None:
    line = json.dumps({**OUTCOMES[1].to_json(), "seconds": 5})
    assert parse_outcome(line) == OUTCOMES[1]


def test_reasons_are_condition_reasons() -> None:
    assert all(reason.value.isalnum() and reason.value[0].isupper() for reason in FetchReason)
