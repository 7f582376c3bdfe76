"""What lives around the operator: ReplicaSet and Job controllers, scheduler, kubelet, garbage collector.

Each is a pure step on the in-memory API server. `pending` lists the steps that would change something,
so that a test or a simulation chooses the order.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from nightshift.adapters.kube import Object, Reference, reference
from nightshift.api import names
from nightshift.api.fetch import AdapterResolved, Downloaded, Failed, FetchOutcome, FetchReason, Resolved, to_line
from nightshift.api.golden_run import GoldenFailed, GoldenOutcome
from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult, to_message
from nightshift.api.termination import json_line
from tests.support.api_server import ApiServer
from tests.support.builders import DIGEST, SHA


class Fate(Enum):
    """What becomes of a pod."""

    SERVES = auto()
    CRASHES = auto()
    PULL_FAILS = auto()
    STARTS = auto()
    """Its engine runs, and is not ready yet."""


@dataclass(frozen=True)
class Step:
    """Something that a controller or kubelet would do next."""

    name: str
    act: Callable[[], None]


class World:
    """Everything that acts on the API server besides Nightshift and its users."""

    def __init__(self, server: ApiServer, gpus: int = 1000) -> None:
        self.server = server
        self.gpus = gpus
        self.fate: Callable[[Object], Fate] = lambda pod: Fate.SERVES
        self.answer: Callable[[Object], FetchOutcome] = usual_answer
        self.preflight: Callable[[Object], PreflightOutcome | None] = nothing_against_it
        """What an image says of a revision, given the Job's pod; None where that pod finds no node."""
        self.golden: Callable[[Object], GoldenOutcome | None] = lambda pod: None
        """What comes of golden questions, given the Job's pod; None while that pod finds no node."""
        self.refusal: str | None = None
        """Why the API server refuses further pods of ReplicaSets; None: it does not."""
        self._counter = 0

    def pending(self) -> list[Step]:
        """What would change something now."""
        steps = [step for raw in self.server.of_kind("ReplicaSet") if (step := self._replica_set(raw))]
        steps += [step for raw in self.server.of_kind("Job") if (step := self._job(raw))]
        steps += [step for raw in self.server.of_kind("Pod") if (step := self._pod(raw))]
        return steps + self._orphans()

    def settle(self, limit: int = 1000) -> None:
        """Let everybody act until nothing changes any more."""
        for _ in range(limit):
            steps = self.pending()
            if not steps:
                return
            steps[0].act()
        raise AssertionError(f"the world does not come to rest: {[step.name for step in self.pending()]}")

    def crash(self, pod: Object) -> None:
        """End the engine of a pod; the kubelet starts it again."""
        self.server.change(reference(pod), lambda raw: _crashed(raw, "Traceback: out of luck"))

    def _replica_set(self, raw: Object) -> Step | None:
        where, name = reference(raw), raw["metadata"]["name"]
        moved = self._taken_up_or_released(raw)
        if moved is not None:
            return moved
        pods = [pod for pod in self._owned_pods(raw) if "deletionTimestamp" not in pod["metadata"]]
        asked = int(raw["spec"].get("replicas") or 0)
        refused = self.refusal if len(pods) < asked else None
        if len(pods) < asked and refused is None:
            return Step(f"replicaset {name} makes a pod", lambda: self._make_pod(raw, raw["spec"]["template"]))
        if len(pods) > asked:
            victim = min(pods, key=lambda pod: (is_ready(pod), _deletion_cost(pod), pod["metadata"]["name"]))
            return Step(
                f"replicaset {name} deletes pod {victim['metadata']['name']}",
                lambda: self.server.delete(reference(victim)),
            )
        counts = {
            "replicas": len(pods),
            "readyReplicas": sum(map(is_ready, pods)),
            "observedGeneration": raw["metadata"]["generation"],
        }
        before = raw.get("status") or {}
        if refused is not None:
            failure = {"type": "ReplicaFailure", "status": "True", "message": refused}
            since = [item["lastTransitionTime"] for item in before.get("conditions") or ()]
            counts["conditions"] = [{**failure, "lastTransitionTime": (since or [self.server.timestamp()])[0]}]
        if before == counts:
            return None
        return Step(
            f"replicaset {name} counts", lambda: _ignore(self.server.change(where, lambda o: o.update(status=counts)))
        )

    def _job(self, raw: Object) -> Step | None:
        name, where = raw["metadata"]["name"], reference(raw)
        if (raw.get("status") or {}).get("conditions"):
            return None
        pods = self._owned_pods(raw)
        if not pods:
            return Step(f"job {name} makes a pod", lambda: self._make_pod(raw, raw["spec"]["template"]))
        phase = (pods[-1].get("status") or {}).get("phase")
        if phase not in ("Succeeded", "Failed"):
            return None
        kind = "Complete" if phase == "Succeeded" else "Failed"
        ended = {"type": kind, "status": "True", "lastTransitionTime": self.server.timestamp()}
        change = {"conditions": [ended]}
        return Step(
            f"job {name} ends: {kind}",
            lambda: _ignore(self.server.change(where, lambda o: o.update(status=change))),
        )

    def _owned_pods(self, raw: Object) -> list[Object]:
        uid = raw["metadata"]["uid"]
        return [pod for pod in self.server.of_kind("Pod") if _owner(pod).get("uid") == uid]

    def _taken_up_or_released(self, raw: Object) -> Step | None:
        """A ReplicaSet has the pods that it selects: others go, and those without an owner come."""
        wanted = raw["spec"]["selector"]["matchLabels"].items()
        owner = _owner_reference(raw)
        for pod in self.server.of_kind("Pod"):
            selects = wanted <= pod["metadata"].get("labels", {}).items()
            if "deletionTimestamp" in pod["metadata"]:
                continue
            if selects and not _owner(pod):
                return self._owning(pod, [owner], f"replicaset {owner['name']} takes up")
            if not selects and _owner(pod).get("uid") == owner["uid"]:
                return self._owning(pod, [], f"replicaset {owner['name']} releases")
        return None

    def _owning(self, pod: Object, owners: list[Object], what: str) -> Step:
        def change(raw: Object) -> None:
            raw["metadata"]["ownerReferences"] = owners

        where = reference(pod)
        return Step(f"{what} pod {where.name}", lambda: _ignore(self.server.change(where, change)))

    def _make_pod(self, owner: Object, template: Object) -> None:
        self._counter += 1
        metadata = owner["metadata"]
        labels = dict(template["metadata"].get("labels") or {})
        if owner["kind"] == "Job":
            labels["batch.kubernetes.io/job-name"] = metadata["name"]
        self.server.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{metadata['name']}-{self._counter}",
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "ownerReferences": [_owner_reference(owner)],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            }
        )

    def _pod(self, raw: Object) -> Step | None:
        where, name = reference(raw), raw["metadata"]["name"]
        status = raw.get("status") or {}
        if "deletionTimestamp" in raw["metadata"]:
            return Step(f"pod {name} is gone", lambda: self.server.remove(where))
        if status.get("phase") in ("Succeeded", "Failed"):
            return None
        after = self._next_status(raw, status)
        if after is None:
            return None
        if after["phase"] == "Running":
            after = {**after, "podIP": _ip(name)}
        if _timed(after, status, "") == _timed(status, status, ""):
            return None
        after = _timed(after, status, self.server.timestamp())
        return Step(
            f"pod {name} {_doing(after)}",
            lambda: _ignore(self.server.change(where, lambda o: o.update(status=after))),
        )

    def _next_status(self, raw: Object, status: Object) -> Object | None:
        if _owner(raw).get("kind") == "Job":
            return self._job_pod(raw)
        fate = self.fate(raw)
        conditions = {item["type"]: item for item in status.get("conditions") or ()}
        if (conditions.get("PodScheduled") or {}).get("status") != "True":
            return _scheduled() if self._fits(raw) else _unschedulable()
        if fate is Fate.PULL_FAILS:
            message = 'Back-off pulling image "registry.example/vllm"'
            return _scheduled(engine={"state": {"waiting": {"reason": "ImagePullBackOff", "message": message}}})
        image = _image_id(raw)
        engines = [item for item in status.get("containerStatuses") or () if item["name"] == names.ENGINE_CONTAINER]
        running = bool(engines and (engines[0].get("state") or {}).get("running"))
        if not running:
            engine = {"state": {"running": {"startedAt": self.server.timestamp()}}, "imageID": image}
            restarts = engines[0].get("restartCount", 0) if engines else 0
            last = {"lastState": engines[0]["lastState"]} if engines and "lastState" in engines[0] else {}
            return _scheduled(engine={**engine, **last, "restartCount": restarts}, phase="Running")
        if fate is Fate.CRASHES:
            if engines[0].get("restartCount", 0) >= 5:
                return None
            changed = {**raw, "status": dict(status)}
            _crashed(changed, "error: unrecognized arguments: --speed=ludicrous")
            return dict(changed["status"])
        if fate is Fate.STARTS:
            return None
        ready = {**engines[0], "ready": True}
        return _scheduled(engine=ready, phase="Running", ready=True)

    def _job_pod(self, raw: Object) -> Object:
        owner = raw["metadata"]["ownerReferences"][0]["name"]
        if raw["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_PREFLIGHT:
            told = self.preflight(raw)
            return _ended(raw, to_message(told)) if told is not None else _unschedulable("cpu")
        if raw["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_EVALUATION:
            found = self.golden(raw)
            failed = isinstance(found, GoldenFailed)
            return _ended(raw, json_line(found), failed=failed) if found is not None else _unschedulable("cpu")
        job = self.server.get(Reference("batch/v1", "Job", raw["metadata"]["namespace"], owner))
        outcome = self.answer(job) if job else Failed(reason=FetchReason.HUB_UNREACHABLE, message="The Job is gone.")
        return _ended(raw, to_line(outcome), failed=isinstance(outcome, Failed))

    def _fits(self, raw: Object) -> bool:
        return self._asked_gpus(raw) <= self.gpus - sum(
            self._asked_gpus(pod) for pod in self.server.of_kind("Pod") if _holds_gpus(pod)
        )

    @staticmethod
    def _asked_gpus(raw: Object) -> int:
        containers = raw["spec"]["containers"]
        return sum(int((c.get("resources") or {}).get("limits", {}).get("nvidia.com/gpu", 0)) for c in containers)

    def _orphans(self) -> list[Step]:
        uids = {raw["metadata"]["uid"] for raw in self.server.everything()}
        steps = []
        for raw in list(self.server.everything()):
            owners = raw["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] in uids for owner in owners) or not owners:
                continue
            if raw["kind"] == "Pod" and "deletionTimestamp" in raw["metadata"]:
                continue
            where = reference(raw)
            steps.append(Step(f"garbage collector deletes {where.kind} {where.name}", self._deletion(where)))
        return steps

    def _deletion(self, where: Reference) -> Callable[[], None]:
        return lambda: self.server.delete(where)


def nothing_against_it(pod: Object) -> PreflightOutcome:
    """What an image says of arguments that it takes."""
    return PreflightOutcome(checks=(PreflightCheck(check="arguments", result=PreflightResult.PASSED),))


def usual_answer(job: Object) -> FetchOutcome:
    """What a Job finds: an adapter's commit is made of its address and revision."""
    component = job["metadata"]["labels"][names.LABEL_COMPONENT]
    if component == names.COMPONENT_ADAPTER:
        asked = job["metadata"]["annotations"][names.ANNOTATION_MODEL_REQUEST]
        return AdapterResolved(sha=hashlib.sha1(asked.encode()).hexdigest(), bytes=1000, rank=8, base="acme/tiny")
    if component == names.COMPONENT_RESOLVE:
        return Resolved(sha=SHA, files=3, bytes=1000)
    return Downloaded(sha=SHA, files=3, bytes=1000)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready and stays."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _owner(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(pod["metadata"].get("ownerReferences") or ()), {})


def _owner_reference(owner: Object) -> Object:
    metadata = owner["metadata"]
    return {"kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _deletion_cost(pod: Mapping[str, Any]) -> int:
    return int((pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", 0))


def _ended(pod: Object, message: str, *, failed: bool = False) -> Object:
    """The status of a Job's pod whose only container has ended."""
    ended = {"exitCode": int(failed), "message": message}
    containers = [{"name": pod["spec"]["containers"][0]["name"], "state": {"terminated": ended}, "restartCount": 0}]
    return {"phase": "Failed" if failed else "Succeeded", "containerStatuses": containers}


def _ip(pod: str) -> str:
    """The address of a pod, by the number that its name ends with."""
    number = int(pod.rpartition("-")[2])
    return f"10.244.{number // 250}.{number % 250 + 1}"


def _ignore(_: Object) -> None:
    return None


def _holds_gpus(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "PodScheduled" and item["status"] == "True" for item in conditions)


def _scheduled(engine: dict[str, Any] | None = None, phase: str = "Pending", ready: bool = False) -> dict[str, Any]:
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    result: dict[str, Any] = {"phase": phase, "conditions": conditions}
    if engine is not None:
        result["containerStatuses"] = [
            {"name": names.ENGINE_CONTAINER, "ready": ready, "restartCount": 0, "imageID": "", **engine}
        ]
    return result


def _unschedulable(what: str = "nvidia.com/gpu") -> dict[str, Any]:
    message = (
        f"0/1 nodes are available: 1 Insufficient {what}. preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def _timed(after: Object, before: Object, now: str) -> Object:
    """A pod's status with the times at which its conditions changed."""
    known = {(item["type"], item["status"]): item for item in before.get("conditions") or ()}
    conditions = [
        {**item, "lastTransitionTime": known.get((item["type"], item["status"]), {}).get("lastTransitionTime", now)}
        for item in after.get("conditions") or ()
    ]
    return {**after, "conditions": conditions} if conditions else after


def _crashed(raw: Object, message: str) -> None:
    status = raw["status"]
    engine = status["containerStatuses"][0]
    ended = {"exitCode": 1, "reason": "Error", "message": message}
    raw["status"] = _scheduled(
        engine={
            **engine,
            "ready": False,
            "restartCount": engine.get("restartCount", 0) + 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": ended},
        },
        phase="Running",
    )


def _image_id(raw: Object) -> str:
    image: str = raw["spec"]["containers"][0]["image"]
    repository, _, digest = image.partition("@")
    return f"{repository.rpartition(':')[0]}@{digest or DIGEST}"


def _doing(status: Object) -> str:
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    engines = status.get("containerStatuses") or [{}]
    waiting = ((engines[0].get("state") or {}).get("waiting") or {}).get("reason")
    if (conditions.get("Ready") or {}).get("status") == "True":
        return "is ready"
    if (conditions.get("PodScheduled") or {}).get("reason"):
        return "finds no node"
    return waiting or {"Succeeded": "succeeds", "Failed": "fails", "Running": "runs"}.get(status["phase"], "is placed")
