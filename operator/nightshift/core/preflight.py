"""Before a new revision is stored: what its model is, and whether it can run where it is asked to.

Only what is sure holds a revision back. Without facts, without the accelerator's memory, or with arguments whose
memory is not known, nothing is claimed and the engine tries. Stored revisions are never judged again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from nightshift.api import names
from nightshift.api.config import AcceleratorProfile, OperatorConfig
from nightshift.api.fetch import Inspected
from nightshift.api.fetch import Resolved as ModelResolved
from nightshift.api.model_facts import ModelFacts
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import Resolved, RevisionSpec
from nightshift.core import children
from nightshift.core.causes import Cause, job_cause
from nightshift.core.fit.quantization import Refused, check_quantization
from nightshift.core.fit.settings import EngineSettings, engine_settings
from nightshift.core.fit.suggest import fit
from nightshift.core.fit.verdict import DoesNotFit, Hardware, assess
from nightshift.core.model_uri import ClaimModel, parse_model_uri
from nightshift.core.observed import Observed
from nightshift.core.planning import Apply
from nightshift.core.revisions import build

MARGIN = 1.03
"""A refusal must also hold for accelerators with 3 % more memory: weights are known to 2 %, and profiles are written
by people. The overheads that it rests on are the least that an engine takes (core/fit/overheads.py)."""

ESCAPE = f'With the annotation {names.ANNOTATION_FIT_CHECK}: "off" the engine is started all the same.'

_OTHER_MEMORY = frozenset({"VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_MLA_DISABLE", "VLLM_PLUGINS", "VLLM_USE_V1"})
"""Variables that change what fits in ways that are not computed."""


@dataclass(frozen=True)
class Passed:
    """Nothing speaks against the revision; the facts are stored with it."""

    facts: ModelFacts | None


@dataclass(frozen=True)
class Asking:
    """The model's files are being looked at."""

    apply: tuple[Apply, ...]
    note: str
    requeue_after: float
    job: str


Preflight: TypeAlias = Passed | Asking | Cause


def check(
    deployment: LLMDeployment,
    wanted: RevisionSpec,
    resolved: Resolved,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Preflight:
    """Judge a revision that is to be made.

    Args:
        deployment: The deployment.
        wanted: What the user wrote.
        resolved: What it is pinned to, its accelerator among it.
        observed: Jobs that look at models, and revisions that know already.
        config: Accelerator profiles.
        now: The present moment; nothing waits for facts for longer than two minutes.
    """
    profile = config.accelerators[resolved.accelerator]
    facts = _facts(deployment, wanted, resolved, observed, config, now)
    if isinstance(facts, Asking):
        return facts
    if facts is not None and deployment.fit_check:
        cause = refusal(facts, wanted, resolved, profile)
        if cause is not None:
            return cause
    return Passed(facts)


def replica_settings(wanted: RevisionSpec, resolved: Resolved, profile: AcceleratorProfile) -> EngineSettings:
    """The arguments that decide about memory, those that Nightshift adds included."""
    settings = engine_settings(wanted.engine.args)
    ranks = resolved.accelerator_count if profile.resource_name else 1
    return replace(settings, quantization=wanted.model.quantization, tensor_parallel=ranks)


def replica_hardware(resolved: Resolved, profile: AcceleratorProfile) -> Hardware:
    """What one replica runs on."""
    return Hardware(resolved.accelerator, resolved.accelerator_count, profile.memory_gib, profile.capability)


def is_computed(wanted: RevisionSpec, settings: EngineSettings) -> bool:
    """Whether all that was asked for is among what is computed."""
    variables = {entry.name for entry in wanted.engine.env}
    return not (settings.unmodelled or settings.unreadable or variables & _OTHER_MEMORY)


def refusal(facts: ModelFacts, wanted: RevisionSpec, resolved: Resolved, profile: AcceleratorProfile) -> Cause | None:
    """Why a model cannot run so, as far as that is sure.

    Example: Llama 3.1 70B in bf16 on two H100: DoesNotFit, `71B in bf16 needs 131 GiB of weights, 2 x 79.3 GiB at 0.92
    leaves 6.2 GiB for KV on each, ...; use fp8, 4 accelerators or ...`.
    """
    settings = replica_settings(wanted, resolved, profile)
    if (facts.model_type is None and facts.architecture is None) or not is_computed(wanted, settings):
        return None
    version, hardware = resolved.engine_version, replica_hardware(resolved, profile)
    checked = check_quantization(
        settings.quantization, facts, version, hardware.capability, settings.allow_deprecated_quantization
    )
    if isinstance(checked, Refused):
        field = f"model.quantization {settings.quantization}" if settings.quantization else "The model's quantization"
        message = f"{field} cannot run on {resolved.accelerator} with vLLM {version}: {checked.message}. {ESCAPE}"
        return Cause("QuantizationUnsupported", message, definite=True)
    if hardware.memory_gib is None:
        return None
    ample = replace(hardware, memory_gib=hardware.memory_gib * MARGIN)
    if not isinstance(assess(facts, settings, version, ample), DoesNotFit):
        return None
    verdict = fit(facts, settings, version, hardware)
    if not isinstance(verdict, DoesNotFit):
        return None
    where = f"{resolved.accelerator_count} x {resolved.accelerator}"
    message = (
        f"The model does not fit on {where}: {verdict.message}. Correct model.quantization, hardware or engine.args. "
        f"{ESCAPE}"
    )
    return Cause("DoesNotFit", message, definite=True)


def _facts(
    deployment: LLMDeployment,
    wanted: RevisionSpec,
    resolved: Resolved,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> ModelFacts | Asking | None:
    """What is known of the model; asked for where it decides something, and only once."""
    known = _known(wanted, resolved, observed)
    answers = _answers(deployment, wanted, resolved, observed, config)
    if known is not None or answers:
        return known or answers[0]
    profile = config.accelerators[resolved.accelerator]
    decides = profile.memory_gib is not None or profile.capability is not None or wanted.model.quantization is not None
    if not (decides and deployment.fit_check):
        return None
    manifest = _job(deployment, wanted, resolved, config)
    name = manifest["metadata"]["name"]
    job = next((job for job in observed.jobs if job.name == name), None)
    note = f"Reading what {wanted.model.uri} is, to see whether it fits."
    if job is None:
        return Asking((Apply(manifest, note, create=True),), note, float(children.INSPECT_SECONDS), name)
    left = _seconds_left(observed, name, now)
    if job.failed or job.succeeded or left <= 0 or job_cause(observed, name) is not None:
        return None
    return Asking((), note, left, name)


def _known(wanted: RevisionSpec, resolved: Resolved, observed: Observed) -> ModelFacts | None:
    """From a revision of the same commit; the files on a claim may have changed since."""
    if resolved.model_revision is None:
        return None
    same = [
        revision
        for revision in observed.revisions
        if revision.resolved.model_revision == resolved.model_revision
        and revision.spec.model.uri == wanted.model.uri
        and revision.record.facts is not None
    ]
    newest = max(same, key=lambda revision: revision.number, default=None)
    return newest.record.facts if newest else None


def _answers(
    deployment: LLMDeployment, wanted: RevisionSpec, resolved: Resolved, observed: Observed, config: OperatorConfig
) -> list[ModelFacts | None]:
    """What Jobs said of this very model; one that found nothing usable is an answer too."""
    if resolved.model_revision is None:
        name = _job(deployment, wanted, resolved, config)["metadata"]["name"]
        return [pod.outcome.facts for pod in observed.pods if pod.job == name and isinstance(pod.outcome, Inspected)]
    jobs = {
        children.resolve_job(deployment, wanted, config, revision)["metadata"]["name"]
        for revision in (None, resolved.model_revision)
    }
    return [
        pod.outcome.facts
        for pod in observed.pods
        if pod.job in jobs and isinstance(pod.outcome, ModelResolved) and pod.outcome.sha == resolved.model_revision
    ]


def _job(
    deployment: LLMDeployment, wanted: RevisionSpec, resolved: Resolved, config: OperatorConfig
) -> children.Manifest:
    if isinstance(parse_model_uri(wanted.model.uri), ClaimModel):
        _, record = build(deployment.namespace, deployment.name, wanted, resolved, config)
        return children.inspect_job(deployment, wanted, config, record.pod_template["spec"])
    return children.resolve_job(deployment, wanted, config, resolved.model_revision)


def _seconds_left(observed: Observed, job: str, now: datetime) -> float:
    """Until nobody waits for a Job any more, such as one whose pod finds no node."""
    live = observed.live.get(("Job", job))
    created = live["metadata"].get("creationTimestamp") if live else None
    if not created:
        return 0.0
    ends = datetime.fromisoformat(created) + timedelta(seconds=children.INSPECT_SECONDS)
    return (ends - now).total_seconds()
