"""What was observed of one LLMDeployment: the API server's objects, read into small facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from nightshift.api import names
from nightshift.api.fetch import FetchOutcome, Progress, parse_outcome
from nightshift.api.preflight import PreflightOutcome, parse_preflight
from nightshift.core.adapter_sight import AdapterSight
from nightshift.core.analysis.verdict import Judgement
from nightshift.core.autoscale.demand import Demand, GatewaySight
from nightshift.core.engine_log import EngineFailure
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Fact, ImageNotFound, Known, Unknown
from nightshift.core.judged.pools import Contender
from nightshift.core.object_events import EventsAnswer
from nightshift.core.ownership import is_orphan, is_owned, is_route
from nightshift.core.pins import StoredPin, parse_pin
from nightshift.core.revisions import Revision, parse_revision
from nightshift.core.stray import strays
from nightshift.core.times import moment

ObjectKey = tuple[str, str]
"""Kind and name of an object in the deployment's namespace."""


@dataclass(frozen=True)
class ImageAnswer:
    """What came of asking a registry for a tag's digest."""

    answer: Known[str] | ImageNotFound | Unknown
    silences: int
    """How often it did not answer, one time after another, until now."""
    at: datetime


def image_key(repository: str, tag: str) -> str:
    """The key under which an ImageAnswer is kept."""
    return f"{repository}:{tag}"


@dataclass(frozen=True)
class ContainerFacts:
    """One container of a pod, as its kubelet reports it."""

    name: str
    ready: bool
    restarts: int
    image_id: str
    running_since: str | None
    waiting_reason: str | None
    waiting_message: str
    exit_code: int | None
    """Of the present or the last termination."""
    termination_reason: str | None
    termination_message: str
    ran_seconds: float | None = None
    """How long the container ran that ended last."""
    start_deadline_seconds: float | None = None
    """How long its startup probe may fail."""
    started: bool = False
    """Whether its startup probe has passed since it was last begun: from then on it only lapses, and loads no more."""


@dataclass(frozen=True)
class EngineLog:
    """What the end of a crashed engine's log told."""

    restarts: int
    """Restarts of the container when it was read: after a further crash it is read again."""
    failure: EngineFailure | None
    """None where it told nothing, or could not be read."""


@dataclass(frozen=True)
class PodFacts:
    """One pod of the deployment."""

    name: str
    uid: str
    owner: str | None
    """Uid of the ReplicaSet or Job that controls the pod; a label alone can be anybody's."""
    ip: str | None
    """Its address, once it has one."""
    component: str
    revision: str | None
    job: str | None
    created: str
    phase: str
    ready: bool
    terminating: bool
    unschedulable: str | None
    """The scheduler's message, where it could not place the pod."""
    containers: tuple[ContainerFacts, ...]
    outcome: FetchOutcome | None
    """What a fetch container said when it ended."""
    preflight: PreflightOutcome | None = None
    """What an engine image said of a revision when it was asked."""
    node: str | None = None
    containers_ready: bool = False
    """All containers were ready when the kubelet last reported; with the pod not ready, the node is lost."""
    unplaced_since: datetime | None = None
    """Since when the scheduler could not place it."""
    advanced: datetime | None = None
    """When it last came further: made, placed, initialized, or ready."""
    lapsed: datetime | None = None
    """Since when it is not ready; of one that was ready before that is when it ceased to be."""
    initialized: bool = True
    """Whether its init containers, which download the model, are done."""
    failure_reason: str = ""
    """Why its node refused the pod or put it out."""
    failure_message: str = ""
    stray: bool = False
    """It bears our labels and belongs to no ReplicaSet of ours, so it is nobody's replica (`core.stray`)."""

    def container(self, name: str) -> ContainerFacts | None:
        """One of the pod's containers by name."""
        return next((container for container in self.containers if container.name == name), None)


@dataclass(frozen=True)
class ReplicaSetFacts:
    """The ReplicaSet of a revision."""

    name: str
    revision: str
    replicas: int
    ready: int
    """Ready pods as its controller counted them."""
    settled: bool
    """Whether its controller has seen the present number of replicas: before that its pods may be on their way out."""
    failure: str | None
    """Why the API server refuses its pods (quota, admission), as it says."""
    failing_since: datetime | None = None


@dataclass(frozen=True)
class JobFacts:
    """A Job that resolves or downloads a model."""

    name: str
    succeeded: bool
    failed: bool
    finished_at: str | None
    annotations: Mapping[str, str]
    component: str = ""
    """What it is for, by its label."""


@dataclass(frozen=True)
class Observed:
    """Everything a plan is made from, besides the spec."""

    revisions: tuple[Revision, ...] = ()
    replica_sets: tuple[ReplicaSetFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    live: Mapping[ObjectKey, Mapping[str, Any]] = field(default_factory=dict)
    images: Mapping[str, ImageAnswer] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """Of downloads under way, by pod."""
    engine_logs: Mapping[str, EngineLog] = field(default_factory=dict)
    """What crashed engines wrote, by pod."""
    engines: Mapping[str, EngineSight] = field(default_factory=dict)
    """What running engines say of themselves, by pod; of their present start only."""
    events: Mapping[str, EventsAnswer] = field(default_factory=dict)
    """What Events tell of pods and Jobs, by uid."""
    pins: tuple[StoredPin, ...] = ()
    """What adapters were resolved to."""
    adapters: Mapping[str, AdapterSight] = field(default_factory=dict)
    """Which adapters running engines hold, by pod; of their present start only."""
    demand: Demand | None = None
    """What is asked of it, where that is watched."""
    gateway: GatewaySight | None = None
    """What the gateway's pods told last, where two revisions are compared."""
    comparison: Fact[Judgement] | None = None
    """How the candidate does beside the stable revision, as somebody else says; None: what was counted says it."""
    contenders: tuple[Contender, ...] = ()
    """Rollouts of other deployments that want an accelerator too."""

    def engine_pods(self, revision: str | None = None) -> tuple[PodFacts, ...]:
        """Replicas that are not on their way out, of one revision or of all."""
        return tuple(
            pod
            for pod in self.pods
            if pod.component == names.COMPONENT_ENGINE
            and not pod.terminating
            and not pod.stray
            and pod.phase not in ("Succeeded", "Failed")
            and (revision is None or pod.revision == revision)
        )

    def ready(self, revision: str | None = None) -> int:
        """How many engine pods are ready."""
        return sum(pod.ready for pod in self.engine_pods(revision))

    def cache_config(self, revision: str) -> Fact[Mapping[str, str]]:
        """Labels of cache_config_info (KV blocks, their size, tokens) as an engine of the revision tells them.

        All engines of a revision have equal pods, so the first that tells speaks for the others.
        """
        for pod in self.engine_pods(revision):
            sight = self.engines.get(pod.name)
            if sight is not None and sight.last is not None and sight.last.value.cache_config:
                return Known(sight.last.value.cache_config, sight.last.at)
        return Unknown("No engine of this revision has told the size of its KV cache yet.")

    def replica_set(self, revision: str) -> ReplicaSetFacts | None:
        """The ReplicaSet of a revision."""
        return next((item for item in self.replica_sets if item.revision == revision), None)


_STAGES = ("PodScheduled", "Initialized", "Ready")


def _advanced(created: str | None, conditions: Mapping[str, Mapping[str, Any]]) -> datetime | None:
    reached = [conditions[kind] for kind in _STAGES if (conditions.get(kind) or {}).get("status") == "True"]
    times = [moment(created), *(moment(item.get("lastTransitionTime")) for item in reached)]
    return max((time for time in times if time is not None), default=None)


def _seconds_between(start: str | None, end: str | None) -> float | None:
    begun, ended = moment(start), moment(end)
    return (ended - begun).total_seconds() if begun is not None and ended is not None else None


def _start_deadlines(raw: Mapping[str, Any]) -> dict[str, float]:
    """Seconds that a startup probe may fail, by container: period times threshold."""
    probes = {
        item["name"]: item["startupProbe"]
        for item in (raw.get("spec") or {}).get("containers") or ()
        if item.get("startupProbe")
    }
    return {
        name: float(probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)) for name, probe in probes.items()
    }


def _container_facts(raw: Mapping[str, Any], deadlines: Mapping[str, float]) -> ContainerFacts:
    state, last = raw.get("state") or {}, raw.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return ContainerFacts(
        name=raw.get("name", ""),
        ready=bool(raw.get("ready")),
        restarts=int(raw.get("restartCount") or 0),
        image_id=raw.get("imageID") or "",
        running_since=(state.get("running") or {}).get("startedAt"),
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message") or "",
        exit_code=ended.get("exitCode"),
        termination_reason=ended.get("reason"),
        termination_message=ended.get("message") or "",
        ran_seconds=_seconds_between(ended.get("startedAt"), ended.get("finishedAt")),
        start_deadline_seconds=deadlines.get(raw.get("name", "")),
        started=bool(raw.get("started")),
    )


def pod_facts(raw: Mapping[str, Any]) -> PodFacts:
    """Read a pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    scheduled, ready = conditions.get("PodScheduled") or {}, conditions.get("Ready") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    deadlines = _start_deadlines(raw)
    containers = tuple(_container_facts(item, deadlines) for item in statuses)
    fetches = [
        container for container in containers if container.name in (names.DOWNLOAD_CONTAINER, names.RESOLVE_CONTAINER)
    ]
    outcomes = [parse_outcome(container.termination_message) for container in fetches]
    asked = (item.termination_message for item in containers if item.name == names.PREFLIGHT_CONTAINER)
    return PodFacts(
        name=metadata["name"],
        uid=str(metadata.get("uid") or ""),
        owner=next((item.get("uid") for item in metadata.get("ownerReferences") or () if item.get("controller")), None),
        ip=status.get("podIP") or None,
        component=labels.get(names.LABEL_COMPONENT, ""),
        revision=labels.get(names.LABEL_REVISION),
        job=labels.get("batch.kubernetes.io/job-name"),
        created=metadata.get("creationTimestamp") or "",
        phase=status.get("phase") or "Pending",
        ready=ready.get("status") == "True",
        terminating="deletionTimestamp" in metadata,
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        containers=containers,
        outcome=next((outcome for outcome in outcomes if outcome is not None), None),
        preflight=next((told for text in asked if (told := parse_preflight(text)) is not None), None),
        node=(raw.get("spec") or {}).get("nodeName"),
        containers_ready=(conditions.get("ContainersReady") or {}).get("status") == "True",
        unplaced_since=moment(scheduled.get("lastTransitionTime")) or moment(metadata.get("creationTimestamp")),
        advanced=_advanced(metadata.get("creationTimestamp"), conditions),
        lapsed=moment(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None,
        initialized=(conditions.get("Initialized") or {}).get("status") != "False",
        failure_reason=status.get("reason") or "",
        failure_message=status.get("message") or "",
    )


def engine_start(pod: PodFacts) -> str | None:
    """The pod and the moment at which its engine started; None while it does not run."""
    engine = pod.container(names.ENGINE_CONTAINER)
    if engine is None or engine.running_since is None:
        return None
    return f"{pod.uid} {engine.running_since}"


def replica_set_facts(raw: Mapping[str, Any]) -> ReplicaSetFacts:
    """Read a ReplicaSet."""
    metadata = raw["metadata"]
    status = raw.get("status") or {}
    conditions = status.get("conditions") or ()
    failures = [item for item in conditions if item.get("type") == "ReplicaFailure" and item.get("status") == "True"]
    return ReplicaSetFacts(
        name=metadata["name"],
        revision=(metadata.get("labels") or {}).get(names.LABEL_REVISION, ""),
        replicas=int((raw.get("spec") or {}).get("replicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        settled=int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0),
        failure=failures[0].get("message") if failures else None,
        failing_since=moment(failures[0].get("lastTransitionTime")) if failures else None,
    )


def job_facts(raw: Mapping[str, Any]) -> JobFacts:
    """Read a Job."""
    status = raw.get("status") or {}
    conditions = {item.get("type"): item for item in status.get("conditions") or () if item.get("status") == "True"}
    ended = conditions.get("Complete") or conditions.get("Failed") or {}
    return JobFacts(
        name=raw["metadata"]["name"],
        succeeded="Complete" in conditions,
        failed="Failed" in conditions,
        finished_at=ended.get("lastTransitionTime"),
        annotations=raw["metadata"].get("annotations") or {},
        component=(raw["metadata"].get("labels") or {}).get(names.LABEL_COMPONENT, ""),
    )


def _counts(kind: str, raw: Mapping[str, Any], uid: str) -> bool:
    return kind == "Pod" or is_owned(raw, uid) or is_orphan(raw) or is_route(raw)


def observe(
    uid: str,
    objects: Mapping[ObjectKey, Mapping[str, Any]],
    images: Mapping[str, ImageAnswer],
    progress: Mapping[str, Progress],
    engine_logs: Mapping[str, EngineLog] | None = None,
    engines: Mapping[str, EngineSight] | None = None,
    events: Mapping[str, EventsAnswer] | None = None,
    adapters: Mapping[str, AdapterSight] | None = None,
    demand: Demand | None = None,
    gateway: GatewaySight | None = None,
) -> Observed:
    """Read the objects that carry a deployment's label; ReplicaSets and the like count only if it owns them.

    Pods are owned by ReplicaSets and Jobs, so they are taken by their label, and so are route objects, which lie in
    another namespace. What bears our marks and lost its
    owner counts too, and is given one by the plan.
    """
    owned = {key: raw for key, raw in objects.items() if _counts(key[0], raw, uid)}

    def of(kind: str) -> list[Mapping[str, Any]]:
        return [raw for key, raw in sorted(owned.items()) if key[0] == kind]

    revisions = [parse_revision(dict(raw)) for raw in of("ControllerRevision")]
    newest = max((item for item in revisions if item is not None), key=lambda item: item.number, default=None)
    nobodys = strays(of("Pod"), of("ReplicaSet"), newest.hash if newest is not None else None)
    pods = tuple(replace(pod_facts(raw), stray=raw["metadata"]["name"] in nobodys) for raw in of("Pod"))
    starts = {pod.name: engine_start(pod) for pod in pods} if engines or adapters else {}
    pins = [parse_pin(raw) for raw in of("ControllerRevision")]
    return Observed(
        revisions=tuple(revision for revision in revisions if revision is not None),
        replica_sets=tuple(replica_set_facts(raw) for raw in of("ReplicaSet")),
        pods=pods,
        jobs=tuple(job_facts(raw) for raw in of("Job")),
        live=owned,
        images=images,
        progress=progress,
        engine_logs=engine_logs or {},
        engines={pod: sight for pod, sight in (engines or {}).items() if starts.get(pod) == sight.start},
        events=events or {},
        pins=tuple(pin for pin in pins if pin is not None),
        adapters={pod: sight for pod, sight in (adapters or {}).items() if starts.get(pod) == sight.start},
        demand=demand,
        gateway=gateway,
    )
