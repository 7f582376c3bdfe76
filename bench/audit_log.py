"""The API server's audit log as a measure: who asked what, when it came in, and when it was answered."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """One answered request."""

    user: str
    verb: str
    resource: str
    """Plural, and the subresource behind a slash."""
    namespace: str
    name: str
    code: int
    received: float
    """Unix time in seconds."""
    answered: float


def parse(line: str) -> Request | None:
    """Read a line of the log; None for what asks no object (health, discovery) or has no answer yet."""
    event: dict[str, Any] = json.loads(line)
    if event.get("stage") != "ResponseComplete" or "objectRef" not in event:
        return None
    where = event["objectRef"]
    subresource = where.get("subresource")
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=where.get("resource", "") + (f"/{subresource}" if subresource else ""),
        namespace=where.get("namespace", ""),
        name=where.get("name", ""),
        code=int((event.get("responseStatus") or {}).get("code", 0)),
        received=_unix(event["requestReceivedTimestamp"]),
        answered=_unix(event["stageTimestamp"]),
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class AuditLog:
    """What is written to the log from now on, also where the API server begins a new file meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def read(self) -> list[Request]:
        """The requests answered since the last reading."""
        data = self._rest + self._file.read()
        if self._path.stat().st_ino != _inode(self._file.fileno()):
            data += self._file.read()
            self._file.close()
            self._file = self._path.open("rb")
            data += self._file.read()
        *lines, self._rest = data.split(b"\n")
        parsed = (parse(line.decode()) for line in lines if line)
        return [request for request in parsed if request is not None]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _inode(descriptor: int) -> int:
    return Path(f"/proc/self/fd/{descriptor}").stat().st_ino


def counts(requests: Iterable[Request]) -> Counter[str]:
    """How many requests there were by verb and resource, such as ``patch replicasets``."""
    return Counter(f"{request.verb} {request.resource}" for request in requests)
