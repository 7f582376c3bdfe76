"""Jobs that resolve or download models, or ask images: when one is tried again, and when nobody waits for it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from nightshift.api import names
from nightshift.core.objects import deletion
from nightshift.core.observed import JobFacts, Observed
from nightshift.core.planning import Delete

RETRY_SECONDS = 60.0


def retry_job(observed: Observed, name: str, finished_at: str | None, now: datetime) -> tuple[Delete, ...]:
    """Delete a failed Job once its retry is due, so that the next plan makes it anew."""
    if ("Job", name) not in observed.live or finished_at is None:
        return ()
    if now < datetime.fromisoformat(finished_at) + timedelta(seconds=RETRY_SECONDS):
        return ()
    return (deletion(observed, "Job", name, "batch/v1", f"Job {name} failed and is tried again."),)


def dropped(observed: Observed, jobs: Iterable[JobFacts]) -> tuple[Delete, ...]:
    """Delete Jobs whose outcome nobody needs."""
    return tuple(
        deletion(observed, "Job", job.name, "batch/v1", f"Job {job.name} is needed no more.")
        for job in jobs
        if ("Job", job.name) in observed.live
    )


def unfinished(observed: Observed, jobs: Iterable[JobFacts]) -> tuple[JobFacts, ...]:
    """Jobs that go on, or wait in vain: a pod that wants for an image, a Secret or a node never fails."""
    ended = {pod.job for pod in observed.pods if pod.phase == "Succeeded"}
    return tuple(job for job in jobs if not (job.succeeded or job.failed or job.name in ended))


def superseded(observed: Observed, awaited: str | None) -> tuple[Delete, ...]:
    """Delete Jobs that look for a model's commit or facts, or ask an image, for a spec that is wanted no more.

    While a Job is awaited only others of its kind go: what one kind told is what the other one asks about. What has
    ended goes by itself after a while, and says until then why. What an image was asked stays for as long as its answer
    counts, and goes then.

    Args:
        observed: The Jobs.
        awaited: The Job that is waited for; None: no Job is.
    """
    kind = next((job.component for job in observed.jobs if job.name == awaited), "")
    others = [job for job in observed.jobs if job.name != awaited and (awaited is None or job.component == kind)]
    resolving = [job for job in others if job.component == names.COMPONENT_RESOLVE]
    asking = [job for job in others if job.component == names.COMPONENT_PREFLIGHT]
    return (*dropped(observed, unfinished(observed, resolving)), *dropped(observed, asking))
