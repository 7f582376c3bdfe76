"""kopf: watches that tell the controller, and nothing else. No finalizers, annotations or state of kopf's."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import kopf

from nightshift.adapters.kube import CHILD_KINDS, plural
from nightshift.api import names
from nightshift.runtime.controller import Controller
from nightshift.runtime.login import Login

WATCH_SECONDS = 600
"""The API server ends a watch after this time, and it begins anew."""

WATCH_SILENCE_SECONDS = 70
"""A watch is begun anew after this time without an event or bookmark; bookmarks come about every 60 s."""

CONNECT_SECONDS = 10

RECONNECT_SECONDS = 1.0
"""Before a watch that ended begins anew; at once would be a storm where every watch is refused or cut off."""


RETRY_SECONDS = (1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 30.0)
"""Before a list or watch that was refused or not answered is asked for again; the last one again and again."""


class _Forever:
    """Pauses between attempts that never end. kopf gives up after its last one, which ends all watches for good."""

    def __iter__(self) -> Iterator[float]:
        yield from RETRY_SECONDS
        yield from itertools.repeat(RETRY_SECONDS[-1])


class _NoProgress(kopf.ProgressStorage):
    """Nothing is stored on objects, and nothing looked for: kopf would do both for every event, and copy the object."""

    def fetch(self, **_: Any) -> None:
        """There is none."""

    def store(self, **_: Any) -> None:
        """Only handlers of changes store progress, and there are none."""

    def purge(self, **_: Any) -> None:
        """Nothing was stored."""

    def touch(self, **_: Any) -> None:
        """Nothing was stored."""

    def clear(self, *, essence: Any) -> Any:
        """As it is: nothing was stored in it."""
        return essence


class _NoDifferences(kopf.DiffBaseStorage):
    """As above: a handler of events is given no differences."""

    def build(self, **_: Any) -> Any:
        """Nothing of an object is compared."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing to store."""


def settings(label_selector: str = "") -> kopf.OperatorSettings:
    """kopf's settings: only our labelled children are watched, and nothing is posted or patched.

    Args:
        label_selector: Of the LLMDeployments to watch; empty for all. One that stops matching is told as deleted.
    """
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.posting.level = logging.CRITICAL
    chosen.scanning.disabled = True
    chosen.persistence.progress_storage = _NoProgress()
    chosen.persistence.diffbase_storage = _NoDifferences()
    chosen.peering.standalone = True
    chosen.networking.connect_timeout = CONNECT_SECONDS
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = _Forever()
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.client_timeout = WATCH_SECONDS + 60
    chosen.watching.connect_timeout = CONNECT_SECONDS
    chosen.watching.reconnect_backoff = RECONNECT_SECONDS
    chosen.watching.inactivity_timeout = WATCH_SILENCE_SECONDS
    chosen.watching.chunk_size = 100
    for api_version, kind in CHILD_KINDS:
        group, _, version = api_version.rpartition("/")
        chosen.watching.label_selectors[group, version, plural(api_version, kind)] = names.LABEL_DEPLOYMENT
    if label_selector:
        chosen.watching.label_selectors[names.GROUP, names.VERSION, names.PLURAL] = label_selector
    return chosen


def register(controller: Controller) -> kopf.OperatorRegistry:
    """A registry with one event handler per kind."""
    registry = kopf.OperatorRegistry()
    credentials = Login()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return await credentials(**kwargs)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def deployment(event: kopf.RawEvent, **_: Any) -> None:
        controller.deployment_event(event["type"], event["object"])

    for api_version, kind in CHILD_KINDS:
        _register_child(registry, controller, api_version, kind)
    return registry


def _register_child(registry: kopf.OperatorRegistry, controller: Controller, api_version: str, kind: str) -> None:
    group, _, version = api_version.rpartition("/")

    @kopf.on.event(group, version, plural(api_version, kind), registry=registry, id=kind)
    async def child(event: kopf.RawEvent, **_: Any) -> None:
        controller.child_event(kind, event["type"], event["object"])
