"""Which replicas go when there are to be fewer: idle ones first, where it is known how much each has to do."""

from collections.abc import Iterable
from typing import Any

from nightshift.api.resource import LLMDeployment
from nightshift.core.exchange import COST_ANNOTATION
from nightshift.core.facts import Known
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.planning import Apply

_GOES_FIRST = "-1"
"""Of several ready pods a ReplicaSet gives up the one with the lowest cost first."""


def given_up(applies: tuple[Apply, ...], deployment: LLMDeployment, observed: Observed) -> tuple[Apply, ...]:
    """The writes, each ReplicaSet that is to have fewer replicas preceded by the marks of those that go first."""
    found: list[Apply] = []
    for item in applies:
        found += _marks(item, deployment, observed)
        found.append(item)
    return tuple(found)


def _marks(item: Apply, deployment: LLMDeployment, observed: Observed) -> Iterable[Apply]:
    manifest = item.manifest
    owner = next((known for known in observed.replica_sets if known.name == manifest["metadata"]["name"]), None)
    if manifest["kind"] != "ReplicaSet" or owner is None or not 0 < manifest["spec"]["replicas"] < owner.replicas:
        return
    ready = [pod for pod in observed.engine_pods(owner.revision) if pod.ready]
    busy = {pod.name: load for pod in ready if (load := _requests(pod, observed)) is not None}
    if len(busy) < len(ready) or len(set(busy.values())) < 2:
        return
    ready.sort(key=lambda pod: (busy[pod.name], pod.name))
    going = {pod.name for pod in ready[: max(0, len(ready) - manifest["spec"]["replicas"])]}
    for pod in ready:
        marked = _annotations(pod, observed).get(COST_ANNOTATION) == _GOES_FIRST
        if marked != (pod.name in going):
            yield _marked(pod, deployment, goes=pod.name in going)


def _requests(pod: PodFacts, observed: Observed) -> int | None:
    sight = observed.engines.get(pod.name)
    if sight is None or not isinstance(sight.metrics, Known):
        return None
    return sight.metrics.value.running + sight.metrics.value.waiting


def _annotations(pod: PodFacts, observed: Observed) -> dict[str, str]:
    return dict(observed.live[("Pod", pod.name)]["metadata"].get("annotations") or {})


def _marked(pod: PodFacts, deployment: LLMDeployment, *, goes: bool) -> Apply:
    """The mark, or the pod without it: what an apply of ours leaves out is taken away."""
    metadata: dict[str, Any] = {"name": pod.name, "namespace": deployment.namespace}
    if goes:
        metadata["annotations"] = {COST_ANNOTATION: _GOES_FIRST}
    says = f"Marking pod {pod.name} as one to go first." if goes else f"Pod {pod.name} need not go first any more."
    return Apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}, says, create=False)
