"""``python -m tools.claims``: every row of docs/claims.md names a test or benchmark that exists.

A row reads ``| claim | `path::name`, ... | engine | figure |``; what the columns mean stands in the page itself.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.repository import ROOT

PAGE = Path("docs/claims.md")
HEADER = ("Claim", "Shown by", "Engine", "Figure")
ENGINES = frozenset({"real vLLM", "simulator", "none"})

_CELLS = re.compile(r"(?<!\\)\|")
_PROOF = re.compile(r"`([^`]+)`")
_PROOFS_ONLY = re.compile(r"^`[^`]+`(, `[^`]+`)*$")


@dataclass(frozen=True)
class Row:
    """A row of a table of claims."""

    line: int
    """Number of its line in the page, from 1."""
    cells: tuple[str, ...]


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables of claims in a page: those below a header line of claims."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip() for cell in _CELLS.split(line.strip())[1:-1])
        if cells == HEADER:
            inside = True
        elif inside and not all(set(cell) <= {"-", ":"} for cell in cells):
            yield Row(number, cells)


def problems(text: str, root: Path = ROOT) -> list[str]:
    """What is wrong with a page of claims, as sentences; empty when every proof exists.

    Args:
        text: The page.
        root: The directory that paths of proofs are relative to.
    """
    found = list(rows(text))
    if not found:
        return [f"{PAGE}: there is no table with the columns {', '.join(HEADER)} and a row"]
    return [f"{PAGE}:{row.line}: {problem}" for row in found for problem in _row_problems(row, root)]


def _row_problems(row: Row, root: Path) -> Iterator[str]:
    if len(row.cells) != len(HEADER):
        yield f"has {len(row.cells)} columns instead of {len(HEADER)}"
        return
    claim, shown_by, engine, figure = row.cells
    if not claim or not figure:
        yield "claim and figure must not be empty (a claim without a figure has the figure -)"
    if engine not in ENGINES:
        yield f"engine {engine!r} is none of: {', '.join(sorted(ENGINES))}"
    if not _PROOFS_ONLY.match(shown_by):
        yield f"{shown_by!r} is not a list of `path::name`"
        return
    for proof in _PROOF.findall(shown_by):
        problem = _proof_problem(proof, root)
        if problem:
            yield problem


def _proof_problem(proof: str, root: Path) -> str | None:
    path, _, name = proof.partition("::")
    if not name:
        return f"{proof} names no test; write path::name"
    file = root / path
    if not file.is_file():
        return f"{proof}: there is no file {path}"
    if name not in definitions(file.read_text()):
        return f"{proof}: {path} defines no {name}"
    return None


def definitions(source: str) -> frozenset[str]:
    """Names of the functions that a Python file defines, those of classes as ``Class::name``."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}::{item.name}" for item in methods}
    return frozenset(names)


def main() -> int:
    """Check docs/claims.md; 1 where a row is wrong."""
    found = problems((ROOT / PAGE).read_text())
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
