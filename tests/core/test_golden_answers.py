"""Answers of engines: read from the events of their streams, and laid side by side."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.golden.answer import Chunk, Ending, EngineAnswer, distance, pair, read_chunk

ROWS = [{"token": "Pa", "logprob": -0.1}, {"token": "Ly", "logprob": -9999.0}, {"token": "Pa", "logprob": -3.0}]
LIKELY = {"Pa": -0.1, "Ly": -50.0}


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": None, **fields}]}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(
            choice(delta={"role": "assistant", "content": ""}), Chunk("", False), id="a chat begins: no token"
        ),
        pytest.param(choice(delta={"content": "Pa"}), Chunk("Pa", True), id="a token of a chat"),
        pytest.param(
            choice(delta={"reasoning": "Hm"}),
            Chunk("", True),
            id="a token of reasoning is one, and no part of the answer",
        ),
        pytest.param(
            choice(delta={"reasoning_content": "Hm"}), Chunk("", True), id="and so it is in the words of older versions"
        ),
        pytest.param(choice(delta={"tool_calls": [{}]}), Chunk("", True), id="a call of a tool is one"),
        pytest.param(
            choice(delta={"content": "Pa"}, logprobs={"content": [{"top_logprobs": ROWS}]}),
            Chunk("Pa", True, LIKELY),
            id="a chat's likeliest tokens, the impossible bounded, the same written twice counted once",
        ),
        pytest.param(
            choice(text="Pa", logprobs={"top_logprobs": [{"Pa": -0.1, "Ly": -60}]}),
            Chunk("Pa", True, LIKELY),
            id="a completion's",
        ),
        pytest.param(
            choice(delta={"content": ""}, logprobs={"content": [{"top_logprobs": ROWS}]}),
            Chunk("", True, LIKELY),
            id="a token that is no whole character is one",
        ),
        pytest.param(choice(text="", finish_reason="stop"), Chunk("", False, finished=True), id="the end"),
        pytest.param(
            {"choices": [], "usage": {"completion_tokens": 7}}, Chunk("", False, tokens=7), id="how many tokens it had"
        ),
        pytest.param({"error": {"message": "dead"}}, Chunk("", False, error="{'message': 'dead'}"), id="an error"),
        pytest.param([], None, id="a list"),
        pytest.param({"choices": [1], "usage": 1}, Chunk("", False), id="nonsense says nothing"),
    ],
)
def test_events(event: Any, expected: Chunk | None) -> None:
    assert read_chunk(json.dumps(event)) == expected


def test_what_is_no_json_is_no_event() -> None:
    assert read_chunk("{") is None
    assert read_chunk("[" * 100_000) is None


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "text", "logprobs", "content", "top_logprobs", "token", "logprob", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(WILD)
def test_no_event_breaks_the_reader(event: Any) -> None:
    found = read_chunk(json.dumps(event))
    assert found is None or all(-50.0 <= value <= 0.0 for value in found.likely.values())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param({"a": -0.1, "b": -2.5}, {"a": -0.3, "c": -1.5}, 2.2 / 3, id="the worked example"),
        pytest.param({"a": -0.1}, {"a": -0.1}, 0.0, id="alike"),
        pytest.param({"a": -0.1}, {}, None, id="one tells nothing"),
        pytest.param({"a": -0.1}, {"b": -0.1}, 0.0, id="with one token each, nothing is known of the other's"),
    ],
)
def test_distances(one: dict[str, float], other: dict[str, float], expected: float | None) -> None:
    assert distance(one, other) == pytest.approx(expected)


RIGHT = EngineAnswer(Ending.ANSWERED, "4", 0.1, 0.02, {"a": -0.1, "b": -2.5})
OTHER = EngineAnswer(Ending.ANSWERED, "5", 0.2, 0.03, {"a": -0.3, "c": -1.5})
REFUSED, FAILED = EngineAnswer(Ending.REFUSED), EngineAnswer(Ending.FAILED, first_token=0.4)


def test_two_answers_side_by_side() -> None:
    found = pair("q", 3, RIGHT, OTHER, RIGHT, (1.0, 0.0))
    apart: Any = pytest.approx(2.2 / 3)
    assert found == GoldenPair("q", 3, 1.0, 0.0, False, False, 0.1, 0.2, 0.02, 0.03, apart, 0.0)


@pytest.mark.parametrize(
    ("stable", "candidate", "failed", "scores"),
    [
        pytest.param(RIGHT, FAILED, (False, True), (1.0, None), id="the candidate fails"),
        pytest.param(FAILED, RIGHT, (True, False), (None, 0.0), id="the stable one fails"),
        pytest.param(RIGHT, REFUSED, (False, True), (1.0, None), id="the candidate refuses what the other answers"),
        pytest.param(REFUSED, RIGHT, (True, False), (None, 0.0), id="the stable one refuses what the other answers"),
        pytest.param(REFUSED, REFUSED, (False, False), (None, None), id="both refuse: it is the question's fault"),
        pytest.param(REFUSED, FAILED, (False, True), (None, None), id="one refuses and one fails"),
    ],
)
def test_who_failed(
    stable: EngineAnswer,
    candidate: EngineAnswer,
    failed: tuple[bool, bool],
    scores: tuple[float | None, float | None],
) -> None:
    found = pair("q", 1, stable, candidate, scores=(1.0, 0.0))
    assert found is not None
    assert (found.stable_failed, found.candidate_failed) == failed
    assert (found.stable_score, found.candidate_score) == scores
    assert found.stable_noise is None


@pytest.mark.parametrize("stable", [RIGHT, FAILED])
def test_nothing_is_known_of_an_engine_that_was_not_reached(stable: EngineAnswer) -> None:
    gone = EngineAnswer(Ending.UNREACHABLE)
    assert pair("q", 1, stable, gone) is pair("q", 1, gone, stable) is None
