"""How replicas that somebody changed are exchanged: a rollout of the same revision, one replica at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from nightshift.api.resource import LLMDeployment
from nightshift.core import children, hang
from nightshift.core.canonical import difference
from nightshift.core.cause import Cause
from nightshift.core.changed import changed_pods, is_edited
from nightshift.core.objects import deletion
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.placing import Move, placing
from nightshift.core.planning import Apply, Delete
from nightshift.core.revisions import Revision

COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
"""Of several ready pods a ReplicaSet gives up the one with the lowest first (Kubernetes 1.22, beta)."""
_GIVEN_UP_FIRST = "-1"

_REMEDY = "To run something else, change the LLMDeployment."


@dataclass(frozen=True)
class Exchange:
    """One step of the exchange of a replica."""

    says: str
    replicas: int
    """That the revision's ReplicaSet is to have meanwhile."""
    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    blocker: Cause | None = None
    due: float | None = None
    """Seconds until another step may follow, where no watch will tell."""


def told_while_paused(deployment: LLMDeployment, revision: Revision, observed: Observed) -> str | None:
    """What is told of changed replicas while nothing may be done about them."""
    found = changed_pods(deployment, revision, observed)
    return f"{_told(*found[0], revision)} Nothing is done about it while spec.paused is true." if found else None


def exchange(
    deployment: LLMDeployment, revision: Revision, counts: Mapping[str, int], observed: Observed, now: datetime
) -> Exchange | None:
    """The next step towards replicas as they are stored; None where they are.

    One at a time: one that does not serve is evicted at once; of several one is evicted once all are ready, as the
    PodDisruptionBudget allows; the only one is given up when a second one serves beside it.

    Args:
        deployment: The resource.
        revision: The one that is to serve.
        counts: Replicas per revision as they would be without this.
        observed: What exists.
        now: The present moment (UTC).
    """
    found = changed_pods(deployment, revision, observed)
    owner, wanted = observed.replica_set(revision.hash), counts.get(revision.hash, 0)
    if not found or owner is None or wanted == 0:
        return None
    victim, says = found[0][0], _told(*found[0], revision)
    beside = [pod for pod in observed.engine_pods() if pod.uid != victim.uid]
    here = max(wanted, min(owner.replicas, wanted + 1))
    made_of = children.replica_set(deployment, revision, here)
    if is_edited(made_of, revision, observed.live[("ReplicaSet", owner.name)]):
        return Exchange(f"{says} It is replaced once the template is set back.", here)
    if not all(item.settled for item in observed.replica_sets):
        return Exchange(f"{says} It is being replaced.", here)
    alone = all(pod.revision == revision.hash for pod in beside) and not any(
        count for hash_, count in counts.items() if hash_ != revision.hash
    )
    if not alone or wanted != deployment.spec.replicas:
        return Exchange(f"{says} It is replaced once the rollout that is under way has ended.", wanted)
    if not victim.ready:
        if victim.containers_ready:
            return Exchange(f"{says} It is replaced once its node reports again.", here)
        return _evicted(f"{says} It does not serve and is evicted now.", here, victim, observed)
    if wanted > 1:
        return _one_of_several(says, wanted, victim, beside, observed)
    return _the_only_one(deployment, revision, says, victim, beside, observed, now)


def _one_of_several(says: str, wanted: int, victim: PodFacts, beside: list[PodFacts], observed: Observed) -> Exchange:
    hung = {pod.uid for pod in hang.hung(observed)}
    serving = sum(pod.ready and pod.uid not in hung for pod in beside)
    if serving < len(beside) or len(beside) != wanted - 1:
        return Exchange(f"{says} It is replaced once the other replicas serve.", wanted)
    return _evicted(f"{says} It is evicted now, and its ReplicaSet starts another.", wanted, victim, observed)


def _the_only_one(
    deployment: LLMDeployment,
    revision: Revision,
    says: str,
    victim: PodFacts,
    beside: list[PodFacts],
    observed: Observed,
    now: datetime,
) -> Exchange:
    """The only replica goes when a second one serves; without room for one, as `rollout.allowOutage` says."""
    owner = observed.replica_set(revision.hash)
    asked, ready = (owner.replicas, owner.ready) if owner is not None else (0, 0)
    cost = _given_up_first(deployment, victim, observed)
    if asked <= 1 and beside:
        return Exchange(f"{says} It is being replaced.", 1)
    if asked > 1 and not cost and ready > 1 and any(pod.ready for pod in beside):
        return Exchange(f"{says} It goes now, since another serves.", 1)
    room = placing(deployment, revision, observed, now)
    if room.cause is None:
        return Exchange(f"{says} A second replica is started, and this one goes when that serves.", 2, cost)
    if room.move is not Move.WAIT and deployment.spec.rollout.allow_outage:
        gone = f"{says} There is no room for a second one: it is deleted first, as rollout.allowOutage permits."
        return Exchange(gone, 2, delete=(_gone(gone, victim, observed, "OutageBegins"),))
    follows = (
        "Then this one is deleted first, as rollout.allowOutage permits."
        if deployment.spec.rollout.allow_outage
        else "Until there is room this one goes on serving. Add an accelerator, or set rollout.allowOutage to true, "
        "which stops it before the new one starts."
    )
    blocker = Cause("PodChanged", f"{says} A second replica finds no room: {room.cause.message} {follows}", False)
    return Exchange(blocker.message, 2, cost, blocker=blocker, due=room.due)


def _told(pod: PodFacts, where: str, revision: Revision) -> str:
    return (
        f"Pod {pod.name} is not as revision {revision.hash} stores it: {where} was changed, on the pod or in the "
        f"template it was made of. {_REMEDY}"
    )


def _evicted(says: str, replicas: int, pod: PodFacts, observed: Observed) -> Exchange:
    return Exchange(says, replicas, delete=(replace(_gone(says, pod, observed, "ChangedPodEvicted"), evict=True),))


def _gone(says: str, pod: PodFacts, observed: Observed, event: str) -> Delete:
    """No budget is asked in an outage: with a second replica that waits, it would allow none to go."""
    return replace(deletion(observed, "Pod", pod.name, "v1", says), event=event)


def _given_up_first(deployment: LLMDeployment, pod: PodFacts, observed: Observed) -> tuple[Apply, ...]:
    """The mark by which its ReplicaSet gives up this pod and not the other; nothing where it bears it."""
    metadata: dict[str, Any] = {
        "name": pod.name,
        "namespace": deployment.namespace,
        "annotations": {COST_ANNOTATION: _GIVEN_UP_FIRST},
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    if difference(manifest, observed.live[("Pod", pod.name)]) is None:
        return ()
    return (Apply(manifest, f"Marking changed pod {pod.name} as the one to go.", create=False),)


def not_evicted(pod: str, message: str) -> Cause:
    """The API server refuses an eviction for now, as it says: another replica is missing, or a budget is in the way."""
    return Cause(
        "PodChanged",
        f"Pod {pod} was changed and is to be replaced, and may not be evicted now: {message.rstrip('.')}. It is tried "
        "again every minute; see kubectl get pdb.",
        definite=False,
    )
