"""Which revision the spec asks for, and what must be asked before a new one can be made."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from nightshift.api.config import OperatorConfig
from nightshift.api.fetch import Resolved as ModelResolved
from nightshift.api.model_facts import ModelFacts
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import Resolved, RevisionSpec
from nightshift.api.spec import HardwareCandidate
from nightshift.core import children, preflight, preflight_job
from nightshift.core.adapters import Entry, entries, lora_rank
from nightshift.core.causes import Cause, job_cause
from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.fetch_jobs import RETRY_SECONDS, retry_job
from nightshift.core.images import IMAGE_ATTEMPTS, ask_again
from nightshift.core.marks import Marks
from nightshift.core.model_uri import ClaimModel, parse_model_uri
from nightshift.core.observed import Observed, image_key
from nightshift.core.placing import Move, placing
from nightshift.core.planning import Apply, Delete, ResolveImage
from nightshift.core.pod import image_tag
from nightshift.core.revisions import (
    Revision,
    build,
    candidates,
    carried,
    find,
    newest,
    on_candidate,
    places,
    revision_spec,
)

_COMMIT = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class Existing:
    """The spec is served by a revision of history."""

    revision: Revision


@dataclass(frozen=True)
class New:
    """A new revision, ready to be stored."""

    revision: Revision


@dataclass(frozen=True)
class Waiting:
    """Something must be known first."""

    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    requests: tuple[ResolveImage, ...] = ()
    requeue_after: float | None = None
    blocker: Cause | None = None
    note: str = ""
    job: str | None = None
    """The Job whose answer is awaited, where it is one."""
    unfit: bool = False
    """Whether the blocker is that the model cannot run on the hardware."""
    preflight: bool = False
    """Whether the revision's own image is asked."""


Target: TypeAlias = Existing | New | Waiting


def choose(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> Target:
    """Find or make the revision that the spec asks for.

    Where the one that is there finds no room, and nothing may be replaced in place, the next hardware candidate is
    taken: a sibling revision, which is the newest from then on and so the one that is found. Candidates on which the
    model cannot fit are passed over while another one is left.
    """
    wanted, adapters = revision_spec(deployment.spec), entries(deployment, observed, config, now)
    known, previous = find(observed.revisions, wanted, lora_rank(adapters)), newest(observed.revisions)
    if known is not None and not _falls_back(deployment, known, observed, now):
        return Existing(known)
    current = known or previous
    order = places(wanted, current.place if current is not None else None, config)
    if unknown := _not_offered(candidates(wanted) or order, config):
        return Waiting(blocker=unknown)
    unfit: Waiting | None = None
    for place in order if known is None else order[1:]:
        found = _on(place, deployment, wanted, adapters, observed, config, now)
        if not (isinstance(found, Waiting) and found.unfit):
            return found
        unfit = unfit or found
    return Existing(known) if known is not None else unfit or Waiting()


def _on(
    place: HardwareCandidate,
    deployment: LLMDeployment,
    wanted: RevisionSpec,
    adapters: tuple[Entry, ...],
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Target:
    """The revision on one of the candidates."""
    placed = on_candidate(wanted, place) if candidates(wanted) else wanted
    sibling = find(observed.revisions, placed, lora_rank(adapters))
    if sibling is not None:
        return Existing(sibling)
    previous = newest(observed.revisions)
    resolved = carried(placed, previous, config, place).model_copy(update={"lora_rank": _rank(adapters, previous)})
    image = _image(resolved, observed, now)
    if isinstance(image, Waiting):
        return image
    model = _model(deployment, placed, image, observed, config, now)
    if isinstance(model, Waiting):
        return model
    fits = preflight.check(deployment, placed, model, observed, config, now)
    if isinstance(fits, preflight.Asking):
        return Waiting(apply=fits.apply, requeue_after=fits.requeue_after, note=fits.note, job=fits.job)
    if isinstance(fits, Cause):
        return Waiting(blocker=fits, unfit=True)
    if open_ := next((entry.wanted for entry in adapters if entry.awaited), None):
        return Waiting(note=f"Reading the rank of adapter {open_.name}, with which engines are started.")
    return _asked(deployment, _revision(deployment, placed, model, observed, config, fits.facts), observed, now)


def _asked(deployment: LLMDeployment, revision: Revision, observed: Observed, now: datetime) -> Target:
    """The revision as it is stored once its own image has nothing against it."""
    asked = preflight_job.ask(deployment, revision, observed, now)
    if isinstance(asked, preflight_job.Pending):
        return Waiting(
            apply=asked.apply,
            delete=asked.delete,
            requeue_after=asked.requeue_after,
            blocker=asked.blocker,
            note=asked.note,
            job=asked.job,
            preflight=True,
        )
    if isinstance(asked, preflight_job.Refused):
        return Waiting(blocker=asked.cause, job=asked.job)
    if asked.stored is None:
        return New(revision)
    record = revision.record.model_copy(update={"preflight": asked.stored})
    manifest = children.controller_revision(deployment, revision.hash, revision.number, record)
    return New(replace(revision, record=record, manifest=manifest))


def _rank(adapters: tuple[Entry, ...], previous: Revision | None) -> int | None:
    """The rank of a new revision; not less than before while that of an adapter is not known."""
    rank, before = lora_rank(adapters), previous.resolved.lora_rank if previous is not None else None
    unknown = any(entry.pin is None for entry in adapters)
    return max(rank, before) if rank is not None and before is not None and unknown else rank


def _falls_back(deployment: LLMDeployment, known: Revision, observed: Observed, now: datetime) -> bool:
    """Whether the revision on the present candidate finds no room, and another one is to be tried."""
    return not deployment.spec.paused and placing(deployment, known, observed, now).move is Move.FALL_BACK


def _not_offered(asked: tuple[HardwareCandidate, ...], config: OperatorConfig) -> Cause | None:
    for index, item in enumerate(asked):
        if item.accelerator not in config.accelerators:
            offered = ", ".join(sorted(config.accelerators)) or "none"
            message = (
                f"hardware.candidates[{index}].accelerator {item.accelerator!r} is not offered here; the administrator "
                f"lists the profiles in the chart's value accelerators. Offered: {offered}."
            )
            return Cause("UnknownAccelerator", message, definite=True)
    return None


def _revision(
    deployment: LLMDeployment,
    wanted: RevisionSpec,
    resolved: Resolved,
    observed: Observed,
    config: OperatorConfig,
    facts: ModelFacts | None,
) -> Revision:
    revision_hash, record = build(deployment.namespace, deployment.name, wanted, resolved, config, facts)
    last = newest(observed.revisions)
    number = last.number + 1 if last else 1
    manifest = children.controller_revision(deployment, revision_hash, number, record)
    return Revision(revision_hash, number, record, Marks(), manifest)


def _image(resolved: Resolved, observed: Observed, now: datetime) -> Resolved | Waiting:
    """Pin the image's digest; a registry that does not answer leaves the tag to identify it."""
    if resolved.image_digest is not None:
        return resolved
    tag = image_tag(resolved.engine_version)
    found = observed.images.get(image_key(resolved.engine_image, tag))
    ask = (ResolveImage(resolved.engine_image, tag),)
    due = ask_again(found) if found is not None else now
    if found is None or (due <= now and not isinstance(found.answer, ImageNotFound)):
        what = f"{resolved.engine_image}:{tag}"
        again = isinstance(found.answer, Unknown) if found is not None else False
        note = f"Asking the registry {'again ' if again else ''}for the digest of {what}."
        return Waiting(requests=ask, requeue_after=1.0, note=note)
    wait = max(0.5, (due - now).total_seconds())
    if isinstance(found.answer, Known):
        return resolved.model_copy(update={"image_digest": found.answer.value})
    if isinstance(found.answer, ImageNotFound):
        cause = Cause("ImagePullFailed", found.answer.message, definite=True)
        return Waiting(requests=ask if due <= now else (), requeue_after=max(1.0, wait), blocker=cause)
    if found.silences < IMAGE_ATTEMPTS:
        return Waiting(requeue_after=wait, note=f"Asking the registry again: {found.answer.reason}")
    return resolved


def _model(
    deployment: LLMDeployment,
    wanted: RevisionSpec,
    resolved: Resolved,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Resolved | Waiting:
    """Pin the model's commit, by a Job that may hold the Hub token."""
    if resolved.model_revision is not None or isinstance(parse_model_uri(wanted.model.uri), ClaimModel):
        return resolved
    if wanted.model.revision and _COMMIT.match(wanted.model.revision):
        return resolved.model_copy(update={"model_revision": wanted.model.revision})
    manifest = children.resolve_job(deployment, wanted, config)
    name = manifest["metadata"]["name"]
    job = next((job for job in observed.jobs if job.name == name), None)
    if job is None:
        reason = f"Resolving revision {wanted.model.revision or 'main'} of {wanted.model.uri} to a commit."
        return Waiting(apply=(Apply(manifest, reason, create=True),), note=reason, job=name)
    for pod in observed.pods:
        if pod.job == name and isinstance(pod.outcome, ModelResolved):
            return resolved.model_copy(update={"model_revision": pod.outcome.sha})
    cause = job_cause(observed, name)
    if not (job.failed or job.succeeded):
        return Waiting(blocker=cause, note=f"Waiting for Job {name} to resolve the model's revision.", job=name)
    return Waiting(
        delete=retry_job(observed, name, job.finished_at, now),
        requeue_after=RETRY_SECONDS / 2,
        blocker=cause or Cause("ModelResolveFailed", f"Job {name} ended without an answer.", definite=False),
        job=name,
    )
