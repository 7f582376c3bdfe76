"""Turns the text of ``vllm serve --help=all`` into the simulator's table of flags.

A line per flag: its spellings joined by commas, its kind (switch, value, values, optional) and, where vLLM
lists them, the allowed values.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"^  (-\S.*)$")
_CHOICES = re.compile(r"\{([^}]*)\}")
_SKIP = ("--help", "--tool-call-parser")


def table(help_text: str) -> str:
    """The table for a help text."""
    lines = help_text.splitlines()
    rows = [row for index, line in enumerate(lines) if _ENTRY.match(line) and (row := _row(_whole(lines, index)))]
    return "\n".join(sorted(set(rows))) + "\n"


def _whole(lines: list[str], index: int) -> str:
    """An entry's first line, joined with its continuation when a list of choices runs over."""
    entry = lines[index].strip()
    while entry.count("{") > entry.count("}") and index + 1 < len(lines):
        index += 1
        entry += lines[index].strip()
    return entry


def _row(entry: str) -> str | None:
    head = re.split(r"\s{2,}| or name registered", entry)[0]
    names = re.findall(r"(?<![\w{,-])(--?[a-z0-9][\w-]*)", _CHOICES.sub("", head))
    if not names or "--help" in names:
        return None
    rest = re.sub(r"(?<![\w{,-])--?[a-z0-9][\w-]*,?", "", _CHOICES.sub("CHOICE", head)).strip()
    spellings = ",".join(dict.fromkeys(names))
    if not rest:
        return f"{spellings} switch"
    kind = "optional" if rest.startswith("[") and "..." not in rest and "'" not in rest else "value"
    if "..." in rest:
        kind = "values"
    choices = _CHOICES.search(head)
    if choices is None or names[0] in _SKIP or "None" in choices.group(1):
        return f"{spellings} {kind}"
    return f"{spellings} {kind} {choices.group(1)}"
