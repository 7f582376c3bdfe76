"""Watching the demand: asks the gateway's pods what they have, follows wake Leases, and keeps the highest loads.

While revisions of a deployment are compared, it also asks how requests to them ended.

It carries out what plans name and decides nothing: what a demand means, and whether a reconcile should hear of it,
stands in core. It waits for no reconcile and holds none up; a wake is told at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from nightshift.adapters.gateway_pods import GatewayPod
from nightshift.adapters.kube import KubeClient
from nightshift.adapters.kube_watch import Query, Watch
from nightshift.api import wake
from nightshift.api.config import GatewayConfig
from nightshift.api.demand import GatewayDemand
from nightshift.core.autoscale.demand import Demand, GatewaySight, History
from nightshift.core.autoscale.hint import Hint, hint
from nightshift.core.autoscale.history import remembered
from nightshift.core.autoscale.load import BLIND_SECONDS, demand_of
from nightshift.core.facts import Fact, Known, Unknown
from nightshift.core.hang import LOOK_SECONDS
from nightshift.core.planning import Scaling, WatchDemand
from nightshift.runtime.cache import Key
from nightshift.runtime.heard import HeardPods, HeardWakes
from nightshift.runtime.lookout import Lookout
from nightshift.runtime.telemetry import GATEWAY_LOOKS

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Between two questions to each gateway pod, while there is a deployment in scaling.mode Auto, or one of which
revisions are compared."""

COMPARE_SECONDS = LOOK_SECONDS
"""Between two times that a reconcile hears of a comparison: engines are read so often, so it knows more by then."""


class Gateways(Protocol):
    """Clients of gateway pods."""

    def at(self, pod_ip: str, port: int) -> GatewayPod:
        """The agent of a pod."""


class Demands:
    """What is asked of each deployment that scales by itself. Losing it costs time, nothing else.

    Args:
        lookout: What engines say.
        config: The gateway, where there is one.
        gateways: Clients of its pods.
        now: The present moment (UTC).
    """

    def __init__(
        self,
        lookout: Lookout,
        config: GatewayConfig | None = None,
        gateways: Gateways | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.tell: Callable[[Key], None] = lambda key: None
        """Told of a deployment of whose demand a reconcile should hear."""
        self._lookout = lookout
        self._config = config
        self._gateways = gateways
        self._now = now
        self.pods = HeardPods(now)
        self.leases = HeardWakes(now, self._consider)
        self._answers: dict[str, Fact[GatewayDemand]] = {}
        self._watched: dict[Key, WatchDemand] = {}
        self._since: dict[Key, datetime] = {}
        """Since when a deployment is watched."""
        self._histories: dict[Key, History] = {}
        self._told: dict[Key, Hint] = {}
        self._compared: dict[Key, datetime | None] = {}
        """Deployments whose revisions are compared, and when a reconcile heard of it last; None: not yet."""

    def watches(self, kube: KubeClient) -> tuple[Watch, ...]:
        """What is to be followed besides; none where there is no gateway."""
        if self._config is None:
            return ()
        labels = ",".join(f"{key}={value}" for key, value in sorted(self._config.labels.items()))
        where = self._config.namespace
        return (
            Watch(kube, Query("v1", "Pod", labels, where), self.pods),
            Watch(kube, Query(wake.API_VERSION, wake.KIND, wake.SELECTOR, where), self.leases),
        )

    def watch(self, key: Key, scaling: Scaling | None) -> None:
        """Watch the demand of a deployment from now on, or not any more; what came since it was planned is told."""
        if scaling is None:
            self._forget(key)
            return
        self._since.setdefault(key, self._now())
        self._watched[key] = scaling.watch
        self._told[key] = hint(scaling.watch, scaling.demand, self._now())
        self._consider(key)

    def compare(self, key: Key, *, wanted: bool) -> None:
        """Ask from now on how requests to a deployment's revisions end, or not any more."""
        if wanted:
            self._compared.setdefault(key, None)
        else:
            self._compared.pop(key, None)

    def gateway(self, key: Key) -> GatewaySight | None:
        """What the gateway's pods told last; None for a deployment whose revisions are not compared."""
        return self._sight(key) if key in self._compared else None

    def _forget(self, key: Key) -> None:
        self._watched.pop(key, None)
        self._since.pop(key, None)
        self._histories.pop(key, None)
        self._told.pop(key, None)

    def demand(self, key: Key) -> Demand | None:
        """What is asked of a deployment; None where it is not watched yet."""
        watch = self._watched.get(key)
        return None if watch is None else self._demand(key, watch)

    def _demand(self, key: Key, watch: WatchDemand) -> Demand:
        now, history = self._now(), self._histories.get(key, History())
        sight = self._sight(key) if watch.gateway else None
        seen = max(item for item in (self._since[key], history.last) if item is not None)
        blind = now - seen > timedelta(seconds=BLIND_SECONDS)
        sights = self._lookout.sights(key)
        return demand_of("/".join(key), sight, watch.engines, sights, history, now, blind=blind)

    def _sight(self, key: Key) -> GatewaySight:
        expected = self._config.replicas if self._config is not None else 1
        there = {name: self._answers.get(name, Unknown("it was not asked yet.")) for name in self.pods.addresses}
        return GatewaySight(there, expected, self.pods.unknown, self.leases.of(key), self.leases.unknown)

    def _consider(self, key: Key) -> None:
        """Have a reconcile hear of a deployment if something may follow from its demand."""
        watch = self._watched.get(key)
        if watch is None:
            return
        found = hint(watch, self._demand(key, watch), self._now())
        if found != self._told.get(key):
            self._told[key] = found
            self.tell(key)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
            except Exception:
                logger.exception("The demand could not be read, which is a bug of Nightshift")

    async def look(self) -> None:
        """Ask every gateway pod once, and take in what follows for each deployment."""
        if self._compared or any(watch.gateway for watch in self._watched.values()):
            asked, results = dict(self.pods.addresses), ["/".join(key) for key in self._compared]
            answers = await asyncio.gather(*(self._ask(name, ip, results) for name, ip in asked.items()))
            self._answers = dict(zip(asked, answers, strict=True))
        for key, watch in list(self._watched.items()):
            history = self._histories.get(key, History())
            self._histories[key] = remembered(history, self._demand(key, watch).load, self._now())
            self._consider(key)
        self._tell_compared()

    def _tell_compared(self) -> None:
        """The first time as soon as gateway pods were asked."""
        now = self._now()
        for key, told in list(self._compared.items()):
            if told is None or now - told >= timedelta(seconds=COMPARE_SECONDS):
                self._compared[key] = now
                self.tell(key)

    async def _ask(self, name: str, ip: str, results: Sequence[str]) -> Fact[GatewayDemand]:
        if self._gateways is None or self._config is None:
            return Unknown("nobody can ask it.")
        try:
            answer = await self._gateways.at(ip, self._config.agent_port).demand(name, results)
        except ValueError:
            answer = Unknown("its address is none.")
        GATEWAY_LOOKS.labels(result="read" if isinstance(answer, Known) else "unknown").inc()
        return answer
