"""A leader that lost its Lease writes nothing once another may lead, in virtual time."""

import asyncio
from typing import Any

import pytest

from nightshift.adapters.kube import Kube, KubeError, Object
from nightshift.runtime.fencing import fenced
from nightshift.runtime.leadership import Leadership
from nightshift.runtime.reconcile import Reconciler
from tests.support.builders import model_spec
from tests.support.fake_kube import FakeKube
from tests.support.harness import KEY, Harness
from tests.support.virtual_time import run

DOWN = KubeError(0, "Unreachable", "no answer")
SERVICE: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "ml"}}


def now() -> float:
    return asyncio.get_running_loop().time()


async def unreachable() -> None:
    raise DOWN


class Leader:
    """A process whose requests about its Lease and whose other requests can fail apart from each other."""

    def __init__(self, harness: Harness, identity: str) -> None:
        self.lease_kube, self.work_kube = FakeKube(harness.server), FakeKube(harness.server)
        self.leadership = Leadership(self.lease_kube, "nightshift-system", "operator", identity)
        self.kube: Kube = fenced(self.work_kube, self.leadership)
        self.reconciler = Reconciler(harness.config, self.kube, harness.cache, harness.lookups)

    async def lead(self) -> "asyncio.Task[None]":
        await self.leadership.acquire()
        return asyncio.create_task(self.leadership.hold())


def slow(seconds: float) -> Any:
    async def wait() -> None:
        await asyncio.sleep(seconds)

    return wait


async def end(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seconds", [0.7, 3.0, 7.5, 60.0], ids=lambda seconds: f"requests take {seconds} s")
def test_leadership_lost_in_the_middle_of_a_plan_ends_its_writes_before_another_may_lead(seconds: float) -> None:
    async def story() -> None:
        harness = Harness(model_spec(replicas=2))
        await harness.reconcile()
        old, new = Leader(harness, "old"), Leader(harness, "new")
        holding = await old.lead()
        waiting = asyncio.create_task(new.leadership.acquire())
        await asyncio.sleep(10)
        old.work_kube.before_request = slow(seconds)
        old.lease_kube.before_request = unreachable
        written: list[float] = []
        harness.server.watch(lambda event, raw: written.append(now()) if raw["kind"] != "Lease" else None)
        working = asyncio.create_task(old.reconciler.reconcile(KEY))
        await waiting
        taken = now()
        await asyncio.sleep(200)
        assert all(moment < taken for moment in written), f"written at {written}, another leads since {taken}"
        assert holding.done()
        if seconds > 1:
            with pytest.raises(KubeError, match="NotLeading"):
                await working
        await end(holding, working)

    run(story())


def test_a_write_that_is_slow_goes_on_while_the_lease_is_renewed() -> None:
    async def story() -> None:
        harness = Harness(None)
        leader = Leader(harness, "a")
        holding = await leader.lead()
        leader.work_kube.before_request = slow(25)
        await leader.kube.create(SERVICE)
        assert now() >= 25
        await end(holding)

    run(story())


def test_who_does_not_lead_reads_and_does_not_write() -> None:
    async def story() -> None:
        harness = Harness(model_spec())
        standby = Leader(harness, "b")
        assert await standby.kube.list("v1", "Pod") == []
        with pytest.raises(KubeError, match="NotLeading") as caught:
            await standby.kube.create(SERVICE)
        assert caught.value.transient
        holding = await standby.lead()
        await standby.kube.create(SERVICE)
        await end(holding)
        await standby.leadership.release()
        with pytest.raises(KubeError, match="NotLeading"):
            await standby.kube.apply(SERVICE, "nightshift")
        assert [write.verb for write in harness.server.writes if write.kind == "Service"] == ["create"]

    run(story())


def test_every_kind_of_write_is_fenced() -> None:
    async def story() -> None:
        standby = Leader(Harness(None), "b")
        reads = {"events_about", "find", "get", "list", "log_tail"}
        methods = [name for name in vars(Kube) if not name.startswith("_")]
        assert {"apply", "create", "replace", "delete"} <= set(methods)
        for name in methods:
            if name not in reads:
                with pytest.raises(KubeError, match="NotLeading"):
                    await getattr(standby.kube, name)()

    run(story())
