"""Route objects lie in the gateway's namespace: they are told of, and go when their deployment does."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from nightshift.adapters.kube import KubeClient, KubeError, Object
from nightshift.api import names
from nightshift.api.route import LABEL_ROUTE
from nightshift.runtime import routes
from nightshift.runtime.cache import Cache
from nightshift.runtime.controller import Controller
from tests.support.api_server import deployment_reference
from tests.support.builders import config, gateway, model_spec, with_gateway
from tests.support.harness import KEY, Harness

OTHER = "A ConfigMap of somebody else"


def found(harness: Harness) -> list[str]:
    return sorted(raw["metadata"]["name"] for raw in harness.server.of_kind("ConfigMap"))


async def serving(**settings: Any) -> Harness:
    return await Harness(model_spec(), config(gateway=gateway(), **settings)).settle()


async def test_a_deletion_takes_the_route_along() -> None:
    harness = await serving()
    assert found(harness) == ["ml.bot"]
    harness.server.delete(deployment_reference())
    await harness.settle()
    assert found(harness) == []


async def test_a_route_that_a_crash_left_goes_when_a_new_process_begins() -> None:
    harness = await serving()
    harness.server.remove(deployment_reference())
    harness.world.settle()
    assert found(harness) == ["ml.bot"], "the garbage collector took the rest"
    reconciler = replace(harness.reconciler, cache=Cache())
    controller = Controller(reconciler, cast(KubeClient, harness.kube))
    await controller.fill()
    assert await asyncio.wait_for(controller.queue.get(), 1) == KEY
    await reconciler.reconcile(KEY)
    assert found(harness) == []


async def test_one_that_is_on_its_way_out_gets_no_requests_any_more() -> None:
    harness = await serving()
    harness.server.change(
        deployment_reference(), lambda raw: raw["metadata"].update(deletionTimestamp="2026-03-01T12:00:00Z")
    )
    await harness.reconcile()
    assert found(harness) == []


async def test_a_deployment_that_is_only_out_of_sight_keeps_its_route() -> None:
    """Its labels were changed: another release acts on it now."""
    harness = await serving(label_selector="team=a")
    harness.cache.drop_deployment(harness.body)
    await harness.reconcile()
    assert found(harness) == ["ml.bot"]


async def test_one_of_which_the_api_server_tells_nothing_keeps_its_route_and_is_asked_for_again() -> None:
    harness = await serving()
    body = harness.body
    harness.server.remove(deployment_reference())
    silence = KubeError(503, "ServiceUnavailable", "come back later")
    harness.kube.failing = lambda verb, kind, name: silence if verb == "find" else None
    with pytest.raises(KubeError):
        await harness.reconcile()
    assert found(harness) == ["ml.bot"]
    assert harness.cache.deployment(KEY) is None
    assert body["kind"] == names.KIND


async def test_routes_of_namespaces_that_are_not_watched_are_anothers() -> None:
    harness = await serving()
    harness.server.remove(deployment_reference())
    await routes.release_routes(KEY, harness.kube, harness.cache, config(gateway=gateway(), watch_namespaces=("x",)))
    assert found(harness) == ["ml.bot"]
    await routes.release_routes(KEY, harness.kube, harness.cache, config(gateway=gateway(), watch_namespaces=("ml",)))
    assert found(harness) == []


async def test_a_configmap_of_somebody_else_is_left_alone_and_told() -> None:
    harness = Harness(None, with_gateway())
    metadata = {"name": "ml.bot", "namespace": "nightshift-gateway"}
    harness.server.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": OTHER}})
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "bot", "namespace": "ml"}}
    harness.server.create({**body, "spec": model_spec()})
    await harness.settle()
    assert harness.condition("Stalled") == ("True", "NameTaken")
    (raw,) = harness.server.of_kind("ConfigMap")
    assert raw["data"] == {"x": OTHER}


async def test_a_refused_route_is_told_and_the_engines_start_all_the_same() -> None:
    harness = Harness(model_spec(), with_gateway())
    refusal = KubeError(403, "Forbidden", "configmaps is forbidden")
    harness.kube.failing = lambda verb, kind, name: refusal if (verb, kind) == ("apply", "ConfigMap") else None
    await harness.settle()
    assert harness.condition("Stalled") == ("True", "RouteRefused")
    assert harness.status().ready_replicas == 1
    harness.kube.failing = lambda verb, kind, name: None
    harness.dirty = True
    await harness.settle()
    assert harness.condition("Ready") == ("True", "Serving")


def test_routes_are_watched_in_the_gateways_namespace_and_nowhere_else() -> None:
    assert routes.watch_of_routes(cast(Any, None), config(), lambda event, raw: None) is None
    watch = routes.watch_of_routes(cast(Any, None), with_gateway(), lambda event, raw: None)
    assert watch is not None
    query = watch._query
    assert query.path() == (
        "/api/v1/namespaces/nightshift-gateway/configmaps?labelSelector=nightshift.dev%2Froute%3Dtrue"
    )


async def test_what_the_watch_tells_of_a_route_brings_its_deployment_a_reconcile() -> None:
    harness = await serving()
    controller = Controller(harness.reconciler, cast(KubeClient, harness.kube))
    labels = {LABEL_ROUTE: "true", names.LABEL_NAMESPACE: "ml", names.LABEL_DEPLOYMENT: "other"}
    raw: Object = {"metadata": {"name": "ml.other", "namespace": "nightshift-gateway", "labels": labels, "uid": "u"}}
    listener = routes.Listener(lambda event, told: controller.child_event(routes.KIND, event, told))
    listener.replace([raw])
    assert await asyncio.wait_for(controller.queue.get(), 1) == ("ml", "other")
    assert (routes.KIND, "ml.other") in harness.cache.children(("ml", "other"))
    listener.change("DELETED", raw)
    assert harness.cache.children(("ml", "other")) == {}
    listener.heard()
    listener.failed("silence")
