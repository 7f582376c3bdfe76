"""Faults that a test switches on, and the record of what clients asked."""

from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass
class Fault:
    """What goes wrong with requests whose path fits a pattern."""

    match: str = "*"
    """Shell pattern of the request's path; `*` also fits slashes."""
    times: int | None = None
    """Requests that it still hits; None: all."""
    status: int | None = None
    """Answer with this status and nothing else."""
    delay_seconds: float = 0
    """Wait before the answer begins."""
    bytes_per_second: int | None = None
    """Send a file no faster."""
    stall_after_bytes: int | None = None
    """Send so much of a file, then nothing more, with the connection open."""
    cut_after_bytes: int | None = None
    """Send so much of a file, then break the connection."""
    damage: bool = False
    """Change the last byte of a file on its way."""
    ignore_range: bool = False
    """Answer a range with the whole file."""


@dataclass
class Asked:
    """One request as it arrived; the token itself is not kept."""

    method: str
    path: str
    range: str | None
    authorized: bool
    sent_bytes: int = 0
    """Of a file's content."""


@dataclass
class Switchboard:
    """The faults in force and the requests so far (the last 10 000)."""

    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def replace(self, faults: list[dict[str, Any]]) -> None:
        """Put these faults in force in place of all others.

        Raises:
            TypeError: A fault has an unknown field.
        """
        self.faults = [Fault(**fault) for fault in faults]

    def record(self, asked: Asked) -> None:
        """Note a request."""
        self.asked.append(asked)
        del self.asked[:-10_000]

    def pick(self, path: str) -> Fault:
        """The fault for a request, counted down; one without effect when none fits."""
        for fault in self.faults:
            if fnmatchcase(path, fault.match) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return Fault()

    def to_json(self) -> list[dict[str, Any]]:
        """The requests so far."""
        return [asdict(asked) for asked in self.asked]
