"""Golden sets as users write them: what is read, and what is said about what cannot be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.golden import MAX_LINE_BYTES, MAX_QUESTIONS, MAX_SET_BYTES, NumericScorer
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.parse import GoldenSet, SetFault, parse_set


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def parsed(content: bytes) -> GoldenSet:
    found = parse_set(content)
    assert isinstance(found, GoldenSet), found
    return found


def fault(content: bytes) -> str:
    found = parse_set(content)
    assert isinstance(found, SetFault), found
    return found.message


def test_a_set_is_read_with_its_defaults() -> None:
    content = b"\xef\xbb\xbf" + line(prompt="2 + 2 =", expected=4) + b"\r\n\n" + line(id="hello", prompt="Hi")
    first, second = parsed(content).questions
    assert (first.id, first.weight, first.max_tokens) == ("1", 1, 256)
    assert isinstance(first.scored_by, NumericScorer)
    assert (second.id, second.scored_by) == ("hello", None)


def test_every_field_is_read() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sum of 1 and 2?"}]
    scorer = {"type": "numeric", "tolerance": 0.5}
    content = line(id=7, messages=messages, expected=3, scorer=scorer, weight=5, maxTokens=16)
    (question,) = parsed(content).questions
    assert question.id == "7"
    assert question.to_json() == {
        "id": "7",
        "messages": messages,
        "expected": 3,
        "scorer": scorer,
        "weight": 5,
        "maxTokens": 16,
    }


def test_the_digest_is_that_of_the_content() -> None:
    one, same = parsed(line(prompt="a", weight=1)), parsed(line(prompt="a") + b"\n\n")
    assert one.digest == same.digest != parsed(line(prompt="b")).digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "The set holds no question. Write one JSON object with a prompt per line.", id="it is empty"),
        pytest.param(
            b"x" * (MAX_SET_BYTES + 1),
            "The set has 1048577 bytes, and 1048576 are read. Leave out questions, or shorten them.",
            id="it is larger than a ConfigMap",
        ),
        pytest.param(
            line(prompt="a") * (MAX_QUESTIONS + 1),
            "The set has 2001 questions, and 2000 are asked. Leave out some.",
            id="it has too many questions",
        ),
        pytest.param(
            b"\n" + line(prompt="a" * MAX_LINE_BYTES),
            "Line 2 has 32782 bytes, and 32768 are read. Shorten it.",
            id="a line is too long",
        ),
        pytest.param(b'{"prompt": "\xff"}', "Line 1 is no UTF-8. Save the set as UTF-8.", id="it is no UTF-8"),
        pytest.param(b"[1]", "Line 1 is no JSON object. Write {...} with a prompt on one line.", id="a line is a list"),
        pytest.param(b"[" * 30_000, "Line 1 is nested too deep. Simplify it.", id="a line is nested without end"),
        pytest.param(
            b'{"prompt": "a", "prompt": "b"}',
            "Line 1 is no JSON: 'prompt' stands there twice. Correct it.",
            id="a field stands there twice",
        ),
        pytest.param(
            b'{"prompt": "a", "expected": NaN}',
            "Line 1 is no JSON: NaN is no number of JSON. Correct it.",
            id="a number is none",
        ),
        pytest.param(
            line(id="a", prompt="a") + line(id="a", prompt="b"),
            'Line 2, id: line 1 has the id "a" as well. Give each its own.',
            id="two questions have one id",
        ),
        pytest.param(
            line(expected="a"),
            "Line 1: it has neither prompt nor messages; give one of them.",
            id="nothing is asked",
        ),
        pytest.param(
            line(prompt="a", messages=[{"role": "user", "content": "a"}]),
            "Line 1: it has both prompt and messages; give one of them.",
            id="two things are asked",
        ),
        pytest.param(
            line(prompt="a", promt="b"),
            'Line 1, promt: Extra inputs are not permitted (got "b"). Remove it, or correct its name.',
            id="a field is misspelt",
        ),
        pytest.param(
            line(prompt=1), "Line 1, prompt: Input should be a valid string (got 1). Correct it.", id="a prompt is none"
        ),
        pytest.param(
            line(prompt="a", weight=0),
            "Line 1, weight: Input should be greater than or equal to 1 (got 0). Correct it.",
            id="a question weighs nothing",
        ),
        pytest.param(
            line(messages=[{"role": "user", "content": [{"type": "text"}]}]),
            'Line 1, messages.0.content: Input should be a valid string (got [{"type": "text"}]). Correct it.',
            id="a message has parts",
        ),
        pytest.param(
            line(prompt="a", scorer={"pattern": "a"}),
            'Line 1, scorer: Unable to extract tag using discriminator \'type\' (got {"pattern": "a"}). '
            "Add type: exact, contains, regex, jsonSchema, numeric or choice.",
            id="a scorer has no type",
        ),
        pytest.param(
            line(prompt="a", scorer={"type": "contains"}),
            "Line 1: the scorer contains needs expected; add it.",
            id="a scorer has nothing to compare with",
        ),
        pytest.param(
            line(prompt="a", expected="a", scorer={"type": "regex", "pattern": "a"}),
            "Line 1: the scorer regex says itself what is expected; remove expected.",
            id="a pattern and an expectation",
        ),
        pytest.param(
            line(prompt="a", scorer={"type": "regex", "pattern": "(a"}),
            "Line 1, scorer.pattern: it is no regular expression of Python's (missing ), unterminated subpattern at "
            'position 0); correct it (got "(a").',
            id="a pattern is none",
        ),
        pytest.param(
            line(prompt="a", scorer={"type": "jsonSchema", "schema": {"minimum": 1}}),
            "Line 1, scorer.schema: the schema's keyword 'minimum' is not checked; use only type, properties, "
            'required, enum, items, const (got {"minimum": 1}).',
            id="a schema has a keyword that is not checked",
        ),
        pytest.param(
            line(prompt="a", expected="4", scorer={"type": "numeric"}),
            "Line 1: the scorer numeric needs a number as expected, without quotes.",
            id="a number is in quotes",
        ),
        pytest.param(
            line(prompt="a", expected=4, scorer={"type": "exact"}),
            "Line 1: the scorer exact needs a text as expected; put it in quotes.",
            id="a text is a number",
        ),
        pytest.param(
            line(prompt="a", expected="D", scorer={"type": "choice", "options": ["A", "B"]}),
            "Line 1: expected is none of the scorer's options; correct the one or the other.",
            id="the right choice cannot be made",
        ),
        pytest.param(
            line(prompt="a", expected="  "),
            "Line 1, expected: it is empty, which every answer would be; write what is expected, or remove it "
            '(got "  ").',
            id="an empty text is expected",
        ),
        pytest.param(
            line(prompt="a", expected="b", reference="c"),
            "Line 1: reference is compared only where nothing definite is expected; remove it, or expected and scorer.",
            id="a reference that would not be looked at",
        ),
    ],
)
def test_what_is_said_of_a_set_that_cannot_be_read(content: bytes, said: str) -> None:
    assert fault(content) == said


def test_the_first_three_faults_are_told_and_the_others_counted() -> None:
    said = fault(line(prompt="a") + line() * 5)
    assert said.startswith("Line 2: it has neither")
    assert said.count("Line ") == 3
    assert said.endswith("2 more lines are wrong.")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param({"type": "text"}, "type 'text' is unknown", id="an unknown type"),
        pytest.param({"type": []}, "type '[]' is unknown", id="no type"),
        pytest.param({"required": "a"}, "required is no list of names", id="required is a name"),
        pytest.param({"enum": "a"}, "enum is no list", id="enum is a value"),
        pytest.param({"properties": ["a"]}, "properties are no object", id="properties are a list"),
        pytest.param({"items": {"properties": {"a": 1}}}, "a schema is an object", id="an inner schema is a number"),
        pytest.param({"properties": {"a": {"format": "x"}}}, "'format' is not checked", id="an inner keyword"),
    ],
)
def test_what_is_said_of_a_schema(schema: dict[str, Any], said: str) -> None:
    assert said in fault(line(prompt="a", scorer={"type": "jsonSchema", "schema": schema}))


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(20):
        schema = {"items": schema}
    assert "nested more than 16 deep" in fault(line(prompt="a", scorer={"type": "jsonSchema", "schema": schema}))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_set_or_have_a_fault(content: bytes) -> None:
    found = parse_set(content)
    assert isinstance(found, GoldenSet) or found.message.endswith(".")


LETTERS = st.text('ab1 \n\x00{"é\u2028', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("id", "prompt", "messages", "expected", "scorer", "reference", "weight", "maxTokens", "other")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
def test_any_object_is_a_question_or_has_a_fault_with_its_line(fields: dict[str, Any]) -> None:
    found = parse_set(line(**fields))
    assert isinstance(found, GoldenSet) or found.message.startswith("Line 1")


def test_the_built_in_set_is_one_that_a_user_could_write() -> None:
    builtin = builtin_set()
    text = "".join(json.dumps(question.to_json()) + "\n" for question in builtin.questions)
    assert parsed(text.encode()) == builtin
    assert len(builtin.questions) == 32
    assert all(question.scored_by is None and question.reference is None for question in builtin.questions)
