"""How many replicas each revision should have now: the new one comes up before the old one goes."""

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


def replica_counts(wanted: int, target: RevisionState, others: Sequence[RevisionState]) -> dict[str, int]:
    """Replicas per revision for the next step of a rollout with one replica of surge.

    The others keep as many replicas as the target lacks in ready ones, and the target gets the rest of
    ``wanted + 1``. So ready replicas never fall below what was ready (up to ``wanted``), and never more than
    ``wanted + 1`` accelerators' worth of replicas are asked for. Among the others, replicas that serve
    are kept before those that do not, and newer revisions before older ones.

    Worked example: wanted 3, one revision ``a`` with 3 ready, target ``b`` with none ready gives
    b 1, a 3. Once 1 of b is ready: b 2, a 2. With 3 of b ready: b 3, a 0.

    Args:
        wanted: Replicas that the spec asks for.
        target: The revision of the present spec.
        others: All other revisions that have a ReplicaSet.

    Returns:
        Replicas by revision hash, the target's included.
    """
    left = wanted - min(target.ready, wanted)
    kept = {state.hash: 0 for state in others}
    by_age = sorted(others, key=lambda state: state.number, reverse=True)
    for serving_only in (True, False):
        for state in by_age:
            limit = min(state.ready, state.replicas) if serving_only else state.replicas
            more = min(limit - kept[state.hash], left)
            kept[state.hash] += more
            left -= more
    return {target.hash: min(wanted, wanted + 1 - sum(kept.values())), **kept}
