"""The wake Leases, in virtual time: when they are renewed, what stands in them, what they bring over a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nightshift.adapters.kube import KubeError
from nightshift.core.gateway.starts import Starts
from nightshift.core.gateway.wake import Demand, lease_manifest
from tests.gateway.standins import Place
from tests.gateway.states import entry
from tests.support import virtual_time

DOWN = KubeError(0, "Unreachable", "no answer")
BODY: dict[str, Any] = {"messages": []}


def applied(place: Place) -> int:
    return sum(write.kind == "Lease" and write.verb == "apply" for write in place.server.writes)


def told(place: Place, what: str) -> Any:
    lease = place.lease()
    assert lease is not None
    return lease["metadata"]["annotations"].get(f"nightshift.dev/{what}")


def earlier(pod: str, starts: tuple[float, ...], ago: timedelta, name: str = "bot") -> dict[str, Any]:
    """A Lease that another process left."""
    demand = Demand("ml", name, 0, 0.0, Starts(starts))
    return lease_manifest(demand, gateway_namespace="gateways", pod=pod, now=datetime.now(UTC) - ago)


async def started(directory: Path, *leases: dict[str, Any]) -> Place:
    place = Place(directory)
    for lease in leases:
        place.server.create(lease)
    return place


def run_with(directory: Path, story: Callable[[Place], Awaitable[None]], *leases: dict[str, Any]) -> None:
    async def whole() -> None:
        place = await started(directory, *leases)
        async with place:
            await story(place)

    virtual_time.run(whole())


def test_a_held_request_asks_for_a_replica_at_once_and_again_every_five_seconds(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.ask(BODY)
        await asyncio.sleep(0.1)
        lease = place.lease()
        assert lease is not None
        assert lease["metadata"]["name"] == "wake.ml.bot.x7k2p"
        assert lease["metadata"]["namespace"] == "gateways"
        assert lease["metadata"]["labels"]["nightshift.dev/wake"] == "true"
        assert lease["metadata"]["labels"]["nightshift.dev/namespace"] == "ml"
        assert lease["metadata"]["labels"]["nightshift.dev/deployment"] == "bot"
        assert lease["spec"]["leaseDurationSeconds"] == 15
        assert (told(place, "held"), told(place, "oldest-seconds")) == ("1", "0")
        await asyncio.sleep(31)
        assert applied(place) == 7
        assert (told(place, "held"), told(place, "oldest-seconds")) == ("1", "30")

    run_with(tmp_path, story)


def test_a_burst_is_told_within_a_second_and_does_not_make_a_write_per_request(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.ask(BODY)
        await asyncio.sleep(0.1)
        assert told(place, "held") == "1"
        for _ in range(63):
            place.ask(BODY)
        await asyncio.sleep(1)
        assert (applied(place), told(place, "held")) == (2, "64")
        for _ in range(30):
            place.ask(BODY)
            await asyncio.sleep(0.1)
        assert applied(place) <= 4
        await asyncio.sleep(1)
        assert int(told(place, "held")) >= 80

    run_with(tmp_path, story)


def test_the_demand_outlives_the_last_request_by_fifteen_seconds(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        asking = place.ask(BODY)
        await asyncio.sleep(2)
        asking.cancel()
        await asyncio.sleep(16)
        count = applied(place)
        assert count == 4  # at 0, 5, 10 and 15 s: it left after 2
        assert told(place, "held") == "0"
        await asyncio.sleep(600)
        assert applied(place) == count

    run_with(tmp_path, story)


def test_an_api_server_that_is_away_is_asked_again_every_second_and_requests_wait_on(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.kube.failing = lambda verb, kind, name: DOWN if verb == "apply" else None
        asking = place.ask(BODY)
        await asyncio.sleep(10)
        assert place.lease() is None
        assert 8 <= place.metric("nightshift_gateway_wake_renewals_total", result="failed") <= 11
        assert not asking.done()
        place.kube.failing = lambda verb, kind, name: None
        await asyncio.sleep(1.1)
        assert told(place, "oldest-seconds") in ("10", "11")
        place.tell(usable=1)
        assert (await asking).status == 200

    run_with(tmp_path, story)


def test_one_deployments_silent_api_request_holds_no_other_up(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        async def stuck() -> None:
            place.kube.before_request = None
            await asyncio.Event().wait()

        place.tell(entry(), entry("ml/other"))
        await asyncio.sleep(1)
        place.kube.before_request = stuck
        place.ask(BODY)
        await asyncio.sleep(0.2)
        place.ask(BODY, key="ml/other")
        await asyncio.sleep(0.2)
        assert [lease["metadata"]["name"] for lease in place.server.listed("coordination.k8s.io/v1", "Lease", "")] == [
            "wake.ml.other.x7k2p"
        ]
        await asyncio.sleep(5)
        assert len(place.server.listed("coordination.k8s.io/v1", "Lease", "")) == 2

    run_with(tmp_path, story)


def test_what_a_start_took_stands_in_the_lease_and_is_known_after_a_restart(tmp_path: Path) -> None:
    async def first(place: Place) -> None:
        asking = place.ask(BODY)
        await asyncio.sleep(82)
        place.tell(usable=1)
        await asking
        await asyncio.sleep(6)
        assert told(place, "typical-start-seconds") == "82.0"
        leases.append(dict(place.lease() or {}))

    async def second(place: Place) -> None:
        place.tell(cap=1)
        await asyncio.sleep(0.2)
        place.ask(BODY)
        await asyncio.sleep(20)
        answer = await place.ask(BODY)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "62")
        assert told(place, "start-seconds") == "82.0", "renewing takes nothing away"

    leases: list[dict[str, Any]] = []
    run_with(tmp_path, first)
    again = tmp_path / "again"
    again.mkdir()
    run_with(
        again, second, {key: leases[0][key] for key in ("apiVersion", "kind", "spec")} | {"metadata": kept(leases[0])}
    )


def kept(lease: dict[str, Any]) -> dict[str, Any]:
    return {key: lease["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}


def test_what_was_noted_last_by_any_pod_counts_and_the_older_lease_is_swept_away(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        await asyncio.sleep(0.2)
        assert place.activator.hall.demand("ml/bot", 0.0).starts == Starts((70.0, 80.0))
        left = [lease["metadata"]["name"] for lease in place.server.listed("coordination.k8s.io/v1", "Lease", "")]
        assert left == ["wake.ml.bot.new", "wake.ml.other.old"]

    run_with(
        tmp_path,
        story,
        earlier("pod-old", (500.0,), timedelta(days=2)),
        earlier("pod-new", (70.0, 80.0), timedelta(days=1)),
        earlier("pod-old", (60.0,), timedelta(days=3), name="other"),
    )


def test_leases_that_cannot_be_listed_at_first_are_learned_from_later(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.kube.failing = lambda verb, kind, name: DOWN
        asking = place.ask(BODY)
        await asyncio.sleep(3)
        assert told(place, "start-seconds") == "70.0", "nothing was written over"
        place.kube.failing = lambda verb, kind, name: None
        await asyncio.sleep(12)
        assert place.activator.hall.demand("ml/bot", 0.0).starts == Starts((70.0,))
        asking.cancel()

    async def whole() -> None:
        place = await started(tmp_path, earlier("pod-x7k2p", (70.0,), timedelta(hours=1)))
        place.kube.failing = lambda verb, kind, name: DOWN
        async with place:
            await story(place)

    virtual_time.run(whole())
