"""Stories besides those of `tests/sim`, for whoever tells them: what users, administrators and strangers do.

Most of them are told on a real cluster too, in `e2e/stories`.
"""

from collections.abc import Callable
from typing import Any

from nightshift.adapters.kube import Object, Reference, reference
from nightshift.api import names
from nightshift.api.fetch import AdapterResolved, Failed, FetchOutcome, FetchReason, Resolved
from nightshift.core.facts import ImageNotFound, Known
from nightshift.core.observed import ImageAnswer, image_key
from tests.support.api_server import deployment_reference
from tests.support.builders import HUB_MODEL, NOW, OTHER_DIGEST, SHA, config, digest_known, model_spec, with_gateway
from tests.support.simulation import Simulation, with_accelerators
from tests.support.world import usual_answer

Begin = Callable[..., Simulation]
ON_CLAIM = {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "9Gi"}}
REFUNDS = {"name": "refunds", "uri": "hf://acme/refunds"}
SERVICE = Reference("v1", "Service", "ml", "bot")


def served_and_deleted(begin: Begin) -> Simulation:
    simulation = begin({"model": {"uri": HUB_MODEL}}).settle()
    delete(simulation)
    return simulation.settle()


def deleted_in_the_middle_of_a_rollout(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2)).settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    for _ in simulation.in_turn():
        if len(simulation.asked()) == 2:
            break
    delete(simulation)
    return simulation.settle()


def deleted_and_made_again(begin: Begin) -> Simulation:
    simulation = begin(model_spec()).settle()
    body = simulation.body
    delete(simulation)
    simulation.settle()
    simulation.server.create({key: value for key, value in body.items() if key != "status"})
    return simulation.settle()


def there_and_back_without_history(begin: Begin) -> Simulation:
    simulation = begin(model_spec(revisionHistoryLimit=1)).settle()
    for args in (["--seed=1"], ["--seed=2"], []):
        simulation.change_spec(engine={"args": args})
        simulation.settle()
    return simulation


def scaled_up_down_and_off(begin: Begin) -> Simulation:
    simulation = begin(model_spec()).settle()
    for replicas in (3, 1, 0):
        simulation.change_spec(replicas=replicas)
        simulation.settle()
    return simulation


def without_a_free_accelerator(begin: Begin) -> Simulation:
    simulation = begin(model_spec(), gpus=1).settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.settle()
    simulation.say("administrator: a second accelerator is added")
    simulation.world.gpus = 2
    return simulation.settle()


def model_that_is_missing_and_its_right_name(begin: Begin) -> Simulation:
    simulation = begin({"model": {"uri": "hf://acme/absent"}})
    missing = Failed(reason=FetchReason.MODEL_NOT_FOUND, message="The Hub has no acme/absent.")
    simulation.world.answer = lambda job: missing
    simulation.settle()
    simulation.world.answer = lambda job: Resolved(sha=SHA, files=3, bytes=1000)
    simulation.change_spec(model={"uri": HUB_MODEL})
    return simulation.settle()


def served_and_then_sent_to_a_model_that_is_missing(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2)).settle()
    missing = Failed(reason=FetchReason.MODEL_NOT_FOUND, message="The Hub has no acme/absent.")
    simulation.world.answer = lambda job: missing
    simulation.change_spec(model={"uri": "hf://acme/absent"}, replicas=3)
    simulation.settle()
    simulation.change_spec(model=model_spec()["model"])
    return simulation.settle()


def version_that_is_missing_and_its_correction(begin: Begin) -> Simulation:
    missing = ImageNotFound("registry.example/vllm has no tag v9.9.9.")
    images = {image_key("registry.example/vllm", "v9.9.9"): ImageAnswer(missing, 1, NOW), **digest_known()}
    simulation = begin(model_spec(engine={"version": "9.9.9"}), images=images).settle()
    simulation.change_spec(engine={"version": "0.32.0"})
    return simulation.settle()


def cache_claim_for_two_replicas(begin: Begin) -> Simulation:
    return begin({"model": ON_CLAIM, "replicas": 2}).settle()


def pinned_model_that_is_looked_at(begin: Begin) -> Simulation:
    return begin({"model": {"uri": HUB_MODEL, "revision": SHA, "quantization": "fp8"}}).settle()


def model_of_a_claim_that_is_looked_at(begin: Begin) -> Simulation:
    return begin({"model": {"uri": "pvc://models/tiny", "quantization": "fp8"}}).settle()


def other_defaults_a_scaling_and_a_change(begin: Begin) -> Simulation:
    simulation = begin({"model": {"uri": HUB_MODEL}}).settle()
    base = with_accelerators(config(), "nvidia-gpu", shared_memory="64Gi")
    defaults = base.defaults.model_copy(update={"engine_version": "0.33.0"})
    simulation.images = {image_key("registry.example/vllm", "v0.33.0"): ImageAnswer(Known(OTHER_DIGEST, NOW), 1, NOW)}
    simulation.change_config(defaults=defaults, accelerators=base.accelerators)
    simulation.change_spec(replicas=2)
    simulation.settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    return simulation.settle()


def left_without_owners_and_applied_again(begin: Begin) -> Simulation:
    simulation = begin({"model": ON_CLAIM}).settle()
    body = simulation.body
    for raw in list(simulation.server.everything()):
        if raw["metadata"].get("ownerReferences", [{}])[0].get("kind") == names.KIND:
            simulation.server.change(reference(raw), lambda item: item["metadata"].pop("ownerReferences"))
    simulation.server.remove(deployment_reference())
    simulation.server.create({key: value for key, value in body.items() if key != "status"})
    return simulation.settle()


def children_that_somebody_edits(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2)).settle()
    edits: tuple[tuple[str, Callable[[Object], Any]], ...] = (
        ("Service", lambda raw: raw["spec"].update(type="NodePort")),
        ("ReplicaSet", lambda raw: raw["spec"].update(replicas=5)),
        ("PodDisruptionBudget", lambda raw: raw["spec"].update(maxUnavailable=9)),
        ("NetworkPolicy", lambda raw: raw["spec"].update(ingress=[{}])),
        ("ServiceAccount", lambda raw: raw.update(automountServiceAccountToken=True)),
    )
    for kind, edit in edits:
        (raw,) = simulation.server.of_kind(kind)
        simulation.server.change(reference(raw), edit)
    return simulation.settle()


def pods_that_somebody_edits(begin: Begin) -> Simulation:
    """The only one is exchanged for a second, of two one is evicted, and one is taken out of its ReplicaSet."""
    simulation = begin(model_spec()).settle()
    other = "registry.example/other:v1"
    for replicas in (1, 2):
        simulation.change_spec(replicas=replicas)
        simulation.settle()
        raw = simulation.server.of_kind("Pod")[0]
        simulation.server.change(
            reference(raw), lambda pod: pod["spec"]["containers"][0].update(image=other), "kubectl-set"
        )
        simulation.settle()
    label = {names.LABEL_REVISION: "debug"}
    raw = simulation.server.of_kind("Pod")[0]
    simulation.server.change(reference(raw), lambda pod: pod["metadata"]["labels"].update(label))
    simulation.settle()
    simulation.server.remove(reference(raw))
    return simulation.settle()


def template_that_somebody_edits_and_a_pod_is_lost(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2)).settle()
    (owner,) = simulation.server.of_kind("ReplicaSet")
    simulation.server.change(
        reference(owner), lambda raw: raw["spec"]["template"]["spec"].update(hostNetwork=True), "kubectl-edit"
    )
    simulation.server.remove(reference(simulation.server.of_kind("Pod")[0]))
    made = next(step for step in simulation.world.pending() if "makes a pod" in step.name)
    made.act()
    return simulation.settle()


def children_that_somebody_deletes(begin: Begin) -> Simulation:
    simulation = begin(model_spec()).settle()
    kinds = ("Service", "ReplicaSet", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "ControllerRevision")
    for kind in kinds:
        (raw,) = simulation.server.of_kind(kind)
        simulation.server.remove(reference(raw))
        simulation.settle()
    return simulation


def name_that_somebody_else_has(begin: Begin) -> Simulation:
    simulation = begin(model_spec())
    metadata = {"name": "bot", "namespace": "ml", "labels": {"app": "shop"}}
    simulation.server.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": []}})
    simulation.settle()
    simulation.server.remove(SERVICE)
    simulation.change_spec(replicas=2)
    return simulation.settle()


def spec_that_cannot_be_understood(begin: Begin) -> Simulation:
    """As an older schema might have let in."""
    simulation = begin(model_spec()).settle()
    simulation.change_spec(engine={"args": ["--port=1"]})
    simulation.settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    return simulation.settle()


def digest_that_only_the_first_pod_tells(begin: Begin) -> Simulation:
    """Where no registry can be asked; whoever tells this has it asked once only."""
    simulation = begin(model_spec(), images={}).settle()
    simulation.change_spec(replicas=2)
    return simulation.settle()


def adapters_that_come_change_and_go(begin: Begin) -> Simulation:
    """The first makes a new revision; another one, another version, and their end make none."""
    simulation = begin(model_spec()).settle()
    for adapters in (
        [REFUNDS],
        [REFUNDS, {"name": "greetings", "uri": "hf://acme/greetings"}],
        [{**REFUNDS, "revision": "v2"}, {"name": "greetings", "uri": "hf://acme/greetings"}],
        [],
    ):
        simulation.change_spec(adapters=adapters)
        simulation.settle()
    return simulation


def adapters_of_which_one_is_missing_and_one_needs_a_higher_rank(begin: Begin) -> Simulation:
    simulation = begin(model_spec())
    missing = Failed(reason=FetchReason.ADAPTER_NOT_FOUND, message="The Hub has no acme/absent.")
    wide = AdapterResolved(sha=SHA, bytes=1000, rank=64)
    found: dict[str, FetchOutcome] = {"hf://acme/absent@main": missing, "hf://acme/wide@main": wide}

    def answer(job: Object) -> FetchOutcome:
        asked = job["metadata"]["annotations"].get(names.ANNOTATION_MODEL_REQUEST, "")
        return found.get(asked) or usual_answer(job)

    simulation.world.answer = answer
    simulation.change_spec(adapters=[REFUNDS, {"name": "absent", "uri": "hf://acme/absent"}])
    simulation.settle()
    simulation.change_spec(adapters=[REFUNDS, {"name": "wide", "uri": "hf://acme/wide"}])
    return simulation.settle()


def engine_with_adapters_that_starts_anew(begin: Begin) -> Simulation:
    simulation = begin(model_spec(adapters=[REFUNDS])).settle()
    for pod in simulation.server.of_kind("Pod"):
        if pod["metadata"]["labels"].get(names.LABEL_REVISION):
            simulation.world.crash(pod)
    return simulation.settle()


def by_the_gateway_changed_and_deleted(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2), chosen=with_gateway()).settle()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    simulation.settle()
    delete(simulation)
    return simulation.settle()


def by_the_gateway_deleted_and_made_again(begin: Begin) -> Simulation:
    simulation = begin(model_spec(), chosen=with_gateway()).settle()
    body = simulation.body
    delete(simulation)
    simulation.settle()
    simulation.server.create({key: value for key, value in body.items() if key != "status"})
    return simulation.settle()


def from_the_pods_to_the_gateway_and_back(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2, traffic={"mode": "Service"}), chosen=with_gateway()).settle()
    for traffic in ({}, {"mode": "Service"}, {"mode": "Gateway", "queue": {"maxRequests": 3}}):
        simulation.change_spec(traffic=traffic)
        simulation.settle()
    return simulation


def gateway_that_is_asked_for_before_there_is_one(begin: Begin) -> Simulation:
    simulation = begin(model_spec(traffic={"mode": "Gateway"})).settle()
    simulation.say("administrator: installs the gateway")
    simulation.change_config(gateway=with_gateway().gateway)
    return simulation.settle()


def gateway_that_is_taken_away(begin: Begin) -> Simulation:
    simulation = begin(model_spec(), chosen=with_gateway()).settle()
    simulation.say("administrator: takes the gateway away, and its namespace")
    for raw in simulation.server.of_kind("ConfigMap"):
        simulation.server.remove(reference(raw))
    simulation.change_config(gateway=None)
    return simulation.settle()


def off_and_on_by_the_gateway(begin: Begin) -> Simulation:
    simulation = begin(model_spec(replicas=2), chosen=with_gateway()).settle()
    for replicas in (0, 1):
        simulation.change_spec(replicas=replicas)
        simulation.settle()
    return simulation


def adapters_by_the_gateway(begin: Begin) -> Simulation:
    simulation = begin(model_spec(adapters=[REFUNDS]), chosen=with_gateway()).settle()
    simulation.change_spec(adapters=[{**REFUNDS, "revision": "v2"}])
    return simulation.settle()


def way_through_the_gateway_that_somebody_edits_and_deletes(begin: Begin) -> Simulation:
    simulation = begin(model_spec(), chosen=with_gateway()).settle()
    edits: tuple[tuple[str, Callable[[Object], Any]], ...] = (
        ("ConfigMap", lambda raw: raw.update(data={"route.json": "{}"})),
        ("Service", lambda raw: raw["spec"].update(selector={"app": "other"})),
        ("NetworkPolicy", lambda raw: raw["spec"].update(ingress=[{}])),
    )
    for kind, edit in edits:
        for raw in simulation.server.of_kind(kind):
            simulation.server.change(reference(raw), edit)
        simulation.settle()
    for kind in ("ConfigMap", "Service"):
        for raw in list(simulation.server.of_kind(kind)):
            simulation.server.remove(reference(raw))
        simulation.settle()
    return simulation


def delete(simulation: Simulation) -> None:
    """A person deletes the LLMDeployment; the garbage collector does the rest."""
    simulation.say("user: deletes it")
    simulation.server.delete(deployment_reference())


TALES: tuple[Callable[[Begin], Simulation], ...] = (
    served_and_deleted,
    deleted_in_the_middle_of_a_rollout,
    deleted_and_made_again,
    there_and_back_without_history,
    scaled_up_down_and_off,
    without_a_free_accelerator,
    model_that_is_missing_and_its_right_name,
    served_and_then_sent_to_a_model_that_is_missing,
    version_that_is_missing_and_its_correction,
    cache_claim_for_two_replicas,
    pinned_model_that_is_looked_at,
    model_of_a_claim_that_is_looked_at,
    other_defaults_a_scaling_and_a_change,
    left_without_owners_and_applied_again,
    children_that_somebody_edits,
    pods_that_somebody_edits,
    template_that_somebody_edits_and_a_pod_is_lost,
    children_that_somebody_deletes,
    name_that_somebody_else_has,
    spec_that_cannot_be_understood,
    digest_that_only_the_first_pod_tells,
    adapters_that_come_change_and_go,
    adapters_of_which_one_is_missing_and_one_needs_a_higher_rank,
    engine_with_adapters_that_starts_anew,
    by_the_gateway_changed_and_deleted,
    by_the_gateway_deleted_and_made_again,
    from_the_pods_to_the_gateway_and_back,
    gateway_that_is_asked_for_before_there_is_one,
    gateway_that_is_taken_away,
    off_and_on_by_the_gateway,
    adapters_by_the_gateway,
    way_through_the_gateway_that_somebody_edits_and_deletes,
)
