"""One run of the Job: read the set, ask, score, and say what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nightshift.adapters.engine_answers import AnsweringEngine
from nightshift.adapters.pod_http import pod_session
from nightshift.api.golden import MAX_SET_BYTES, GoldenQuestion
from nightshift.api.golden_run import GoldenEnd, GoldenFailed, GoldenOutcome, GoldenReason, GoldenRun
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.golden.answer import Ending, EngineAnswer, pair
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.outcome import packed
from nightshift.core.golden.parse import GoldenSet, SetFault, parse_set
from nightshift.core.golden.score import expects
from nightshift.evaluate.asking import Answers, Asked, Manner, ask_all
from nightshift.evaluate.patience import patient_score


@dataclass(frozen=True)
class Side:
    """One of the two engines."""

    address: str
    port: int
    model: str


@dataclass(frozen=True)
class Slice:
    """Which questions of the set are asked."""

    start: int
    count: int
    only: frozenset[int] = frozenset()
    """Places in the set of those of them that are asked; empty: all."""


def read_set(path: Path | None, source: str) -> GoldenSet | GoldenFailed:
    """The set of a file, or the built-in one.

    Args:
        path: Where it is mounted; None: the built-in one.
        source: Where it comes from, for people: `ConfigMap golden, golden.jsonl`.
    """
    if path is None:
        return builtin_set()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SET_BYTES + 1)
    except OSError as error:
        return GoldenFailed(
            reason=GoldenReason.GOLDEN_SET_NOT_FOUND,
            message=f"The golden set ({source}) cannot be read: {error.strerror}. Create it in this namespace, or "
            "correct spec.evaluation.goldenSetRef; it is looked for again every minute.",
        )
    found = parse_set(content)
    if isinstance(found, SetFault):
        return GoldenFailed(
            reason=GoldenReason.GOLDEN_SET_INVALID, message=f"The golden set ({source}) is invalid. {found.message}"
        )
    return found


async def evaluate(
    golden: GoldenSet,
    part: Slice,
    stable: Side,
    candidate: Side,
    manner: Manner,
    now: Callable[[], datetime],
    log: Callable[[str], None],
) -> GoldenOutcome:
    """Ask a part of a set, and say what came of it.

    Args:
        golden: The whole set.
        part: Which of its questions.
        stable: The engine of the revision that serves.
        candidate: The one of the revision that is judged.
        manner: How they are asked.
        now: The present moment.
        log: Takes lines for people; no question and no answer stands in them.
    """
    questions = golden.questions[part.start : part.start + part.count]
    chosen = [place for place in range(len(questions)) if not part.only or part.start + place in part.only]
    if not chosen:
        return GoldenFailed(
            reason=GoldenReason.GOLDEN_SET_CHANGED,
            message=f"The golden set has {len(golden.questions)} questions, and number {part.start + 1} was to be "
            "asked: it has become shorter meanwhile. It is asked anew from its first question on.",
        )
    async with pod_session() as session:
        ones = AnsweringEngine(session, stable.address, stable.port, stable.model)
        others = AnsweringEngine(session, candidate.address, candidate.port, candidate.model)
        asked = await ask_all([questions[place] for place in chosen], ones, others, manner)
    at = now()
    if not asked.answers:
        return _nothing(asked, stable, candidate, manner)
    answers = {chosen[place]: found for place, found in asked.answers.items()}
    pairs = _scored(questions, answers, log)
    return GoldenRun(
        digest=golden.digest,
        of=len(golden.questions),
        expecting=sum(expects(question) for question in golden.questions),
        start=part.start,
        count=len(questions),
        asked=sum(item is not None for item in pairs),
        ended=asked.ended,
        at=at,
        pairs=packed(pairs),
    )


def _scored(
    questions: Sequence[GoldenQuestion], given: Mapping[int, Answers], log: Callable[[str], None]
) -> list[GoldenPair | None]:
    """Pairs by the order of the questions; scored when all are asked, so that it takes no time from the measuring."""
    pairs: list[GoldenPair | None] = []
    for place, question in enumerate(questions):
        answers = given.get(place)
        if answers is None:
            pairs.append(None)
            continue
        scores = []
        for side, answer in (("stable", answers.stable), ("candidate", answers.candidate)):
            found, too_long = patient_score(question, answer.text) if _whole(answer) else (None, False)
            scores.append(found)
            if answer.note or too_long:
                log(f"{question.id}: {side}: {answer.note or 'its pattern takes too long; simplify it'}")
        made = (scores[0], scores[1])
        pairs.append(pair(question.id, question.weight, answers.stable, answers.candidate, answers.again, made))
    return pairs


def _whole(answer: EngineAnswer) -> bool:
    return answer.ending is Ending.ANSWERED


def _nothing(asked: Asked, stable: Side, candidate: Side, manner: Manner) -> GoldenFailed:
    if asked.ended is GoldenEnd.TIME_SPENT:
        return GoldenFailed(
            reason=GoldenReason.GOLDEN_TIME_SPENT,
            message=f"No golden question was answered within {manner.total_seconds:g} s. See what the engines say "
            "(kubectl logs); it is tried again every minute.",
        )
    side, which = (stable, "stable") if asked.ended is GoldenEnd.STABLE_UNREACHABLE else (candidate, "candidate")
    return GoldenFailed(
        reason=GoldenReason.GOLDEN_ENGINE_UNREACHABLE,
        message=f"The {which} revision's pod at {side.address}:{side.port} cannot be reached for golden questions. If "
        "it runs, see that no NetworkPolicy keeps Jobs of this namespace from it; it is tried again every minute.",
    )
