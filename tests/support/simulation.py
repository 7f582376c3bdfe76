"""The real planner against the in-memory API server and the world around it, in an order that a seed decides.

The operator sees the API server through the real cache, whose watch events come late.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from nightshift.adapters.kube import KubeError, Object, Reference, reference
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import parse
from nightshift.api.status import Status
from nightshift.core.analysis.verdict import Judgement
from nightshift.core.autoscale.demand import Demand, GatewaySight
from nightshift.core.engine_sight import EngineSight
from nightshift.core.events import events
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.judged.pools import Contender
from nightshift.core.observed import ImageAnswer, Observed, engine_start, observe, pod_facts
from nightshift.core.ownership import is_owned, is_route
from nightshift.core.plan import plan
from nightshift.core.planning import Delete, Plan
from nightshift.core.status import status
from nightshift.runtime.cache import Cache
from tests.support.api_server import ApiServer, deployment_reference
from tests.support.builders import NOW, config, digest_known
from tests.support.fake_engines import metrics
from tests.support.questions import Questions
from tests.support.traffic import GATEWAY_PODS, ROUTE, Traffic, serving, weights
from tests.support.world import World, is_ready

KEY = ("ml", "bot")


class Simulation:
    """One LLMDeployment, one operator, one world."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        gpus: int = 1000,
        chosen: OperatorConfig | None = None,
        images: Mapping[str, ImageAnswer] | None = None,
    ) -> None:
        self.config = chosen or config()
        self.images = digest_known() if images is None else images
        self.now = NOW
        self.server = ApiServer()
        self.server.clock = lambda: self.now
        self.world = World(self.server, gpus)
        self.cache = Cache()
        self.log: list[str] = []
        self.applied: dict[tuple[str, str], Object] = {}
        """What the operator applied last, by kind and name, in the order of their first time."""
        self.writes = 0
        self.demand: Callable[[datetime], Demand] | None = None
        """What gateway and engines tell of what is asked, at a moment."""
        self.comparison: Callable[[datetime], Fact[Judgement]] | None = None
        """What the candidate comes to beside the stable revision, at a moment; None: nobody compares."""
        self.traffic: Traffic | None = None
        """Who asks, and what gateway and engines count of it; None: nobody does, and nobody is told of it."""
        self.world.golden = Questions(self.server)
        self.contenders: tuple[Contender, ...] = ()
        """What rollouts of other deployments want."""
        self.running: dict[str, int] = {}
        """What engines tell of the requests that they work on, by pod; of others nothing is known."""
        self._untold: deque[tuple[str, Object]] = deque()
        self._dirty = True
        self.server.watch(lambda event, raw: self._untold.append((event, raw)))
        self.server.create(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "bot", "namespace": "ml"},
                "spec": dict(spec),
            }
        )
        self.tell_all()

    @property
    def wanted(self) -> int:
        """spec.replicas as it stands."""
        return parse(self.body).spec.replicas

    @property
    def body(self) -> Object:
        found = self.server.get(deployment_reference())
        assert found is not None
        return found

    def change_spec(self, **fields: Any) -> None:
        """A person edits the LLMDeployment."""
        self.say(f"user: {', '.join(f'{key}={value}' for key, value in fields.items())}")
        self.server.change(deployment_reference(), lambda raw: raw["spec"].update(fields))

    def say(self, line: str) -> None:
        self.log.append(line)

    def tell(self) -> bool:
        """Deliver the oldest watch event."""
        if not self._untold:
            return False
        event, raw = self._untold.popleft()
        self._dirty = True
        if raw["kind"] == names.KIND:
            if event == "DELETED":
                self.cache.drop_deployment(raw)
            else:
                self.cache.put_deployment(raw)
        elif event == "DELETED":
            self.cache.drop_child(raw["kind"], raw)
        else:
            self.cache.put_child(raw["kind"], raw)
        return True

    def tell_all(self) -> None:
        while self.tell():
            pass

    def observed(self) -> Observed:
        uid = self.body["metadata"]["uid"]
        asked = self.demand(self.now) if self.demand is not None else None
        found = observe(uid, self.cache.children(KEY), self.images, {}, engines=self.sights(), demand=asked)
        compared = self.comparison(self.now) if self.comparison is not None else None
        return replace(found, comparison=compared, contenders=self.contenders, gateway=self.gateway())

    def gateway(self) -> GatewaySight | None:
        """What gateway pods tell now."""
        traffic = self.traffic
        if traffic is None:
            return None
        known = weights(self.server.of_kind("ConfigMap"))
        return GatewaySight(
            {
                pod: Unknown("/demand did not answer within 1.5 s.")
                if pod in traffic.silent
                else Known(traffic.told(pod, self.now, known, {ROUTE}), self.now)
                for pod in GATEWAY_PODS
            },
            expected=len(GATEWAY_PODS),
        )

    def asked_by(self, traffic: Traffic) -> None:
        """Clients ask from now on, as time passes."""
        self.traffic = traffic
        self.world.golden = Questions(self.server, lambda revision: traffic.answers(revision))

    def sights(self) -> dict[str, EngineSight]:
        """What was read of the engines."""
        pods = [pod_facts(raw) for (kind, _), raw in self.cache.children(KEY).items() if kind == "Pod"]
        if self.traffic is not None:
            starts = {pod.name: start for pod in pods if pod.ready and (start := engine_start(pod)) is not None}
            readings = {pod: Known(self.traffic.metrics(start), self.now) for pod, start in starts.items()}
            return {pod: EngineSight(start, readings[pod], readings[pod]) for pod, start in starts.items()}
        return {
            pod.name: EngineSight(engine_start(pod) or "", Known(metrics(running=self.running[pod.name]), self.now))
            for pod in pods
            if pod.name in self.running
        }

    def reconcile(self) -> Plan:
        """One step of the operator: plan, apply, status, as the runtime does it."""
        body = self.cache.deployment(KEY)
        assert body is not None
        self._dirty = False
        deployment = parse(body)
        observed = self.observed()
        decided = plan(deployment, observed, self.config, self.now)
        for item in decided.apply:
            existing = self.server.get(reference(item.manifest))
            assert existing is None or self._is_ours(existing), "a foreign object would be touched"
            self._operator_did(item.reason)
            if item.additions is not None:
                self.server.merge(reference(item.manifest), item.additions.patch)
            applied = self.server.apply(item.manifest, names.FIELD_MANAGER)
            self.applied[(applied["kind"], applied["metadata"]["name"])] = item.manifest
            self.cache.put_child(item.manifest["kind"], applied)
        for item_ in decided.delete:
            where = Reference(item_.api_version, item_.kind, item_.namespace or deployment.namespace, item_.name)
            if item_.evict:
                self._evict(where, item_)
            elif self.server.get(where) is not None and self._current(where) == item_.resource_version:
                self._operator_did(item_.reason)
                self.server.delete(where, item_.uid, item_.resource_version)
            else:
                self._dirty = True
        self._write_status(
            deployment.status, status(deployment, observed, decided, self.config, self.now), body, decided
        )
        return decided

    def _is_ours(self, raw: Object) -> bool:
        """Whether the deployment owns an object, or a ReplicaSet of it the pod."""
        uid = self.body["metadata"]["uid"]
        sets = (item for item in self.server.of_kind("ReplicaSet") if is_owned(item, uid))
        return is_owned(raw, uid) or is_route(raw) or any(is_owned(raw, item["metadata"]["uid"]) for item in sets)

    def _evict(self, where: Reference, item: Delete) -> None:
        try:
            self.server.evict(where, item.uid)
        except KubeError:
            self._dirty = True
            return
        self._operator_did(item.reason)

    def _operator_did(self, reason: str) -> None:
        self.writes += 1
        self.say(f"operator: {reason}")

    def _current(self, where: Reference) -> str:
        found = self.server.get(where)
        return str(found["metadata"]["resourceVersion"]) if found else ""

    def _write_status(self, before: Status, current: Status, body: Mapping[str, Any], decided: Plan) -> None:
        written = current.to_json()
        for note in events(before, current, decided):
            self.say(f"event: {note.type} {note.reason}: {note.message}")
        if body.get("status") == written:
            return
        self.writes += 1
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {key: body["metadata"][key] for key in ("name", "namespace", "uid")},
            "status": written,
        }
        self.cache.put_deployment(self.server.apply(manifest, names.STATUS_FIELD_MANAGER, "status"))

    def at_rest(self) -> bool:
        """Whether nobody has anything to do: no event untold, no step pending, no reconcile due."""
        return not (self._untold or self._dirty or self.world.pending())

    def act(self, chooser: random.Random, *, prompt: bool = False) -> Plan | None:
        """One step of whoever the seed chooses; the plan, where it was the operator.

        Args:
            chooser: Makes the choice.
            prompt: The watches tell of everything before the operator acts; otherwise they may lag behind.
        """
        steps = self.world.pending()
        choices = ["world"] * len(steps) + ["tell"] * min(3, len(self._untold)) + ["reconcile"] * (1 + self._dirty)
        chosen = chooser.choice(choices)
        if chosen == "tell":
            self.tell()
        elif chosen == "world":
            step = chooser.choice(steps)
            step.act()
            self.say(step.name)
        else:
            if prompt:
                self.tell_all()
            return self.reconcile()
        return None

    def in_turn(self, limit: int = 500) -> Iterator[Plan]:
        """Everybody acts in turn, the operator after each step, until all is at rest."""
        for _ in range(limit):
            self.tell_all()
            if self._dirty:
                yield self.reconcile()
                continue
            steps = self.world.pending()
            if not steps:
                return
            steps[0].act()
            self.say(steps[0].name)
        raise AssertionError("does not come to rest:\n" + "\n".join(self.log[-40:]))

    def settle(self) -> "Simulation":
        """Until all is at rest."""
        for _ in self.in_turn():
            pass
        return self

    def asked(self) -> dict[str, int]:
        """Replicas that ReplicaSets ask for, by name."""
        return {raw["metadata"]["name"]: int(raw["spec"]["replicas"]) for raw in self.server.of_kind("ReplicaSet")}

    def staying(self) -> int:
        """Ready pods that stay when every ReplicaSet has done what it is asked to (unready pods go first).

        Only pods count that the operator has been told are ready: of others it can take no care.
        """
        seen = {name for (kind, name), raw in self.cache.children(KEY).items() if kind == "Pod" and is_ready(raw)}
        ready: dict[str, int] = {}
        for pod in self.server.of_kind("Pod"):
            owner = pod["metadata"].get("ownerReferences", [{"name": "nobody"}])[0]["name"]
            ready[owner] = ready.get(owner, 0) + (is_ready(pod) and pod["metadata"]["name"] in seen)
        return sum(min(count, ready.get(name, 0)) for name, count in self.asked().items())

    @staticmethod
    def reference_of(raw: Object) -> Reference:
        return reference(raw)

    def status(self) -> Status:
        return parse(self.body).status

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = next(item for item in self.status().conditions if item.type == kind)
        return found.status, found.reason

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the operator looks again."""
        self.say(f"time: {seconds:.0f} s pass")
        if self.traffic is not None:
            pods = list(self.server.of_kind("Pod"))
            self.traffic.passes(seconds, weights(self.server.of_kind("ConfigMap")), serving(pods))
        self.now += timedelta(seconds=seconds)
        self._dirty = True

    def annotate(self, **annotations: str) -> None:
        """A person annotates the LLMDeployment; the group's name is added."""
        self.say(f"user: {', '.join(f'{key}={value}' for key, value in annotations.items())}")
        named = {f"{names.GROUP}/{key}": value for key, value in annotations.items()}
        self.server.change(
            deployment_reference(), lambda raw: raw["metadata"].setdefault("annotations", {}).update(named)
        )

    def change_config(self, **fields: Any) -> None:
        """The administrator upgrades or configures the operator."""
        self.config = self.config.model_copy(update=fields)
        self._dirty = True

    def forget_images(self, images: Mapping[str, ImageAnswer]) -> None:
        """The registry answers otherwise from now on."""
        self.images = images
        self._dirty = True


def with_accelerators(base: OperatorConfig, name: str, **changes: Any) -> OperatorConfig:
    """A configuration in which one profile was edited."""
    profile = base.accelerators[name].model_copy(update=changes)
    return base.model_copy(update={"accelerators": {**base.accelerators, name: profile}})
