"""The Jobs that ask golden questions of a candidate and of the stable revision, one after another.

What a Job told is kept on the candidate's ControllerRevision before the Job goes, so that a new process asks nothing
twice. Nothing is claimed of what was not asked.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.evaluation import GoldenSetRef
from nightshift.api.golden_run import GoldenFailed, GoldenKept, GoldenOutcome, GoldenReason, GoldenRun, parse_golden
from nightshift.api.resource import LLMDeployment
from nightshift.core.analysis.evidence import GoldenPair
from nightshift.core.canonical import canonical_json, short_hash
from nightshift.core.cause import Cause
from nightshift.core.causes import job_cause
from nightshift.core.children import Manifest, plain_job
from nightshift.core.facts import Fact
from nightshift.core.fetch_jobs import RETRY_SECONDS, dropped, retry_job
from nightshift.core.fit.settings import flag_value
from nightshift.core.golden.builtin import builtin_set
from nightshift.core.golden.outcome import Due, all_pairs, due, unasked, with_run
from nightshift.core.golden.packing import MAX_PAIRS
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.planning import Apply, Plan
from nightshift.core.pod import RESTRICTED_CONTAINER, served_names
from nightshift.core.revisions import Revision
from nightshift.core.times import written

QUESTION_SECONDS = 120
"""One answer is given up after so long, and counts as failed."""
ASKING_SECONDS = 900
"""A Job asks for so long at most; what it did not come to is left out."""
DEADLINE_SECONDS = ASKING_SECONDS + 300
"""Of a Job: its pod has to be placed, and its image pulled."""

POLL_SECONDS = 30.0
"""Watches tell of pods and Jobs; so often it is looked whether something is due besides."""

SMALL_SET = 16
"""A user's set of fewer questions is asked together with the built-in ones: up to 28 Jobs ask it, and 4 questions 28
times are not the 135 with which failures are compared."""

LOGPROBS = 5
"""Of so many of the likeliest first tokens the log-probability is compared."""

SET_DIRECTORY = "/golden"
_FILE = "golden.jsonl"


@dataclass(frozen=True)
class Asking:
    """What is done so that golden questions are asked."""

    plan: Plan = field(default_factory=Plan)
    note: GoldenKept | None = None
    """What is to be noted on the candidate (`Marks.golden`) before anything follows; None leaves it as it is."""
    done: bool = False
    """Nothing is left to ask."""


@dataclass(frozen=True)
class Pairing:
    """Two revisions that are asked the same questions."""

    candidate: Revision
    """The one that is judged; what came of it is kept on it."""
    stable: Revision
    """The one that serves."""
    reference: GoldenSetRef | None = None
    """The user's set; None: the built-in one."""
    since: datetime | None = None
    """When this try of the rollout began: what was told for another one does not count."""

    @property
    def source(self) -> str:
        """Names the set, as far as the operator knows it: it may not read ConfigMaps of users."""
        return _builtin_name() if self.reference is None else canonical_json(self.reference.to_json())


@cache
def _builtin_name() -> str:
    return f"builtin {builtin_set().digest}"


def kept_of(pairing: Pairing) -> GoldenKept:
    """What is kept of a candidate; nothing where another revision, set or try stood beside it then.

    Tries are told apart by what was written down. The clocks of the pods that ask are not compared with the operator's.
    """
    empty = GoldenKept(stable=pairing.stable.hash, source=pairing.source, begun=written(pairing.since))
    found = pairing.candidate.marks.golden
    same = found is not None and found.model_copy(update={"runs": ()}) == empty
    return found if found is not None and same else empty


def golden_of(pairing: Pairing) -> Fact[tuple[GoldenPair, ...]]:
    """The golden pairs of a candidate so far; Unknown until some are told."""
    return all_pairs(kept_of(pairing))


def ask(
    deployment: LLMDeployment,
    pairing: Pairing,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
    *,
    rounds: int = 1,
) -> Asking:
    """Decide which Job asks now, and what is kept of the one before.

    Args:
        deployment: The deployment.
        pairing: Who is asked what.
        observed: Jobs, and pods of both revisions.
        config: Image of the Job.
        now: The present moment.
        rounds: How often the whole set is to be asked, where there is too little traffic to judge by.
    """
    kept = kept_of(pairing)
    jobs = tuple(job for job in observed.jobs if job.component == names.COMPONENT_EVALUATION)
    wanted = due(kept, rounds)
    if wanted is None:
        return Asking(Plan(delete=dropped(observed, jobs)), done=True)
    name = job_name(deployment.name, pairing, wanted)
    others = dropped(observed, (job for job in jobs if job.name != name))
    job = next((job for job in jobs if job.name == name), None)
    if job is None:
        manifest = _manifest(deployment, pairing, observed, config, wanted)
        if manifest is None:
            note = "Golden questions wait until both revisions have a ready replica."
            return Asking(Plan(delete=others, requeue_after=POLL_SECONDS, notes=(note,)))
        reason = f"Asking golden questions from number {wanted.start + 1} on of revision {pairing.candidate.hash}."
        return Asking(Plan(apply=(Apply(manifest, reason, create=True),), delete=others, notes=(reason,)))
    outcome = _outcome(observed, name)
    if isinstance(outcome, GoldenRun) and outcome.start == wanted.start:
        after = with_run(kept, wanted.round, outcome)
        left = unasked(after)
        notes = (f"{left[0].upper()}{left[1:]}.",) if left else ()
        return Asking(Plan(delete=others, requeue_after=1.0, notes=notes), note=after)
    if isinstance(outcome, GoldenFailed) and outcome.reason is GoldenReason.GOLDEN_SET_CHANGED and kept.runs:
        emptied = kept.model_copy(update={"runs": ()})
        return Asking(Plan(delete=others, requeue_after=1.0, notes=(outcome.message,)), note=emptied)
    if isinstance(outcome, GoldenFailed) or job.failed or job.succeeded:
        cause = _cause(outcome, observed, name)
        again = retry_job(observed, name, job.finished_at, now)
        return Asking(Plan(delete=(*others, *again), requeue_after=RETRY_SECONDS / 2, blocker=cause))
    note = f"Job {name} asks golden questions of both revisions."
    waiting = job_cause(observed, name)
    return Asking(Plan(delete=others, requeue_after=POLL_SECONDS, notes=(note,), blocker=waiting))


def rounds_begun(deployment: str, pairing: Pairing, observed: Observed) -> int:
    """How often the whole set was begun to be asked, 1 at least: a round that a Job has begun is brought to its end."""
    kept = kept_of(pairing)
    begun = 1 + max((item.round for item in kept.runs), default=0)
    following = due(kept, begun + 1)
    if following is None or following.round < begun:
        return begun
    name = job_name(deployment, pairing, following)
    return begun + any(job.name == name for job in observed.jobs)


def over(observed: Observed) -> Plan:
    """What is done once no rollout needs answers any more: its Jobs go, finished or not."""
    jobs = (job for job in observed.jobs if job.component == names.COMPONENT_EVALUATION)
    return Plan(delete=dropped(observed, jobs))


def _outcome(observed: Observed, job: str) -> GoldenOutcome | None:
    """What the newest pod of a Job told that told something."""
    pods = sorted((pod for pod in observed.pods if pod.job == job), key=lambda pod: pod.created, reverse=True)
    containers = (pod.container(names.EVALUATION_CONTAINER) for pod in pods)
    told = (parse_golden(item.termination_message) for item in containers if item is not None)
    return next((outcome for outcome in told if outcome is not None), None)


_FOR_A_PERSON = frozenset({GoldenReason.GOLDEN_SET_NOT_FOUND, GoldenReason.GOLDEN_SET_INVALID})


def _cause(outcome: GoldenOutcome | None, observed: Observed, job: str) -> Cause:
    if isinstance(outcome, GoldenFailed):
        return Cause(outcome.reason.value, outcome.message, definite=outcome.reason in _FOR_A_PERSON)
    return job_cause(observed, job) or Cause(
        "GoldenJobFailed",
        f"Job {job} ended without telling what came of its golden questions, as when its node is lost or its time is "
        "over. It is tried again.",
        definite=False,
    )


def job_name(deployment: str, pairing: Pairing, wanted: Due) -> str:
    """Name of a Job: the same questions put to the same revisions have the same, whatever pods they have."""
    since = written(pairing.since)
    identity = [pairing.candidate.hash, pairing.stable.hash, pairing.source, since, wanted.round, wanted.start]
    identity += [wanted.tries] if wanted.tries else []
    return names.evaluation_job_name(deployment, short_hash(identity, 8))


def _manifest(
    deployment: LLMDeployment, pairing: Pairing, observed: Observed, config: OperatorConfig, wanted: Due
) -> Manifest | None:
    ones, others = _replicas(observed, pairing.stable), _replicas(observed, pairing.candidate)
    if not ones or not others:
        return None
    # Rounds and tries ask other replicas, so that one bad node does not speak for a revision.
    turn = wanted.round + wanted.tries
    pods = ones[turn % len(ones)], others[turn % len(others)]
    return evaluation_job(deployment, pairing, pods, config, wanted)


def _replicas(observed: Observed, revision: Revision) -> list[PodFacts]:
    pods = (pod for pod in observed.engine_pods(revision.hash) if pod.ready and pod.ip is not None)
    return sorted(pods, key=lambda pod: pod.name)


def evaluation_job(
    owner: LLMDeployment, pairing: Pairing, pods: tuple[PodFacts, PodFacts], config: OperatorConfig, wanted: Due
) -> Manifest:
    """A Job that asks one replica of each revision up to 150 questions; it is tried again by another Job, not by pods.

    Args:
        owner: The deployment.
        pairing: Who is asked what.
        pods: A replica of the stable revision, and one of the candidate.
        config: Image.
        wanted: Which questions of the set. The Job's name seeds their order.
    """
    name, reference = job_name(owner.name, pairing, wanted), pairing.reference
    arguments = [
        *_side("stable", owner, pairing.stable, pods[0]),
        *_side("candidate", owner, pairing.candidate, pods[1]),
        *("--start", str(wanted.start), "--count", str(MAX_PAIRS)),
        *(("--only", ",".join(str(place) for place in wanted.left)) if wanted.left else ()),
        *("--seed", name),
        *("--logprobs", str(_logprobs(pairing))),
        *("--question-seconds", str(QUESTION_SECONDS), "--total-seconds", str(ASKING_SECONDS)),
    ]
    volumes, mounts = [], []
    if reference is not None:
        file = _FILE if reference.kind == "ConfigMap" else reference.key
        where = f"{reference.kind} {reference.name}, {reference.key}"
        arguments += ["--set", f"{SET_DIRECTORY}/{file}", "--source", where, "--least", str(SMALL_SET)]
        volumes, mounts = [_volume(reference)], [{"name": "golden", "mountPath": SET_DIRECTORY, "readOnly": True}]
    secrets = pairing.candidate.record.pod_template["spec"].get("imagePullSecrets")
    placement = {"imagePullSecrets": secrets} if secrets else {}
    container = _container(config, arguments, mounts)
    annotations = {names.ANNOTATION_GOLDEN: pairing.source}
    job = plain_job(owner, names.COMPONENT_EVALUATION, container, volumes, annotations, placement)
    job["metadata"]["name"] = name
    job["spec"] |= {"backoffLimit": 0, "activeDeadlineSeconds": DEADLINE_SECONDS}
    return job


def _logprobs(pairing: Pairing) -> int:
    """Of how many tokens log-probabilities are asked: an engine refuses a question that asks for more than it gives."""
    revisions = (pairing.candidate, pairing.stable)
    told = [flag_value(revision.spec.engine.args, "--max-logprobs") for revision in revisions]
    return min([LOGPROBS, *(int(text) for text in told if text is not None and text.isdecimal())])


def _side(side: str, owner: LLMDeployment, revision: Revision, pod: PodFacts) -> list[str]:
    model = served_names(owner.namespace, owner.name, revision.spec)[0]
    host = f"[{pod.ip}]" if ":" in str(pod.ip) else str(pod.ip)
    return [f"--{side}", f"{host}:{names.ENGINE_PORT}", f"--{side}-model", model]


def _volume(reference: GoldenSetRef) -> Manifest:
    """Where the set lies. A ConfigMap may be missing: the Job says so in words, where a pod would wait in silence."""
    if reference.kind == "PersistentVolumeClaim":
        return {"name": "golden", "persistentVolumeClaim": {"claimName": reference.name, "readOnly": True}}
    items = [{"key": reference.key, "path": _FILE}]
    return {"name": "golden", "configMap": {"name": reference.name, "items": items, "optional": True}}


def _container(config: OperatorConfig, arguments: list[str], mounts: list[Manifest]) -> Manifest:
    return {
        "name": names.EVALUATION_CONTAINER,
        "image": config.fetch_image,
        "command": ["/opt/nightshift/bin/python", "-m", "nightshift.evaluate"],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108
    }
