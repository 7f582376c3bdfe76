"""How right an answer is, from 0 to 1. Pure: the same answer always has the same score."""

import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from nightshift.api.golden import (
    ChoiceScorer,
    ContainsScorer,
    ExactScorer,
    Expected,
    GoldenQuestion,
    JsonSchemaScorer,
    NumericScorer,
    RegexScorer,
)
from nightshift.core.golden.schema import fits

MAX_ANSWER_CHARACTERS = 16 * 1024
"""What comes after so many characters of an answer is not looked at: 4096 tokens have about as many."""

_NUMBER = re.compile(
    r"[-+−]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
)
_FENCE = re.compile(r"\s*```[A-Za-z]*[ \t]*\n(.*?)\n?\s*```\s*", re.DOTALL)
_LONGEST_NUMBER = 40
_WORD = re.compile(r"\w+")


def score(question: GoldenQuestion, answer: str) -> float | None:
    """How right an answer is; None where nothing is expected of it.

    Worked examples: 4 is expected, `It is 4.` scores 1. One of Paris and Lyon by contains, `Paris.` scores 0.5.

    Args:
        question: With what is expected.
        answer: What the engine wrote, reasoning aside.
    """
    text = answer[:MAX_ANSWER_CHARACTERS]
    scorer, expected = question.scored_by, question.expected
    if scorer is None:
        return _overlap(text, question.reference) if question.reference is not None else None
    if isinstance(scorer, RegexScorer):
        flags = re.IGNORECASE if scorer.ignore_case else 0
        return float(re.search(scorer.pattern, text, flags) is not None)
    if isinstance(scorer, JsonSchemaScorer):
        return _fits_schema(text, scorer.json_schema)
    if isinstance(scorer, NumericScorer):
        return _number(text, Decimal(str(expected)), Decimal(str(scorer.tolerance)))
    wanted = _texts(expected)
    if isinstance(scorer, ChoiceScorer):
        return _choice(text, wanted, scorer)
    return _compared(text, wanted, scorer)


def expects(question: GoldenQuestion) -> bool:
    """Whether an answer to it has a score."""
    return question.scored_by is not None or question.reference is not None


def needs_time(question: GoldenQuestion) -> bool:
    """Whether the score of an answer can take for ever, as that of some patterns does."""
    return isinstance(question.scored_by, RegexScorer)


def _texts(expected: Expected | None) -> tuple[str, ...]:
    return expected if isinstance(expected, tuple) else (str(expected),)


def _compared(text: str, wanted: tuple[str, ...], scorer: ExactScorer | ContainsScorer) -> float:
    if scorer.ignore_case:
        text, wanted = text.casefold(), tuple(item.casefold() for item in wanted)
    if isinstance(scorer, ExactScorer):
        return float(text.strip() in {item.strip() for item in wanted})
    return sum(item.strip() in text for item in wanted) / len(wanted)


def _choice(text: str, wanted: tuple[str, ...], scorer: ChoiceScorer) -> float:
    """The answer is one of the options as it stands, or names one and no other.

    Worked example: of the options A, B and C, `The answer is B.` is B; `A or B` is none.
    """
    flags = re.IGNORECASE if scorer.ignore_case else 0
    named = [option for option in scorer.options if re.fullmatch(rf"\W*{re.escape(option)}\W*", text, flags)]
    if not named:
        named = [option for option in scorer.options if re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text, flags)]
    # An option may be part of another one: with "New York", "York" is not named.
    longest = [one for one in named if not any(one != other and one in other for other in named)]
    return float(len(longest) == 1 and longest[0] in wanted)


def _number(text: str, expected: Decimal, tolerance: Decimal) -> float:
    """The last number counts, for answers reason before they say it.

    Worked example: 3.14 with a tolerance of 0.01 is met by `about 3.15`, and 1234 by `1,234`.
    """
    found = _NUMBER.findall(text)
    if not found or len(found[-1]) > _LONGEST_NUMBER:
        return 0.0
    given = Decimal(found[-1].replace(",", "").replace("−", "-"))
    return float(abs(given - expected) <= tolerance)


def _fits_schema(text: str, schema: dict[str, Any]) -> float:
    fenced = _FENCE.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refused)
        return float(fits(value, schema))
    except (ValueError, RecursionError):
        return 0.0


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _overlap(text: str, reference: str) -> float:
    """The harmonic mean of how much of the answer is in the reference and how much of the reference in the answer.

    Words are counted, in small letters and any order. Source: the F1 of SQuAD (arXiv 1606.05250).
    Worked example: `the red fox` against `a red fox runs` has 2 words in common: 2 * 2 / (3 + 4) = 0.571.
    """
    given, wanted = Counter(_words(text)), Counter(_words(reference))
    total = given.total() + wanted.total()
    return 2 * (given & wanted).total() / total if total else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
