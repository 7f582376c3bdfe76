"""Whether the operator's process should be started anew: the decision behind /healthz."""

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
