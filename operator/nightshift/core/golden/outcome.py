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


def synthetic(kept: GoldenKept) -> tuple[int, int]:
    """Requests that it took: of the stable revision, which is asked twice for its own noise, and of the candidate."""
    facts = [pairs_of(item.run) for item in kept.runs]
    pairs = [pair for fact in facts if isinstance(fact, Known) for pair in fact.value]
    return len(pairs) + sum(pair.stable_noise is not None for pair in pairs), len(pairs)


@dataclass(frozen=True)
class Due:
    """The questions that a Job is to ask next."""

    round: int
    """Which asking of the whole set it belongs to, from 0."""
    start: int
    """Place of the first question, from 0."""


def due(kept: GoldenKept, rounds: int) -> Due | None:
    """What is to be asked next; None where the whole set was asked so often, or as much is kept as may be.

    Worked example: of 400 questions, 150 of round 0 are known: the next begins at place 150 of round 0.

    Args:
        kept: What is known.
        rounds: How often the whole set is to be asked.
    """
    if len(kept.runs) >= MOST_RUNS:
        return None
    for number in range(rounds):
        place = reached(kept, number)
        if place is not None:
            return Due(number, place)
    return None


def reached(kept: GoldenKept, number: int) -> int | None:
    """Up to which question a round has come; None where it has come to the end."""
    place = 0
    for item in sorted(kept.runs, key=lambda item: item.run.start):
        if item.round == number and item.run.start == place:
            place += item.run.count
            if place >= item.run.of:
                return None
    return place


def complete(kept: GoldenKept) -> bool:
    """Whether the whole set was asked once."""
    return reached(kept, 0) is None


def with_run(kept: GoldenKept, number: int, run: GoldenRun) -> GoldenKept:
    """What is kept once a run is added.

    One of another content of the set than before takes the place of all: answers to other questions are not mixed.
    """
    same = tuple(item for item in kept.runs if item.run.digest == run.digest)
    if any((item.round, item.run.start) == (number, run.start) for item in same):
        return kept
    if not same:
        number = 0
    return kept.model_copy(update={"runs": (*same, KeptRun(round=number, run=run))})


def left_out(run: GoldenRun) -> str | None:
    """What is told of a run that did not ask all of its questions; None where it did."""
    if run.asked >= run.count:
        return None
    why = {
        GoldenEnd.STABLE_UNREACHABLE: "the stable revision's pod could not be reached any more",
        GoldenEnd.CANDIDATE_UNREACHABLE: "the candidate's pod could not be reached any more",
        GoldenEnd.TIME_SPENT: "its time was spent",
        GoldenEnd.ALL_ASKED: "a pod could not be reached for them",
    }[run.ended]
    return f"{run.count - run.asked} of {run.count} golden questions were not asked: {why}."
