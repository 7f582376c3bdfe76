"""Files in the directory that HAProxy, agent and activator share."""

import os
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by its owner only; who has it open goes on reading the former one."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    new.replace(path)


class Files:
    """Writes what is another than before.

    Args:
        directory: The shared directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, str] = {}

    def write(self, files: Mapping[str, str]) -> list[str]:
        """Write files in this order; the names of those that were another before."""
        changed = []
        for name, text in files.items():
            if self._written.get(name) == text:
                continue
            path = self._directory / name
            if _read(path) != text:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomically(path, text)
                changed.append(name)
            self._written[name] = text
        return changed

    def read(self, name: str) -> str | None:
        """A file's content, or None where there is none or none that is text."""
        return _read(self._directory / name)


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
