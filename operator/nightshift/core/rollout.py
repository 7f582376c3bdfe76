"""How many replicas each revision should have now."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RevisionState:
    """What runs of one revision."""

    hash: str
    number: int
    replicas: int
    """Replicas that its ReplicaSet asks for."""
    ready: int
    gives_way: bool = False
    """Whether replicas that do not serve are given up: they hold what others wait for, or will never serve."""
    lost: int = 0
    """Replicas whose node does not report: what becomes of them is not known, so they are not given up."""

    @property
    def worth_keeping(self) -> int:
        """Replicas that serve, or may come to serve."""
        return min(self.replicas, self.ready + self.lost) if self.gives_way else self.replicas


def replica_counts(
    wanted: int, target: RevisionState, others: Sequence[RevisionState], missing: int = 0
) -> dict[str, int]:
    """Replicas per revision for the next step of a rollout.

    The others keep as many replicas as the target lacks in ready ones, less those that may be missing, and the
    target gets the rest: of ``wanted + 1`` where none may be missing, of ``wanted`` where replicas are replaced in
    place. So ready replicas never fall below what was ready (up to ``wanted - missing``), and never more than
    ``wanted + 1`` accelerators' worth of replicas are asked for. Among the others, replicas that serve are kept
    before those that do not, and newer revisions before older ones.

    Worked example: wanted 3, one revision ``a`` with 3 ready, target ``b`` with none ready gives
    b 1, a 3. Once 1 of b is ready: b 2, a 2. With 3 of b ready: b 3, a 0.
    In place (one may be missing): b 1, a 2. Once 1 of b is ready: b 2, a 1. With 2 of b ready: b 3, a 0.

    Args:
        wanted: Replicas that the spec asks for.
        target: The revision that is to serve.
        others: All other revisions that have a ReplicaSet.
        missing: Ready replicas that may be missing meanwhile: 0 where the new one comes first, 1 in place,
            ``wanted`` for an outage.

    Returns:
        Replicas by revision hash, the target's included.
    """
    left = max(0, wanted - missing - target.ready)
    kept = {state.hash: 0 for state in others}
    by_age = sorted(others, key=lambda state: state.number, reverse=True)
    for serving_only in (True, False):
        for state in by_age:
            limit = min(state.ready, state.replicas) if serving_only else state.worth_keeping
            more = max(0, min(limit - kept[state.hash], left))
            kept[state.hash] += more
            left -= more
    together = wanted if missing else wanted + 1
    return {target.hash: min(wanted, together - sum(kept.values())), **kept}
