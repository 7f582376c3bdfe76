"""How right answers are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nightshift.api.golden import GoldenQuestion
from nightshift.api.golden_schema import TYPES, schema_problem
from nightshift.core.golden.schema import fits
from nightshift.core.golden.score import MAX_ANSWER_CHARACTERS, score

CITY = {"type": "object", "required": ["city"], "properties": {"city": {"enum": ["Paris", "Lyon"]}}}
PICK = {"type": "choice", "options": ["A", "B", "C"]}


def question(**fields: Any) -> GoldenQuestion:
    return GoldenQuestion.model_validate({"id": "1", "prompt": "?", **fields})


@pytest.mark.parametrize(
    ("fields", "answer", "expected"),
    [
        pytest.param({}, "anything", None, id="nothing is expected"),
        pytest.param({"expected": "Paris"}, " Paris\n", 1.0, id="exact: white space at the ends does not count"),
        pytest.param({"expected": "Paris"}, "Paris.", 0.0, id="exact: a full stop does"),
        pytest.param({"expected": "Paris"}, "paris", 0.0, id="exact: capitals count"),
        pytest.param(
            {"expected": "Paris", "scorer": {"type": "exact", "ignoreCase": True}},
            "PARIS",
            1.0,
            id="unless they do not",
        ),
        pytest.param({"expected": ["yes", "Yes."]}, "Yes.", 1.0, id="exact: one of several"),
        pytest.param(
            {"expected": ["Paris", "Lyon"], "scorer": {"type": "contains"}}, "Paris.", 0.5, id="contains: the share"
        ),
        pytest.param(
            {"expected": "paris", "scorer": {"type": "contains", "ignoreCase": True}},
            "It is Paris.",
            1.0,
            id="contains: capitals do not count where that is said",
        ),
        pytest.param({"scorer": {"type": "regex", "pattern": r"\b4[02]\b"}}, "It is 42.", 1.0, id="a pattern is found"),
        pytest.param({"scorer": {"type": "regex", "pattern": "^b"}}, "ab", 0.0, id="a pattern is not found"),
        pytest.param(
            {"scorer": {"type": "regex", "pattern": "yes", "ignoreCase": True}}, "YES", 1.0, id="a pattern of any case"
        ),
        pytest.param({"expected": 4}, "It is 4.", 1.0, id="a number: the one in the answer"),
        pytest.param({"expected": 4}, "2 + 2 is 4", 1.0, id="a number: the last one counts"),
        pytest.param({"expected": 4}, "4, for 2 and 2", 0.0, id="a number: not the first"),
        pytest.param({"expected": 4}, "four", 0.0, id="a number: none is there"),
        pytest.param({"expected": 1234}, "1,234", 1.0, id="a number with separators"),
        pytest.param({"expected": -0.5}, "about −0.5", 1.0, id="a negative number, with a minus of print"),
        pytest.param({"expected": 1200}, "1.2e3", 1.0, id="a number with an exponent"),
        pytest.param({"expected": 1}, "9" * 5000, 0.0, id="a number without end"),
        pytest.param(
            {"expected": 3.14, "scorer": {"type": "numeric", "tolerance": 0.01}},
            "about 3.15",
            1.0,
            id="a number within its tolerance, which binary fractions would miss",
        ),
        pytest.param(
            {"expected": 3.14, "scorer": {"type": "numeric", "tolerance": 0.01}}, "3.16", 0.0, id="a number beyond it"
        ),
        pytest.param({"expected": "B", "scorer": PICK}, "B", 1.0, id="a choice as it stands"),
        pytest.param({"expected": "B", "scorer": PICK}, "(B)", 1.0, id="a choice in brackets"),
        pytest.param({"expected": "B", "scorer": PICK}, "The answer is B.", 1.0, id="a choice in a sentence"),
        pytest.param({"expected": "B", "scorer": PICK}, "A or B", 0.0, id="a choice of two is none"),
        pytest.param({"expected": "B", "scorer": PICK}, "Because", 0.0, id="a letter in a word is no choice"),
        pytest.param(
            {"expected": "York", "scorer": {"type": "choice", "options": ["York", "New York"]}},
            "It is New York.",
            0.0,
            id="a choice that is part of the other one is not named by it",
        ),
        pytest.param(
            {"expected": "b", "scorer": {**PICK, "options": ["a", "b"], "ignoreCase": True}},
            "B",
            1.0,
            id="a choice of any case",
        ),
        pytest.param(
            {"scorer": {"type": "jsonSchema", "schema": CITY}}, '{"city": "Paris"}', 1.0, id="JSON that fits a schema"
        ),
        pytest.param(
            {"scorer": {"type": "jsonSchema", "schema": CITY}},
            '```json\n{"city": "Lyon"}\n```\n',
            1.0,
            id="JSON in a code fence",
        ),
        pytest.param(
            {"scorer": {"type": "jsonSchema", "schema": CITY}}, '{"city": "Rome"}', 0.0, id="JSON that does not fit"
        ),
        pytest.param(
            {"scorer": {"type": "jsonSchema", "schema": CITY}},
            'Here it is: {"city": "Paris"}',
            0.0,
            id="JSON with words around it",
        ),
        pytest.param({"scorer": {"type": "jsonSchema", "schema": {}}}, "[" * 9000, 0.0, id="JSON nested without end"),
        pytest.param({"scorer": {"type": "jsonSchema", "schema": {}}}, "NaN", 0.0, id="what is no JSON"),
        pytest.param({"reference": "a red fox runs"}, "The red fox", 4 / 7, id="a reference: words in common"),
        pytest.param({"reference": "a red fox"}, "", 0.0, id="a reference: nothing was said"),
    ],
)
def test_scores(fields: dict[str, Any], answer: str, expected: float | None) -> None:
    assert score(question(**fields), answer) == pytest.approx(expected)


def test_what_comes_late_in_an_answer_is_not_looked_at() -> None:
    late = " " * MAX_ANSWER_CHARACTERS + "Paris"
    assert score(question(expected="Paris"), late) == 0.0
    assert score(question(expected="Paris"), late[1:]) == 0.0
    assert score(question(expected="P"), late[1:]) == 1.0


SCORERS = st.sampled_from(
    [
        {"expected": "a"},
        {"expected": 1},
        {"expected": "a", "scorer": {"type": "contains"}},
        {"expected": "A", "scorer": PICK},
        {"scorer": {"type": "jsonSchema", "schema": CITY}},
        {"scorer": {"type": "regex", "pattern": "a|b"}},
        {"reference": "a b c"},
    ]
)


@given(SCORERS, st.text('aAbB 1-,.e{}[]"\n`é−', max_size=200))
def test_every_answer_has_a_score_between_wrong_and_right(fields: dict[str, Any], answer: str) -> None:
    found = score(question(**fields), answer)
    assert found is not None
    assert 0.0 <= found <= 1.0


NAMES = st.sampled_from(["a", "b"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, -1, "a", "b"])
PARTS = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(NAMES, SCALARS, max_size=2)
VALUES = PARTS | st.lists(PARTS, max_size=2) | st.dictionaries(NAMES, PARTS, max_size=2)
KINDS = st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True)
LEAVES = st.fixed_dictionaries({"type": KINDS}) | st.fixed_dictionaries(
    {}, optional={"enum": st.lists(PARTS, min_size=1, max_size=3), "const": PARTS}
)
SCHEMAS = LEAVES | st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "items": LEAVES,
        "properties": st.dictionaries(NAMES, LEAVES, max_size=2),
    },
)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        pytest.param(True, {"boolean"}, id="a truth value is no number"),
        pytest.param(1, {"integer", "number"}, id="a whole number"),
        pytest.param(1.0, {"integer", "number"}, id="a whole number with a point"),
        pytest.param(1.5, {"number"}, id="a broken number"),
        pytest.param("1", {"string"}, id="a text"),
        pytest.param(None, {"null"}, id="nothing"),
        pytest.param([], {"array"}, id="a list"),
        pytest.param({}, {"object"}, id="an object"),
    ],
)
def test_types(value: Any, kinds: set[str]) -> None:
    assert {kind for kind in TYPES if fits(value, {"type": kind})} == kinds


@given(SCHEMAS, VALUES)
@settings(max_examples=400)
def test_a_value_fits_a_schema_where_the_reference_implementation_says_so(schema: dict[str, Any], value: Any) -> None:
    assert schema_problem(schema) is None
    assert fits(value, schema) is Draft202012Validator(schema).is_valid(value)
