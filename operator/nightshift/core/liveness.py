"""Whether the operator's process should be started anew, and whether it can do its work: /healthz and /readyz."""

from dataclasses import dataclass

COMPARISONS_UNTIL_SILENT = 2
"""Comparisons in a row that found what a watch should have told. One happens: a deletion during an
interruption is never told, and a list may be a moment ahead of a watch."""


@dataclass(frozen=True)
class Vitals:
    """How the process is, measured at one moment."""

    leading: bool
    """A process that stands by has no work, so none can be overdue."""
    overdue_seconds: float = 0.0
    """For how long the oldest due key has been waiting for a worker. A key that backs off is not due."""
    working_seconds: float = 0.0
    """For how long the longest reconcile under way has been going on."""
    silent_watches: tuple[str, ...] = ()
    """Kinds whose watch told nothing while `COMPARISONS_UNTIL_SILENT` comparisons found changes."""


def liveness_problem(vitals: Vitals, bound_seconds: float) -> str | None:
    """Why the process should be restarted, as a sentence, or None.

    A reconcile under way gets twice the bound: each of its requests ends after 30 s by itself, so only one that
    can never end is older than that. A blocked event loop needs no test here: it cannot answer the probe.

    Worked example: with a bound of 300 s, a key that is due for 301 s is a problem, a reconcile that has been
    running for 590 s is none.

    Args:
        vitals: What was measured.
        bound_seconds: For how long a due key may wait.
    """
    if not vitals.leading:
        return None
    if vitals.overdue_seconds > bound_seconds:
        return (
            f"a reconcile has been overdue for {vitals.overdue_seconds:.0f} s; at most {bound_seconds:.0f} s are fine"
        )
    if vitals.working_seconds > 2 * bound_seconds:
        return f"a reconcile has been running for {vitals.working_seconds:.0f} s and does not end"
    if vitals.silent_watches:
        return f"the watches of {', '.join(vitals.silent_watches)} tell nothing, though lists show changes"
    return None


def readiness_problem(*, lease_answered: bool, leading: bool, unprepared: str | None) -> str | None:
    """Why the process cannot do its work yet, as a sentence, or None: what `helm install --wait` waits for.

    A standby has shown what it can once it has read the Lease. A leader must have read everything that it acts on:
    without the definition, or without the right to list, every LLMDeployment stays Pending for ever.

    Args:
        lease_answered: Whether the API server has answered about the Lease.
        leading: Whether this process leads.
        unprepared: Why a leader has not begun to work, or None.
    """
    if not lease_answered:
        return "the Lease could not be read yet; see the log"
    return unprepared if leading else None
