"""docs/claims.md names tests that exist, and the check of it finds what is wrong."""

import pytest

from tools.claims import PAGE, definitions, problems, rows
from tools.repository import ROOT

HEAD = "| Claim | Shown by | Engine | Figure |\n| --- | --- | --- | --- |\n"
HERE = "tests/house/test_claims.py"


def test_every_claim_names_tests_that_exist() -> None:
    assert problems((ROOT / PAGE).read_text()) == []


def test_a_right_row_with_two_proofs_is_accepted() -> None:
    proof = f"`{HERE}::test_every_claim_names_tests_that_exist`"
    page = f"{HEAD}| It works. | {proof}, {proof} | none | 3 s |\n"
    assert len(list(rows(page))) == 1
    assert problems(page) == []


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"| It works. | `{HERE}::test_that_is_gone` | none | - |", "defines no test_that_is_gone"),
        ("| It works. | `tests/gone.py::test_it` | none | - |", "there is no file tests/gone.py"),
        (f"| It works. | `{HERE}` | none | - |", "names no test"),
        ("| It works. | somebody said so | none | - |", "not a list of `path::name`"),
        (f"| It works. | `{HERE}::problems` | a feeling | - |", "engine 'a feeling'"),
        (f"| It works. | `{HERE}::test_every_claim_names_tests_that_exist` | none |", "3 columns"),
        (f"|  | `{HERE}::test_every_claim_names_tests_that_exist` | none | - |", "must not be empty"),
    ],
)
def test_a_wrong_row_is_found(row: str, problem: str) -> None:
    (first, *_) = problems(f"text\n\n{HEAD}{row}\n")
    assert problem in first
    assert first.startswith(f"{PAGE}:5:")


def test_a_page_without_claims_is_found() -> None:
    assert problems("# Claims\n\n| Other | Table |\n| --- | --- |\n| a | b |\n") != []


def test_every_story_shows_a_claim() -> None:
    page = (ROOT / PAGE).read_text()
    stories = [
        f"{path.relative_to(ROOT)}::{name}"
        for path in sorted((ROOT / "e2e" / "stories").glob("test_*.py"))
        for name in sorted(definitions(path.read_text()))
        if name.startswith("test_")
    ]
    assert stories
    assert [story for story in stories if f"`{story}`" not in page] == []
