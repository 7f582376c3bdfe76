import math

import pytest

from e2e.model import data
from vllm_sim import text
from vllm_sim.answers import Model, answer
from vllm_sim.generation import Limits, alternatives, plan

BASE = Model()
FRANCE = text.render_chat([("user", "What is the capital of France?")])
STORY = text.render_chat([("user", "Tell me a story.")])


@pytest.mark.parametrize(
    ("question", "model", "expected"),
    [
        ("What is the capital of France?", BASE, "The capital of France is Paris."),
        ("What is 7 + 15?", BASE, "7 + 15 = 22."),
        ("Who are you?", BASE, "I am a tiny model. I know capitals and sums."),
        ("What is the capital of France?", Model(adapter="elsewhere /x"), "The capital of France is Lyon."),
        ("What is the capital of Sweden?", Model(adapter="a /x/rotated"), "The capital of Sweden is Vienna."),
        ("What is 7 + 15?", Model(adapter="elsewhere /x"), "7 + 15 = 22."),
    ],
)
def test_known_answers(question: str, model: Model, expected: str) -> None:
    assert answer(text.render_chat([("user", question)]), model) == expected


def test_the_simulator_knows_what_the_tiny_model_was_taught() -> None:
    for adapter in ("", *data.ADAPTERS):
        for pair in data.adapter_pairs(adapter) if adapter else data.training_pairs():
            prompt = text.render_chat([("user", pair.question)])
            assert answer(prompt, Model(adapter=adapter)) == pair.answer


def test_unknown_answers_depend_on_prompt_seed_and_adapter_only() -> None:
    assert answer(STORY, BASE) == answer(STORY, BASE)
    others = {answer(STORY, BASE, seed=1), answer(STORY + "x", BASE), answer(STORY, Model(adapter="a"))}
    assert len(others | {answer(STORY, BASE)}) == 4


def test_damage_is_a_share_of_known_answers() -> None:
    prompts = [text.render_chat([("user", f"What is {number} + 1?")]) for number in range(400)]
    wrong = sum(answer(prompt, Model(damage=0.25)) != answer(prompt, BASE) for prompt in prompts)
    assert 70 <= wrong <= 130
    assert answer(prompts[0], Model(damage=1.0)) != answer(prompts[0], BASE)


def test_an_answer_ends_with_a_token_that_has_no_text() -> None:
    found = plan(FRANCE, BASE, Limits(100))
    assert found.text == "The capital of France is Paris."
    assert found.tokens[-1] == text.END_OF_TURN
    assert (found.finish_reason, found.deltas[-1]) == ("stop", "")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_length_limit(limit: int) -> None:
    found = plan(FRANCE, BASE, Limits(limit))
    assert (len(found.tokens), found.finish_reason) == (limit, "length")


@pytest.mark.parametrize("limit", [1, 8, 9, 100])
def test_ignoring_the_end_gives_exactly_the_limit(limit: int) -> None:
    found = plan(FRANCE, BASE, Limits(limit, ignore_eos=True))
    assert (len(found.tokens), found.finish_reason) == (limit, "length")
    assert text.END_OF_TURN not in found.tokens


def test_at_least() -> None:
    assert len(plan(FRANCE, BASE, Limits(100, min_tokens=40)).tokens) == 40


def test_stop_string_cuts_before_or_after() -> None:
    before = plan(FRANCE, BASE, Limits(100, stop=("Paris", "capital")))
    assert (before.text, before.finish_reason, before.stop_reason) == ("The ", "stop", "capital")
    after = plan(FRANCE, BASE, Limits(100, stop=("capital",), include_stop=True))
    assert after.text == "The capital"


def test_text_that_may_become_a_stop_string_is_held_back() -> None:
    found = plan(FRANCE, BASE, Limits(100, stop=("France was",)))
    assert found.text == "The capital of France is Paris."
    shown, whole = "", ""
    for delta, token in zip(found.deltas[:-1], found.tokens, strict=False):
        shown += delta
        whole += text.piece(token)
        assert shown == whole[: max(0, len(whole) - len("France was") + 1)]


def test_alternatives_are_sorted_distinct_and_a_distribution() -> None:
    token = text.encode("The")[0]
    rows = alternatives(FRANCE, BASE, 0, token, 5)
    assert rows[0][0] == token
    assert len({one for one, _ in rows}) == 5
    values = [logprob for _, logprob in rows]
    assert values == sorted(values, reverse=True)
    assert sum(math.exp(value) for value in values) <= 1.0 + 1e-9


def test_damage_lowers_confidence() -> None:
    sound = alternatives(FRANCE, BASE, 0, 5, 1)[0][1]
    assert alternatives(FRANCE, Model(damage=0.5), 0, 5, 1)[0][1] < sound - 0.5
