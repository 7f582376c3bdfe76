"""What is followed of the gateway, when its pods are asked, and what is told of it."""

from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from nightshift.core.autoscale.demand import Demand
from nightshift.core.gateway.starts import Starts
from nightshift.core.gateway.wake import Demand as Waiting
from nightshift.core.gateway.wake import lease_manifest
from nightshift.core.planning import Scaling
from nightshift.runtime.demand import Demands
from nightshift.runtime.heard import UNHEARD_SECONDS
from nightshift.runtime.lookout import Lookout
from tests.support.builders import NOW, config
from tests.support.fake_engines import FakeEngines
from tests.support.harness import Harness
from tests.support.town import GATEWAY, Town, auto, story
from tests.support.virtual_time import run

KEY = ("ml", "bot")


def scaling() -> Scaling:
    decided = Harness(auto(), config(gateway=GATEWAY)).plan().scaling
    assert decided is not None
    return decided


class Clock:
    now = NOW

    def __call__(self) -> Any:
        return self.now


def demands(clock: Clock, gateway: Any = GATEWAY) -> Demands:
    return Demands(Lookout(FakeEngines(), clock), gateway, None, clock)


def lease(behind: float, held: int = 1, name: str = "bot", pod: str = "gw-1", now: datetime = NOW) -> dict[str, Any]:
    """A wake Lease of a gateway pod whose clock is behind by so many seconds."""
    waiting = Waiting("ml", name, held, 1.0, Starts())
    return lease_manifest(waiting, gateway_namespace="gw", pod=pod, now=now - timedelta(seconds=behind))


def known(found: Demand | None) -> Demand:
    assert found is not None
    return found


def test_only_the_gateways_pods_and_wake_leases_in_its_own_namespace_are_followed() -> None:
    paths = [watch._query.path() for watch in demands(Clock()).watches(cast(Any, None))]
    assert paths == [
        "/api/v1/namespaces/nightshift-gateway/pods?labelSelector=app%3Dgateway",
        "/apis/coordination.k8s.io/v1/namespaces/nightshift-gateway/leases?labelSelector=nightshift.dev%2Fwake%3Dtrue",
    ]
    assert demands(Clock(), None).watches(cast(Any, None)) == ()


def test_what_a_watch_told_is_unknown_until_it_was_listed_and_after_a_long_silence() -> None:
    clock = Clock()
    seen = demands(clock)
    seen.watch(KEY, scaling())
    assert "were not listed yet" in known(seen.demand(KEY)).load.unknown
    seen.pods.heard()
    seen.leases.heard()
    assert "of 2 gateway pods are there" in known(seen.demand(KEY)).load.unknown
    clock.now += timedelta(seconds=UNHEARD_SECONDS + 1)
    assert "has told nothing of the gateway's pods since 12:00:00 UTC" in known(seen.demand(KEY)).load.unknown


def test_nobody_is_asked_while_no_deployment_scales_by_itself() -> None:
    async def told(town: Town) -> None:
        await town.for_seconds(30)
        assert town.questions == 0
        town.harness.change_spec(scaling=auto()["scaling"])
        await town.for_seconds(30)
        assert 20 <= town.questions <= 32, "two pods every two seconds"
        town.harness.change_spec(scaling={"mode": "Manual"})
        await town.for_seconds(3)
        before = town.questions
        await town.for_seconds(30)
        assert town.questions == before

    story(told, {**auto(), "scaling": {"mode": "Manual"}})


def test_what_came_while_a_plan_was_carried_out_is_told() -> None:
    """A plan that did not know of a wake must not silence it."""

    async def told(town: Town) -> None:
        await town.until(lambda: town.asked == 0)
        await town.for_seconds(10)
        before = town.harness.plan().scaling
        assert before is not None
        heard: list[Any] = []
        town.demands.tell = heard.append
        town.hold(1)
        assert heard == [KEY]
        town.demands.watch(KEY, before)
        assert heard == [KEY, KEY]
        town.hold(1)
        assert heard == [KEY, KEY], "the same is told once"

    story(told, auto())


def test_a_deployment_that_is_gone_is_watched_no_more() -> None:
    seen = demands(Clock())
    seen.watch(KEY, scaling())
    seen.watch(KEY, None)
    assert seen.demand(KEY) is None


@pytest.mark.parametrize("behind", [60, 0, -3600], ids=["is behind", "is right", "is ahead"])
def test_a_wake_is_demand_for_15_seconds_after_its_renewal_was_seen_also_where_the_gateways_clock(
    behind: float,
) -> None:
    clock = Clock()
    seen = demands(clock)
    seen.watch(KEY, scaling())
    seen.leases.replace([])
    for _ in range(3):
        seen.leases.change("MODIFIED", lease(behind, now=clock.now))
        clock.now += timedelta(seconds=14)
        assert known(seen.demand(KEY)).woken
        assert known(seen.demand(KEY)).load.at_least == 1
    clock.now += timedelta(seconds=2)
    assert not known(seen.demand(KEY)).woken


def test_a_wake_that_is_told_again_without_a_renewal_is_no_new_demand() -> None:
    clock = Clock()
    seen = demands(clock)
    seen.watch(KEY, scaling())
    seen.leases.change("ADDED", lease(0))
    clock.now += timedelta(seconds=16)
    seen.leases.change("MODIFIED", lease(0, held=2))
    assert not known(seen.demand(KEY)).woken
    seen.leases.replace([lease(0)])
    assert not known(seen.demand(KEY)).woken


@pytest.mark.parametrize(
    ("behind", "woken"),
    [
        pytest.param(3600, False, id="that ran out long ago is none"),
        pytest.param(5, True, id="of a moment ago is"),
        pytest.param(-3600, True, id="of an hour in the future is for 15 s"),
    ],
)
def test_for_a_new_process_a_lease(behind: float, woken: bool) -> None:
    clock = Clock()
    seen = demands(clock)
    seen.watch(KEY, scaling())
    seen.leases.replace([lease(behind)])
    assert known(seen.demand(KEY)).woken is woken
    clock.now += timedelta(seconds=16)
    assert not known(seen.demand(KEY)).woken


def test_leases_are_read_once_however_many_deployments_are_looked_at() -> None:
    class Read(dict[str, Any]):
        times = 0

        def get(self, key: str, default: Any = None) -> Any:
            Read.times += key == "spec"
            return super().get(key, default)

    seen, plan = demands(Clock()), scaling()
    names = [f"bot-{number}" for number in range(50)]
    for name in names:
        seen.watch(("ml", name), plan)
    seen.leases.replace([Read(lease(0, name=name, pod=pod)) for name in names for pod in ("gw-1", "gw-2")])
    seen.leases.change("MODIFIED", Read(lease(-1, name="bot-7")))
    seen.leases.change("DELETED", Read(lease(-1, name="bot-8")))
    run(seen.look())
    held = {name: known(seen.demand(("ml", name))).load.at_least for name in names}
    assert held == {**dict.fromkeys(names, 2), "bot-8": 1}
    assert Read.times == 101
