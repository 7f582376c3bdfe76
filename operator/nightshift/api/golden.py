"""One question of a golden set, as a user writes it: a line of JSON with a prompt and what is expected."""

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from nightshift.api.base import Model
from nightshift.api.golden_schema import schema_problem

MAX_SET_BYTES = 1024 * 1024
"""Of a golden set: a ConfigMap holds no more."""

MAX_QUESTIONS = 2000
MAX_LINE_BYTES = 32 * 1024
MAX_PATTERN_CHARACTERS = 512
DEFAULT_MAX_TOKENS = 256

_Number: TypeAlias = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(strict=True, min_length=1)]
_Tolerance = Annotated[_Number, Field(ge=0)]


class GoldenMessage(Model):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text


class ExactScorer(Model):
    """The whole answer is what is expected, or one of several, white space at its ends aside."""

    type: Literal["exact"]
    ignore_case: bool = Field(default=False, strict=True)


class ContainsScorer(Model):
    """The answer contains what is expected; of several the share that it contains counts."""

    type: Literal["contains"]
    ignore_case: bool = Field(default=False, strict=True)


class RegexScorer(Model):
    """A pattern is found anywhere in the answer, in Python's syntax."""

    type: Literal["regex"]
    pattern: Annotated[str, Field(strict=True, min_length=1, max_length=MAX_PATTERN_CHARACTERS)]
    ignore_case: bool = Field(default=False, strict=True)

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"it is no regular expression of Python's ({error}); correct it") from error
        return pattern


class JsonSchemaScorer(Model):
    """The answer is JSON, bare or in one code fence, and fits a schema."""

    type: Literal["jsonSchema"]
    json_schema: dict[str, JsonValue] = Field(alias="schema")

    @field_validator("json_schema")
    @classmethod
    def _is_understood(cls, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
        problem = schema_problem(schema)
        if problem is not None:
            raise ValueError(problem)
        return schema


class NumericScorer(Model):
    """The last number in the answer is the expected one, as near as the tolerance."""

    type: Literal["numeric"]
    tolerance: _Tolerance = 0


class ChoiceScorer(Model):
    """Of the options the answer names exactly one, the expected one."""

    type: Literal["choice"]
    options: tuple[_Text, ...] = Field(min_length=2, max_length=64)
    ignore_case: bool = Field(default=False, strict=True)


Scorer: TypeAlias = ExactScorer | ContainsScorer | RegexScorer | JsonSchemaScorer | NumericScorer | ChoiceScorer
"""How an answer is judged."""

Expected: TypeAlias = StrictStr | _Number | tuple[StrictStr, ...]
_OWN_EXPECTATION = (RegexScorer, JsonSchemaScorer)


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class GoldenQuestion(Model):
    """One question."""

    id: Annotated[str, BeforeValidator(_as_text)] = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Names it in what is told of it; default: the number of its line.",
    )
    prompt: _Text | None = Field(default=None, description="Asked by /v1/completions, as it stands.")
    messages: tuple[GoldenMessage, ...] | None = Field(
        default=None, min_length=1, max_length=64, description="Asked by /v1/chat/completions."
    )
    expected: Expected | None = Field(
        default=None,
        description="A text or a number, or several texts; without a scorer a text is compared as a whole, a number "
        "with the last one in the answer.",
    )
    scorer: Annotated[Scorer, Field(discriminator="type")] | None = None
    reference: _Text | None = Field(
        default=None,
        description="An answer that is good, where none is the only right one: the score is how many words the two "
        "have in common.",
    )
    weight: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=4096)] = DEFAULT_MAX_TOKENS

    @field_validator("expected")
    @classmethod
    def _says_something(cls, expected: Expected | None) -> Expected | None:
        texts = expected if isinstance(expected, tuple) else (expected,)
        if not texts or any(isinstance(item, str) and not item.strip() for item in texts):
            raise ValueError("it is empty, which every answer would be; write what is expected, or remove it")
        return expected

    @model_validator(mode="after")
    def _fits_together(self) -> "GoldenQuestion":
        problem = _question_problem(self) or _expectation_problem(self)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def scored_by(self) -> Scorer | None:
        """How its answer is compared with what is expected; None where nothing is."""
        if self.scorer is not None or self.expected is None:
            return self.scorer
        if isinstance(self.expected, int | float):
            return NumericScorer(type="numeric")
        return ExactScorer(type="exact")


def _question_problem(question: GoldenQuestion) -> str | None:
    if (question.prompt is None) == (question.messages is None):
        has = "neither prompt nor messages" if question.prompt is None else "both prompt and messages"
        return f"it has {has}; give one of them"
    if question.reference is not None and (question.expected is not None or question.scorer is not None):
        return "reference is compared only where nothing definite is expected; remove it, or expected and scorer"
    return None


def _expectation_problem(question: GoldenQuestion) -> str | None:
    scorer, expected = question.scorer, question.expected
    if scorer is None:
        return None
    if isinstance(scorer, _OWN_EXPECTATION):
        return (
            f"the scorer {scorer.type} says itself what is expected; remove expected" if expected is not None else None
        )
    if expected is None:
        return f"the scorer {scorer.type} needs expected; add it"
    number = isinstance(expected, int | float)
    if isinstance(scorer, NumericScorer):
        return None if number else "the scorer numeric needs a number as expected, without quotes"
    if number:
        return f"the scorer {scorer.type} needs a text as expected; put it in quotes"
    if isinstance(scorer, ChoiceScorer) and expected not in scorer.options:
        return "expected is none of the scorer's options; correct the one or the other"
    return None
