"""Bad inputs on a real cluster: applied side by side, named, endured in quiet, and corrected in place."""

import copy
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from e2e.stories.bad_inputs import SMALL, BadInput
from e2e.stories.world import World, is_ready
from e2e.support.audit import Request
from e2e.support.client import Events, Object, eventually
from e2e.support.install import SYSTEM
from e2e.support.operator_log import SELECTOR

SIDE_BY_SIDE = 8
"""Deployments that are applied at once: two cores start so many simulated engines in a few seconds."""
NAMED_SECONDS = 180.0
HEALED_SECONDS = 180.0
QUIET_SECONDS = 10.0
WRITES_IN_QUIET = 4
"""For one deployment: an engine that crashes is started again at most twice in that time, since its kubelet waits 10 s
and longer each time; each start and each end may show in the status."""
REQUESTS_IN_QUIET = 8
"""Beside these writes the log of each engine that ended is read once, and a refused object is tried once a minute."""
SERVING = "story-serves"
"""Label of the deployments that serve before something bad is applied over them."""


@dataclass(frozen=True)
class Trial:
    """One bad input on one deployment."""

    name: str
    row: BadInput
    good: Object
    bad: Object
    objects: tuple[Object, ...]
    over: bool
    """Applied over one that serves."""


def trials(world: World, rows: Iterable[BadInput], model: str) -> list[Trial]:
    """Each row as a deployment of its own, and those of which it is asked over one that serves too."""
    found, number = [], itertools.count(1)
    for row in rows:
        for over in (False, True) if row.over_serving else (False,):
            name = f"bad-{next(number):02}"
            good = _labelled(world.simulated(name, model={"uri": model}, podTemplate=dict(SMALL)), over)
            found.append(Trial(name, row, good, _spoilt(world, good, row), _objects(world, row, name), over))
    return found


def _labelled(deployment: Object, over: bool) -> Object:
    metadata = deployment["metadata"] | ({"labels": {SERVING: "true"}} if over else {})
    return deployment | {"metadata": metadata}


def _spoilt(world: World, good: Object, row: BadInput) -> Object:
    engine = copy.deepcopy(dict(row.engine))
    if str(engine.get("image", "")).startswith("REGISTRY/"):
        engine["image"] = engine["image"].replace("REGISTRY", world.client.access.image_prefix)
    spec = good["spec"] | copy.deepcopy(dict(row.spec))
    return good | {"spec": spec | {"engine": spec["engine"] | engine}}


def _objects(world: World, row: BadInput, name: str) -> tuple[Object, ...]:
    def placed(item: Object) -> Object:
        return item | {
            "metadata": {"name": item["metadata"]["name"].replace("NAME", name), "namespace": world.namespace}
        }

    return tuple(placed(copy.deepcopy(dict(item))) for item in row.objects)


def complaint(trial: Trial, resource: Object) -> str | None:
    """What a status does not say of a bad input as it should; None where it says it all."""
    status, row = resource.get("status") or {}, trial.row
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return "the spec was not looked at yet"
    said = {item["type"]: item for item in status["conditions"]}
    for kind in ("Ready", "Progressing"):
        if (said[kind]["status"], said[kind]["reason"]) != ("False", row.reason):
            return f"{kind} is {said[kind]['status']} {said[kind]['reason']}: {said[kind]['message']}"
    missing = [words for words in row.says if words not in said["Ready"]["message"]]
    if missing:
        return f"{missing} are not said: {said['Ready']['message']}"
    if (trial.over or row.serves) and said["Available"]["status"] != "True":
        return f"Available is False: {said['Available']['message']}"
    return None


def unsettled(trial: Trial, resource: Object) -> str | None:
    """The same, and whether a person is called or the operator goes on by itself, as the row says."""
    said = {item["type"]: item for item in (resource.get("status") or {}).get("conditions", [])}
    found = complaint(trial, resource)
    if found is not None:
        return found
    stalled, reconciling = said["Stalled"], said["Reconciling"]
    if stalled["status"] == reconciling["status"]:
        return f"Stalled and Reconciling are both {stalled['status']}"
    told, called = (reconciling, False) if trial.row.passes else (stalled, True)
    if (told["status"], told["reason"]) != ("True", trial.row.reason):
        return f"{'Stalled' if called else 'Reconciling'} is {told['status']} {told['reason']}: {told['message']}"
    return None


def interruptions(pods: Events, deployments: Events) -> list[str]:
    """Where something that served stopped to, for a moment or for good, as sentences."""
    found, proven = [], set[str]()
    for kind, pod in pods:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if kind != "DELETED" and is_ready(pod):
            proven.add(uid)
        elif uid in proven:
            found.append(f"pod {name} was ready, and is not any more ({kind})")
    for _, deployment in deployments:
        status = deployment["status"]
        available = next(item for item in status["conditions"] if item["type"] == "Available")
        if available["status"] != "True" or status["readyReplicas"] < 1:
            found.append(f"{deployment['metadata']['name']} was told to be unavailable: {available['message']}")
    return found


def by_deployment(requests: Iterable[Request], names: Sequence[str]) -> Counter[str]:
    """How many requests belong to each deployment, by the names of objects; those without a name under ``""``."""
    found: Counter[str] = Counter()
    for request in requests:
        owner = next((name for name in names if request.name == name or request.name.startswith(f"{name}-")), "")
        found[owner] += 1
    return found


def restless(requests: Sequence[Request], names: Sequence[str]) -> list[str]:
    """Deployments for which the operator did more than a quiet period allows, as sentences."""
    writes = by_deployment((request for request in requests if request.writes), names)
    everything = by_deployment(requests, names)
    found = []
    for counted, most, what in ((writes, WRITES_IN_QUIET, "writes"), (everything, REQUESTS_IN_QUIET, "requests")):
        unnamed = counted.pop("", 0)
        found += [f"{count} {what} for {name}" for name, count in sorted(counted.items()) if count > most]
        if unnamed > most * len(names):
            found.append(f"{unnamed} {what} without a name, for {len(names)} deployments")
    return found


Wrong = Callable[[Trial, Object], str | None]
"""What a deployment lacks yet, as words."""


class Enduring:
    """One group of bad inputs, from the first to the last of them healed."""

    def __init__(self, world: World, rows: Sequence[BadInput]) -> None:
        self.world = world
        self.trials = trials(world, rows, filled_claim(world))
        self.names = [trial.name for trial in self.trials]

    def tell(self) -> None:
        """The whole story of the group."""
        world, before = self.world, operators(self.world)
        over = [trial for trial in self.trials if trial.over]
        if over:
            world.given(f"{len(over)} deployments that serve")
            world.apply(*(trial.good for trial in over))
            self._all("they are Ready", over, not_ready, HEALED_SECONDS)
        mark = world.audit.mark() if world.audit else None
        with self._serving_watched(over):
            for batch in _batches(self.trials):
                uids = self._spoil(batch)
                self._quiet([trial.name for trial in batch])
                self._heal(batch, uids)
        if world.audit and mark:
            asked = self._asked(request for request in world.audit.since(mark) if request.writes)
            most = by_deployment(asked, self.names).most_common(3)
            world.then(f"{len(asked)} writes for {len(self.names)} deployments in all, at most {most}")
        assert operators(world) == before, "an operator was restarted"

    def _spoil(self, batch: Sequence[Trial]) -> dict[str, str]:
        """Apply some bad inputs at once, and wait until each is named; the deployments' uids."""
        self.world.when("applied: " + "; ".join(_title(trial) for trial in batch))
        self.world.apply(*(item for trial in batch for item in (*trial.objects, trial.bad)))
        found = self._all("each has its reason", batch, unsettled, NAMED_SECONDS)
        for trial in batch:
            ready = next(item for item in found[trial.name]["status"]["conditions"] if item["type"] == "Ready")
            self.world.tell("", f"{_title(trial)}: {ready['reason']}: {ready['message']}")
        return {trial.name: found[trial.name]["metadata"]["uid"] for trial in batch}

    def _quiet(self, names: Sequence[str]) -> None:
        """Nobody does anything: the operator does little."""
        world = self.world
        if world.audit is None:
            world.then("not counted: the audit log of this cluster is not ours to read")
            return
        mark = world.audit.mark()
        time.sleep(QUIET_SECONDS)  # what happens in it is what is counted
        asked = self._asked(world.audit.since(mark))
        writes = sum(request.writes for request in asked)
        world.then(f"{writes} writes and {len(asked)} requests in {QUIET_SECONDS:.0f} s of quiet")
        assert not restless(asked, names), restless(asked, names)

    def _heal(self, batch: Sequence[Trial], uids: dict[str, str]) -> None:
        """Correct them in place."""
        self.world.when("corrected: " + ", ".join(trial.name for trial in batch))
        self.world.apply(*(trial.good for trial in batch))
        for item in (item for trial in batch for item in trial.objects):
            kind, name = item["kind"].lower(), item["metadata"]["name"]
            self.world.client.kubectl("delete", kind, name, "-n", self.world.namespace)
        found = self._all("all of them are Ready", batch, not_ready, HEALED_SECONDS)
        assert {name: found[name]["metadata"]["uid"] for name in uids} == uids, "a deployment was made anew"

    def _all(self, what: str, batch: Sequence[Trial], wrong: Wrong, seconds: float) -> dict[str, Object]:
        """Wait until nothing is wrong with any of them; the deployments by name."""

        def look() -> dict[str, Object]:
            found = {item["metadata"]["name"]: item for item in self._deployments()}
            told = {_title(trial): wrong(trial, found[trial.name]) for trial in batch}
            left = {title: said for title, said in told.items() if said is not None}
            assert not left, json.dumps(left, indent=1)
            return found

        found = eventually(what, look, seconds, every=1.0)
        self.world.then(what)
        return found

    def _deployments(self) -> list[Object]:
        return self.world.client.list("llmdeployments", self.world.namespace)

    def _asked(self, requests: Iterable[Request]) -> list[Request]:
        """What operators asked for in this namespace; a watch is none: it is asked for once and lasts."""
        return [
            request
            for request in requests
            if request.of_an_operator and request.namespace == self.world.namespace and request.verb != "watch"
        ]

    @contextmanager
    def _serving_watched(self, over: Sequence[Trial]) -> Iterator[None]:
        """See that what serves goes on serving, by its pods, by what is told, and by its answers."""
        if not over:
            yield
            return
        client, namespace, names = self.world.client, self.world.namespace, [trial.name for trial in over]
        engines = f"nightshift.dev/deployment in ({','.join(names)}),app.kubernetes.io/component=engine"
        turn = itertools.cycle(names)

        def ask() -> tuple[str, bool]:
            name = next(turn)
            return name, self.world.asked(name) is not None

        with (
            client.following("pods", namespace, engines) as pods,
            client.following("llmdeployments", namespace, f"{SERVING}=true") as deployments,
            self.world.watching(ask) as answers,
        ):
            yield
            broken = interruptions(pods(), deployments())
        failed = [name for _, (name, answered) in answers if not answered]
        self.world.then(f"{len(answers)} requests to {len(names)} that served, {len(failed)} failed")
        assert not broken, "\n".join(broken)
        assert answers
        assert not failed


def not_ready(trial: Trial, resource: Object) -> str | None:
    """What keeps a deployment from being Ready; None where it is."""
    status = resource.get("status") or {}
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return "the spec was not looked at yet"
    ready = next(item for item in status["conditions"] if item["type"] == "Ready")
    return None if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}"


def filled_claim(world: World) -> str:
    """A claim with the tiny model, so that many engines need no download; its address."""
    world.given("a claim with the tiny model, filled by another deployment")
    cache = {"type": "Claim", "size": "1Gi"}
    filler = world.simulated("filler", model={"uri": "hf://nightshift/tiny", "cache": cache}, podTemplate=dict(SMALL))
    world.apply(filler)
    world.becomes_ready("filler", seconds=HEALED_SECONDS)
    commit = world.read("filler")["status"]["model"]["revision"]
    return f"pvc://filler-models/{commit}"


def operators(world: World) -> dict[str, int]:
    """How often each operator's container was started again, by the pod's name."""
    pods = world.client.list("pods", SYSTEM, SELECTOR)
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def _title(trial: Trial) -> str:
    return f"{trial.name} {trial.row.what}{', over one that serves' if trial.over else ''}"


def _batches(of: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
    for start in range(0, len(of), SIDE_BY_SIDE):
        yield of[start : start + SIDE_BY_SIDE]
