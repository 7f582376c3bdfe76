"""How a revision that can be started comes to serve, and the others go: one step at a time."""

from collections.abc import Sequence
from dataclasses import replace

from nightshift.api import names
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.objects import changes, deletion
from nightshift.core.observed import Observed
from nightshift.core.planning import Apply, Delete, Plan, ReadProgress, Request
from nightshift.core.pod import downloads_in_pod
from nightshift.core.progress import PROGRESS_SECONDS
from nightshift.core.questions import engine_log_requests
from nightshift.core.revisions import Revision, obsolete
from nightshift.core.rollout import RevisionState, replica_counts


def serve(deployment: LLMDeployment, revision: Revision, observed: Observed, before: tuple[Apply, ...]) -> Plan:
    """Bring the target up and the others down, one step."""
    states = {item.hash: _state(item, observed) for item in (*observed.revisions, revision)}
    others = [
        state
        for state in states.values()
        if state.hash != revision.hash and observed.replica_set(state.hash) is not None
    ]
    counts = _counts(deployment.spec.replicas, states[revision.hash], others, observed)
    by_hash = {item.hash: item for item in (*observed.revisions, revision)}
    sets, deletes, notes = [], [], []
    for hash_, count in counts.items():
        live = observed.replica_set(hash_)
        if hash_ != revision.hash and count == 0 and not _has_pods(hash_, observed) and live and not live.replicas:
            deletes.append(deletion(observed, "ReplicaSet", live.name, "apps/v1", f"Revision {hash_} is retired."))
            continue
        if live is None or live.replicas != count:
            notes.append(f"Revision {hash_}: {live.replicas if live else 0} -> {count} replicas.")
        sets.append(children.replica_set(deployment, by_hash[hash_], count))
    deletes += _orphans(deployment, revision, observed, frozenset(states))
    in_use = frozenset(counts) | {revision.hash}
    for old in obsolete(observed.revisions, in_use, deployment.spec.revision_history_limit):
        name = old.manifest["metadata"]["name"]
        reason = f"Revision {old.hash} is older than revisionHistoryLimit keeps."
        deletes.append(deletion(observed, "ControllerRevision", name, "apps/v1", reason))
    requests = (*_progress_requests(revision, observed), *engine_log_requests(observed))
    return Plan(
        apply=(*before, *changes(sets, observed)),
        delete=tuple(deletes),
        requests=requests,
        requeue_after=PROGRESS_SECONDS if requests else None,
        notes=tuple(notes),
        target=revision,
        counts=counts,
    )


def _counts(wanted: int, target: RevisionState, others: Sequence[RevisionState], observed: Observed) -> dict[str, int]:
    """The next step of a rollout, once every ReplicaSet has followed the one before; as it is until then.

    When a spec goes back and forth, pods that are being deleted still look ready for a moment: whoever counts
    on them takes away others that serve.
    """
    if others and not all(item.settled for item in observed.replica_sets):
        existing = [state for state in (target, *others) if observed.replica_set(state.hash) is not None]
        return {state.hash: state.replicas for state in existing}
    owner = observed.replica_set(target.hash)
    counted = replace(target, ready=min(target.ready, owner.ready if owner else 0))
    return replica_counts(wanted, counted, others)


def _orphans(deployment: LLMDeployment, revision: Revision, observed: Observed, known: frozenset[str]) -> list[Delete]:
    """ReplicaSets whose ControllerRevision is gone or cannot be read: they go once the target serves in full."""
    if observed.ready(revision.hash) < deployment.spec.replicas:
        return []
    reason = "What its pods are made of is not known any more, and the present revision serves."
    return [
        deletion(observed, "ReplicaSet", item.name, "apps/v1", f"ReplicaSet {item.name} is retired: {reason}")
        for item in observed.replica_sets
        if item.revision not in known
    ]


def _progress_requests(revision: Revision, observed: Observed) -> tuple[Request, ...]:
    if not downloads_in_pod(revision.spec):
        return ()
    return tuple(
        ReadProgress(pod.name, names.DOWNLOAD_CONTAINER)
        for pod in observed.engine_pods(revision.hash)
        if (item := pod.container(names.DOWNLOAD_CONTAINER)) is not None and item.running_since is not None
    )


def _state(revision: Revision, observed: Observed) -> RevisionState:
    """What runs of a revision; pods beyond what its ReplicaSet asks for are as good as gone."""
    owner = observed.replica_set(revision.hash)
    return RevisionState(
        hash=revision.hash,
        number=revision.number,
        replicas=owner.replicas if owner else 0,
        ready=min(observed.ready(revision.hash), owner.replicas) if owner else 0,
    )


def _has_pods(revision: str, observed: Observed) -> bool:
    return any(pod.revision == revision for pod in observed.pods)
