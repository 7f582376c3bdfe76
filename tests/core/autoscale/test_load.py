"""From what gateway, Leases and engines say to the load, and what of it is worth telling."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nightshift.api.demand import GatewayDemand, RouteDemand
from nightshift.api.wake import Wake
from nightshift.core.autoscale.decide import Bounds
from nightshift.core.autoscale.demand import Demand, GatewaySight, History, Load
from nightshift.core.autoscale.hint import hint
from nightshift.core.autoscale.load import demand_of
from nightshift.core.autoscale.wakes import SeenWake
from nightshift.core.engine_sight import EngineSight
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.planning import LookAtEngine, WatchDemand
from tests.support.builders import NOW
from tests.support.fake_engines import metrics

ENGINE = LookAtEngine("bot-1", "10.0.0.1", "start")


def ago(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


def told(pod: str, in_flight: int | None = 0, queued: int | None = 0, idle: float | None = 60, old: float = 1) -> Any:
    route = RouteDemand(in_flight=in_flight, queued=queued, idle_seconds=idle)
    return Known(GatewayDemand(written=ago(old), pod=pod, routes={"ml/bot": route}), ago(min(old, 1)))


def lease(held: int, old: float = 2, start: float | None = None, pod: str = "a") -> SeenWake:
    found = Wake(
        object_name=f"wake.ml.bot.{pod}",
        namespace="ml",
        name="bot",
        renewed=ago(old),
        lease_seconds=15,
        held=held,
        typical_start_seconds=start,
    )
    return SeenWake(found, ago(old))


def gateway(*answers: Fact[GatewayDemand], **more: Any) -> GatewaySight:
    named = {f"gw-{number}": answer for number, answer in enumerate(answers, 1)}
    return GatewaySight(named, **{"expected": 2, **more})


def sight(running: int = 0, waiting: int = 0, old: float = 10, **more: Any) -> dict[str, EngineSight]:
    reading = Known(metrics(running=running, waiting=waiting), ago(old))
    return {"bot-1": EngineSight("start", **{"metrics": reading, "last": reading, "still_since": ago(old), **more})}


QUIET = (told("gw-1"), told("gw-2"))


@pytest.mark.parametrize(
    ("seen", "engines", "least", "most", "why"),
    [
        pytest.param(gateway(told("gw-1", 12, 6), told("gw-2", 3)), sight(15), 21, 21, "", id="both pods add up"),
        pytest.param(gateway(*QUIET), sight(14), 0, 14, "", id="what an engine said half a minute ago lowers nothing"),
        pytest.param(
            gateway(told("gw-1", 12, 6), told("gw-2"), wakes=(lease(30),)),
            sight(14),
            30,
            48,
            "",
            id="what is held may be in flight by now: at least the larger, at most both",
        ),
        pytest.param(
            gateway(*QUIET, wakes=(lease(20), lease(12, pod="b"))), sight(), 32, 32, "", id="two pods hold requests"
        ),
        pytest.param(gateway(*QUIET, wakes=(lease(20, old=16),)), sight(), 0, 0, "", id="a Lease that ran out"),
        pytest.param(
            gateway(told("gw-1", 40), Unknown("silence")),
            sight(50),
            50,
            None,
            "Gateway pod gw-2 does not say: silence",
            id="half of the gateway says nothing: the engines tell more",
        ),
        pytest.param(gateway(told("gw-1", 4)), sight(), 4, None, "1 of 2 gateway pods are there", id="one is missing"),
        pytest.param(
            gateway(*QUIET, pods_unknown="Nobody knows."), sight(), 0, None, "Nobody knows.", id="which pods there are"
        ),
        pytest.param(
            gateway(*QUIET, wakes_unknown="Nobody knows."), sight(), 0, None, "Nobody knows.", id="which Leases"
        ),
        pytest.param(
            gateway(told("gw-1"), told("gw-2", 9, old=11)),
            sight(),
            0,
            None,
            "Gateway pod gw-2 has told nothing new since 11:59:49 UTC",
            id="an answer of eleven seconds ago",
        ),
        pytest.param(
            gateway(told("gw-1", 5), told("gw-2", None)),
            sight(),
            5,
            None,
            "Gateway pod gw-2 cannot count",
            id="a pod that cannot count",
        ),
        pytest.param(gateway(*QUIET), {}, 0, None, "bot-1 was not read yet", id="an engine that was not read"),
        pytest.param(
            gateway(*QUIET),
            sight(metrics=Unknown("it exports no metrics.")),
            0,
            None,
            "does not say: it exports no metrics.",
            id="an engine without metrics",
        ),
        pytest.param(gateway(*QUIET), sight(old=91), 0, None, "was not read since", id="one that was read long ago"),
        pytest.param(
            gateway(*QUIET),
            sight(3, still_since=ago(100)),
            0,
            None,
            "may hang",
            id="one that makes no step",
        ),
        pytest.param(None, sight(9, 4), 13, 13, "", id="without a gateway the engines alone"),
        pytest.param(None, {}, 0, None, "bot-1 was not read yet", id="of which one says nothing"),
    ],
)
def test_the_load(
    seen: GatewaySight | None, engines: dict[str, EngineSight], least: int, most: int | None, why: str
) -> None:
    load = demand_of("ml/bot", seen, (ENGINE,), engines, History(), NOW).load
    assert (load.at_least, load.at_most) == (least, most)
    assert why in load.unknown
    assert bool(load.unknown) == (most is None)


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        pytest.param(gateway(told("gw-1", idle=60), told("gw-2", idle=500)), 61, id="the later of two pods"),
        pytest.param(gateway(*QUIET, wakes=(lease(0, old=20),)), 20, id="a Lease outlives what its pod knew"),
        pytest.param(gateway(told("gw-1"), told("gw-2", idle=None)), None, id="one pod does not know"),
        pytest.param(gateway(told("gw-1"), Unknown("silence")), None, id="one pod says nothing"),
        pytest.param(gateway(told("gw-1")), None, id="one pod is missing"),
    ],
)
def test_when_the_last_request_came(seen: GatewaySight, seconds: float | None) -> None:
    last = demand_of("ml/bot", seen, (), {}, History(), NOW).last_request
    assert (last.value if isinstance(last, Known) else None) == (None if seconds is None else ago(seconds))


def test_a_start_takes_as_long_as_the_most_careful_gateway_pod_has_learned() -> None:
    seen = gateway(*QUIET, wakes=(lease(0, 3600, 80.0), lease(0, 7200, 95.0, "b")))
    assert demand_of("ml/bot", seen, (), {}, History(), NOW).typical_start_seconds == 95.0


WATCH = WatchDemand(Bounds(0, 8, 16, 900), 3, gateway=True)
BUSY = Demand(
    Load(40, 40, "Requests: 40 in flight"),
    last_request=Known(NOW, NOW),
    history=History(ago(600), NOW, ((ago(5), 40),)),
)


@pytest.mark.parametrize(
    ("after", "worth"),
    [
        pytest.param(replace(BUSY, load=Load(35, 35, "")), False, id="a few requests fewer"),
        pytest.param(replace(BUSY, load=Load(48, 48, "")), False, id="as many as three replicas take"),
        pytest.param(replace(BUSY, load=Load(49, 49, "")), True, id="one more"),
        pytest.param(
            replace(BUSY, load=Load(9, 9, ""), history=History(ago(600), NOW, ((ago(5), 30),))),
            True,
            id="two would have done for five minutes",
        ),
        pytest.param(replace(BUSY, load=Load(40, None, "", "half seen")), True, id="a part is not known any more"),
        pytest.param(replace(BUSY, woken=True), True, id="somebody waits"),
        pytest.param(replace(BUSY, load=Load(0, 0, "")), True, id="nobody asks any more: a time is set"),
        pytest.param(replace(BUSY, blind=True), True, id="people should hear of what is not known"),
    ],
)
def test_what_is_worth_telling(after: Demand, worth: bool) -> None:
    assert (hint(WATCH, after, NOW) != hint(WATCH, BUSY, NOW)) is worth
