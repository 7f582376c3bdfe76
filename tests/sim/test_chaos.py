"""The planner in a world that acts in any order: what must hold at every step, and that it ends.

`pytest tests/sim --seeds 200` tries more orders of events than the six of every day.
"""

import random

from nightshift.api import names
from nightshift.core.planning import Plan
from tests.support.builders import model_spec
from tests.support.simulation import Simulation
from tests.support.world import Fate, is_ready

STEPS = 100
ARGUMENTS: tuple[list[str], ...] = (["--max-model-len=1024"], ["--max-model-len=2048"], ["--seed=1"], [])


class Watchdog:
    """Compares the state before and after each reconcile with what is promised."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.before()

    def before(self) -> None:
        self.asked = sum(self.simulation.asked().values())
        self.staying = self.simulation.staying()
        self.wanted = self.wanted_as_seen()

    def after(self, plan: Plan) -> None:
        simulation = self.simulation
        wanted = self.wanted
        asked, staying = sum(simulation.asked().values()), simulation.staying()
        story = "\n".join(simulation.log[-30:])
        assert asked <= max(self.asked, wanted + 1), f"{self.asked} -> {asked} replicas, wanted {wanted}:\n{story}"
        assert staying >= min(self.staying, wanted), f"{self.staying} -> {staying} ready, wanted {wanted}:\n{story}"
        held = {item.type: item.status for item in simulation.status().conditions}
        assert (held["Reconciling"], held["Stalled"]) != ("True", "True"), story
        if held["Ready"] == "True":
            assert (held["Reconciling"], held["Stalled"], held["Progressing"]) == ("False", "False", "False"), story
        assert not (plan.target is None and plan.counts), story

    def wanted_as_seen(self) -> int:
        body = self.simulation.cache.deployment(("ml", "bot"))
        assert body is not None
        return int(body["spec"].get("replicas", 1))


def run(simulation: Simulation, chooser: random.Random, steps: int, *, prompt: bool = False) -> None:
    watchdog = Watchdog(simulation)
    for _ in range(steps):
        if prompt:
            simulation.tell_all()
        watchdog.before()
        plan = simulation.act(chooser, prompt=prompt)
        if plan is not None:
            watchdog.after(plan)


def assert_at_rest_and_serving(simulation: Simulation, wanted: int) -> None:
    simulation.settle()
    story = "\n".join(simulation.log[-30:])
    target = simulation.status().target_revision
    assert simulation.condition("Ready") == ("True", "Serving" if wanted else "Off"), story
    engines = [pod["metadata"]["labels"][names.LABEL_REVISION] for pod in simulation.server.of_kind("Pod")]
    assert engines == [target] * wanted, story
    assert simulation.asked() == {f"bot-{target}": wanted}, story
    writes = simulation.writes
    simulation.reconcile()
    simulation.reconcile()
    assert simulation.writes == writes, "a converged deployment is written to:\n" + "\n".join(simulation.log[-3:])


def test_any_order_of_events_and_edits_keeps_what_serves_and_ends(seed: int) -> None:
    chooser = random.Random(seed)
    simulation = Simulation(model_spec(replicas=chooser.randint(1, 4)))
    for _ in range(chooser.randint(1, 6)):
        run(simulation, chooser, chooser.randint(0, STEPS))
        if chooser.random() < 0.6:
            simulation.change_spec(engine={"args": chooser.choice(ARGUMENTS)})
        if chooser.random() < 0.4:
            simulation.change_spec(replicas=chooser.randint(0, 5))
    run(simulation, chooser, STEPS)
    assert_at_rest_and_serving(simulation, simulation.wanted)


def test_crashing_pods_on_top_of_that_change_nothing_of_it(seed: int) -> None:
    chooser = random.Random(1000 + seed)
    simulation = Simulation(model_spec(replicas=3))
    for _ in range(4):
        run(simulation, chooser, chooser.randint(20, STEPS), prompt=True)
        simulation.change_spec(engine={"args": chooser.choice(ARGUMENTS)}, replicas=chooser.randint(1, 5))
        for pod in simulation.server.of_kind("Pod"):
            if is_ready(pod) and chooser.random() < 0.4:
                simulation.world.crash(pod)
    assert_at_rest_and_serving(simulation, simulation.wanted)


def test_a_broken_revision_never_takes_the_place_of_a_good_one(seed: int) -> None:
    chooser = random.Random(2000 + seed)
    replicas = chooser.randint(1, 3)
    simulation = Simulation(model_spec(replicas=replicas)).settle()
    good = simulation.status().target_revision
    simulation.world.fate = lambda pod: (
        Fate.SERVES if pod["metadata"]["labels"][names.LABEL_REVISION] == good else Fate.CRASHES
    )
    simulation.change_spec(engine={"args": ["--speed=ludicrous"]})
    run(simulation, chooser, STEPS)
    simulation.settle()
    assert simulation.staying() == replicas
    assert simulation.condition("Available") == ("True", "Serving")
    assert simulation.condition("Stalled") == ("True", "EngineArgsRejected")
    simulation.change_spec(engine={"args": []})
    run(simulation, chooser, STEPS)
    assert_at_rest_and_serving(simulation, replicas)


def test_one_spare_accelerator_is_enough_for_a_rollout(seed: int) -> None:
    chooser = random.Random(3000 + seed)
    replicas = chooser.randint(1, 4)
    simulation = Simulation(model_spec(replicas=replicas), gpus=replicas + 1).settle()
    simulation.change_spec(engine={"args": ["--max-model-len=1024"]})
    watchdog = Watchdog(simulation)
    for _ in range(STEPS):
        plan = simulation.act(chooser)
        if plan is not None:
            watchdog.after(plan)
        watchdog.before()
        assert sum(simulation.asked().values()) <= replicas + 1
        assert sum(is_ready(pod) for pod in simulation.server.of_kind("Pod")) >= replicas
    assert_at_rest_and_serving(simulation, replicas)
