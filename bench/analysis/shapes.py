"""Latency shapes: recorded requests, cut into blocks and put together anew.

A block bootstrap (Künsch 1989) keeps what makes latencies hard: heavy tails, and that requests of the same moment are
slow together. Blocks of the two revisions are drawn apart, so neither knows of the other's slow moments, which is
harder than reality, where both serve the same clients.
"""

import json
import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nightshift.core.analysis.evidence import Histogram
from tools.repository import ROOT

RECORDED = ROOT / "bench" / "recordings" / "vllm-cpu-recording.json"
"""1,500 requests to the tiny model on vLLM 0.32.0 on a processor, beside other work of its machine."""

SYNTHETIC = ROOT / "bench" / "recordings" / "synthetic-shapes.json"
"""Made by `synthetic`; no engine had a part in it."""

FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
INTER_TOKEN_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""Of vLLM 0.33 (`vllm/v1/metrics/loggers.py`)."""

BLOCK = 25
"""Requests in a row that stay together."""
_SPREAD = 0.3
"""Deviation of the logarithms of one request's times between tokens, where a recording has their mean only."""


@dataclass(frozen=True)
class Shot:
    """One recorded request."""

    first_token: float
    """Seconds."""
    inter_token: float
    """Mean seconds between tokens; 0 where there was one token."""
    tokens: int
    intervals: tuple[float, ...] = ()
    """The times between its tokens one by one, where they were recorded."""

    def slower(self, first_token: float, inter_token: float) -> "Shot":
        """The same request of an engine that takes so many times as long."""
        intervals = tuple(value * inter_token for value in self.intervals)
        return Shot(self.first_token * first_token, self.inter_token * inter_token, self.tokens, intervals)


@dataclass(frozen=True)
class Recording:
    """Requests in the order in which they were asked."""

    engine: str
    """What answered them, as people read it."""
    shots: tuple[Shot, ...]

    def halves(self) -> "tuple[Recording, Recording]":
        """The half by which thresholds are chosen, and the half that is judged."""
        middle = len(self.shots) // 2
        return Recording(self.engine, self.shots[:middle]), Recording(self.engine, self.shots[middle:])

    def to_json(self) -> dict[str, Any]:
        """As it is stored: rows of seconds to the first token, mean seconds between tokens, tokens."""
        rows = [
            [float(f"{shot.first_token:.4g}"), float(f"{shot.inter_token:.4g}"), shot.tokens] for shot in self.shots
        ]
        return {"engine": self.engine, "requests": rows}


def load(path: Path) -> Recording:
    """Read a recording, of `synthetic` or of bench.analysis_recording."""
    found = json.loads(path.read_text())
    return Recording(found["engine"], tuple(_shot(row) for row in found["requests"]))


def _shot(row: Sequence[Any]) -> Shot:
    """A row of 3 is of `synthetic`, one of 4 of bench.analysis_recording."""
    if len(row) == 3:
        return Shot(*row)
    _, first_token, _, intervals = row
    mean = sum(intervals) / len(intervals) if intervals else 0.0
    return Shot(first_token, mean, len(intervals) + 1, tuple(intervals))


def synthetic(requests: int = 4000, seed: int = 11) -> Recording:
    """Shapes from a seeded generator, for as long as there is no recording of an engine.

    The logarithm of the load is autoregressive (0.95 from request to request); one request in 25 meets a long prompt,
    which makes it slower by a Pareto factor.
    """
    source = random.Random(seed)
    shots, load_now = [], 0.0
    for _ in range(requests):
        load_now = 0.95 * load_now + source.gauss(0, math.sqrt(1 - 0.95**2))
        first = 0.09 * math.exp(0.45 * load_now + 0.45 * source.gauss(0, 1))
        if source.random() < 0.04:
            first *= min(30.0, 2 * source.paretovariate(1.5))
        inter = 0.02 * math.exp(0.2 * load_now + 0.1 * source.gauss(0, 1))
        tokens = min(2000, max(1, round(120 * math.exp(0.9 * source.gauss(0, 1)))))
        shots.append(Shot(first, inter, tokens))
    return Recording("none: a seeded generator (bench/analysis/shapes.py), not a recording", tuple(shots))


class Shape:
    """A recording from which histograms of any number of requests are drawn, at little cost.

    Histograms of every block that can begin anywhere are added up before; a draw adds up blocks.
    """

    def __init__(self, recording: Recording, first_token: float = 1.0, inter_token: float = 1.0) -> None:
        self.shots = [shot.slower(first_token, inter_token) for shot in recording.shots]
        self._first = [_spread_one(shot.first_token, FIRST_TOKEN_BOUNDS) for shot in self.shots]
        self._inter = [_spread_tokens(shot) for shot in self.shots]

    def __len__(self) -> int:
        return len(self.shots)

    @cached_property
    def _first_blocks(self) -> dict[int, list[int]]:
        return _blocks(self._first)

    @cached_property
    def _inter_blocks(self) -> dict[int, list[int]]:
        return _blocks(self._inter)

    @cached_property
    def _token_blocks(self) -> list[int]:
        return _blocks([{0: shot.tokens} for shot in self.shots])[0]

    @cached_property
    def _busy_blocks(self) -> list[int]:
        """Milliseconds that the requests take."""
        return _blocks([{0: round(1000 * (shot.first_token + shot.inter_token * shot.tokens))} for shot in self.shots])[
            0
        ]

    def draw(self, requests: int, source: random.Random) -> tuple[Histogram, Histogram, int, float]:
        """Times to first token and between tokens of some requests, their tokens, and the seconds that they take."""
        first, inter = [0] * (len(FIRST_TOKEN_BOUNDS) + 1), [0] * (len(INTER_TOKEN_BOUNDS) + 1)
        starts = [int(source.random() * len(self.shots)) for _ in range(requests // BLOCK)]
        for bucket, column in self._first_blocks.items():
            first[bucket] = sum([column[start] for start in starts])
        for bucket, column in self._inter_blocks.items():
            inter[bucket] = sum([column[start] for start in starts])
        tokens = sum([self._token_blocks[start] for start in starts])
        busy = sum([self._busy_blocks[start] for start in starts]) / 1000
        start = int(source.random() * len(self.shots))
        for offset in range(requests % BLOCK):
            index = (start + offset) % len(self.shots)
            shot = self.shots[index]
            for bucket, count in self._first[index].items():
                first[bucket] += count
            for bucket, count in self._inter[index].items():
                inter[bucket] += count
            tokens += shot.tokens
            busy += shot.first_token + shot.inter_token * shot.tokens
        return Histogram(FIRST_TOKEN_BOUNDS, tuple(first)), Histogram(INTER_TOKEN_BOUNDS, tuple(inter)), tokens, busy

    def draw_first(self, requests: int, source: random.Random) -> Histogram:
        """Times to first token alone, for those who look at nothing else."""
        first = [0] * (len(FIRST_TOKEN_BOUNDS) + 1)
        starts = [int(source.random() * len(self.shots)) for _ in range(requests // BLOCK)]
        for bucket, column in self._first_blocks.items():
            first[bucket] = sum([column[start] for start in starts])
        start = int(source.random() * len(self.shots))
        for offset in range(requests % BLOCK):
            for bucket, count in self._first[(start + offset) % len(self.shots)].items():
                first[bucket] += count
        return Histogram(FIRST_TOKEN_BOUNDS, tuple(first))

    def percentile(self, share: float) -> float:
        """A quantile of the times to first token, in seconds."""
        ordered = sorted(shot.first_token for shot in self.shots)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _spread_one(value: float, bounds: Sequence[float]) -> dict[int, int]:
    return {bisect_left(bounds, value): 1}


def _spread_tokens(shot: Shot) -> dict[int, int]:
    """Intervals of one request by bucket; where only their mean is known, log-normal around it, rounded."""
    if shot.intervals:
        return dict(Counter(bisect_left(INTER_TOKEN_BOUNDS, value) for value in shot.intervals))
    intervals = shot.tokens - 1
    if intervals <= 0 or shot.inter_token <= 0:
        return {}
    found, below = {}, 0
    for bucket, bound in enumerate(INTER_TOKEN_BOUNDS):
        at = math.log(bound / shot.inter_token) / _SPREAD
        upto = round(intervals * 0.5 * math.erfc(-at / math.sqrt(2)))
        if upto > below:
            found[bucket] = upto - below
            below = upto
    if below < intervals:
        found[len(INTER_TOKEN_BOUNDS)] = intervals - below
    return found


def _blocks(rows: Sequence[dict[int, int]]) -> dict[int, list[int]]:
    """By bucket, the sums of the BLOCK rows that begin at each index; the recording goes round."""
    found = {}
    for bucket in sorted({bucket for row in rows for bucket in row}):
        column = [row.get(bucket, 0) for row in rows]
        running, sums = sum(column[index % len(rows)] for index in range(BLOCK)), []
        for index in range(len(rows)):
            sums.append(running)
            running += column[(index + BLOCK) % len(rows)] - column[index]
        found[bucket] = sums
    return found


def write_synthetic() -> None:
    """Write the synthetic shapes to where they lie."""
    SYNTHETIC.parent.mkdir(parents=True, exist_ok=True)
    SYNTHETIC.write_text(json.dumps(synthetic().to_json(), separators=(",", ":")) + "\n")
