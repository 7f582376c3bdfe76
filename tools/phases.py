"""The phases of a judged rollout, drawn in docs/rollouts.md from the code's own table."""

from pathlib import Path

from nightshift.core.judged.phases import drawing
from tools.repository import ROOT

PAGE = Path("docs/rollouts.md")
BEGIN = "<!-- Drawn from operator/nightshift/core/judged/phases.py; `make generate` renews it. -->\n```mermaid\n"
END = "```\n<!-- End of the drawing. -->\n"


def with_drawing(page: str, drawn: str) -> str:
    """A page with a drawing in place of what stands between the marks.

    Raises:
        ValueError: The page does not have each mark once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE} must have each mark of the drawing once: {BEGIN!r}, {END!r}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{drawn}\n{END}{rest.split(END)[1]}"


def rollouts() -> str:
    """docs/rollouts.md as it must be."""
    return with_drawing((ROOT / PAGE).read_text(), drawing())
