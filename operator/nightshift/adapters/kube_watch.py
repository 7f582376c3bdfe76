"""Watches of the API server: a list, then every change of it, for as long as wanted.

A watch that ends, is cut off or says nothing goes on at the version it had reached; one whose version the API server no
longer has (410) begins with a list again. In between nothing is forgotten: what was told last stands.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

import aiohttp

from nightshift.adapters.kube import KubeClient, KubeError, Object, plural

logger = logging.getLogger(__name__)

WATCH_SECONDS = 600
"""After this time the API server ends a watch."""
SILENCE_SECONDS = 70.0
"""Bookmarks come about every 60 s: a watch that says nothing for longer is begun anew."""
RETRY_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0)
"""Between failures in a row."""
STEADY_SECONDS = 5.0
"""A watch that ends sooner is begun anew after a pause, as one that failed: the next one may end as soon."""
_PAGE = 500


@dataclass(frozen=True)
class Query:
    """What is watched."""

    api_version: str
    kind: str
    label_selector: str = ""
    namespace: str = ""

    def path(self, **parameters: str) -> str:
        """URL path of the list or watch."""
        root = "/api" if "/" not in self.api_version else "/apis"
        within = f"namespaces/{quote(self.namespace, safe='')}/" if self.namespace else ""
        if self.label_selector:
            parameters["labelSelector"] = self.label_selector
        return f"{root}/{self.api_version}/{within}{plural(self.api_version, self.kind)}?{urlencode(parameters)}"


class Listener(Protocol):
    """Who is told of what a watch says."""

    def replace(self, objects: list[Object]) -> None:
        """These objects there are, and no others."""

    def change(self, event: str, raw: Object) -> None:
        """An object was ADDED, MODIFIED or DELETED."""

    def heard(self) -> None:
        """The API server is there, and has told everything so far."""

    def failed(self, problem: str) -> None:
        """The API server did not answer, or refused."""


class _ExpiredError(Exception):
    """The API server no longer has the version that the watch was to go on at."""


class Watch:
    """Follows one kind of object.

    Args:
        kube: The API server.
        query: What is watched.
        listener: Who is told.
        silence_seconds: After which a watch that says nothing is begun anew.
        retry_seconds: Times between failures in a row; the last one stands for all later ones.
    """

    def __init__(
        self,
        kube: KubeClient,
        query: Query,
        listener: Listener,
        silence_seconds: float = SILENCE_SECONDS,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        self._kube = kube
        self._query = query
        self._listener = listener
        self._silence = silence_seconds
        self._retry = retry_seconds
        self._version = ""
        self._failures = 0

    async def run(self) -> None:
        """Follow for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                if not self._version:
                    await self._list()
                began = clock()
                await self._watch()
                if clock() - began < STEADY_SECONDS:
                    await self._pause()
                else:
                    self._failures = 0
            except (KubeError, aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                self._listener.failed(f"{self._query.kind}: {error!r}")
                await self._pause()

    async def _pause(self) -> None:
        seconds = self._retry[min(self._failures, len(self._retry) - 1)]
        self._failures += 1
        await asyncio.sleep(seconds)

    async def _list(self) -> None:
        objects: list[Object] = []
        following: dict[str, str] = {}
        while True:
            page = await self._kube.read(self._query.path(limit=str(_PAGE), **following))
            objects += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not (token := metadata.get("continue")):
                break
            following = {"continue": token}
        self._version = str(metadata["resourceVersion"])
        self._listener.replace(objects)
        self._listener.heard()

    async def _watch(self) -> None:
        """Watch until the API server ends it, or no longer has the version."""
        try:
            await self._tell_changes()
        except _ExpiredError:
            self._version = ""

    async def _tell_changes(self) -> None:
        path = self._query.path(
            watch="1",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(WATCH_SECONDS),
        )
        async for line in self._lines(path):
            event = json.loads(line)
            self._told(event["type"], event["object"])
            self._failures = 0

    async def _lines(self, path: str) -> AsyncIterator[bytes]:
        try:
            async for line in self._kube.stream(path, self._silence):
                yield line
        except KubeError as error:
            if error.status == 410:
                raise _ExpiredError from error
            raise
        except TimeoutError:
            logger.info("The watch of %s said nothing for %.0f s and is begun anew", self._query.kind, self._silence)
            raise

    def _told(self, event: str, raw: Object) -> None:
        if event == "ERROR":
            if raw.get("code") == 410:
                raise _ExpiredError
            raise KubeError(int(raw.get("code") or 0), str(raw.get("reason") or ""), str(raw.get("message") or ""))
        self._version = raw["metadata"]["resourceVersion"]
        if event != "BOOKMARK":
            self._listener.change(event, raw)
        self._listener.heard()
