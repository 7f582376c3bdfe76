"""Comparing text with a file that is kept beside the test."""

from pathlib import Path


def assert_golden(path: Path, text: str, *, regenerate: bool) -> None:
    """The text is what the file holds; with `--regenerate` the file is written instead."""
    if regenerate:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path.name} is missing: run pytest --regenerate, and read what it wrote"
    assert text == path.read_text(), f"{path.name} differs: run pytest --regenerate, and read the difference"
