"""The values that a plan is made of."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nightshift.core.adapter_sight import TendAdapters
from nightshift.core.adapter_views import AdapterView
from nightshift.core.additions import Additions
from nightshift.core.autoscale.decide import Bounds
from nightshift.core.autoscale.demand import Demand
from nightshift.core.cause import Cause
from nightshift.core.judged.pools import Contender
from nightshift.core.revisions import Revision


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole object."""

    manifest: dict[str, Any]
    reason: str
    """Why, as a sentence."""
    create: bool
    """Not known to exist: refused if an object of this name belongs to someone else."""
    additions: Additions | None = None
    """What others added to it and is taken away before."""


@dataclass(frozen=True)
class Delete:
    """Deletion of exactly this object: uid and resourceVersion are preconditions."""

    api_version: str
    kind: str
    name: str
    uid: str
    resource_version: str
    reason: str
    grace_seconds: int | None = None
    """For a pod: time to end, where it is not to be the pod's own."""
    evict: bool = False
    """For a pod: by the eviction API, so that its PodDisruptionBudget decides; only the uid is a precondition."""
    event: str | None = None
    """Reason of the Event that tells of it once it is done, where one does."""
    namespace: str | None = None
    """Where it is not the deployment's."""


@dataclass(frozen=True)
class ResolveImage:
    """Ask the registry for the digest of a tag."""

    repository: str
    tag: str


@dataclass(frozen=True)
class ReadProgress:
    """Ask a download container how far it is."""

    pod: str
    container: str


@dataclass(frozen=True)
class ReadEngineLog:
    """Read why an engine ended from the end of its log."""

    pod: str
    container: str
    restarts: int
    """Which of its ends: restarts of the container so far."""
    previous: bool
    """Whether the container that ended is the one before the present one."""


@dataclass(frozen=True)
class ReadEvents:
    """Read the Events about a pod or a Job whose status does not say what it waits for."""

    name: str
    uid: str


@dataclass(frozen=True)
class EventNote:
    """An Event to record about the LLMDeployment."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    why: str = ""
    """The reason of the conditions that it tells of: they make no other Event."""


@dataclass(frozen=True)
class LookAtEngine:
    """Read an engine's metrics now and then, for as long as plans name it."""

    pod: str
    ip: str
    start: str
    """Which start of the engine, as `core.observed.engine_start` names it."""


@dataclass(frozen=True)
class AskEngine:
    """Ask an engine for one token."""

    pod: str
    ip: str
    start: str
    served_name: str
    deadline_seconds: float


@dataclass(frozen=True)
class WatchDemand:
    """Watch what is asked of a deployment, for as long as plans say so."""

    bounds: Bounds
    replicas: int
    """As decided: what would change nothing of it need not be told."""
    gateway: bool
    """Whether its requests come through the gateway."""
    engines: tuple[LookAtEngine, ...] = ()
    """The engines that serve."""


@dataclass(frozen=True)
class Scaling:
    """How many replicas the autoscaler decided on."""

    replicas: int
    before: int
    reason: str
    """Why there are so many, as a sentence."""
    needed: int
    """Ready replicas with which the spec is fulfilled; others may be starting."""
    limited: Cause | None
    """What keeps the number from following the demand."""
    start_failure: Cause | None
    """Why those who wait for a first replica wait in vain for now."""
    due: float | None
    demand: Demand
    watch: WatchDemand


Request: TypeAlias = ResolveImage | ReadProgress | ReadEngineLog | ReadEvents | AskEngine


@dataclass(frozen=True)
class Plan:
    """What to do now, and what it was decided from."""

    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    requests: tuple[Request, ...] = ()
    looks: tuple[LookAtEngine, ...] = ()
    """Engines to be watched from now on, and no others of this deployment."""
    tends: tuple[TendAdapters, ...] = ()
    """Engines that hold adapters from now on, and which."""
    adapters: tuple[AdapterView, ...] = ()
    """What is told of each adapter of the spec."""
    requeue_after: float | None = None
    """Seconds until this should be looked at again, where no watch will tell."""
    notes: tuple[str, ...] = ()
    """What is being done, as sentences for people."""
    preparing: str = "Preparing"
    """What is told as the reason while the revision of the present spec cannot be named, and nothing is wrong."""
    target: Revision | None = None
    """The revision of the present spec, once it can be named."""
    blocker: Cause | None = None
    """What keeps a revision from being made, or from being started."""
    hanging: Cause | None = None
    """What is told of engines that hang."""
    hung: int = 0
    """How many of the ready engines hang."""
    changed: str | None = None
    """What is told of a replica that is not as its revision stores it."""
    unrouted: str | None = None
    """What keeps requests from getting where they should by the gateway, as a sentence; None: nothing."""
    counts: dict[str, int] = field(default_factory=dict)
    """Replicas per revision as planned."""
    shares: dict[str, int] | None = None
    """Percent of the requests by revision in a judged rollout; None: as many as its part of the ready replicas."""
    rollout: tuple[str, str] | None = None
    """Where a judged rollout under way stands, as a reason and a sentence."""
    contender: Contender | None = None
    """What a judged rollout wants of the accelerators that it shares with others."""
    scaling: Scaling | None = None
    """What the autoscaler decided; None where spec.replicas decides."""
    compares: bool = False
    """Whether revisions are compared: engines are read in detail, gateway pods are asked how requests ended, in any
    scaling.mode, and a reconcile hears of it now and then."""
    announcements: tuple[EventNote, ...] = ()
    """What is told as Events when this plan is carried out, besides what the status tells."""


def sooner(first: float | None, second: float | None) -> float | None:
    """The earlier of two appointments, where there are any."""
    return min((item for item in (first, second) if item is not None), default=None)
