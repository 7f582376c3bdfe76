"""kopf's watches, as configured, against an HTTP server that goes silent."""

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import kopf
import pytest
import yaml
from aiohttp import web

from nightshift.adapters.kube import CHILD_KINDS, plural
from nightshift.api import names
from nightshift.runtime import handlers, startup
from tests.support.builders import config

KINDS = ((names.API_VERSION, names.KIND), *CHILD_KINDS)


class SilentServer:
    """Discovery and lists as an API server gives them; every watch opens and then says nothing."""

    def __init__(self) -> None:
        self.watches: Counter[str] = Counter()
        self.queries: list[dict[str, str]] = []
        self.all = asyncio.Event()
        """Set once every kind is watched."""
        self.again = asyncio.Event()
        """Set once every kind was watched a second time."""
        self.refusals = 0
        """How many lists of each kind are refused before one is answered."""
        self.refused: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        if path == "api":
            return web.json_response({"versions": ["v1"]})
        if path == "apis":
            return web.json_response({"groups": self._groups()})
        if path.removeprefix("apis/").removeprefix("api/") in {version for version, _ in KINDS}:
            return web.json_response({"resources": self._resources(path)})
        if "watch" not in request.query and self.refused[path] < self.refusals:
            self.refused[path] += 1
            return web.json_response({"kind": "Status", "code": 403, "reason": "Forbidden"}, status=403)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        self.watches[path] += 1
        self.queries.append(dict(request.query))
        if len(self.watches) == len(KINDS):
            self.all.set()
            if min(self.watches.values()) >= 2:
                self.again.set()
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    @staticmethod
    def _groups() -> list[dict[str, Any]]:
        found = []
        for group, version in sorted({tuple(api.split("/")) for api, _ in KINDS if "/" in api}):
            described = {"groupVersion": f"{group}/{version}", "version": version}
            found.append({"name": group, "versions": [described], "preferredVersion": described})
        return found

    @staticmethod
    def _resources(path: str) -> list[dict[str, Any]]:
        here = path.removeprefix("apis/").removeprefix("api/")
        found = [(plural(api, kind), kind) for api, kind in KINDS if api == here]
        if here == "v1":
            found.append(("namespaces", "Namespace"))
        rest: dict[str, Any] = {"singularName": "", "namespaced": True, "verbs": ["list", "watch"]}
        return [{"name": name, "kind": kind, **rest} for name, kind in found]


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SilentServer]:
    """A server that KUBECONFIG names."""
    found = SilentServer()
    application = web.Application()
    application.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    written = tmp_path / "kubeconfig"
    written.write_text(yaml.safe_dump(kubeconfig(runner.addresses[0][1])))
    monkeypatch.setenv("KUBECONFIG", str(written))
    yield found
    await runner.cleanup()


async def test_a_watch_that_says_nothing_is_begun_anew(server: SilentServer) -> None:
    settings, stop = handlers.settings(), asyncio.Event()
    settings.watching.inactivity_timeout = 0.2
    registry = handlers.register(cast(Any, None))
    operator = asyncio.create_task(
        kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=stop)
    )
    try:
        await asyncio.wait_for(server.again.wait(), 20)
    finally:
        stop.set()
        await operator
    assert {query["timeoutSeconds"] for query in server.queries} == {str(handlers.WATCH_SECONDS)}
    assert {query["allowWatchBookmarks"] for query in server.queries} == {"true"}


async def test_a_list_that_is_refused_again_and_again_ends_no_watch(
    server: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf gives up after its last pause, of which it has eight by default: about a minute without rights."""
    server.refusals = 3 * len(handlers.RETRY_SECONDS)
    monkeypatch.setattr(handlers, "RETRY_SECONDS", (0.0,))
    stop = asyncio.Event()
    watching = asyncio.create_task(startup._watch(cast(Any, None), config(), stop))
    try:
        await asyncio.wait_for(server.all.wait(), 20)
    finally:
        stop.set()
        await asyncio.wait_for(watching, 20)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert min(server.refused.values()) == server.refusals


async def test_a_process_that_is_told_to_stop_does_not_take_the_end_of_its_watches_for_a_failure(
    server: SilentServer,
) -> None:
    stop = asyncio.Event()
    startup._obey(stop)
    watching = asyncio.create_task(startup._watch(cast(Any, None), config(), stop))
    try:
        await asyncio.wait_for(server.all.wait(), 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(watching, 20)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert stop.is_set()


def kubeconfig(port: int) -> dict[str, Any]:
    return {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {}}],
    }


def test_no_timeout_of_a_watch_is_left_open() -> None:
    chosen = handlers.settings()
    assert chosen.watching.server_timeout == handlers.WATCH_SECONDS
    assert chosen.watching.client_timeout is not None
    assert chosen.watching.client_timeout > handlers.WATCH_SECONDS, "the server ends it first, in good order"
    assert chosen.watching.inactivity_timeout == handlers.WATCH_SILENCE_SECONDS > 60, "bookmarks come every 60 s"
    assert chosen.watching.connect_timeout == chosen.networking.connect_timeout == handlers.CONNECT_SECONDS
    assert chosen.networking.request_timeout == 30
    pauses = list(itertools.islice(cast(Any, chosen.networking.error_backoffs), 100))
    assert pauses[:9] == [1, 1, 2, 3, 5, 8, 13, 21, 30]
    assert set(pauses[9:]) == {30}, "kopf gives a watch up where they end"
    assert chosen.watching.reconnect_backoff == handlers.RECONNECT_SECONDS >= 1, "or refused watches make a storm"
