"""What is followed of the gateway, when its pods are asked, and what is told of it."""

from datetime import timedelta
from typing import Any, cast

from nightshift.core.autoscale.demand import Demand
from nightshift.core.planning import Scaling
from nightshift.runtime.demand import UNHEARD_SECONDS, Demands
from nightshift.runtime.lookout import Lookout
from tests.support.builders import NOW, config
from tests.support.fake_engines import FakeEngines
from tests.support.harness import Harness
from tests.support.town import GATEWAY, Town, auto, story

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
