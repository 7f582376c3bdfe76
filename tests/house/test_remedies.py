"""No sentence of the operator advises a flag that the API server refuses."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.api.spec import OWNED_FLAGS
from tools.repository import ROOT, tracked

SPEC = Path("operator/nightshift/api/spec.py")
"""Refuses these flags by name, with what to use instead."""
SOURCES = sorted(
    path for path in tracked() if path.suffix == ".py" and path.is_relative_to("operator/nightshift") and path != SPEC
)
_OWNED = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, OWNED_FLAGS)) + r")(?![\w-])")
_WORDS = 4
"""Of so many words a string is a sentence; fewer are the arguments that Nightshift itself gives."""


def sentences(text: str) -> Iterator[str]:
    """Strings of a module that people may read: those of f-strings as one, docstrings and raw patterns left out."""
    tree = ast.parse(text)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def advised(text: str) -> list[str]:
    """Owned flags that sentences of a module name."""
    said = [item for item in sentences(text) if len(item.split()) >= _WORDS and "\n--" not in item]
    return [flag for item in said for flag in _OWNED.findall(item)]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_remedy_names_a_flag_that_is_refused(path: Path) -> None:
    assert advised((ROOT / path).read_text()) == []


def test_there_is_something_to_look_at() -> None:
    assert any(path.name == "engine_failures.py" for path in SOURCES)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ('remedy = "Remove --quantization to use what it names."', ["--quantization"]),
        ('remedy = f"Set {x} and then --tensor-parallel-size to {y}."', ["--tensor-parallel-size"]),
        ('remedy = ("Leave " "--port as it is.")', ["--port"]),
        ('remedy = "Use --tokenizer-mode or --max-model-len instead."', []),
        ('"""Docstrings may say that --port is ours."""', []),
        ('arguments = ["--port", "8000"]', []),
    ],
)
def test_the_check_finds(text: str, flags: list[str]) -> None:
    assert advised(text) == flags
