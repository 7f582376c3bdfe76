"""The API server's audit log: who asked for what, and whether it was granted.

Only the local cluster's can be read; whoever judges by it says so elsewhere.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import ClusterAccess, Settings

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
_OPERATOR = re.compile(r"nightshift|.+-nightshift")
_GATEWAY = re.compile(rf"({_OPERATOR.pattern})-gateway")
"""How the chart calls its accounts, by the release's name."""


@dataclass(frozen=True)
class Request:
    """One request as the API server remembers it, once it was answered."""

    account: tuple[str, str] | None
    """Namespace and name of the service account that asked; None for everybody else."""
    verb: str
    group: str
    resource: str
    """With its subresource, as in ``pods/log``; empty where a path was asked for that is no resource."""
    namespace: str
    name: str
    """Of the object; empty for a list, and for a creation by POST."""
    code: int
    """HTTP status of the answer; 0 where there was none."""
    forbidden: bool
    """Refused for want of a right; other refusals, of quotas or of namespaces that end, are none."""

    @property
    def of_an_operator(self) -> bool:
        """Whether one of Nightshift's own processes asked."""
        return self.account is not None and bool(_OPERATOR.fullmatch(self.account[1]))

    @property
    def of_a_gateway(self) -> bool:
        """Whether the agent or the activator of a gateway pod asked."""
        return self.account is not None and bool(_GATEWAY.fullmatch(self.account[1]))

    @property
    def writes(self) -> bool:
        """Whether it asked for a change. Leases are renewed all the time and count as none."""
        return self.verb in WRITES and self.resource != "leases"


@dataclass(frozen=True)
class Mark:
    """A place in the log."""

    inode: int
    offset: int


class AuditLog:
    """The log's files: the one that is written, and those that it was moved away to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> Mark:
        """The end of the log, now."""
        state = self._path.stat()
        return Mark(state.st_ino, state.st_size)

    def since(self, mark: Mark) -> Iterator[Request]:
        """What was answered after a mark, in this order."""
        older = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        files = [*older, self._path]
        inodes = [path.stat().st_ino for path in files]
        # Where the file of the mark is deleted already, everything that is left came after it.
        first = inodes.index(mark.inode) if mark.inode in inodes else 0
        for number, path in enumerate(files[first:]):
            with path.open("rb") as file:
                file.seek(mark.offset if number == 0 and mark.inode in inodes else 0)
                yield from parse(line.decode(errors="replace") for line in file)


def audit_log(access: ClusterAccess) -> AuditLog | None:
    """The log of the cluster in use; None where it is not ours to read."""
    return AuditLog(Settings(access.home).run / "audit.log") if access.local else None


def parse(lines: Iterable[str]) -> Iterator[Request]:
    """Requests from lines of the log (audit.k8s.io/v1, level Metadata).

    A watch is told of twice; what counts is that it began, with the answer to that.
    """
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # half written
        if (event["stage"] == "ResponseComplete") == (event["verb"] == "watch"):
            continue
        yield _request(event)


def _request(event: dict[str, object]) -> Request:
    user, target = _part(event, "user"), _part(event, "objectRef")
    answer, notes = _part(event, "responseStatus"), _part(event, "annotations")
    account = _ACCOUNT.fullmatch(str(user.get("username")))
    subresource = target.get("subresource")
    code = answer.get("code")
    # A server-side apply of what is not there is also a creation, whose right is looked up apart from the request's.
    refused = notes.get("authorization.k8s.io/decision") == "forbid" or " cannot " in str(answer.get("message"))
    return Request(
        account=(account[1], account[2]) if account else None,
        verb=str(event["verb"]),
        group=str(target.get("apiGroup", "")),
        resource="/".join(str(part) for part in (target.get("resource"), subresource) if part),
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        code=code if isinstance(code, int) else 0,
        forbidden=code == 403 and refused,
    )


def _part(event: dict[str, object], name: str) -> dict[str, object]:
    found = event.get(name)
    return found if isinstance(found, dict) else {}
