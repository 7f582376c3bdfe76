"""Says where engines differ from real vLLM: in the terminal, and in docs/simulator.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from e2e.contract.compare import Difference, differences, unexplained
from e2e.contract.known import KNOWN
from e2e.contract.local import ROOT
from e2e.contract.results import Record, reference

DOCUMENT = ROOT / "docs" / "simulator.md"
BEGIN, END = "<!-- contract results: begin -->", "<!-- contract results: end -->"


def against_reference(record: Record) -> tuple[list[Difference], list[Difference]]:
    """All differences from real vLLM, and those that nobody listed."""
    found = differences(reference(record.version).cases, record.cases)
    rest, _ = unexplained(found, KNOWN, record.kind, record.version)
    return found, rest


def terminal(records: Sequence[Record]) -> str:
    """A table of cases by engines, then every unlisted difference."""
    compared = {record.name: against_reference(record) for record in records}
    width = max((len(name) for record in records for name in record.cases), default=10)
    lines = [" ".join([f"{'case':{width}}", *(f"{record.name:>16}" for record in records)])]
    for case in sorted({name for record in records for name in record.cases}):
        marks = [f"{_mark(record, case, compared[record.name]):>16}" for record in records]
        lines.append(" ".join([f"{case:{width}}", *marks]))
    for record in records:
        for one in compared[record.name][1]:
            lines += [
                f"{record.name} {one.case} {one.path}",
                f"    real vLLM: {one.expected}",
                f"    here:      {one.got}",
            ]
    return "\n".join(lines)


def _mark(record: Record, case: str, compared: tuple[list[Difference], list[Difference]]) -> str:
    if case not in record.cases:
        return "-"
    found, rest = ([one for one in part if one.case == case] for part in compared)
    if rest:
        return f"{len(rest)} differ"
    return "known" if found else "failed" if "failed" in record.cases[case] else "same"


def write_document(records: Iterable[Record], document: Path = DOCUMENT) -> None:
    """Replace the generated part of the document."""
    text = document.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    document.write_text(f"{head}{BEGIN}\n{generated(list(records))}\n{END}{tail}", encoding="utf-8")


def generated(records: Sequence[Record]) -> str:
    """The generated part: a count per engine, and each difference in a line."""
    lines = ["| engine | compared with | cases | same | different |", "|---|---|---|---|---|"]
    rows: list[str] = []
    for record in records:
        base = reference(record.version)
        found, _ = against_reference(record)
        common = sorted(set(record.cases) & set(base.cases))
        differing = sorted({one.case for one in found})
        against = base.name if base.name != record.name else "itself"
        lines.append(
            f"| {record.name} | {against} | {len(common)} | {len(common) - len(differing)} | {len(differing)} |"
        )
        rows += [_row(record, case, [one for one in found if one.case == case]) for case in differing]
    if rows:
        lines += ["", "| engine | case | difference | why |", "|---|---|---|---|", *rows]
    return "\n".join(lines)


def _row(record: Record, case: str, found: Sequence[Difference]) -> str:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"`{first.path}`: " if first.path else ""
    what = f"{where}real {_cell(first.expected)}, here {_cell(first.got)}{more}"
    reasons = dict.fromkeys(
        known.reason for one in found for known in KNOWN if known.covers(record.kind, record.version, one)
    )
    why = " ".join(reasons) or ("measured, not mended: another project" if record.kind == "llm-d" else "not listed")
    return f"| {record.name} | {case} | {what} | {why} |"


def _cell(value: object) -> str:
    text = " ".join(str(value).replace("|", "\\|").replace("`", "'").split())
    return f"`{text[:90]}…`" if len(text) > 90 else f"`{text}`"
