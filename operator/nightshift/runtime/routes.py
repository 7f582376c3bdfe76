"""Route objects lie in the gateway's namespace: watched by themselves, and taken away once their deployment is gone."""

import logging
from collections.abc import Callable

from nightshift.adapters.kube import Kube, KubeClient, Object, Reference
from nightshift.adapters.kube_watch import Query, Watch
from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.route import LABEL_ROUTE
from nightshift.runtime.cache import Cache, Key
from nightshift.runtime.telemetry import WRITES

logger = logging.getLogger(__name__)

API_VERSION, KIND = "v1", "ConfigMap"
SELECTOR = f"{LABEL_ROUTE}=true"


class Listener:
    """Passes on what the watch of route objects tells.

    A list that the watch begins anew with adds and changes; that a route is gone meanwhile is found by the comparison
    that is made now and then for all kinds.
    """

    def __init__(self, told: Callable[[str, Object], None]) -> None:
        """Set up.

        Args:
            told: Given ADDED, MODIFIED or DELETED, and the object.
        """
        self._told = told

    def replace(self, objects: list[Object]) -> None:
        """These objects there are."""
        for raw in objects:
            self.change("ADDED", raw)

    def change(self, event: str, raw: Object) -> None:
        """An object was added, changed or deleted."""
        self._told(event, {**raw, "apiVersion": API_VERSION, "kind": KIND})

    def heard(self) -> None:
        """Nothing follows from it."""

    def failed(self, problem: str) -> None:
        """What was told last stands."""
        logger.warning("Route objects cannot be watched, which is tried again: %s", problem)


def watch_of_routes(kube: KubeClient, config: OperatorConfig, told: Callable[[str, Object], None]) -> Watch | None:
    """A watch of the route objects; None where there is no gateway.

    kopf watches all kinds in the same namespaces, and nobody should need a right to the ConfigMaps of all of them.
    """
    if config.gateway is None:
        return None
    return Watch(kube, Query(API_VERSION, KIND, SELECTOR, config.gateway.namespace), Listener(told))


async def release_routes(key: Key, kube: Kube, cache: Cache, config: OperatorConfig) -> None:
    """Delete the routes of a deployment that is gone, or on its way out.

    The cache may have lost sight of a deployment that exists: one whose labels another release selects. So the API
    server is asked, and a route whose deployment is there stays. Nor does anything follow for namespaces that are not
    ours.

    Raises:
        KubeError: The API server could not be reached, or the route changed meanwhile; it is tried again.
    """
    found = [(name, raw) for (kind, name), raw in cache.children(key).items() if kind == KIND]
    if not found or config.gateway is None:
        return
    if config.watch_namespaces and key[0] not in config.watch_namespaces:
        return
    body = await kube.find(Reference(names.API_VERSION, names.KIND, *key))
    if body is not None and "deletionTimestamp" not in body["metadata"]:
        return
    for name, raw in found:
        where, metadata = Reference(API_VERSION, KIND, config.gateway.namespace, name), raw["metadata"]
        if not await kube.delete(where, metadata["uid"], metadata["resourceVersion"]):
            cache.forget_child(key, (KIND, name), metadata["uid"])
        WRITES.labels(kind=KIND, verb="delete").inc()
        logger.info("%s/%s: deleted route %s, since its deployment is gone.", *key, name)
