"""Stories of judged rollouts: what requests of clients and golden questions come to decides, for whoever tells them."""

from datetime import datetime, timedelta
from typing import Any

from nightshift.core.autoscale.demand import Demand, History, Load
from nightshift.core.autoscale.history import WINDOW_SECONDS
from nightshift.core.facts import Known
from tests.support.builders import NOW, model_spec, with_gateway
from tests.support.simulation import Simulation
from tests.support.tales import Begin
from tests.support.traffic import GATEWAY_PODS, USUAL, Answers, Traffic

ARGUMENT = {"args": ["--max-model-len=1024"]}
GOLDEN_SET = {"goldenSetRef": {"name": "questions"}}
LOOK_SECONDS = 30
_NOTING = ("operator: Noting what was counted", "operator: Noting what golden")
"""Written once a minute: told in no log."""


def promoted_through_all_steps(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=20)
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 25)


def rolled_back_for_its_errors(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=20)
    worse(simulation, Answers(failed=0.06), "6 % of its answers are errors")
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 25)


def rolled_back_for_its_times(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=20)
    worse(simulation, Answers(slower=1.8), "it takes 1.8 times as long")
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 25)


def promoted_by_the_golden_set_where_clients_ask_too_little(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=0.02, evaluation=GOLDEN_SET)
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 40)


def rolled_back_by_the_golden_set_for_its_answers(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=0.02, evaluation=GOLDEN_SET)
    worse(simulation, Answers(wrong=0.7), "7 of 10 of its answers are wrong")
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 20)


def paused_while_the_gateway_is_silent(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=20)
    simulation.change_spec(engine=ARGUMENT)
    pass_minutes(simulation, 7)
    silence(simulation, frozenset(GATEWAY_PODS), "no gateway pod answers the operator")
    pass_minutes(simulation, 15)
    silence(simulation, frozenset(), "the gateway's pods answer again")
    return pass_minutes(simulation, 30)


def judged_at_zero_and_back_to_zero(begin: Begin) -> Simulation:
    scaling = {"mode": "Auto", "minReplicas": 0, "maxReplicas": 2, "target": {"concurrentRequests": 16}}
    simulation = begin(model_spec(scaling=scaling, rollout={"strategy": "Auto"}), chosen=with_gateway())
    simulation.asked_by(Traffic(0, NOW))
    simulation.demand = lambda now: idle_since(NOW, now)
    simulation.settle()
    pass_minutes(simulation, 30)
    assert not any(simulation.asked().values())
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 30)


def promoted_in_two_short_steps(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=30, steps=[20, 50], stepSeconds=60, replicas=2)
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 4)


def rolled_back_in_a_short_step(begin: Begin) -> Simulation:
    simulation = served(begin, per_second=30, steps=[20, 50], stepSeconds=60, replicas=2)
    worse(simulation, Answers(failed=0.2), "every fifth of its answers is an error")
    simulation.change_spec(engine=ARGUMENT)
    return pass_minutes(simulation, 3)


STORIES = (
    promoted_through_all_steps,
    rolled_back_for_its_errors,
    rolled_back_for_its_times,
    promoted_by_the_golden_set_where_clients_ask_too_little,
    rolled_back_by_the_golden_set_for_its_answers,
    paused_while_the_gateway_is_silent,
    judged_at_zero_and_back_to_zero,
)
"""At the pace that is usual."""

SHORT = (promoted_in_two_short_steps, rolled_back_in_a_short_step)
"""For whoever tells them often."""


def served(begin: Begin, *, per_second: float, replicas: int = 4, evaluation: Any = None, **pace: Any) -> Simulation:
    """A deployment behind a gateway that serves in full and is asked so often."""
    more = {"evaluation": evaluation} if evaluation is not None else {}
    rollout = {"strategy": "Auto", **pace}
    simulation = begin(model_spec(replicas=replicas, rollout=rollout, **more), chosen=with_gateway())
    simulation.settle()
    simulation.say(f"clients: ask {per_second:g} times a second from now on")
    simulation.asked_by(Traffic(per_second, NOW))
    return pass_minutes(simulation, 1)


def worse(simulation: Simulation, answers: Answers, how: str) -> None:
    """Every revision but the one that serves now answers so."""
    assert simulation.traffic is not None
    simulation.say(f"world: whatever comes next, {how}")
    serving = simulation.status().revision
    simulation.traffic.answers = lambda revision: USUAL if revision == serving else answers


def silence(simulation: Simulation, pods: frozenset[str], how: str) -> None:
    """These gateway pods do not answer the operator from now on."""
    assert simulation.traffic is not None
    simulation.say(f"world: {how}")
    simulation.traffic.silent = pods


def idle_since(last: datetime, now: datetime) -> Demand:
    """Nobody has asked since then."""
    since = now - timedelta(seconds=2 * WINDOW_SECONDS)
    load = Load(0, 0, "Requests: no request")
    return Demand(load, last_request=Known(last, now), history=History(since, now, ((since, 0), (now, 0))))


def pass_minutes(simulation: Simulation, count: int) -> Simulation:
    """Minutes pass, in which everybody does what is due; in the log stand those moments at which something was done."""
    for _ in range(count * 60 // LOOK_SECONDS):
        said = len(simulation.log)
        simulation.pass_time(LOOK_SECONDS)
        simulation.settle()
        told = [line for line in simulation.log[said + 1 :] if not line.startswith(_NOTING)]
        simulation.log[said:] = [f"time: {simulation.now:%H:%M:%S}", *told] if told else []
    return simulation
