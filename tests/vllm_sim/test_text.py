from hypothesis import given
from hypothesis import strategies as st

from vllm_sim import text


@given(st.text())
def test_decoding_gives_the_text_back(sentence: str) -> None:
    kept = sentence
    for special in text.SPECIAL:
        kept = kept.replace(special, "")
    assert text.decode(text.encode(kept)) == kept or any(special in kept for special in text.SPECIAL)


def test_special_tokens_are_one_token_without_text() -> None:
    assert text.encode("<|user|>hi<|end|>") == [4, *text.encode("hi"), 2]
    assert text.decode([4, *text.encode("hi"), 2]) == "hi"


def test_impossible_ids_have_no_text() -> None:
    assert text.decode([0, 7, 255, 2**40]) == ""


def test_a_token_holds_at_most_four_bytes() -> None:
    assert [text.piece(token) for token in text.encode("internationalization 🎉🎉")] == [
        "inte", "rnat", "iona", "liza", "tion", " ", "🎉", "🎉",
    ]  # fmt: skip


def test_chat_ends_with_the_assistants_turn() -> None:
    prompt = text.render_chat([("system", "be brief"), ("user", "Hello!")])
    assert prompt == "<|begin|><|system|>be brief<|end|><|user|>Hello!<|end|><|assistant|>"
    assert text.last_question(prompt) == "Hello!"
    assert text.last_question("once upon a time") == "once upon a time"
