"""LoRA adapters of a deployment: pinned, given to every engine that takes them, and told of one by one.

An adapter never decides whether the base model serves: what is wrong with one is told, and everything else goes on.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from nightshift.api import names
from nightshift.api.adapters import AdapterPin, AdapterSpec
from nightshift.api.config import OperatorConfig
from nightshift.api.fetch import AdapterResolved
from nightshift.api.resource import LLMDeployment
from nightshift.core import children
from nightshift.core.access import traffic_mode
from nightshift.core.adapter_files import DEFAULT_RANK, RANKS, bucket
from nightshift.core.adapter_sight import NamedAdapter, TendAdapters
from nightshift.core.adapter_views import AdapterView, viewed
from nightshift.core.cause import Cause
from nightshift.core.causes import job_cause
from nightshift.core.fetch_jobs import RETRY_SECONDS, dropped, retry_job
from nightshift.core.model_uri import HubModel, parse_model_uri
from nightshift.core.naming import adapter_names
from nightshift.core.objects import deletion
from nightshift.core.observed import JobFacts, Observed, engine_start
from nightshift.core.pins import pin_name
from nightshift.core.planning import Apply, Delete, Plan, sooner
from nightshift.core.times import moment

RESOLVE_SECONDS = 120.0
"""A new revision waits so long for the ranks of its adapters, and is made without them then: a Job whose pod finds no
node must not keep the base model from being served."""


@dataclass(frozen=True)
class Entry:
    """One of spec.adapters, and what is known of it."""

    wanted: AdapterSpec
    job: children.Manifest
    """The Job that resolves it."""
    pin: AdapterPin | None = None
    stored: bool = False
    cause: Cause | None = None
    """Why it cannot be served, or is not resolved yet."""
    awaited: bool = False
    """Whether its rank may be known in a moment."""

    @property
    def bucket(self) -> int | None:
        """The --max-lora-rank that it needs; None where that is not known, or there is none."""
        return bucket(self.pin.rank) if self.pin is not None else None


def entries(deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime) -> tuple[Entry, ...]:
    """Every adapter that is asked for, in the order of the spec."""
    return tuple(_entry(item, deployment, observed, config, now) for item in deployment.spec.adapters)


def _entry(
    wanted: AdapterSpec, deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime
) -> Entry:
    job = children.adapter_job(deployment, wanted, config)
    entry, name = Entry(wanted, job), job["metadata"]["name"]
    stored = pin_name(deployment.name, wanted.request)
    pinned = next((item.pin for item in observed.pins if item.name == stored), None)
    pin = pinned or _answer(wanted, name, observed)
    if pin is not None:
        return replace(entry, pin=pin, stored=pinned is not None, cause=_too_high(pin))
    facts = next((item for item in observed.jobs if item.name == name), None)
    cause = job_cause(observed, name)
    if facts is not None and (facts.failed or facts.succeeded) and cause is None:
        cause = Cause("AdapterResolveFailed", f"Job {name} ended without an answer; it is tried again.", definite=False)
    return replace(entry, cause=cause, awaited=cause is None and _young(facts, observed, now))


def _answer(wanted: AdapterSpec, job: str, observed: Observed) -> AdapterPin | None:
    name, uri, revision = wanted.request
    for pod in observed.pods:
        if pod.job == job and isinstance(pod.outcome, AdapterResolved):
            found = pod.outcome
            return AdapterPin(name=name, uri=uri, revision=revision, sha=found.sha, rank=found.rank, base=found.base)
    return None


def _too_high(pin: AdapterPin) -> Cause | None:
    if bucket(pin.rank) is not None:
        return None
    message = (
        f"Adapter {pin.name} has rank {pin.rank}, and vLLM serves adapters up to rank {RANKS[-1]}. Choose an adapter "
        "of a lower rank; the model and the other adapters go on."
    )
    return Cause("AdapterRankTooHigh", message, definite=True)


def _young(job: JobFacts | None, observed: Observed, now: datetime) -> bool:
    live = observed.live.get(("Job", job.name)) if job is not None else None
    made = moment(live["metadata"].get("creationTimestamp")) if live else None
    return made is None or now < made + timedelta(seconds=RESOLVE_SECONDS)


def lora_rank(found: Iterable[Entry]) -> int | None:
    """The rank that a revision's engines must take; None where no adapter is asked for.

    It is never below vLLM's default, so that adapters of common ranks come and go without a new revision.

    Worked example: adapters of ranks 8 and 24 need --max-lora-rank 32; one of rank 8 alone 16.
    """
    listed = tuple(found)
    if not listed:
        return None
    return max([DEFAULT_RANK, *(entry.bucket for entry in listed if entry.bucket is not None)])


def with_adapters(
    plan: Plan, deployment: LLMDeployment, observed: Observed, config: OperatorConfig, now: datetime
) -> Plan:
    """The plan, and what is to be done about adapters.

    Args:
        plan: What was decided without them.
        deployment: The resource.
        observed: What exists, and what engines and sidecars told.
        config: Image and Hub of the Jobs.
        now: The present moment (UTC).
    """
    found = entries(deployment, observed, config, now)
    gateway = config.gateway if traffic_mode(deployment, config) == "Gateway" else None
    called = {entry.wanted.name: adapter_names(deployment, entry.wanted.name, gateway) for entry in found}
    tended = replace(
        plan,
        tends=_tends(deployment, found, called, observed),
        adapters=_views(plan, deployment, found, called, observed),
    )
    if deployment.spec.paused:
        return tended
    pins = tuple(_stored(deployment, entry) for entry in found if entry.pin is not None and not entry.stored)
    open_jobs = {entry.job["metadata"]["name"]: entry for entry in found if entry.pin is None}
    known = {job.name for job in observed.jobs}
    new = tuple(
        Apply(entry.job, f"Resolving adapter {entry.wanted.name}.", create=True)
        for name, entry in open_jobs.items()
        if name not in known
    )
    return replace(
        tended,
        apply=(*pins, *plan.apply, *new),
        delete=(*plan.delete, *_unwanted(deployment, found, observed), *_again(open_jobs, observed, now)),
        requeue_after=sooner(plan.requeue_after, RETRY_SECONDS / 2 if open_jobs else None),
    )


def _stored(deployment: LLMDeployment, entry: Entry) -> Apply:
    assert entry.pin is not None  # noqa: S101 - only those are stored
    reason = f"Pinning adapter {entry.wanted.name} to commit {entry.pin.sha[:12]}."
    return Apply(children.adapter_pin(deployment, entry.pin), reason, create=True)


def _unwanted(deployment: LLMDeployment, found: tuple[Entry, ...], observed: Observed) -> tuple[Delete, ...]:
    """Pins and Jobs that no entry of the spec asks for; an entry that comes back is resolved anew."""
    wanted = {pin_name(deployment.name, entry.wanted.request) for entry in found}
    asked = {entry.job["metadata"]["name"] for entry in found}
    pins = tuple(
        deletion(observed, "ControllerRevision", item.name, "apps/v1", f"No adapter asks for pin {item.name} any more.")
        for item in observed.pins
        if item.name not in wanted
    )
    jobs = (job for job in observed.jobs if job.component == names.COMPONENT_ADAPTER and job.name not in asked)
    return (*pins, *dropped(observed, jobs))


def _again(open_jobs: Container[str], observed: Observed, now: datetime) -> tuple[Delete, ...]:
    ended = (job for job in observed.jobs if job.name in open_jobs and (job.failed or job.succeeded))
    return tuple(item for job in ended for item in retry_job(observed, job.name, job.finished_at, now))


def takes_adapters(observed: Observed) -> bool:
    """Whether there may be engines that load whatever they are told to, also where no adapter is asked for any more.

    Read from the ReplicaSets as they are: one outlives its pods, and may outlive its ControllerRevision.
    """
    sets = (raw for (kind, _), raw in observed.live.items() if kind == "ReplicaSet")
    return any(
        container["name"] == names.ADAPTERS_CONTAINER
        for raw in sets
        for container in _template(raw).get("initContainers") or ()
    )


def _template(replica_set: Mapping[str, Any]) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = ((replica_set.get("spec") or {}).get("template") or {}).get("spec") or {}
    return spec


def _tends(
    deployment: LLMDeployment, found: tuple[Entry, ...], called: Mapping[str, tuple[str, ...]], observed: Observed
) -> tuple[TendAdapters, ...]:
    """What every engine that takes adapters should hold. Only pods of our ReplicaSets: anybody can set a label."""
    owners = {raw["metadata"].get("uid") for (kind, _), raw in observed.live.items() if kind == "ReplicaSet"}
    ranks = {item.hash: item.resolved.lora_rank for item in observed.revisions}
    tends = []
    for pod in observed.engine_pods():
        rank, start = ranks.get(pod.revision or ""), engine_start(pod)
        if rank is None or start is None or not pod.ip or pod.owner not in owners:
            continue
        fitting = [entry for entry in found if (entry.bucket or rank + 1) <= rank]
        wanted = tuple(_named(entry, name) for entry in fitting for name in called[entry.wanted.name])
        others = (entry.wanted.name for entry in found if entry not in fitting)
        untouched = frozenset(name for other in others for name in called[other])
        tends.append(
            TendAdapters(pod.name, pod.ip, start, pod.ready, wanted, untouched, restoring=deployment.spec.paused)
        )
    return tuple(tends)


def _named(entry: Entry, name: str) -> NamedAdapter:
    assert entry.pin is not None  # noqa: S101 - an entry with a bucket has one
    model = parse_model_uri(entry.pin.uri)
    assert isinstance(model, HubModel)  # noqa: S101 - the contract takes hf:// only
    return NamedAdapter(name, model.repository, entry.pin.sha)


def _views(
    plan: Plan,
    deployment: LLMDeployment,
    found: tuple[Entry, ...],
    called: Mapping[str, tuple[str, ...]],
    observed: Observed,
) -> tuple[AdapterView, ...]:
    target, replicas = plan.target.hash if plan.target is not None else None, deployment.spec.replicas
    return tuple(viewed(e.wanted, e.pin, e.cause, target, replicas, observed, called[e.wanted.name]) for e in found)
