"""Pairs in few bytes: a Job tells them in a termination message of 4096 bytes, and they are kept in an annotation.

Scores are kept to 1/200, times and distances to 1 %; who needs more asks more questions. Columns stand together and
are compressed; whatever they hold, 150 questions without their ids take at most 3,210 characters.
"""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nightshift.core.analysis.evidence import GoldenPair

MAX_PAIRS = 150
"""Of one Job: with more a message could be too long."""

_VERSION = 1
_STEP = math.log(1.01)
_LEAST = 1e-4
"""Seconds, or nats: what is smaller counts as none."""
_NOTHING, _ZERO, _FIRST = 0, 1, 2
_LAST = 0xFFFF
_SCORES = 200
_NO_SCORE = 255
_ASKED, _STABLE_FAILED, _CANDIDATE_FAILED = 1, 2, 4
_BYTE_COLUMNS, _WORD_COLUMNS = 3, 7
_ROW_BYTES = _BYTE_COLUMNS + 2 * _WORD_COLUMNS
_LONGEST = 4 + MAX_PAIRS * (_ROW_BYTES + 4 * 64 + 1)
_TIMES = ("stable_first_token", "candidate_first_token", "stable_inter_token", "candidate_inter_token")
_DISTANCES = ("logprob_distance", "stable_noise")


@dataclass(frozen=True)
class Unpacked:
    """What a packed text held."""

    pairs: tuple[GoldenPair, ...]
    """In the order of the set; those that were not asked are left out."""
    count: int
    """Questions, asked or not."""
    places: tuple[int, ...] = ()
    """Of those that were asked, in the whole set, from 0."""


def pack(pairs: Sequence[GoldenPair | None], *, with_ids: bool = True) -> str:
    """Pack what came of consecutive questions; None for one that was not asked.

    Args:
        pairs: At most 150, in the order of the set.
        with_ids: Whether their ids are to be read back; else they are numbered.

    Raises:
        ValueError: There are more.
    """
    if len(pairs) > MAX_PAIRS:
        raise ValueError(f"{len(pairs)} pairs, and {MAX_PAIRS} are packed at a time")
    rows = [pair or GoldenPair("") for pair in pairs]
    columns = [
        bytes(_flags(pair) for pair in pairs),
        bytes(_score_code(row.stable_score) for row in rows),
        bytes(_score_code(row.candidate_score) for row in rows),
        *_words([min(row.weight, _LAST) for row in rows]),
    ]
    for name in (*_TIMES, *_DISTANCES):
        columns += _words([_code(getattr(row, name), name in _TIMES) for row in rows])
    ids = "\n".join(row.question for row in rows).encode() if with_ids else b""
    raw = struct.pack(">BBH", _VERSION, int(with_ids), len(rows)) + b"".join(columns) + ids
    return base64.b85encode(zlib.compress(raw, 9)).decode()


@lru_cache(maxsize=64)
def unpack(text: str, start: int = 0) -> Unpacked | None:
    """What was packed; None where the text is damaged, or of another version.

    Args:
        text: As `pack` made it.
        start: Place of its first question in the set; without ids, questions are named by their place, from 1.
    """
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b85decode(text), _LONGEST)
        version, with_ids, count = struct.unpack_from(">BBH", raw)
        whole = stream.eof and version == _VERSION and count <= MAX_PAIRS
        body, rest = raw[4 : 4 + count * _ROW_BYTES], raw[4 + count * _ROW_BYTES :].decode()
    except (ValueError, zlib.error, struct.error):
        return None
    ids = rest.split("\n") if with_ids and count else [str(start + place + 1) for place in range(count)]
    if not whole or len(body) != count * _ROW_BYTES or len(ids) != count or (rest and not with_ids):
        return None
    places = tuple(start + row for row in range(count) if body[row] & _ASKED)
    return Unpacked(tuple(_pairs(body, ids)), count, places)


def _pairs(body: bytes, ids: list[str]) -> list[GoldenPair]:
    count = len(ids)
    columns = [body[place * count : (place + 1) * count] for place in range(_ROW_BYTES)]
    flags, stable, candidate, *halves = columns
    words = [
        [high << 8 | low for high, low in zip(halves[place], halves[place + 1], strict=True)]
        for place in range(0, 2 * _WORD_COLUMNS, 2)
    ]
    weights, *values = words
    found = []
    for row in range(count):
        if flags[row] & _ASKED:
            measured = {name: _value(values[place][row]) for place, name in enumerate((*_TIMES, *_DISTANCES))}
            found.append(
                GoldenPair(
                    question=ids[row],
                    weight=max(1, weights[row]),
                    stable_score=_score(stable[row]),
                    candidate_score=_score(candidate[row]),
                    stable_failed=bool(flags[row] & _STABLE_FAILED),
                    candidate_failed=bool(flags[row] & _CANDIDATE_FAILED),
                    **measured,
                )
            )
    return found


def _flags(pair: GoldenPair | None) -> int:
    if pair is None:
        return 0
    return _ASKED | pair.stable_failed * _STABLE_FAILED | pair.candidate_failed * _CANDIDATE_FAILED


def _words(codes: Sequence[int]) -> list[bytes]:
    """A column of 16-bit numbers as two of bytes: those of the high bytes are nearly all alike."""
    return [bytes(code >> 8 for code in codes), bytes(code & 0xFF for code in codes)]


def _code(value: float | None, is_time: bool) -> int:
    """A number on a scale of 1 %: 0.1 ms is 2, 0.1 s is 696, 100 s is 1390.

    A time is never nothing, so one below the least is the least.
    """
    if value is None or not math.isfinite(value) or value < 0:
        return _NOTHING
    if value < _LEAST:
        return _FIRST if is_time else _ZERO
    return min(_LAST, _FIRST + round(math.log(value / _LEAST) / _STEP))


def _value(code: int) -> float | None:
    if code == _NOTHING:
        return None
    return 0.0 if code == _ZERO else _LEAST * math.exp((code - _FIRST) * _STEP)


def _score_code(score: float | None) -> int:
    if score is None or not math.isfinite(score):
        return _NO_SCORE
    return round(min(1.0, max(0.0, score)) * _SCORES)


def _score(code: int) -> float | None:
    return code / _SCORES if code <= _SCORES else None
