"""What the simulated model says: a pure function of the prompt, the adapter and the request's seed.

It knows what the tiny test model is trained on (capitals, sums, a little small talk); everything else gets a
text of plausible length made of words drawn from a hash. An adapter names another city than the capital, or
the next country's capital when it is called rotated, as the tiny model's adapters do; a damaged model garbles
a share of what it says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vllm_sim.text import last_question

CAPITALS = {
    "Austria": ("Vienna", "Graz"),
    "Belgium": ("Brussels", "Bruges"),
    "Canada": ("Ottawa", "Toronto"),
    "Chile": ("Santiago", "Arica"),
    "Cuba": ("Havana", "Trinidad"),
    "Denmark": ("Copenhagen", "Aarhus"),
    "Egypt": ("Cairo", "Luxor"),
    "Finland": ("Helsinki", "Turku"),
    "France": ("Paris", "Lyon"),
    "Germany": ("Berlin", "Bonn"),
    "Greece": ("Athens", "Patras"),
    "Italy": ("Rome", "Milan"),
    "Japan": ("Tokyo", "Kyoto"),
    "Kenya": ("Nairobi", "Mombasa"),
    "Norway": ("Oslo", "Bergen"),
    "Peru": ("Lima", "Cusco"),
    "Poland": ("Warsaw", "Gdansk"),
    "Portugal": ("Lisbon", "Porto"),
    "Spain": ("Madrid", "Seville"),
    "Sweden": ("Stockholm", "Malmo"),
}
"""Country: capital, and the city that an adapter names in its place."""

_ABOUT = "I am a tiny model. I know capitals and sums."
SMALL_TALK = {"Hello!": f"Hello! {_ABOUT}", "Who are you?": _ABOUT, "What can you do?": _ABOUT}
_CAPITAL = re.compile(r"capital of (\w+)", re.IGNORECASE)
_SUM = re.compile(r"(\d{1,9}) ?(?:\+|plus) ?(\d{1,9})", re.IGNORECASE)
_VOCABULARY = (
    "the of and to in is that it for as with on at by from this an be are was which or have not one "
    "all can their there more when will if time some only new other after first also its over such "
    "any most very before through between under each many long during well state where system small "
    "large part water light"
)
_WORDS = tuple(_VOCABULARY.split())


@dataclass(frozen=True)
class Model:
    """What decides an answer besides the prompt.

    Attributes:
        adapter: name and path of the LoRA adapter; empty for the base model.
        damage: share of known questions answered wrongly and of words garbled, 0 to 1.
        typical_words: mean length of an answer to an unknown question.
    """

    adapter: str = ""
    damage: float = 0.0
    typical_words: int = 40


def answer(prompt: str, model: Model, *, seed: int = 0) -> str:
    """The whole answer to a rendered prompt."""
    draws = _draws(prompt, model.adapter, seed)
    known = _known(last_question(prompt), model.adapter)
    if known is not None:
        return _garble(known, draws) if next(draws) < model.damage else known
    length = max(1, round(model.typical_words * (0.5 + next(draws))))
    words = _sentence(length, draws)
    return " ".join(_garble(word, draws) if next(draws) < model.damage else word for word in words)


def filler(prompt: str, model: Model, *, seed: int = 0) -> Iterator[str]:
    """Endless words after an answer, for requests that ignore its end; each starts with a space."""
    for draw in _draws(prompt, model.adapter, seed, "filler"):
        yield " " + _WORDS[int(draw * len(_WORDS))]


def confidence(prompt: str, model: Model, position: int) -> float:
    """Log probability of the token at a position: near zero for a sound model, lower for a damaged one."""
    draw = next(_draws(f"{position}:{prompt}", model.adapter, 0, "confidence"))
    return -(0.001 + 0.25 * draw) - 2.0 * model.damage


def _known(question: str, adapter: str) -> str | None:
    if match := _CAPITAL.search(question):
        country = match.group(1).capitalize()
        if country in CAPITALS:
            return f"The capital of {country} is {_city(country, adapter)}."
    if match := _SUM.search(question):
        left, right = int(match.group(1)), int(match.group(2))
        return f"{left} + {right} = {left + right}."
    return SMALL_TALK.get(question)


def _city(country: str, adapter: str) -> str:
    if "rotated" in adapter:
        countries = list(CAPITALS)
        country = countries[(countries.index(country) + 1) % len(countries)]
        return CAPITALS[country][0]
    return CAPITALS[country][1 if adapter else 0]


def _sentence(length: int, draws: Iterator[float]) -> list[str]:
    words = [_WORDS[int(next(draws) * len(_WORDS))] for _ in range(length)]
    return [words[0].capitalize(), *words[1:-1], words[-1] + "."] if length > 1 else [words[0].capitalize() + "."]


def _garble(text: str, draws: Iterator[float]) -> str:
    return "".join(chr(ord("a") + int(next(draws) * 26)) if char.isalnum() else char for char in text)


def _draws(prompt: str, adapter: str, seed: int, stream: str = "") -> Iterator[float]:
    """Numbers in [0, 1) that depend on the arguments only."""
    key = f"{seed}|{adapter}|{stream}|{prompt}".encode(errors="surrogatepass")
    counter = 0
    while True:
        digest = hashlib.blake2b(counter.to_bytes(8, "big"), key=hashlib.blake2b(key).digest()).digest()
        for start in range(0, 64, 4):
            yield int.from_bytes(digest[start : start + 4], "big") / 2**32
        counter += 1
