"""The only place that decides: from what is wanted and what was observed to what is done now."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.adoption import adopted_revisions
from nightshift.core.canonical import difference, short_hash
from nightshift.core.causes import Cause, job_cause
from nightshift.core.observed import Observed, PodFacts, is_orphan
from nightshift.core.planning import Apply, Delete, Plan, ReadProgress, Request
from nightshift.core.pod import downloads_in_pod
from nightshift.core.questions import engine_log_requests
from nightshift.core.revisions import Revision, newest, obsolete
from nightshift.core.rollout import RevisionState, replica_counts
from nightshift.core.target import RETRY_SECONDS, New, Waiting, choose, retry_job

PROGRESS_SECONDS = 10.0
_MADE_ONCE = frozenset({"Job", "PersistentVolumeClaim"})
"""Kinds whose spec cannot be changed: they are created when missing and left alone otherwise."""


def plan(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Plan:
    """Decide what to do for one LLMDeployment.

    Args:
        deployment: The resource, parsed.
        observed: What exists, and what was asked of the outside.
        config: The operator's configuration.
        now: The present moment (UTC).
    """
    if deployment.deleting:
        return Plan()
    if deployment.spec.paused:
        return _paused(deployment, observed, config, now)
    access = (*adopted_revisions(deployment, observed), *_changes(_access(deployment, config), observed))
    target = choose(deployment, observed, config, now)
    if isinstance(target, Waiting):
        return Plan(
            apply=(*access, *target.apply, *_kept(deployment, observed)),
            delete=target.delete,
            requests=target.requests,
            requeue_after=target.requeue_after,
            notes=(target.note,) if target.note else (),
            blocker=target.blocker,
        )
    revision = target.revision
    stored = Apply(revision.manifest, f"Storing revision {revision.hash}.", create=True)
    storing = (stored,) if isinstance(target, New) else _restated(deployment, revision, observed)
    fetching = _download(deployment, revision, observed, config, now)
    if fetching is not None:
        kept = _kept(deployment, observed)
        return replace(fetching, apply=(*access, *storing, *fetching.apply, *kept), target=revision)
    return _serve(deployment, revision, observed, (*access, *storing))


def _paused(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Plan:
    target = choose(deployment, observed, config, now)
    return Plan(
        target=None if isinstance(target, Waiting) else target.revision,
        requests=engine_log_requests(observed),
        notes=("Paused: nothing is changed until spec.paused is false.",),
    )


def _kept(deployment: LLMDeployment, observed: Observed) -> tuple[Apply, ...]:
    """While a new revision has to wait, the one that serves still follows spec.replicas and is kept as it was made.

    Between two revisions nothing is moved: which of them goes on is not known before the new one is.
    """
    running = [item for item in observed.replica_sets if item.replicas > 0]
    known = {revision.hash: revision for revision in observed.revisions}
    if len(running) != 1 or running[0].revision not in known:
        return ()
    kept = children.replica_set(deployment, known[running[0].revision], deployment.spec.replicas)
    return _changes([kept], observed)


def _access(deployment: LLMDeployment, config: OperatorConfig) -> list[children.Manifest]:
    claim = children.cache_claim(deployment)
    return [
        children.service_account(deployment),
        children.network_policy(deployment, config),
        children.service(deployment),
        children.disruption_budget(deployment),
        *([claim] if claim else []),
    ]


def _changes(manifests: Iterable[children.Manifest], observed: Observed) -> tuple[Apply, ...]:
    """Of whole objects, those that are missing or not as they should be."""
    changes = []
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        live = observed.live.get((kind, name))
        stamped = stamp(manifest)
        if live is None:
            changes.append(Apply(stamped, f"Creating {kind} {name}.", create=True))
        elif kind not in _MADE_ONCE or is_orphan(live):
            where = difference(manifest, live) or difference(stamped, live)
            if where:
                changes.append(Apply(stamped, f"Correcting {kind} {name} at {where}.", create=False))
    return tuple(changes)


def stamp(manifest: children.Manifest) -> children.Manifest:
    """The manifest with the hash of itself, by which a field that is no longer desired is noticed."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_APPLIED: short_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _restated(deployment: LLMDeployment, revision: Revision, observed: Observed) -> tuple[Apply, ...]:
    """What is to be added to a stored revision: that it is the newest again, and the digest that it runs."""
    reasons = []
    number, digest = revision.number, revision.pinned_digest
    last = newest(observed.revisions)
    if last is not None and last.hash != revision.hash:
        number = last.number + 1
        reasons.append(f"Going back to revision {revision.hash}.")
    running = _running_digest(revision, observed) if revision.digest is None else None
    if running is not None:
        digest = running
        reasons.append(f"Pinning revision {revision.hash} to the image {digest}.")
    if not reasons:
        return ()
    manifest = children.restated_revision(deployment, revision, number, digest)
    return (Apply(manifest, " ".join(reasons), create=False),)


def _running_digest(revision: Revision, observed: Observed) -> str | None:
    """The digest that the first pod runs: it identifies the image where no registry could name one before."""
    for pod in observed.engine_pods(revision.hash):
        engine = pod.container(names.ENGINE_CONTAINER)
        _, found, digest = (engine.image_id if engine else "").rpartition("@")
        if found and digest.startswith("sha256:"):
            return digest
    return None


def _download(
    deployment: LLMDeployment, revision: Revision, observed: Observed, config: OperatorConfig, now: datetime
) -> Plan | None:
    """For a cache claim: have the model downloaded before the revision's first pod. None when it is there."""
    cache = revision.spec.model.cache
    if cache is None or cache.type != "Claim" or observed.replica_set(revision.hash) is not None:
        return None
    manifest = children.download_job(deployment, revision, config)
    name = manifest["metadata"]["name"]
    job = next((job for job in observed.jobs if job.name == name), None)
    if job is None:
        reason = f"Downloading {revision.spec.model.uri} into claim {names.claim_name(deployment.name)}."
        return Plan(apply=(Apply(manifest, reason, create=True),), notes=(reason,))
    if job.succeeded:
        return None
    cause = job_cause(observed, name)
    if job.failed:
        fallback = Cause("ModelDownloadFailed", f"Job {name} ended without an answer.", definite=False)
        return Plan(
            delete=retry_job(observed, name, job.finished_at, now),
            requeue_after=RETRY_SECONDS / 2,
            blocker=cause or fallback,
        )
    pods = [pod for pod in observed.pods if pod.job == name and pod.phase == "Running"]
    requests = tuple(ReadProgress(pod.name, names.DOWNLOAD_CONTAINER) for pod in pods)
    note = next((progress_sentence(pod, observed) for pod in pods), f"Waiting for Job {name} to start.")
    return Plan(requests=requests, requeue_after=PROGRESS_SECONDS, notes=(note,), blocker=cause)


def progress_sentence(pod: PodFacts, observed: Observed) -> str:
    """How far a pod's download is, in tenths, so that the sentence changes seldom.

    Worked example: 3,200,000,000 of 16,100,000,000 bytes done gives
    ``Downloading the model: 10 % of 16.1 GB.``
    """
    progress = observed.progress.get(pod.name)
    if progress is None or not progress.bytes_total:
        return "Downloading the model."
    tenths = int(10 * progress.bytes_done / progress.bytes_total)
    return f"Downloading the model: {10 * tenths} % of {progress.bytes_total / 1e9:.1f} GB."


def _serve(deployment: LLMDeployment, revision: Revision, observed: Observed, before: tuple[Apply, ...]) -> Plan:
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
            deletes.append(_delete(observed, "ReplicaSet", live.name, "apps/v1", f"Revision {hash_} is retired."))
            continue
        if live is None or live.replicas != count:
            notes.append(f"Revision {hash_}: {live.replicas if live else 0} -> {count} replicas.")
        sets.append(children.replica_set(deployment, by_hash[hash_], count))
    deletes += _orphans(deployment, revision, observed, frozenset(states))
    in_use = frozenset(counts) | {revision.hash}
    for old in obsolete(observed.revisions, in_use, deployment.spec.revision_history_limit):
        name = old.manifest["metadata"]["name"]
        reason = f"Revision {old.hash} is older than revisionHistoryLimit keeps."
        deletes.append(_delete(observed, "ControllerRevision", name, "apps/v1", reason))
    requests = (*_progress_requests(revision, observed), *engine_log_requests(observed))
    return Plan(
        apply=(*before, *_changes(sets, observed)),
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
        _delete(observed, "ReplicaSet", item.name, "apps/v1", f"ReplicaSet {item.name} is retired: {reason}")
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


def _delete(observed: Observed, kind: str, name: str, api_version: str, reason: str) -> Delete:
    metadata = observed.live[(kind, name)]["metadata"]
    return Delete(api_version, kind, name, metadata["uid"], metadata["resourceVersion"], reason)
