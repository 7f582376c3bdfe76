"""A fake fleet for the planner of judged rollouts: deployments that share accelerators, and all that can go wrong.

What decides is the real code (`core.judged`, `core.placing`); what is simulated is the cluster, the comparison and the
operator's writes, between any two of which it may be killed.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from nightshift.api.rollout import Phase, RolloutState
from nightshift.core import placing
from nightshift.core.analysis.verdict import Judgement, Verdict
from nightshift.core.cause import Cause
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.judged.advance import Pace
from nightshift.core.judged.pools import Contender, claim, turns
from nightshift.core.marks import Ordered
from nightshift.core.rollout import RevisionState

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOAD_SECONDS = 240
PLACEMENT_SECONDS = 900
DRAIN_SECONDS = 600
EVIDENCE_SECONDS = 200


class Fate(Enum):
    """What a revision is like."""

    GOOD = auto()
    SLOW = auto()
    """It serves, and the comparison finds it out."""
    CRASHES = auto()
    HANGS = auto()
    """It serves for a while."""
    OUT_OF_MEMORY = auto()
    LOADS_FOR_EVER = auto()
    OPEN = auto()
    """It serves, and the comparison never comes to an end."""

    @property
    def serves(self) -> bool:
        return self in (Fate.GOOD, Fate.SLOW, Fate.HANGS, Fate.OPEN)


FAILURES = {
    Fate.CRASHES: Cause("EngineCrashed", "The engine crashed again and again.", definite=True),
    Fate.OUT_OF_MEMORY: Cause("OutOfGpuMemory", "The engine ran out of GPU memory.", definite=True),
    Fate.LOADS_FOR_EVER: Cause("EngineStartTooSlow", "The engine gave no answer in time.", definite=True),
    Fate.HANGS: Cause("EngineHung", "An engine made no step and answered nothing.", definite=True),
}


@dataclass
class Pod:
    """A replica."""

    name: str
    revision: str
    since: datetime
    placed: datetime | None = None
    ready: datetime | None = None
    lost: bool = False
    leaving: datetime | None = None
    """When it is gone."""

    @property
    def serves(self) -> bool:
        return self.ready is not None and not self.lost and self.leaving is None


@dataclass
class Made:
    """A revision as it is stored, and its ReplicaSet."""

    hash: str
    number: int
    fate: Fate
    proven: bool = False
    verdict: str | None = None
    state: RolloutState | None = None
    ordered: Ordered | None = None
    asked: int = 0


@dataclass
class Seen:
    """What the operator was told last of one deployment's pods."""

    pods: tuple[Pod, ...] = ()
    asked: dict[str, int] = field(default_factory=dict)
    """What the ReplicaSets' controller had followed by then."""


@dataclass
class Deployment:
    """One LLMDeployment, its revisions and its route."""

    key: tuple[str, str]
    wanted: int
    target: str
    revisions: dict[str, Made]
    allow_outage: bool = False
    emergency: bool = False
    note: str | None = None
    """The annotation nightshift.dev/order."""
    pace: Pace = field(default_factory=Pace)
    steps: tuple[int, ...] = (5, 25, 50)
    route: dict[str, int] = field(default_factory=dict)
    routed_at: datetime = BEGIN
    pods: list[Pod] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    blind: bool = False
    """The evidence cannot be read now."""
    weighted: datetime | None = None
    """Since when the candidate has had requests."""

    @property
    def now(self) -> Made:
        return self.revisions[self.target]


class World:
    """Everything besides the operator."""

    def __init__(self, gpus: int, *, tells_spare: bool = False) -> None:
        self.now = BEGIN
        self.gpus = gpus
        self.tells_spare = tells_spare
        self.deployments: dict[tuple[str, str], Deployment] = {}
        self.log: list[str] = []
        self._named = 0

    def say(self, line: str) -> None:
        seconds = int((self.now - BEGIN).total_seconds())
        self.log.append(f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d} {line}")

    def serving(self, name: str, wanted: int, **more: object) -> Deployment:
        """A deployment that serves in full."""
        first = Made("r1", 1, Fate.GOOD, proven=True, asked=wanted)
        made = Deployment((name, name), wanted, "r1", {"r1": first}, **more)  # type: ignore[arg-type]
        self.deployments[made.key] = made
        for _ in range(wanted):
            pod = self._pod("r1", made)
            pod.placed = pod.ready = self.now
        made.route = {"r1": 100} if wanted else {}
        self.tell(made)
        return made

    def change(self, it: Deployment, fate: Fate) -> str:
        """The spec asks for another revision."""
        number = max(item.number for item in it.revisions.values()) + 1
        it.revisions[f"r{number}"] = Made(f"r{number}", number, fate)
        it.target = f"r{number}"
        self.say(f"{it.key[1]}: the spec asks for revision r{number}")
        return it.target

    def _pod(self, revision: str, it: Deployment) -> Pod:
        self._named += 1
        pod = Pod(f"{it.key[1]}-{revision}-{self._named}", revision, self.now)
        it.pods.append(pod)
        return pod

    def free(self) -> int:
        """Accelerators that no pod holds."""
        return self.gpus - sum(pod.placed is not None for it in self.deployments.values() for pod in it.pods)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for it in self.deployments.values():
            self.settle(it)

    def settle(self, it: Deployment) -> None:
        """ReplicaSets, scheduler and kubelets do what is due."""
        it.pods = [pod for pod in it.pods if pod.leaving is None or pod.leaving > self.now]
        for made in it.revisions.values():
            here = [pod for pod in it.pods if pod.revision == made.hash and pod.leaving is None]
            for _ in range(made.asked - len(here)):
                self._pod(made.hash, it)
            surplus = sorted(here, key=lambda pod: (pod.serves, pod.placed is not None, pod.name))
            for pod in surplus[: max(0, len(here) - made.asked)]:
                pod.leaving = self.now + timedelta(seconds=20 if pod.ready else 1)
        for pod in it.pods:
            fate = it.revisions[pod.revision].fate
            if pod.placed is None and pod.leaving is None and self.free() > 0:
                pod.placed = self.now
            loaded = pod.placed is not None and self.now >= pod.placed + timedelta(seconds=LOAD_SECONDS)
            if loaded and pod.ready is None and fate.serves:
                pod.ready = self.now

    def tell(self, it: Deployment) -> None:
        """The watches have told of everything."""
        self.settle(it)
        it.seen = Seen(
            tuple(replace(pod) for pod in it.pods), {made.hash: made.asked for made in it.revisions.values()}
        )

    def turns(self) -> frozenset[tuple[str, str]]:
        """Who may ask for an accelerator."""
        contenders = []
        for it in self.deployments.values():
            made = it.now
            if made.state is None:
                continue
            placed = any(pod.placed is not None for pod in it.seen.pods if pod.revision == made.hash)
            wants = claim(made.state, placed=placed)
            contenders.append(Contender(it.key, "gpu", 1, wants, made.state.since, it.emergency))
        spare: Fact[int] = Known(max(0, self.free()), self.now) if self.tells_spare else Unknown("Nodes are not read.")
        return turns(contenders, {"gpu": spare})

    def judgement(self, it: Deployment) -> Fact[Judgement]:
        """What the comparison comes to now."""
        made, state = it.now, it.now.state
        if it.blind:
            return Unknown("The gateway did not answer.")
        waits = Judgement(Verdict.INCONCLUSIVE, (), "TTFT p95 1.0x of r1 over 3 requests, of 60 that are needed")
        if state is None or state.step_since is None:
            return Known(waits, self.now)
        seconds = (self.now - state.step_since).total_seconds()
        if made.fate is Fate.OPEN or seconds < EVIDENCE_SECONDS:
            return Known(waits, self.now)
        if made.fate is Fate.SLOW:
            says = "TTFT p95 2.1x of r1 over 412 requests (bound 1.3x)"
            return Known(Judgement(Verdict.FAIL, (), says), self.now)
        says = "TTFT p95 1.0x of r1 over 412 requests (bound 1.3x)"
        return Known(Judgement(Verdict.PASS, (), says), self.now)

    def failure(self, it: Deployment) -> Cause | None:
        """What the pods of the target say for certain."""
        made = it.now
        here = [pod for pod in it.seen.pods if pod.revision == made.hash and pod.leaving is None]
        limit = timedelta(seconds=LOAD_SECONDS + 60)
        if made.fate is Fate.HANGS:
            due = [pod for pod in here if pod.serves and pod.ready and self.now >= pod.ready + limit]
        else:
            due = [pod for pod in here if pod.placed is not None and pod.ready is None]
            due = [pod for pod in due if pod.placed and self.now >= pod.placed + limit]
        return FAILURES.get(made.fate) if due else None

    def move(self, it: Deployment, revision: str) -> placing.Move:
        """What follows from a replica that finds no room: the real table."""
        made = it.now
        waiting = [p for p in it.seen.pods if p.revision == revision and p.placed is None and p.leaving is None]
        if not waiting:
            return placing.Move.GO_ON
        since = min(pod.since for pod in waiting)
        if made.ordered is not None:
            since = max(since, made.ordered.since + timedelta(seconds=60))
        ready = sum(pod.serves for pod in it.seen.pods if pod.revision == revision)
        beside = sum(pod.serves for pod in it.seen.pods if pod.revision != revision)
        return placing.next_move(
            placing.Situation(
                wanted=it.wanted,
                waited=(self.now - since).total_seconds(),
                timeout=PLACEMENT_SECONDS,
                ready=ready,
                ready_beside=beside,
                makes_room=beside,
                leaving=any(pod.leaving for pod in it.seen.pods),
                allow_outage=it.allow_outage,
                others_listed=False,
                order=made.ordered.order if made.ordered else None,
            )
        )


def state_of(it: Deployment, made: Made) -> RevisionState:
    """What the operator sees of a revision."""
    pods = [pod for pod in it.seen.pods if pod.revision == made.hash and pod.leaving is None]
    ready = 0 if made.verdict and made.verdict != "Undone" and made.hash != it.target else sum(p.serves for p in pods)
    given_up = made.state is not None and made.state.phase is Phase.ABANDONED
    lost = sum(pod.lost for pod in pods)
    return RevisionState(made.hash, made.number, made.asked, min(made.asked, ready), gives_way=given_up, lost=lost)
