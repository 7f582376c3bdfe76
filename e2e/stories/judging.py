"""What is judged of every story beside what it tells: the rights that were used, and the errors that were logged."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from e2e.support.audit import AuditLog, Mark, audit_log
from e2e.support.client import Client
from e2e.support.operator_log import ALLOWED, OperatorLogs, unexpected
from e2e.support.rights import Right, complaints, used

SETTLE_SECONDS = 10.0


class Judge:
    """Looks at one story after the other."""

    def __init__(self, client: Client, directory: Path) -> None:
        """Of a cluster, with a directory for logs."""
        self.audit: AuditLog | None = audit_log(client.access)
        """None on a cluster given by KUBECONFIG, whose audit log is not ours to read: rights are not judged there."""
        self._logs = OperatorLogs(client, directory, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        self._mark: Mark | None = None

    def start(self) -> None:
        """Begin to follow the operators' logs."""
        self._logs.start()

    def close(self) -> None:
        """End it."""
        self._logs.close()

    def begin(self) -> None:
        """A story begins."""
        self._mark = self.audit.mark() if self.audit else None

    def end(self, expected: Sequence[str] = ()) -> set[Right]:
        """A story ended; the rights that operators used meanwhile.

        Args:
            expected: Patterns of error lines that the story provoked, and that must have come.

        Raises:
            AssertionError: A right was wanting, somebody without rights asked for something, an operator logged an
                error that nobody expected, or none that was expected.
        """
        found = self._logs.new_errors()
        deadline = time.monotonic() + SETTLE_SECONDS
        while (missing := _missing(expected, found)) and time.monotonic() < deadline:
            time.sleep(0.2)  # what was logged a moment ago is on its way
            found += self._logs.new_errors()
        assert not missing, f"no operator logged an error like {missing}; the check does not see what it should"
        errors = unexpected(found, (*expected, *ALLOWED))
        assert not errors, "operators logged errors:\n" + "\n".join(errors)
        if self.audit is None or self._mark is None:
            return set()
        requests = list(self.audit.since(self._mark))
        wrong = complaints(requests)
        assert not wrong, "rights and requests do not fit:\n" + "\n".join(wrong)
        return used(request for request in requests if request.of_an_operator)


def _missing(expected: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [pattern for pattern in expected if len(unexpected(lines, [pattern])) == len(lines)]
