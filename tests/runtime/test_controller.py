"""Watch events in, reconciles out, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from nightshift.adapters.kube import KubeError, Object
from nightshift.api import names
from nightshift.api.fetch import Progress
from nightshift.runtime.cache import Key
from nightshift.runtime.controller import Controller
from nightshift.runtime.pools import Pools
from tests.support.builders import config, model_spec
from tests.support.harness import KEY, Harness
from tests.support.virtual_time import run

OTHER = ("ml", "other")


class Recorder:
    """Stands in for the reconciler: remembers keys and times, and does what a test says."""

    def __init__(self, harness: Harness) -> None:
        self.config, self.cache, self.lookups = harness.config, harness.cache, harness.lookups
        self.pools = Pools()
        self.seen: list[tuple[Key, float]] = []
        self.then: Callable[[Key], Awaitable[float | None]] = self.nothing

    async def nothing(self, _: Key) -> float | None:
        return None

    async def reconcile(self, key: Key) -> float | None:
        self.seen.append((key, asyncio.get_running_loop().time()))
        return await self.then(key)


def build(spec: dict[str, Any] | None = None, **settings: Any) -> tuple[Harness, Recorder, Controller]:
    harness = Harness(spec, config(**settings))
    recorder = Recorder(harness)
    controller = Controller(cast(Any, recorder), cast(Any, harness.kube))
    return harness, recorder, controller


async def working(controller: Controller, seconds: float) -> None:
    """Let the controller work for some virtual seconds."""
    task = asyncio.create_task(controller.run())
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def errors(reason: str) -> float:
    return REGISTRY.get_sample_value("nightshift_reconcile_errors_total", {"reason": reason}) or 0.0


def lld(name: str = "bot", version: int = 1) -> Object:
    return {"metadata": {"name": name, "namespace": "ml", "uid": f"u-{name}", "resourceVersion": str(version)}}


def pod(name: str = "pod", version: int = 5, owner: str = "bot") -> Object:
    labels = {names.LABEL_DEPLOYMENT: owner}
    metadata = {"name": name, "namespace": "ml", "uid": f"u-{name}", "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata}


def test_every_event_leads_to_a_reconcile_of_its_deployment() -> None:
    async def story() -> None:
        _, recorder, controller = build()
        controller.deployment_event("ADDED", lld())
        await working(controller, 1)
        controller.deployment_event(None, lld("other"))
        await working(controller, 1)
        controller.child_event("Pod", "MODIFIED", pod())
        await working(controller, 1)
        assert [key for key, _ in recorder.seen] == [KEY, OTHER, KEY]
        assert set(recorder.cache.keys()) == {KEY, OTHER}
        assert recorder.cache.children(KEY) == {("Pod", "pod"): pod()}

    run(story())


def test_deletions_are_reconciled_too_and_leave_the_cache() -> None:
    async def story() -> None:
        _, recorder, controller = build()
        controller.deployment_event("ADDED", lld())
        controller.child_event("Pod", "ADDED", pod())
        controller.child_event("Pod", "DELETED", pod(version=6))
        controller.deployment_event("DELETED", lld(version=7))
        await working(controller, 1)
        assert [key for key, _ in recorder.seen] == [KEY]
        assert recorder.cache.keys() == ()
        assert recorder.cache.children(KEY) == {}

    run(story())


def test_what_was_known_of_a_pod_is_forgotten_with_it() -> None:
    async def story() -> None:
        harness, _, controller = build()
        progress = Progress(bytes_done=1, bytes_total=2, files_done=0, files_total=1)
        harness.lookups._progress[("ml", "pod")] = progress
        controller.child_event("Job", "DELETED", pod())
        assert harness.lookups.progress("ml") == {"pod": progress}
        controller.child_event("Pod", "DELETED", pod(version=9))
        assert harness.lookups.progress("ml") == {}

    run(story())


def test_objects_of_nobody_lead_to_nothing() -> None:
    async def story() -> None:
        _, recorder, controller = build()
        stray = pod()
        stray["metadata"]["labels"] = {}
        controller.child_event("Pod", "ADDED", stray)
        controller.child_event("Pod", "DELETED", stray)
        await working(controller, 1)
        assert recorder.seen == []

    run(story())


def test_what_a_reconcile_asks_for_comes_at_its_time() -> None:
    async def story() -> None:
        _, recorder, controller = build()

        async def later(_: Key) -> float | None:
            return 30.0

        recorder.then = later
        controller.deployment_event("ADDED", lld())
        await working(controller, 100)
        assert [moment for _, moment in recorder.seen] == [0.0, 30.0, 60.0, 90.0]

    run(story())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(KubeError(503, "ServiceUnavailable", "later"), "ServiceUnavailable", id="the API server is away"),
        pytest.param(KubeError(502, "", "a proxy"), "ServerError", id="something without a reason"),
        pytest.param(RuntimeError("a mistake of ours"), "Bug", id="a mistake of ours"),
    ],
)
def test_a_failed_reconcile_is_counted_and_tried_again_with_patience(error: Exception, reason: str) -> None:
    async def story() -> None:
        _, recorder, controller = build()

        async def fail(_: Key) -> float | None:
            if len(recorder.seen) <= 3:
                raise error
            return None

        recorder.then = fail
        before = errors(reason)
        controller.deployment_event("ADDED", lld())
        await working(controller, 60)
        assert [moment for _, moment in recorder.seen] == [0.0, 0.5, 1.5, 3.5]
        assert errors(reason) == before + 3
        assert controller.queue.failures(KEY) == 0

    run(story())


def test_one_slow_deployment_holds_up_no_other() -> None:
    async def story() -> None:
        _, recorder, controller = build(workers=2)

        async def slow(key: Key) -> float | None:
            await asyncio.sleep(50 if key == KEY else 0)
            return None

        recorder.then = slow
        controller.deployment_event("ADDED", lld())
        controller.deployment_event("ADDED", lld("other"))
        await working(controller, 10)
        assert [key for key, _ in recorder.seen] == [KEY, OTHER]

    run(story())


def test_now_and_then_the_cache_is_compared_and_what_differed_is_reconciled() -> None:
    async def story() -> None:
        harness, recorder, controller = build(resync_seconds=100)
        controller.child_event("Pod", "ADDED", pod("ghost"))
        controller.deployment_event("ADDED", lld("ghost", 2))
        await working(controller, 90)
        recorder.seen.clear()
        assert len(recorder.cache.keys()) == 1
        await working(controller, 101)
        assert {key for key, _ in recorder.seen} == {KEY, ("ml", "ghost")}
        assert recorder.cache.keys() == ()
        assert harness.kube.requests > 0

    run(story())


def test_a_comparison_that_fails_is_tried_again_the_next_time() -> None:
    async def story() -> None:
        harness, recorder, controller = build(resync_seconds=100)
        controller.deployment_event("ADDED", lld("ghost", 2))
        harness.kube.failures = [KubeError(503, "ServiceUnavailable", "later")]
        await working(controller, 150)
        assert len(recorder.cache.keys()) == 1
        await working(controller, 150)
        assert recorder.cache.keys() == ()

    run(story())


def test_a_watch_that_tells_nothing_while_lists_show_changes_is_found_out() -> None:
    async def story() -> list[tuple[str, ...]]:
        harness, _, controller = build(model_spec(), resync_seconds=100)
        await controller.fill()
        found = []

        async def note(seconds: float) -> None:
            await asyncio.sleep(seconds)
            found.append(controller.vitals(leading=True).silent_watches)

        task = asyncio.create_task(controller.run())
        controller.child_event("Pod", "ADDED", pod("first"))
        await note(150)
        controller._cache.put_child("Pod", pod("second"))
        await note(100)
        controller._cache.put_child("Pod", pod("third"))
        controller.child_event("Job", "ADDED", pod("another kind"))
        await note(100)
        controller.child_event("Pod", "ADDED", pod("heard again"))
        await note(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert harness.kube.requests > 0
        return found

    assert run(story()) == [(), ("Pod",), ("Pod",), ()]


def test_vitals_tell_of_waiting_keys_and_of_reconciles_that_do_not_end() -> None:
    async def story() -> None:
        _, recorder, controller = build(workers=1)

        async def endless(_: Key) -> float | None:
            await asyncio.Event().wait()
            return None

        recorder.then = endless
        task = asyncio.create_task(controller.run())
        controller.deployment_event("ADDED", lld())
        controller.deployment_event("ADDED", lld("other"))
        await asyncio.sleep(400)
        vitals = controller.vitals(leading=True)
        assert (vitals.overdue_seconds, vitals.working_seconds) == (400, 400)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(story())


def test_a_key_that_backs_off_is_not_overdue_and_is_counted() -> None:
    async def story() -> None:
        _, recorder, controller = build()

        async def fail(_: Key) -> float | None:
            raise KubeError(503, "ServiceUnavailable", "later")

        recorder.then = fail
        task = asyncio.create_task(controller.run())
        controller.deployment_event("ADDED", lld())
        await asyncio.sleep(2000)
        assert controller.vitals(leading=True).overdue_seconds == 0
        assert REGISTRY.get_sample_value("nightshift_queue_backing_off") == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(story())


def test_filling_an_empty_cache_asks_for_every_deployment_once() -> None:
    async def story() -> None:
        _, recorder, controller = build(model_spec())
        fresh = Recorder(Harness(None))
        fresh.cache = type(recorder.cache)()
        filled = Controller(cast(Any, fresh), controller._kube)
        await filled.compare()
        await working(filled, 1)
        assert [key for key, _ in fresh.seen] == [KEY]
        await filled.compare()
        await working(filled, 1)
        assert len(fresh.seen) == 1, "nothing differed"

    run(story())


def test_the_real_reconciler_brings_a_deployment_to_serve_by_events_alone() -> None:
    async def story() -> None:
        harness = Harness(model_spec(replicas=2))
        controller = Controller(harness.reconciler, cast(Any, harness.kube))

        def tell(event: str, raw: Object) -> None:
            if raw["kind"] == names.KIND:
                controller.deployment_event(event, raw)
            else:
                controller.child_event(raw["kind"], event, raw)

        harness.server.watch(tell)
        await controller.compare()
        controller.queue.add(KEY)
        task = asyncio.create_task(controller.run())
        for _ in range(200):
            await asyncio.sleep(1)
            steps = harness.world.pending()
            if steps:
                steps[0].act()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert harness.condition("Ready") == ("True", "Serving")

    run(story())
