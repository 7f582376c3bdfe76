"""What golden Jobs told, read back: pairs for the analysis, and how far the asking is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nightshift.api.golden_run import GoldenEnd, GoldenKept, GoldenRun, KeptRun
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.golden.packing import pack, unpack

MESSAGE_ROOM = 3500
"""Characters that packed pairs may take; the rest of a run takes 400 of the 4096 bytes at most."""

MOST_RUNS = 28
"""Of a revision that are kept: the largest set twice, 112 KiB. An object's annotations together take 256 KiB."""


def packed(pairs: Sequence[GoldenPair | None]) -> str:
    """Pairs packed for a message: with their ids where these find room, else the questions are numbered."""
    text = pack(pairs)
    return text if len(text) <= MESSAGE_ROOM else pack(pairs, with_ids=False)


def pairs_of(run: GoldenRun) -> Fact[tuple[GoldenPair, ...]]:
    """The pairs of one run, as far as they can be read."""
    found = unpack(run.pairs, run.start)
    if found is None or found.count != run.count or len(found.pairs) != run.asked:
        return Unknown(f"What was told of golden questions {run.start + 1} to {run.start + run.count} cannot be read.")
    return Known(found.pairs, run.at)


def all_pairs(kept: GoldenKept) -> Fact[tuple[GoldenPair, ...]]:
    """The pairs of all runs that are kept.

    At temperature 0 a question that is asked again is answered alike, which is no further evidence. So its scores and
    distances count once, and from then on its times and failures alone.
    """
    told = [(item.round, pairs_of(item.run)) for item in kept.runs]
    known = [(number, fact) for number, fact in told if isinstance(fact, Known)]
    if not known:
        lost = next((fact.reason for _, fact in told if isinstance(fact, Unknown)), None)
        return Unknown(lost or "No golden question was asked of both revisions yet.")
    seen: set[str] = set()
    pairs: list[GoldenPair] = []
    for _, fact in sorted(known, key=lambda item: item[0]):
        for pair in fact.value:
            pairs.append(_times_only(pair) if pair.question in seen else pair)
            seen.add(pair.question)
    return Known(tuple(pairs), max(fact.at for _, fact in known))


def _times_only(pair: GoldenPair) -> GoldenPair:
    return replace(pair, stable_score=None, candidate_score=None, logprob_distance=None, stable_noise=None)


MOST_TRIES = 5
"""Jobs that ask what those before did not come to: of questions that take 30 s each, five ask a part of 150."""


@dataclass(frozen=True)
class Due:
    """The questions that a Job is to ask next."""

    round: int
    """Which asking of the whole set it belongs to, from 0."""
    start: int
    """Place of the first question, from 0."""
    tries: int = 0
    """Jobs that asked questions from there on in this round before."""
    left: tuple[int, ...] = ()
    """Places of the questions that these did not come to, which alone are asked; empty: all of them."""


def due(kept: GoldenKept, rounds: int) -> Due | None:
    """What is to be asked next; None where the whole set was asked so often, or as much is kept as may be.

    In the first round the questions that a Job did not come to are asked by the next one, a few times; later rounds
    tell times alone, of which any will do.

    Worked example: of 400 questions, 150 of round 0 are known: the next begins at place 150 of round 0. If question 7
    was not among these 150: it alone, first.

    Args:
        kept: What is known.
        rounds: How often the whole set is to be asked.
    """
    if len(kept.runs) >= MOST_RUNS:
        return None
    found = (_due(kept, number) for number in range(rounds))
    return next((item for item in found if item is not None), None)


def _due(kept: GoldenKept, number: int) -> Due | None:
    """What is left of one round."""
    place, whole = 0, 1
    while place < whole:
        runs = [item.run for item in kept.runs if item.round == number and item.run.start == place]
        if not runs:
            return Due(number, place)
        left = tuple(sorted(set(range(place, place + runs[0].count)) - _asked(runs)))
        if left and number == 0 and len(runs) < MOST_TRIES:
            return Due(number, place, len(runs), left)
        place, whole = place + runs[0].count, runs[0].of
    return None


def _asked(runs: Sequence[GoldenRun]) -> set[int]:
    """Places of the questions that were put to both, as far as it can be read."""
    found = (unpack(run.pairs, run.start) for run in runs if isinstance(pairs_of(run), Known))
    return {place for item in found if item is not None for place in item.places}


def complete(kept: GoldenKept) -> bool:
    """Whether every question of the set was put to both once."""
    return bool(kept.runs) and not _missing(kept)


def expecting(kept: GoldenKept) -> int | None:
    """Of how many questions of the set something is expected; None while nobody knows."""
    if not kept.runs:
        return None
    run = kept.runs[-1].run
    return run.of if run.expecting is None else run.expecting


def _missing(kept: GoldenKept) -> int:
    runs = [item.run for item in kept.runs]
    return runs[0].of - len(_asked(runs))


def unasked(kept: GoldenKept) -> str:
    """How much of the set was not put to both yet, and why, for a sentence; empty where all was."""
    if not kept.runs:
        return "the golden set was not put to both revisions yet"
    missing, runs = _missing(kept), [item.run for item in kept.runs]
    if not missing:
        return ""
    ended = next((run.ended for run in reversed(runs) if run.ended is not GoldenEnd.ALL_ASKED), None)
    why = f": {_WHY[ended]}" if ended is not None else ""
    return f"{missing:,} of {runs[0].of:,} golden questions were not put to both revisions yet{why}"


_WHY = {
    GoldenEnd.STABLE_UNREACHABLE: "a Job could not reach the stable revision's pod any more",
    GoldenEnd.CANDIDATE_UNREACHABLE: "a Job could not reach the candidate's pod any more",
    GoldenEnd.TIME_SPENT: "a Job's time was spent",
}


def with_run(kept: GoldenKept, number: int, run: GoldenRun) -> GoldenKept:
    """What is kept once a run is added.

    One of another content of the set than before takes the place of all: answers to other questions are not mixed.
    """
    same = tuple(item for item in kept.runs if item.run.digest == run.digest)
    if not same:
        number = 0
    added = KeptRun(round=number, run=run)
    return kept if added in same else kept.model_copy(update={"runs": (*same, added)})
