"""Deployments in well-known states, and what their conditions have in common."""

from nightshift.api import names
from nightshift.api.fetch import Failed, FetchReason
from nightshift.core.facts import ImageNotFound
from nightshift.core.observed import ImageAnswer
from tests.support.builders import (
    HUB_MODEL,
    NOW,
    SHA,
    model_spec,
)
from tests.support.simulation import Simulation
from tests.support.world import Fate, is_ready

Conditions = dict[str, tuple[str, str]]
DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")
MISSING = {"registry.example/vllm:v0.32.0": ImageAnswer(ImageNotFound("no such tag."), 1, NOW)}
ON_CLAIM = {"model": {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "20Gi"}}}


def told(simulation: Simulation) -> Conditions:
    return {item.type: (item.status, item.reason) for item in simulation.status().conditions}


def first_step() -> Simulation:
    simulation = Simulation(model_spec(replicas=2))
    simulation.tell_all()
    simulation.reconcile()
    return simulation


def waits_for_the_registry() -> Simulation:
    simulation = Simulation(model_spec(), images={})
    simulation.tell_all()
    simulation.reconcile()
    return simulation


def serving() -> Simulation:
    return Simulation(model_spec(replicas=2)).settle()


def rolling() -> Simulation:
    simulation = serving()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    for _ in simulation.in_turn():
        if sum(is_ready(raw) for raw in simulation.server.of_kind("Pod")) == 3:
            break
    return simulation


def draining() -> Simulation:
    """All new pods are ready and an old one has not gone yet."""
    simulation = serving()
    simulation.change_spec(engine={"args": ["--seed=1"]})
    for _ in simulation.in_turn():
        if simulation.status().conditions[0].message.startswith("2 of 2 replicas of revision"):
            break
    return simulation


def scaling_up() -> Simulation:
    simulation = serving()
    simulation.change_spec(replicas=3)
    simulation.tell_all()
    simulation.reconcile()
    return simulation


def off() -> Simulation:
    return Simulation(model_spec(replicas=0)).settle()


def paused() -> Simulation:
    simulation = serving()
    simulation.change_spec(paused=True, engine={"args": ["--seed=1"]})
    return simulation.settle()


def paused_at_rest() -> Simulation:
    simulation = serving()
    simulation.change_spec(paused=True)
    return simulation.settle()


def broken_first_revision() -> Simulation:
    simulation = Simulation(model_spec())
    simulation.world.fate = lambda raw: Fate.CRASHES
    return simulation.settle()


def broken_change() -> Simulation:
    simulation = serving()
    good = simulation.status().target_revision
    simulation.world.fate = lambda raw: (
        Fate.SERVES if raw["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES
    )
    simulation.change_spec(engine={"args": ["--speed=ludicrous"]})
    return simulation.settle()


def crashed_replica() -> Simulation:
    simulation = serving()
    simulation.world.crash(simulation.server.of_kind("Pod")[0])
    simulation.tell_all()
    simulation.reconcile()
    return simulation


def no_gpu() -> Simulation:
    return Simulation(model_spec(replicas=2), gpus=1).settle()


def no_image() -> Simulation:
    simulation = Simulation(model_spec())
    simulation.world.fate = lambda raw: Fate.PULL_FAILS
    return simulation.settle()


def no_tag() -> Simulation:
    return Simulation(model_spec(), images=MISSING).settle()


def gated() -> Simulation:
    simulation = Simulation({"model": {"uri": HUB_MODEL}})
    simulation.world.answer = lambda job: DENIED
    return simulation.settle()


def downloading_into_a_claim() -> Simulation:
    simulation = Simulation(ON_CLAIM)
    simulation.tell_all()
    simulation.reconcile()
    return simulation


SERVES, SAFE, UNPAUSED = ("True", "Serving"), ("False", "NotStalled"), ("False", "NotPaused")
DONE = ("False", "Complete")
