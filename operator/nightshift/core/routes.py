"""The route of a deployment: what the gateway is told of where its requests go."""

from collections.abc import Mapping, Sequence

from nightshift.api.config import GatewayConfig
from nightshift.api.names import revision_name, route_name
from nightshift.api.resource import LLMDeployment
from nightshift.api.route import (
    MAX_WEIGHTED,
    Route,
    RouteAdapter,
    RouteError,
    RouteFailure,
    RouteQueue,
    RouteRevision,
    RouteStart,
    parse_route,
)
from nightshift.api.spec import Task
from nightshift.core.capacity import fit_status
from nightshift.core.causes import revision_cause
from nightshift.core.concurrency import concurrent_requests, engine_arguments, unknown_requests
from nightshift.core.facts import Known
from nightshift.core.judged.phases import ACTIVE
from nightshift.core.naming import adapter_names, served_name, short_names
from nightshift.core.observed import Observed, PodFacts
from nightshift.core.planning import Plan
from nightshift.core.revisions import Revision

_MESSAGE = 2048


def route(
    deployment: LLMDeployment, observed: Observed, plan: Plan, gateway: GatewayConfig, before: Route | None
) -> Route:
    """What the gateway is to know.

    Args:
        deployment: The resource.
        observed: What exists, and what engines told.
        plan: What is being done: the target, replicas per revision, and what is in the way.
        gateway: Whose administrator lists short names.
        before: The route as it stands: what it says of an engine that does not answer now goes on.
    """
    known = {item.hash: item for item in observed.revisions}
    if plan.target is not None:
        known.setdefault(plan.target.hash, plan.target)
    first = primary(plan, observed)
    shares = _shares(deployment, plan, observed, known, first, before)
    off = deployment.spec.scaling.mode != "Auto" and deployment.spec.replicas == 0
    return Route(
        namespace=deployment.namespace,
        name=deployment.name,
        uid=deployment.uid,
        generation=deployment.generation,
        served_name=served_name(deployment),
        task=model_task(known.get(first or "")),
        short_names=short_names(deployment, gateway),
        state="Off" if off else "On",
        revisions=_revisions(deployment, observed, plan, known, shares),
        adapters=tuple(_adapter(item.name, deployment, observed, gateway, before) for item in deployment.spec.adapters),
        queue=_queue(deployment),
        affinity=deployment.spec.traffic.affinity or "None",
        start=RouteStart(failure=None if off else _failure(deployment, plan, observed, first)),
    )


def live_route(deployment: LLMDeployment, observed: Observed) -> Route | None:
    """The route as it stands; one that cannot be read, or is of an earlier namesake, is none."""
    live = observed.live.get(("ConfigMap", route_name(deployment.namespace, deployment.name)))
    if live is None:
        return None
    try:
        found = parse_route(live)
    except RouteError:
        return None
    return found if found.uid == deployment.uid else None


def primary(plan: Plan, observed: Observed) -> str | None:
    """The revision that gets the requests while no replica is ready: the one that most replicas are planned of."""
    if plan.counts:
        return max(plan.counts, key=lambda item: plan.counts[item])
    numbers = {item.hash: item.number for item in observed.revisions}
    sets = [item for item in observed.replica_sets if item.revision in numbers]
    running = max(sets, key=lambda item: (item.replicas, numbers[item.revision]), default=None)
    if running is not None and (running.replicas or plan.target is None):
        return running.revision
    return plan.target.hash if plan.target is not None else None


def weights(ready: Mapping[str, int], first: str | None) -> dict[str, int]:
    """Percent of the requests by revision: as many as its part of the ready replicas, at least 1, together 100.

    Where there is none, all of them are the first one's: it has a slot in which they are held. The gateway takes four
    revisions at most; those with most replicas count.

    Worked example: 2 and 1 ready replicas are 67 and 33; 500 and 1 are 99 and 1.
    """
    most = sorted((item for item in ready.items() if item[1] > 0), key=lambda item: (-item[1], item[0]))[:MAX_WEIGHTED]
    total = sum(count for _, count in most)
    if not total:
        return {first: 100} if first is not None else {}
    found = {revision: max(1, 100 * count // total) for revision, count in most}
    left = 100 - sum(found.values())
    if left < 0:
        found[most[0][0]] += left
        return found
    by_rest = sorted(most, key=lambda item: (-(100 * item[1] % total), item[0]))
    for revision, _ in by_rest[:left]:
        found[revision] += 1
    return found


def _shares(
    deployment: LLMDeployment,
    plan: Plan,
    observed: Observed,
    known: Mapping[str, Revision],
    first: str | None,
    before: Route | None,
) -> dict[str, int]:
    """Percent of the requests by revision.

    In a judged rollout as it says; while the target cannot be named in the middle of one, as it was as long as
    everybody who had requests is ready.
    """
    if plan.shares is not None:
        return _at_most(plan.shares)
    ready = _ready(plan, observed, known)
    old = {item.hash: item.weight for item in before.revisions if item.weight} if before is not None else {}
    rolling = any(item.marks.rollout is not None and item.marks.rollout.phase in ACTIVE for item in known.values())
    if plan.target is None and rolling and old and all(ready.get(revision) for revision in old):
        return old
    return weights(_counting(deployment, plan, ready), first)


def _at_most(shares: Mapping[str, int]) -> dict[str, int]:
    """No more revisions than the gateway takes: what the smallest had is the largest one's."""
    largest = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(largest[:MAX_WEIGHTED])
    kept[largest[0][0]] += sum(weight for _, weight in largest[MAX_WEIGHTED:])
    return kept


def _ready(plan: Plan, observed: Observed, known: Mapping[str, Revision]) -> dict[str, int]:
    """Ready replicas that stay when the plan is carried out, by revision."""
    revisions = {*known, *(item.revision for item in observed.replica_sets)}
    found = {revision: observed.ready(revision) for revision in revisions}
    return {revision: min(count, plan.counts.get(revision, count)) for revision, count in found.items()}


def _counting(deployment: LLMDeployment, plan: Plan, ready: dict[str, int]) -> dict[str, int]:
    """Whose ready replicas count: all, and the target's alone once it serves in full."""
    target = plan.target
    if target is None or target.marks.verdict is not None:
        return ready
    enough = ready.get(target.hash, 0) >= max(1, deployment.spec.replicas)
    return {target.hash: ready[target.hash]} if enough else ready


def _revisions(
    deployment: LLMDeployment,
    observed: Observed,
    plan: Plan,
    known: Mapping[str, Revision],
    shares: Mapping[str, int],
) -> tuple[RouteRevision, ...]:
    """Those with requests, and those whose replicas may still work on some, the older ones first."""
    there = {item.revision for item in observed.replica_sets}
    named = there | {revision for revision, count in plan.counts.items() if count} | shares.keys()

    def cap(revision: str) -> int:
        stored = known.get(revision)
        if stored is not None:
            return concurrent_requests(stored, fit_status(stored, observed, deployment.status))
        live = observed.live.get(("ReplicaSet", revision_name(deployment.name, revision)), {})
        return unknown_requests((live.get("spec") or {}).get("template") or {})

    def age(revision: str) -> tuple[int, str]:
        return known[revision].number if revision in known else 0, revision

    return tuple(
        RouteRevision(
            hash=revision,
            weight=shares.get(revision, 0),
            service=revision_name(deployment.name, revision),
            max_concurrent_requests=cap(revision),
        )
        for revision in sorted(named, key=age)
    )


def _adapter(
    name: str, deployment: LLMDeployment, observed: Observed, gateway: GatewayConfig, before: Route | None
) -> RouteAdapter:
    called = adapter_names(deployment, name, gateway)
    told = next((item.pods for item in before.adapters if item.name == name), ()) if before is not None else ()
    pods = (pod for pod in observed.engine_pods() if _holds(pod, called, observed, told))
    return RouteAdapter(name=name, pods=tuple(sorted(pod.name for pod in pods)))


def _holds(pod: PodFacts, called: Sequence[str], observed: Observed, told: Sequence[str]) -> bool:
    """Whether an engine serves an adapter; of one that does not answer what was told last stands."""
    sight = observed.adapters.get(pod.name)
    if sight is None:
        return False
    if isinstance(sight.loaded, Known):
        return all(name in sight.loaded.value for name in called)
    return pod.name in told


def _queue(deployment: LLMDeployment) -> RouteQueue:
    asked = deployment.spec.traffic.queue
    if asked is None:
        return RouteQueue()
    return RouteQueue(max_requests=asked.max_requests, timeout_seconds=asked.timeout_seconds)


_PAUSED = RouteFailure(
    reason="Paused",
    message="spec.paused is true, so no replica is started for requests. Somebody has to set it to false.",
)


def _failure(deployment: LLMDeployment, plan: Plan, observed: Observed, first: str | None) -> RouteFailure | None:
    """Why no replica comes up, where waiting does not help; None while one serves, or may come."""
    if observed.ready():
        return None
    if deployment.spec.paused and not any(item.replicas for item in observed.replica_sets):
        return _PAUSED
    cause = plan.blocker or (revision_cause(observed, first) if first is not None else None)
    if cause is None or not cause.definite:
        cause = plan.scaling.start_failure if plan.scaling is not None else None
    if cause is None:
        return None
    return RouteFailure(reason=cause.reason[:64], message=cause.message[:_MESSAGE])


_EMBEDDING = ("embed", "embedding")
_RERANK = ("score", "rerank", "classify", "reward")


def model_task(revision: Revision | None) -> Task:
    """What the model is for: as model.task says, else what the engine is told, else its architecture; else it chats.

    Worked example: without a task BertModel embeds, Qwen3ForSequenceClassification ranks, LlamaForCausalLM chats; the
    same with --runner=pooling embeds.
    """
    if revision is None:
        return "Chat"
    if (task := revision.spec.model.task) is not None:
        return task
    asked = _asked(engine_arguments(revision.record.pod_template))
    if asked & set(_RERANK):
        return "Rerank"
    if asked & {*_EMBEDDING, "pooling"}:
        return "Embedding"
    facts = revision.record.facts
    architecture = (facts.architecture if facts is not None else None) or ""
    if architecture.endswith("ForSequenceClassification"):
        return "Rerank"
    if architecture.endswith(("Model", "ForMaskedLM")):
        return "Embedding"
    return "Chat"


def _asked(arguments: Sequence[str]) -> set[str]:
    """The values of --task, --runner and --convert."""
    found, flag = set(), ""
    for argument in arguments:
        name, given, value = argument.partition("=")
        if given and name in ("--task", "--runner", "--convert"):
            found.add(value)
        elif flag in ("--task", "--runner", "--convert"):
            found.add(argument)
        flag = argument
    return found
