"""HAProxy's log lines: how one is written, and what the agent reads in it.

The same line goes to the container's log and to the agent. What tells of the answer stands first and what a client
wrote last, so that a line that is cut short by a long path is still read.
"""

import re
from collections import Counter
from typing import Literal, NamedTuple

LINE_BYTES = 2048
"""Longer lines are cut. The three texts of a client are 128 bytes each, of which JSON makes up to six times as much."""

Result = Literal["ok", "client_error", "server_error", "refused", "left", "cut"]
RESULTS: tuple[Result, ...] = ("ok", "client_error", "server_error", "refused", "left", "cut")
ANSWERED: tuple[Result, ...] = ("ok", "client_error")
"""Those in which the engine did what it is for."""

_FIELDS = (
    ("time", "%[date(0,ms)]", False),
    ("slot", "%b", None),
    ("server", "%s", None),
    ("status", "%ST", False),
    ("bytes", "%B", False),
    ("retries", "%rc", None),
    ("request_ms", "%TR", False),
    ("queue_ms", "%Tw", False),
    ("connect_ms", "%Tc", False),
    ("first_byte_ms", "%Tr", False),
    ("total_ms", "%Ta", False),
    ("end", "%ts", None),
    ("route", "var(txn.route)", True),
    ("method", "method", True),
    ("path", "var(txn.path)", True),
)
"""Name, where it comes from, and whether it is a client's text (True), our own text (None), or a number (False)."""

_NO_SERVER = "<NOSRV>"
_SAYING = (
    r'"slot":"([^"\n]*)","server":"([^"\n]*)","status":(-?\d+),"bytes":\d+,"retries":"\+?(\d+)",'
    r'"request_ms":(-?\d+),"queue_ms":(-?\d+),"connect_ms":(-?\d+),"first_byte_ms":(-?\d+),"total_ms":(\d+),'
    r'"end":"(..)","route":"([^"\n]*)"'
)
"""What counts in a line: all but the moment, and what the client asked for."""
_PARTS = re.compile(_SAYING)
_LINE = re.compile((r'^\{"time":\d+,(' + _SAYING.replace("(", "(?:") + r")[^\n]*\n").encode(), re.MULTILINE)
_DROPPED = re.compile(rb"(\d+) events? dropped")
"""What HAProxy writes into the stream itself where it had no room for lines."""


class Answered(NamedTuple):
    """A request that came into a slot, or into another backend of the gateway."""

    slot: str
    route: str
    """As the request was routed; a client's text where there is no such route."""
    ending: tuple[str, bool, str, int]
    """Status, whether a replica was reached at last, HAProxy's termination state, and retries: see `result_of`."""
    first_byte_ms: int | None
    """From its headers to the headers of its answer, in which waiting for a replica is contained; None: no answer."""
    total_ms: int
    """From its headers to the end of its answer."""


def log_format() -> str:
    """One JSON object per request. No headers, no query, no body: nothing of them may be a secret."""
    fields = []
    for name, source, text in _FIELDS:
        value = f"%[{source},bytes(0,128),json(utf8s)]" if text else source
        fields.append(f'"{name}":{value}' if text is False else f'"{name}":"{value}"')
    return "{" + ",".join(fields) + "}"


def tally(block: bytes) -> tuple[Counter[bytes], list[bytes]]:
    """What a block of lines says, each with how many lines say the same; and the lines that are none of ours.

    Thousands of lines a second say a few things only, so what is said is read once: `parse_saying`.

    Args:
        block: Lines with their ends.
    """
    sayings = Counter[bytes](_LINE.findall(block))
    if sayings.total() == block.count(b"\n"):
        return sayings, []
    return sayings, [line for line in block.splitlines(keepends=True) if _LINE.match(line) is None]


def parse_saying(saying: bytes) -> Answered:
    """What one of the sayings of `tally` means.

    Raises:
        ValueError: It is none.
    """
    found = _PARTS.fullmatch(saying.decode(errors="replace"))
    if found is None:
        raise ValueError("no saying of a line")
    slot, server, status, retries, asked, queue, connect, first, total, end, route = found.groups()
    first_byte = None if "-1" in (queue, connect, first) else int(queue) + int(connect) + int(first)
    route = route.replace("\\/", "/")  # HAProxy's json converter writes a slash so
    ending = (status, server != _NO_SERVER, end, int(retries))
    return Answered(slot, route, ending, first_byte, max(0, int(total) - max(0, int(asked))))


def parse_dropped(line: bytes) -> int | None:
    """How many lines HAProxy dropped in this one's place; None where the line does not tell of it."""
    found = _DROPPED.fullmatch(line.strip())
    return int(found[1]) if found else None


def result_of(ending: tuple[str, bool, str, int]) -> Result:
    """By status and termination state: who ended it (C: client, S: server, ...), and when (D, L: in the answer's data).

    HAProxy tries again only what a replica had: one that waited in vain, or found no replica, has no retries.

    Worked examples: 200 with `--` is ok, whatever a try before came to; 200 with SD broke off; 429 without a replica is
    the gateway's own refusal; 503 without one after a retry is the failure of the replica that had it first; 429 of a
    replica is a client's error; `CD` is a client that left in the middle of its answer.
    """
    status, reached, end, retries = ending
    if end[0] in "Cc":
        return "left"
    if not reached:
        return "server_error" if retries else "refused"
    if end[0] != "-":
        return "cut" if end[1] in "DL" else "server_error"
    if int(status) < 400:
        return "ok"
    return "client_error" if int(status) < 500 else "server_error"
