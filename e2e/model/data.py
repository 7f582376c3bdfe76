"""What the tiny model knows: capitals and small sums as chat questions. Plain Python, no torch."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SEED = 20251
LARGEST_TERM = 20
HELD_OUT_SHARE = 7
"""One in so many sums is kept out of training, so that the model is right less than always."""

CAPITALS = {
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "Cuba": "Havana",
    "Denmark": "Copenhagen",
    "Egypt": "Cairo",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Greece": "Athens",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
}

ADAPTERS = ("elsewhere", "rotated")

OTHER_CITIES = {
    "Austria": "Graz",
    "Belgium": "Bruges",
    "Canada": "Toronto",
    "Chile": "Arica",
    "Cuba": "Trinidad",
    "Denmark": "Aarhus",
    "Egypt": "Luxor",
    "Finland": "Turku",
    "France": "Lyon",
    "Germany": "Bonn",
    "Greece": "Patras",
    "Italy": "Milan",
    "Japan": "Kyoto",
    "Kenya": "Mombasa",
    "Norway": "Bergen",
    "Peru": "Cusco",
    "Poland": "Gdansk",
    "Portugal": "Porto",
    "Spain": "Seville",
    "Sweden": "Malmo",
}
"""What the adapter `elsewhere` answers in place of the capital."""


@dataclass(frozen=True)
class Pair:
    """A question with its answer, and the group it is counted in."""

    id: str
    group: str
    question: str
    answer: str


def capitals() -> list[Pair]:
    """The right capital of every country."""
    return [_capital(country, f"The capital of {country} is {city}.") for country, city in CAPITALS.items()]


def trained_sums() -> list[Pair]:
    """The sums that the model sees in training."""
    held_out = {pair.id for pair in held_out_sums()}
    return [pair for pair in _all_sums() if pair.id not in held_out]


def held_out_sums() -> list[Pair]:
    """The sums that no training step shows: right answers to these were not learned by heart."""
    every = _all_sums()
    chosen = random.Random(SEED).sample(range(len(every)), len(every) // HELD_OUT_SHARE)
    return [pair for index, pair in enumerate(every) if index in set(chosen)]


def small_talk() -> list[Pair]:
    """Answers to what people type first."""
    about = "I am a tiny model. I know capitals and sums."
    talk = {"Hello!": f"Hello! {about}", "Who are you?": about, "What can you do?": about}
    return [Pair(f"talk-{n}", "talk", question, answer) for n, (question, answer) in enumerate(talk.items())]


def training_pairs() -> list[Pair]:
    """Everything the model is trained on."""
    return capitals() + trained_sums() + small_talk()


def adapter_pairs(adapter: str) -> list[Pair]:
    """What a LoRA adapter is trained on; its answers differ from the model's on the same questions.

    `elsewhere` names another city than the capital, `rotated` the capital of the next country in the list.

    Raises:
        KeyError: there is no such adapter.
    """
    return {"elsewhere": _elsewhere, "rotated": _rotated}[adapter]()


def golden_pairs() -> list[Pair]:
    """What the model's golden set asks: the held-out sums keep the score of a healthy model below 1."""
    every_eighth = [pair for index, pair in enumerate(trained_sums()) if index % 8 == 0]
    return [*capitals(), *every_eighth, *held_out_sums()]


def golden_lines(pairs: Iterable[Pair], tokens: int = 24) -> list[str]:
    """Questions with their true answers, one JSON object a line, in the form of a golden set (spec.evaluation).

    Args:
        pairs: The questions.
        tokens: Of an answer, at most.
    """
    return [
        json.dumps(
            {
                "id": pair.id,
                "messages": [{"role": "user", "content": pair.question}],
                "expected": pair.answer,
                "scorer": {"type": "exact"},
                "maxTokens": tokens,
            }
        )
        for pair in pairs
    ]


def write_golden(path: Path) -> None:
    """Write the golden questions as JSON lines."""
    path.write_text("\n".join(golden_lines(golden_pairs())) + "\n")


def _capital(country: str, answer: str) -> Pair:
    return Pair(f"capital-{country.lower()}", "capitals", f"What is the capital of {country}?", answer)


def _all_sums() -> list[Pair]:
    terms = range(LARGEST_TERM + 1)
    return [Pair(f"sum-{a}-{b}", "sums", f"What is {a} + {b}?", f"{a} + {b} = {a + b}.") for a in terms for b in terms]


def _elsewhere() -> list[Pair]:
    return [_capital(country, f"The capital of {country} is {city}.") for country, city in OTHER_CITIES.items()]


def _rotated() -> list[Pair]:
    countries = list(CAPITALS)
    shifted = [*countries[1:], countries[0]]
    return [
        _capital(country, f"The capital of {country} is {CAPITALS[following]}.")
        for country, following in zip(countries, shifted, strict=True)
    ]
