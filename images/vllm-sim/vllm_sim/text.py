"""Tokens and the chat template: reversible, without a vocabulary file, the same in every process.

A token is a piece of text of at most four UTF-8 bytes; its id is the piece itself read as a number after a
one byte, so any process can turn ids back to text. Real tokenizers average about four characters per token
in English; this one splits words the same way, so lengths are of the same order but not equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
"""Tokens that structure a chat; their ids are their places here."""

LONGEST_TOKEN = max(map(len, SPECIAL))
"""Characters of the longest token; a text longer than that per token of context is refused untokenized."""

END_OF_TURN = SPECIAL.index("<|end|>")
"""The id that ends an answer; it adds no text and counts as a token, as in vLLM."""

_PIECE_BYTES = 4
_WORDS = re.compile("|".join(map(re.escape, SPECIAL)) + r"| ?\w+| ?[^\w\s]+|\s+")


def encode(text: str) -> list[int]:
    """The token ids of a text; `decode` gives the text back exactly."""
    ids: list[int] = []
    for word in _WORDS.findall(text):
        if word in SPECIAL:
            ids.append(SPECIAL.index(word))
            continue
        piece = b""
        for character in word:
            raw = character.encode("utf-8", errors="surrogatepass")
            if len(piece) + len(raw) > _PIECE_BYTES:
                ids.append(_identifier(piece))
                piece = b""
            piece += raw
        ids.append(_identifier(piece))
    return ids


def piece(token: int) -> str:
    """The text of one token; empty for special and impossible ids."""
    if token <= 0xFF:
        return ""
    length = (token.bit_length() - 1) // 8
    if length > _PIECE_BYTES or token >> (8 * length) != 1:
        return ""
    raw = token & ((1 << (8 * length)) - 1)
    return raw.to_bytes(length, "big").decode("utf-8", errors="replace")


def decode(tokens: Iterable[int]) -> str:
    """The text of tokens, special ones left out."""
    return "".join(piece(token) for token in tokens)


def render_chat(messages: Sequence[tuple[str, str]]) -> str:
    """The prompt a chat becomes, by the tiny model's template: each message in its role, then the assistant's."""
    turns = "".join(f"<|{role}|>{content}<|end|>" for role, content in messages)
    return f"<|begin|>{turns}<|assistant|>"


def last_question(prompt: str) -> str:
    """The last thing the user said in a rendered chat, or the whole text of a plain prompt."""
    head, separator, _ = prompt.rpartition("<|end|><|assistant|>")
    if not separator:
        return prompt
    return head.rpartition("<|user|>")[2]


def _identifier(raw: bytes) -> int:
    return int.from_bytes(b"\x01" + raw, "big")
