"""What an image's program leaves is taken as it comes, and only where it is an outcome."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.preflight import (
    SAID_LIMIT,
    PreflightCheck,
    PreflightOutcome,
    PreflightResult,
    parse_preflight,
    to_message,
)
from nightshift.api.revision import RevisionRecord
from tests.support.builders import revision

REFUSED = PreflightOutcome(
    vllm="0.32.0+cu130",
    cuda="13.0",
    checks=(PreflightCheck(check="arguments", result=PreflightResult.REFUSED, said="unrecognized arguments: --a"),),
)


def test_an_outcome_comes_back_as_it_was_left() -> None:
    assert parse_preflight(to_message(REFUSED)) == REFUSED
    assert parse_preflight(f"INFO some log\n{to_message(REFUSED)}\nWARNING the end\n") == REFUSED, "from a log too"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Traceback (most recent call last):",
        "{",
        "[]",
        "null",
        '{"kind": "Resolved", "sha": "' + "0" * 40 + '", "files": 1, "bytes": 1}',
        '{"kind": "Preflight", "checks": [{"check": "arguments", "result": "Perhaps"}]}',
        '{"kind": "Preflight", "vllm": "' + "9" * 65 + '"}',
        json.dumps({"kind": "Preflight", "checks": [{"check": "a", "result": "Passed"}] * 17}),
        "[" * 100_000,
    ],
)
def test_what_is_no_outcome_is_none(text: str | None) -> None:
    assert parse_preflight(text) is None


@given(st.text())
def test_anything_at_all_may_stand_there(text: str) -> None:
    parse_preflight(text)


@given(st.text())
def test_what_was_said_is_one_short_line(text: str) -> None:
    found = PreflightCheck(check="arguments", result=PreflightResult.UNKNOWN, said=text).said
    assert len(found) <= SAID_LIMIT
    assert "\n" not in found


def test_a_field_of_a_newer_program_is_passed_over() -> None:
    found = json.loads(to_message(REFUSED)) | {"rocm": "7.0"}
    assert parse_preflight(json.dumps(found)) == REFUSED


def test_a_stored_outcome_that_cannot_be_read_any_more_leaves_the_revision_readable() -> None:
    data = revision().record.to_json() | {"preflight": {"request": "abc", "outcome": {"checks": "many"}}}
    assert RevisionRecord.model_validate(data).preflight is None
