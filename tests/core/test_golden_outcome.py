"""What golden Jobs tell: packed into few bytes, read back whatever became of them, and asked for in turn."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.api.fetch import TERMINATION_MESSAGE_LIMIT
from nightshift.api.golden_run import (
    GoldenEnd,
    GoldenFailed,
    GoldenKept,
    GoldenReason,
    GoldenRun,
    parse_golden,
    parse_kept,
    to_line,
)
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.facts import Known, Unknown
from nightshift.core.golden.outcome import (
    MESSAGE_ROOM,
    MOST_RUNS,
    MOST_TRIES,
    Due,
    all_pairs,
    complete,
    due,
    expecting,
    packed,
    pairs_of,
    unasked,
    with_run,
)
from nightshift.core.golden.packing import MAX_PAIRS, Unpacked, pack, unpack
from tests.support.builders import NOW

PAIR = GoldenPair("q", 3, 1.0, 0.5, False, True, 0.1, 0.2, 0.02, 0.03, 0.5, 0.0)
EMPTY = GoldenKept(stable="r1", source="set")


def run(pairs: Sequence[GoldenPair | None] | None = None, **changes: Any) -> GoldenRun:
    made = [PAIR] if pairs is None else pairs
    values: dict[str, Any] = {
        "digest": "abcd",
        "of": len(made),
        "start": 0,
        "count": len(made),
        "asked": sum(item is not None for item in made),
        "at": NOW,
        "pairs": packed(made),
    }
    return GoldenRun(**(values | changes))


def kept(*runs: tuple[int, GoldenRun]) -> GoldenKept:
    found = EMPTY
    for number, one in runs:
        found = with_run(found, number, one)
    return found


def read(text: str, start: int = 0) -> Unpacked:
    found = unpack(text, start)
    assert found is not None
    return found


def test_what_is_packed_is_read_back_to_one_percent() -> None:
    found = read(pack([PAIR, None, GoldenPair("r")]))
    assert found.count == 3
    one, other = found.pairs
    assert (one.question, one.weight, one.stable_score, one.candidate_score) == ("q", 3, 1.0, 0.5)
    assert (one.stable_failed, one.candidate_failed, one.stable_noise) == (False, True, 0.0)
    times = (one.stable_first_token, one.candidate_first_token, one.stable_inter_token, one.candidate_inter_token)
    assert times == pytest.approx((0.1, 0.2, 0.02, 0.03), rel=0.005)
    assert one.logprob_distance == pytest.approx(0.5, rel=0.005)
    assert other == GoldenPair("r")


def test_without_ids_questions_have_their_number_in_the_set() -> None:
    assert [item.question for item in read(pack([PAIR, PAIR], with_ids=False), start=150).pairs] == ["151", "152"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(1e-9, 1e-4, id="a time is never nothing"),
        pytest.param(float("nan"), None, id="what is no number is not known"),
        pytest.param(-1.0, None, id="nor is what cannot be"),
        pytest.param(3600.0, 3600.0, id="an hour"),
    ],
)
def test_times_at_the_edges(value: float, expected: float | None) -> None:
    (found,) = read(pack([GoldenPair("q", stable_first_token=value)])).pairs
    assert found.stable_first_token == (None if expected is None else pytest.approx(expected, rel=0.005))


NUMBERS = st.none() | st.floats(0, 1e9)
SCORES = st.none() | st.floats(0, 1)
PAIRS = st.builds(
    GoldenPair,
    question=st.text("ab1é漢", min_size=1, max_size=64),
    weight=st.integers(1, 1000),
    stable_score=SCORES,
    candidate_score=SCORES,
    stable_failed=st.booleans(),
    candidate_failed=st.booleans(),
    stable_first_token=NUMBERS,
    candidate_first_token=NUMBERS,
    stable_inter_token=NUMBERS,
    candidate_inter_token=NUMBERS,
    logprob_distance=NUMBERS,
    stable_noise=NUMBERS,
)


@given(st.lists(st.none() | PAIRS, max_size=8))
def test_any_pairs_come_back_and_packing_them_again_changes_nothing(pairs: list[GoldenPair | None]) -> None:
    found = read(pack(pairs))
    assert found.count == len(pairs)
    asked = [item for item in pairs if item is not None]
    assert [(item.question, item.weight) for item in found.pairs] == [(item.question, item.weight) for item in asked]
    assert read(pack(found.pairs)).pairs == found.pairs


@given(st.lists(PAIRS, min_size=1, max_size=6), st.integers(0, 2**32))
def test_whatever_the_most_questions_hold_their_message_is_not_cut(pairs: list[GoldenPair], seed: int) -> None:
    """As unlike each other as they can be: scaled apart, so that hardly anything is compressed."""
    many = []
    for place in range(MAX_PAIRS):
        base, factor = pairs[place % len(pairs)], 1 + (seed * (place + 1) * 2654435761 % 2**32) / 2**20
        scaled: dict[str, Any] = {
            name: (getattr(base, name) or 0.001) * factor for name in ("stable_first_token", "stable_noise")
        }
        many.append(GoldenPair(base.question[:50] + str(place), base.weight, base.stable_score, **scaled))
    line = to_line(run(many, of=2000, start=1850, expecting=2000, ended=GoldenEnd.CANDIDATE_UNREACHABLE))
    assert len(line.encode()) <= TERMINATION_MESSAGE_LIMIT
    assert parse_golden(line) is not None


def test_even_what_cannot_be_compressed_leaves_room_for_the_rest() -> None:
    noise = b"".join(hashlib.sha256(str(place).encode()).digest() for place in range(80))[: 4 + MAX_PAIRS * 17]
    assert len(noise) == 4 + MAX_PAIRS * 17
    assert len(base64.b85encode(zlib.compress(noise, 9))) <= 3210 < MESSAGE_ROOM
    longest = run(of=2000, start=1850, expecting=2000, ended=GoldenEnd.CANDIDATE_UNREACHABLE, digest="a" * 32)
    assert len(to_line(longest.model_copy(update={"pairs": "x" * MESSAGE_ROOM})).encode()) < TERMINATION_MESSAGE_LIMIT


def test_more_pairs_than_fit_are_not_packed() -> None:
    with pytest.raises(ValueError, match="151 pairs, and 150 are packed at a time"):
        pack([PAIR] * 151)


def test_long_ids_give_way_to_numbers() -> None:
    ids = [hashlib.sha256(str(place).encode()).hexdigest() for place in range(MAX_PAIRS)]
    found = read(packed([GoldenPair(name) for name in ids]), start=300)
    assert found.pairs[0].question == "301"


@given(st.text("0123456789abcXYZ!#$%", max_size=300))
def test_a_damaged_text_is_unknown(text: str) -> None:
    assert isinstance(pairs_of(run().model_copy(update={"pairs": text})), Unknown)


GOOD = zlib.decompress(base64.b85decode(pack([PAIR, PAIR])))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x02" + GOOD[1:], id="of another version"),
        pytest.param(GOOD[:-5], id="with an id less"),
        pytest.param(GOOD[:20], id="cut"),
        pytest.param(GOOD[:4], id="without columns"),
        pytest.param(b"\x01\x00" + GOOD[2:], id="with ids that should not be there"),
        pytest.param(b"\x01\x01\xff\xff" + bytes(17 * 0xFFFF), id="larger than any"),
        pytest.param(GOOD[:-1] + b"\xff", id="with an id that is no text"),
    ],
)
def test_what_packs_well_and_holds_nonsense_is_unknown(raw: bytes) -> None:
    assert unpack(base64.b85encode(zlib.compress(raw)).decode()) is None


def test_a_run_that_holds_other_pairs_than_it_says_is_unknown() -> None:
    fact = pairs_of(run().model_copy(update={"count": 2}))
    assert fact == Unknown("What was told of golden questions 1 to 2 cannot be read.")


@pytest.mark.parametrize(
    "outcome",
    [
        run(),
        GoldenFailed(reason=GoldenReason.GOLDEN_SET_NOT_FOUND, message="There is none; create it."),
    ],
)
def test_an_outcome_survives_the_way_through_kubernetes(outcome: GoldenRun | GoldenFailed) -> None:
    assert parse_golden(f"some line\n{to_line(outcome)}") == outcome


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "[" * 9000,
        '{"kind":"GoldenRun"}',
        '{"kind":"Other"}',
        to_line(run()).replace('"count":1', '"count":-1'),
        to_line(run()).replace('"asked":1', '"asked":true'),
        to_line(run()).replace('"digest":"abcd"', '"digest":"<b>"'),
    ],
)
def test_what_a_golden_job_does_not_write_is_no_outcome(text: str | None) -> None:
    assert parse_golden(text) is None


def test_a_long_sentence_is_cut_to_one_line_that_fits() -> None:
    failed = GoldenFailed(reason=GoldenReason.GOLDEN_SET_INVALID, message="a\n\x00漢" + "漢" * 5000)
    assert failed.message.startswith("a 漢")
    assert len(to_line(failed).encode()) <= TERMINATION_MESSAGE_LIMIT


def test_what_is_kept_survives_the_way_through_an_annotation() -> None:
    one = kept((0, run()))
    assert parse_kept(json.dumps(one.to_json())) == one
    assert parse_kept("{") is parse_kept(None) is parse_kept('{"stable": 1}') is None


PART: list[GoldenPair | None] = [GoldenPair(f"q{place}", stable_noise=0.1) for place in range(2)]
FIRST, SECOND = run(PART, of=4), run(PART, of=4, start=2)


@pytest.mark.parametrize(
    ("known", "rounds", "expected"),
    [
        pytest.param(EMPTY, 1, Due(0, 0), id="nothing is known: the first questions"),
        pytest.param(kept((0, FIRST)), 1, Due(0, 2), id="a part is known: the next"),
        pytest.param(kept((0, SECOND)), 1, Due(0, 0), id="a part is missing: that one"),
        pytest.param(kept((0, FIRST), (0, SECOND)), 1, None, id="all is known"),
        pytest.param(kept((0, SECOND), (0, FIRST)), 2, Due(1, 0), id="all is known and asked for twice"),
        pytest.param(kept((0, FIRST), (0, SECOND), (1, FIRST)), 2, Due(1, 2), id="the second round is half known"),
        pytest.param(
            kept(*((number, run()) for number in range(MOST_RUNS))), 1000, None, id="as much is kept as may be"
        ),
    ],
)
def test_what_is_asked_next(known: GoldenKept, rounds: int, expected: Due | None) -> None:
    assert due(known, rounds) == expected


def test_a_set_is_complete_once_all_of_it_was_asked() -> None:
    assert not complete(EMPTY)
    assert not complete(kept((0, FIRST)))
    assert complete(kept((0, FIRST), (0, SECOND)))


def test_a_run_is_kept_once() -> None:
    assert kept((0, FIRST), (0, FIRST)) == kept((0, FIRST))


def test_answers_to_a_set_that_was_changed_meanwhile_take_the_place_of_the_others() -> None:
    changed = run(digest="other")
    found = kept((0, FIRST), (0, SECOND), (1, changed))
    assert [(item.round, item.run.digest) for item in found.runs] == [(0, "other")]


def test_a_question_that_is_asked_again_counts_once_besides_its_times() -> None:
    again = run([GoldenPair("q", 3, 0.0, 0.0, True, False, 0.4)], at=NOW + timedelta(minutes=1))
    fact = all_pairs(kept((0, run()), (1, again)))
    assert isinstance(fact, Known)
    assert fact.at == NOW + timedelta(minutes=1)
    first, second = fact.value
    assert (first.stable_score, first.candidate_score) == (1.0, 0.5)
    assert (second.stable_score, second.candidate_score, second.stable_failed) == (None, None, True)
    assert second.stable_first_token == pytest.approx(0.4, rel=0.005)


def test_no_pairs_are_unknown_and_damaged_ones_do_not_hide_the_others() -> None:
    broken = FIRST.model_copy(update={"pairs": "nonsense"})
    assert all_pairs(EMPTY) == Unknown("No golden question was asked of both revisions yet.")
    assert all_pairs(kept((0, broken))) == Unknown("What was told of golden questions 1 to 2 cannot be read.")
    fact = all_pairs(kept((0, broken), (0, SECOND)))
    assert isinstance(fact, Known)
    assert len(fact.value) == 2


@pytest.mark.parametrize(
    ("known", "says"),
    [
        pytest.param(EMPTY, "the golden set was not put to both revisions yet", id="nothing was asked"),
        pytest.param(
            kept((0, FIRST)), "2 of 4 golden questions were not put to both revisions yet", id="a Job is still to come"
        ),
        pytest.param(
            kept((0, run([PAIR, None, None], ended=GoldenEnd.TIME_SPENT))),
            "2 of 3 golden questions were not put to both revisions yet: a Job's time was spent",
            id="time was short",
        ),
        pytest.param(
            kept((0, run([PAIR, None], ended=GoldenEnd.STABLE_UNREACHABLE))),
            "1 of 2 golden questions were not put to both revisions yet: a Job could not reach the stable revision's "
            "pod any more",
            id="the stable revision's pod was gone",
        ),
        pytest.param(
            kept((0, run([PAIR, None], ended=GoldenEnd.CANDIDATE_UNREACHABLE))),
            "1 of 2 golden questions were not put to both revisions yet: a Job could not reach the candidate's pod any "
            "more",
            id="the candidate's was",
        ),
        pytest.param(kept((0, FIRST), (0, SECOND)), "", id="all was asked"),
    ],
)
def test_what_was_not_asked_is_told(known: GoldenKept, says: str) -> None:
    assert unasked(known) == says


HALF = run([PAIR, None, PAIR, None], ended=GoldenEnd.TIME_SPENT)
REST = run([None, PAIR, None, None], ended=GoldenEnd.TIME_SPENT)
LAST = run([None, None, None, PAIR])


@pytest.mark.parametrize(
    ("known", "expected", "whole"),
    [
        pytest.param(kept((0, HALF)), Due(0, 0, 1, (1, 3)), False, id="the rest of them alone is asked"),
        pytest.param(kept((0, HALF), (0, REST)), Due(0, 0, 2, (3,)), False, id="and again what is left of it"),
        pytest.param(kept((0, HALF), (0, REST), (0, LAST)), Due(1, 0), True, id="until all was asked"),
        pytest.param(
            kept(*((0, run([PAIR, None], at=NOW + timedelta(minutes=place))) for place in range(MOST_TRIES))),
            Due(1, 0),
            False,
            id="but not for ever",
        ),
        pytest.param(
            kept((0, run([PAIR] * 2).model_copy(update={"pairs": "nonsense"}))),
            Due(0, 0, 1, (0, 1)),
            False,
            id="what cannot be read is asked",
        ),
        pytest.param(kept((0, run()), (1, run([None], asked=1))), None, True, id="a later round need not be whole"),
    ],
)
def test_what_a_job_did_not_come_to_is_asked_by_the_next(known: GoldenKept, expected: Due | None, whole: bool) -> None:
    assert due(known, 2) == expected
    assert complete(known) is whole


def test_the_answers_that_a_set_expects_are_counted_by_the_job() -> None:
    assert expecting(EMPTY) is None
    assert expecting(kept((0, run(of=40)))) == 40, "as a Job of an older operator tells it"
    assert expecting(kept((0, run(of=40, expecting=5)))) == 5
