"""The model on a cache claim: whether the claim holds it, and the Job that brings it there.

One Job at a time works on a claim, because each may remove what the ones before it brought. So the answer of a Job
counts only until the next one is made, and is noted on the claim before.
"""

from dataclasses import dataclass, field
from datetime import datetime

from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.cache_claim import CacheClaim, observed_claim
from nightshift.core.causes import Cause, job_cause
from nightshift.core.fetch_jobs import RETRY_SECONDS, dropped, retry_job, unfinished
from nightshift.core.observed import JobFacts, Observed
from nightshift.core.planning import Apply, Plan, ReadProgress
from nightshift.core.progress import PROGRESS_SECONDS, progress_sentence
from nightshift.core.revisions import Revision


@dataclass(frozen=True)
class Supply:
    """What is done so that a revision's model lies on the claim."""

    there: bool
    """The engines find it; also where they need no claim."""
    plan: Plan = field(default_factory=Plan)
    commits: frozenset[str] | None = None
    """What is to be noted on the claim before anything else happens; None leaves the note as it is."""


def supply(
    deployment: LLMDeployment, revision: Revision, observed: Observed, config: OperatorConfig, now: datetime
) -> Supply:
    """Have the model downloaded into the cache claim, where one is used and it is not there.

    Args:
        deployment: The deployment.
        revision: The revision that is to serve.
        observed: The claim, Jobs and pods.
        config: Image and Hub of the downloads.
        now: The present moment.
    """
    jobs = tuple(job for job in observed.jobs if job.component == names.COMPONENT_DOWNLOAD)
    commit = revision.resolved.model_revision
    if not _on_claim(revision) or commit is None:
        return Supply(there=True, plan=Plan(delete=dropped(observed, unfinished(observed, jobs))))
    claim = observed_claim(deployment, observed)
    if claim is None:
        return Supply(False, Plan(notes=(f"Waiting for claim {names.claim_name(deployment.name)}.",)))
    if claim.leaving:
        return Supply(False, Plan(blocker=_leaving(claim)))
    same = tuple(job for job in jobs if _asked(job) == (children.download_request(revision), claim.uid))
    if commit in claim.commits or any(job.succeeded for job in same) or _proven(revision, claim, observed):
        return Supply(True, Plan(delete=dropped(observed, unfinished(observed, jobs))), claim.commits | {commit})
    in_use, kept = _usage(revision, observed)
    room = [] if in_use is None else ["--in-use", ",".join(sorted(in_use)), "--kept", ",".join(sorted(kept))]
    manifest = children.download_job(deployment, revision, config, claim.uid, room)
    fetching = _fetch(manifest, revision, jobs, same, observed, now)
    return Supply(False, fetching, claim.commits if in_use is None else claim.commits & in_use)


def _fetch(
    manifest: children.Manifest,
    revision: Revision,
    jobs: tuple[JobFacts, ...],
    same: tuple[JobFacts, ...],
    observed: Observed,
    now: datetime,
) -> Plan:
    """One step of a download. One that moves bytes is let go on, even if its successor's pod would be another."""
    wanted = manifest["metadata"]["name"]
    moving = (job for job in same if not job.failed and _running(job.name, observed))
    job = next(moving, None) or next((job for job in jobs if job.name == wanted), None)
    if job is None and jobs:
        gone = dropped(observed, jobs)
        return Plan(delete=gone, requeue_after=PROGRESS_SECONDS, notes=("Making way for another download.",))
    if job is None:
        reason = f"Downloading {revision.spec.model.uri} into claim {names.claim_name(_owner(manifest))}."
        return Plan(apply=(Apply(manifest, reason, create=True),), notes=(reason,))
    others = dropped(observed, unfinished(observed, (item for item in jobs if item.name != job.name)))
    cause = job_cause(observed, job.name)
    if job.failed:
        fallback = Cause("ModelDownloadFailed", f"Job {job.name} ended without an answer.", definite=False)
        again = retry_job(observed, job.name, job.finished_at, now)
        return Plan(delete=(*others, *again), requeue_after=RETRY_SECONDS / 2, blocker=cause or fallback)
    pods = [pod for pod in observed.pods if pod.job == job.name and pod.phase == "Running"]
    requests = tuple(ReadProgress(pod.name, names.DOWNLOAD_CONTAINER) for pod in pods)
    note = next((progress_sentence(pod, observed) for pod in pods), f"Waiting for Job {job.name} to start.")
    return Plan(delete=others, requests=requests, requeue_after=PROGRESS_SECONDS, notes=(note,), blocker=cause)


def missing_beside(supplied: Supply, revision: Revision, deployment: LLMDeployment) -> Cause | None:
    """What is told of replicas whose claim lacks their model; None where it holds it."""
    if supplied.there:
        return None
    doing = f" {supplied.plan.notes[0]}" if supplied.plan.notes else ""
    message = (
        f"Claim {names.claim_name(deployment.name)} does not hold {revision.spec.model.uri}, as after it was made "
        f"anew, so replicas cannot start.{doing} They start by themselves once it is there."
    )
    return supplied.plan.blocker or Cause("ModelCacheEmpty", message, definite=False)


def _leaving(claim: CacheClaim) -> Cause:
    return Cause(
        "ModelCacheLeaving",
        f"Claim {claim.name} is being deleted, and Kubernetes keeps it until no pod mounts it. A new one is made and "
        "filled then. If replicas that serve hold it, set replicas to 0, or model.cache.type to Pod for a while.",
        definite=False,
    )


def _owner(manifest: children.Manifest) -> str:
    owner: str = manifest["metadata"]["labels"][names.LABEL_DEPLOYMENT]
    return owner


def _on_claim(revision: Revision) -> bool:
    cache = revision.spec.model.cache
    return cache is not None and cache.type == "Claim"


def _asked(job: JobFacts) -> tuple[str | None, str | None]:
    return job.annotations.get(names.ANNOTATION_MODEL_REQUEST), job.annotations.get(names.ANNOTATION_CLAIM_UID)


def _running(job: str, observed: Observed) -> bool:
    return any(pod.job == job and pod.phase == "Running" and not pod.terminating for pod in observed.pods)


def _proven(revision: Revision, claim: CacheClaim, observed: Observed) -> bool:
    """Whether the commit must be on the claim although nobody noted it.

    A replica that is ready read it there. And versions that wrote no notes made a ReplicaSet only once the model was
    on the claim; a claim that is younger than the ReplicaSet is another.
    """
    for item in observed.revisions:
        if item.resolved.model_revision != revision.resolved.model_revision or not _on_claim(item):
            continue
        owner = observed.live.get(("ReplicaSet", names.revision_name(_deployment(item), item.hash)))
        made = owner["metadata"].get("creationTimestamp") if owner is not None else None
        if observed.ready(item.hash) or (made and not claim.noted and claim.created <= made):
            return True
    return False


def _deployment(revision: Revision) -> str:
    owner: str = revision.manifest["metadata"]["labels"][names.LABEL_DEPLOYMENT]
    return owner


def _usage(revision: Revision, observed: Observed) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Commits that replicas may read, and those that stored revisions name; None where not all of them are known."""
    known = {item.hash: item.resolved.model_revision or "" for item in (*observed.revisions, revision)}
    stored = [
        raw["metadata"]["labels"][names.LABEL_REVISION]
        for (kind, _), raw in observed.live.items()
        if kind == "ControllerRevision" and names.LABEL_REVISION in (raw["metadata"].get("labels") or {})
    ]
    using = {revision.hash, *(item.revision for item in observed.replica_sets)}
    using |= {pod.revision for pod in observed.pods if pod.revision is not None}
    if not using.union(stored) <= known.keys():
        return None, frozenset()
    return frozenset(known[item] for item in using if known[item]), frozenset(filter(None, known.values()))
