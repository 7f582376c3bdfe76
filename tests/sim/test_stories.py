"""Named scenarios, whose logs are kept beside this file and read like stories."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nightshift.api import names
from nightshift.api.fetch import Failed, FetchReason, Resolved
from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult
from nightshift.core.autoscale.demand import Demand, History, Load
from nightshift.core.autoscale.history import WINDOW_SECONDS
from nightshift.core.facts import ImageNotFound, Known
from nightshift.core.observed import ImageAnswer
from tests.support.builders import DIGEST, HUB_MODEL, NOW, SHA, digest_known, model_spec, with_gateway
from tests.support.golden import assert_golden
from tests.support.simulation import Simulation
from tests.support.town import auto
from tests.support.world import Fate, nothing_against_it

STORIES = Path(__file__).parent / "stories"


def first_start_from_a_branch() -> Simulation:
    return Simulation({"model": {"uri": HUB_MODEL, "revision": "main"}}).settle()


def change_of_an_argument_with_two_replicas() -> Simulation:
    simulation = Simulation(model_spec(replicas=2)).settle()
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    return simulation.settle()


def change_taken_back_halfway() -> Simulation:
    simulation = Simulation(model_spec(replicas=2)).settle()
    before = simulation.status().target_revision
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    for _ in simulation.in_turn():
        target = simulation.status().target_revision
        if target != before and simulation.asked().get(f"bot-{target}") == 2:
            break
    simulation.change_spec(engine={"args": []})
    return simulation.settle()


def broken_argument_and_its_correction() -> Simulation:
    simulation = Simulation(model_spec()).settle()
    good = simulation.status().target_revision
    simulation.world.fate = lambda pod: (
        Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES
    )
    simulation.change_spec(engine={"args": ["--speed=ludicrous"]})
    simulation.settle()
    simulation.world.fate = lambda pod: Fate.SERVES
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    return simulation.settle()


def removed_flag_that_the_image_itself_refuses_and_its_correction() -> Simulation:
    """No replica is started for it, and what serves is not touched."""
    simulation = Simulation(model_spec()).settle()
    said = "unrecognized arguments: --swap-space=4"
    refused = PreflightCheck(check="arguments", result=PreflightResult.REFUSED, said=said)
    simulation.world.preflight = lambda pod: PreflightOutcome(vllm="0.32.0", checks=(refused,))
    simulation.change_spec(engine={"args": ["--swap-space=4"]})
    simulation.settle()
    simulation.world.preflight = nothing_against_it
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    return simulation.settle()


def gated_model_whose_access_is_granted_later() -> Simulation:
    simulation = Simulation({"model": {"uri": HUB_MODEL}})
    denied = Failed(
        reason=FetchReason.MODEL_ACCESS_DENIED,
        message="acme/tiny is gated and no token was given. Set model.tokenSecretRef.",
    )
    simulation.world.answer = lambda job: denied
    simulation.settle()
    simulation.world.answer = lambda job: Resolved(sha=SHA, files=3, bytes=1000)
    simulation.say("time: an hour passes, and the kept Job is deleted")
    for job in simulation.server.of_kind("Job"):
        simulation.server.remove(simulation.reference_of(job))
    return simulation.settle()


def tag_that_the_registry_does_not_have() -> Simulation:
    missing = ImageNotFound("registry.example/vllm has no tag v0.32.0.")
    key = "registry.example/vllm:v0.32.0"
    simulation = Simulation(model_spec(), images={key: ImageAnswer(missing, 1, NOW)}).settle()
    simulation.say("registry: the tag is pushed")
    simulation.forget_images(digest_known())
    return simulation.settle()


def download_into_a_claim() -> Simulation:
    claim = {"uri": HUB_MODEL, "revision": SHA, "cache": {"type": "Claim", "size": "20Gi"}}
    return Simulation({"model": claim}).settle()


def paused_through_a_change() -> Simulation:
    simulation = Simulation(model_spec()).settle()
    simulation.change_spec(paused=True, engine={"args": ["--max-model-len=1024"]})
    simulation.settle()
    simulation.change_spec(paused=False)
    return simulation.settle()


def off_and_on_again() -> Simulation:
    simulation = Simulation(model_spec(replicas=2)).settle()
    simulation.change_spec(replicas=0)
    simulation.settle()
    simulation.change_spec(replicas=1)
    return simulation.settle()


def served_through_the_gateway_and_changed() -> Simulation:
    simulation = Simulation(model_spec(replicas=2), chosen=with_gateway()).settle()
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    return simulation.settle()


def from_the_pods_to_the_gateway() -> Simulation:
    simulation = Simulation(model_spec(traffic={"mode": "Service"}), chosen=with_gateway()).settle()
    simulation.change_spec(traffic={"mode": "Gateway"})
    return simulation.settle()


def demand_that_takes_replicas_up_and_down_to_none_and_wakes_one() -> Simulation:
    simulation = Simulation(auto(), chosen=with_gateway()).settle()
    asks(simulation, 40)
    asks(simulation, 5, busiest=1)
    asks(simulation, 0)
    simulation.pass_time(1000)
    simulation.settle()
    asks(simulation, 20, held=True)
    asks(simulation, 20)
    return simulation


def asks(simulation: Simulation, requests: int, *, held: bool = False, busiest: int = 0) -> None:
    """So many requests are under way, and have been for the last minutes, or wait for a replica."""
    simulation.say(f"clients: {requests} requests {'wait for a replica' if held else 'are under way'}")
    asked_at = simulation.now

    def demand(now: datetime) -> Demand:
        load = Load(requests, requests, f"Requests: {requests} {'held' if held else 'in flight'}")
        since = now - timedelta(seconds=2 * WINDOW_SECONDS)
        last = now if requests else now - (simulation.now - asked_at)
        return Demand(load, held, Known(last, now), history=History(since, now, ((since, requests), (now, requests))))

    pods = sorted(raw["metadata"]["name"] for raw in simulation.server.of_kind("Pod"))
    simulation.running = {name: requests if place == busiest else 0 for place, name in enumerate(pods)}
    simulation.demand = demand
    simulation.pass_time(0)
    simulation.settle()


TOLD: tuple[Callable[[], Simulation], ...] = (
    first_start_from_a_branch,
    change_of_an_argument_with_two_replicas,
    change_taken_back_halfway,
    broken_argument_and_its_correction,
    removed_flag_that_the_image_itself_refuses_and_its_correction,
    gated_model_whose_access_is_granted_later,
    tag_that_the_registry_does_not_have,
    download_into_a_claim,
    paused_through_a_change,
    off_and_on_again,
    served_through_the_gateway_and_changed,
    from_the_pods_to_the_gateway,
    demand_that_takes_replicas_up_and_down_to_none_and_wakes_one,
)


@pytest.mark.parametrize("story", TOLD, ids=lambda story: story.__name__.replace("_", " "))
def test_the_log_of_a_scenario(story: Callable[[], Simulation], regenerate: bool) -> None:
    simulation = story()
    assert simulation.condition("Ready")[0] == "True"
    revisions = simulation.server.of_kind("ControllerRevision")
    text = "\n".join([*simulation.log, "", *conditions(simulation), ""])
    for number, raw in enumerate(revisions, start=1):
        text = text.replace(raw["metadata"]["labels"][names.LABEL_REVISION], f"r{number}")
    text = text.replace(DIGEST, "sha256:…").replace(SHA, "<commit>")
    text = re.sub(r"bot-preflight-[a-z0-9]{8}", "bot-preflight-<hash>", text)  # of the program too
    assert_golden(STORIES / f"{story.__name__}.log", text, regenerate=regenerate)


def conditions(simulation: Simulation) -> list[str]:
    return [f"{item.type}={item.status} {item.reason}: {item.message}" for item in simulation.status().conditions]
