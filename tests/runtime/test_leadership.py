"""Two processes and a Lease, in virtual time."""

import asyncio
from typing import Any

import pytest

from nightshift.adapters.kube import KubeError, Object, Reference
from nightshift.core.lease import LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS
from nightshift.runtime.leadership import Leadership, holder_identity
from nightshift.runtime.telemetry import LEADER
from tests.support.api_server import ApiServer
from tests.support.fake_kube import FakeKube
from tests.support.virtual_time import run

WHERE = Reference("coordination.k8s.io/v1", "Lease", "nightshift-system", "operator")
DOWN = KubeError(0, "Unreachable", "no answer")


def now() -> float:
    return asyncio.get_running_loop().time()


def member(server: ApiServer, identity: str) -> tuple[Leadership, FakeKube]:
    kube = FakeKube(server)
    return Leadership(kube, WHERE.namespace, WHERE.name, identity), kube


def lease(server: ApiServer) -> Any:
    found = server.get(WHERE)
    assert found is not None
    return found["spec"]


def gauge() -> float:
    return next(iter(LEADER.collect())).samples[0].value


async def unreachable() -> None:
    raise DOWN


async def silent() -> None:
    await asyncio.Event().wait()


def test_the_first_process_makes_the_lease_and_leads_at_once() -> None:
    async def story() -> None:
        server = ApiServer()
        await member(server, "a")[0].acquire()
        assert now() == 0.0
        assert lease(server)["holderIdentity"] == "a"
        assert lease(server)["leaseDurationSeconds"] == LEASE_SECONDS
        assert lease(server)["leaseTransitions"] == 1
        assert gauge() == 1

    run(story())


def test_a_held_lease_is_renewed_and_the_second_process_waits() -> None:
    async def story() -> None:
        server = ApiServer()
        first, _ = member(server, "a")
        second, _ = member(server, "b")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(600)
        assert (holding.done(), waiting.done()) == (False, False)
        assert lease(server)["holderIdentity"] == "a"
        assert lease(server)["leaseTransitions"] == 1
        waiting.cancel()
        holding.cancel()
        await asyncio.gather(waiting, holding, return_exceptions=True)

    run(story())


def test_a_released_lease_is_taken_at_the_next_look() -> None:
    async def story() -> None:
        server = ApiServer()
        first, _ = member(server, "a")
        second, _ = member(server, "b")
        await first.acquire()
        await first.release()
        assert gauge() == 0
        await second.acquire()
        assert now() <= RETRY_SECONDS
        assert lease(server)["holderIdentity"] == "b"
        assert lease(server)["leaseTransitions"] == 2

    run(story())


def test_the_lease_of_a_process_that_died_is_taken_after_it_ran_out() -> None:
    async def story() -> None:
        server = ApiServer()
        await member(server, "a")[0].acquire()
        second, _ = member(server, "b")
        await second.acquire()
        assert LEASE_SECONDS <= now() <= LEASE_SECONDS + RETRY_SECONDS
        assert lease(server)["holderIdentity"] == "b"

    run(story())


def test_a_process_that_is_started_again_in_the_same_pod_is_another_holder() -> None:
    """A kubelet starts a container again under the same name, with the same process number."""

    async def story() -> tuple[float, str]:
        server = ApiServer()
        await member(server, holder_identity("pod"))[0].acquire()
        killed = lease(server)["holderIdentity"]
        again, _ = member(server, holder_identity("pod"))
        await again.acquire()
        assert lease(server)["holderIdentity"] != killed
        return now(), killed

    waited, killed = run(story())
    assert waited >= LEASE_SECONDS
    assert killed.startswith("pod_")


@pytest.mark.parametrize("fault", [unreachable, silent], ids=["refused connections", "no answer at all"])
def test_a_leader_that_cannot_renew_stops_before_another_may_start(fault: Any) -> None:
    async def story() -> tuple[float, float]:
        server = ApiServer()
        first, cut_off = member(server, "a")
        second, _ = member(server, "b")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(31)
        cut_off.before_request = fault
        await holding
        stopped = now()
        assert gauge() == 0
        await waiting
        return stopped, now()

    stopped, taken = run(story())
    assert stopped <= 31 + RENEW_DEADLINE_SECONDS + 0.2
    assert stopped < taken


def test_an_answer_that_comes_late_does_not_prolong_leadership() -> None:
    """The write arrived at once, its answer seconds later: the Lease is as old as the write."""

    async def story() -> tuple[float, float]:
        server = ApiServer()
        first, slow = member(server, "a")
        second, _ = member(server, "b")
        await first.acquire()
        started = now()
        slow_replace = slow.replace

        async def replace(manifest: Object) -> Object:
            found = await slow_replace(manifest)
            await asyncio.sleep(3.9)
            slow.before_request = silent
            return found

        slow.replace = replace  # type: ignore[method-assign]
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await holding
        stopped = now()
        await waiting
        return stopped - started, now() - started

    stopped, taken = run(story())
    assert stopped <= RETRY_SECONDS + RENEW_DEADLINE_SECONDS + 0.2
    assert stopped < taken


def test_a_leader_whose_lease_was_taken_stops_at_the_next_look() -> None:
    async def story() -> None:
        server = ApiServer()
        first, _ = member(server, "a")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        await asyncio.sleep(5)
        server.change(WHERE, lambda raw: raw["spec"].update(holderIdentity="someone", renewTime="x"))
        await holding
        assert now() <= 5 + RETRY_SECONDS

    run(story())


def test_of_two_that_create_the_lease_at_once_one_leads() -> None:
    async def story() -> None:
        server = ApiServer()
        members = [member(server, name) for name in ("a", "b")]
        arrived = asyncio.Barrier(2)
        for _, kube in members:
            count = iter(range(10))

            async def together(count: Any = count) -> None:
                if next(count) == 1:
                    await arrived.wait()

            kube.before_request = together
        tasks = [asyncio.create_task(leadership.acquire()) for leadership, _ in members]
        done, pending = await asyncio.wait(tasks, timeout=RETRY_SECONDS * 2)
        assert len(done) == 1
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    run(story())


def test_waiting_outlasts_an_api_server_that_is_away() -> None:
    async def story() -> None:
        server = ApiServer()
        leadership, kube = member(server, "a")
        kube.failures = [DOWN] * 5
        await leadership.acquire()
        assert now() == 5 * RETRY_SECONDS

    run(story())


def test_only_ones_own_lease_is_released_and_a_failure_to_do_so_is_no_error() -> None:
    async def story() -> None:
        server = ApiServer()
        stranger, _ = member(server, "b")
        await stranger.release()
        first, kube = member(server, "a")
        await first.acquire()
        kube.failures = [DOWN]
        await first.release()
        assert lease(server)["holderIdentity"] == "a"
        waiting = asyncio.create_task(stranger.acquire())
        await asyncio.sleep(0.1)
        await stranger.release()
        assert lease(server)["holderIdentity"] == "a"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(story())
