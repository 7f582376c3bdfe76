"""The questions that are asked where a user has none: neutral prompts of several lengths.

Nothing is expected of their answers. They tell how fast both revisions are, and whether the likeliest first tokens are
as far apart as two answers of one revision. They are plain completions, which every generating model takes.
"""

from nightshift.api.golden import GoldenQuestion
from nightshift.core.golden.parse import GoldenSet, golden_set

BUILTIN_TOKENS = 64
"""Tokens of an answer: enough for a mean time between tokens."""

_SHORT = (
    "The capital of France is",
    "Water boils at a temperature of",
    "One, two, three, four,",
    "The opposite of hot is",
    "Monday, Tuesday, Wednesday,",
    "The largest planet of the solar system is",
    "def add(a, b):\n    return",
    "A week has seven days, and a year has",
    "The chemical symbol for gold is",
    "To be, or not to be,",
    '{"name": "Ada", "age":',
    "La capitale de l'Italie est",
    "Die Hauptstadt von Österreich ist",
    "SELECT name FROM users WHERE",
    "Red, orange, yellow, green,",
    "The sum of 17 and 25 is",
)
_BEGINNINGS = (
    "Write a short note about how bread is made.",
    "Explain how a bicycle keeps its balance.",
    "Describe what happens when water freezes.",
    "List the steps for planting a tree.",
    "Summarise how a library lends books.",
    "Tell how a letter gets from one town to another.",
    "Describe the view from a hill on a clear morning.",
    "Explain why the days are longer in summer.",
)
_FILLER = (
    "The morning was quiet, and the first train left the station on time. A few people stood on the platform and read, "
    "while a dog slept under the bench. Later the market opened, and the square filled with voices, fruit and flowers. "
)
_REPEATS = (2, 4, 8, 16)
"""How often the filler stands before a question: about 100, 200, 400 and 800 tokens."""


def builtin_set() -> GoldenSet:
    """The built-in set: short prompts, instructions, and instructions behind long texts."""
    texts = [*_SHORT, *(f"{beginning}\n\n" for beginning in _BEGINNINGS)]
    for place, repeats in enumerate((*_REPEATS, *_REPEATS)):
        texts.append(f"{_FILLER * repeats}\n\n{_BEGINNINGS[place]}\n\n")
    return golden_set(
        tuple(
            GoldenQuestion(id=f"builtin-{number}", prompt=text, max_tokens=BUILTIN_TOKENS)
            for number, text in enumerate(texts, start=1)
        )
    )


def with_builtin(own: GoldenSet) -> GoldenSet:
    """A user's set and the built-in questions after it, of which nothing is expected; ids stay each their own."""
    taken = {question.id for question in own.questions}
    more = (question for question in builtin_set().questions if question.id not in taken)
    return golden_set((*own.questions, *more))
