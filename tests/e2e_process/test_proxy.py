"""The proxy does to requests and watches what it is told, and lets everything else pass."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from e2e.process.proxy import Faults, Proxy, Refusal
from tests.support.http_api import HttpApi

EVENTS = "/api/v1/namespaces/ml/events"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[HttpApi, Proxy]]:
    with HttpApi() as api, Proxy(api.url) as proxy:
        yield api, proxy


@pytest.fixture
def proxy(pair: tuple[HttpApi, Proxy]) -> Iterator[Proxy]:
    pair[1].begin(Faults())
    yield pair[1]
    pair[1].begin(Faults())


def make(api: HttpApi, name: str) -> None:
    metadata = {"name": name, "namespace": "ml"}
    api.call(lambda: api.server.create({"apiVersion": "v1", "kind": "Event", "metadata": metadata}))


async def get(proxy: Proxy, path: str) -> tuple[int, dict[str, str], Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}{path}") as answer:
        return answer.status, dict(answer.headers), await answer.json()


async def frames(proxy: Proxy, api: HttpApi, made: str, seconds: float = 1.0) -> list[tuple[float, dict[str, Any]]]:
    """What a watch tells within some seconds after something was made, and when."""
    found = []
    version = api.call(lambda: api.server.version)
    url = f"{proxy.url}{EVENTS}?watch=true&resourceVersion={version}"
    timeout = aiohttp.ClientTimeout(total=None, sock_read=seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        began = time.monotonic()
        make(api, made)
        with contextlib.suppress(TimeoutError):
            while line := await answer.content.readline():
                found.append((time.monotonic() - began, json.loads(line)))
    return found


async def test_without_faults_everything_passes_and_is_counted(pair: tuple[HttpApi, Proxy], proxy: Proxy) -> None:
    make(pair[0], "passes")
    began = time.monotonic()
    status, _, body = await get(proxy, f"{EVENTS}/passes")
    assert (status, body["metadata"]["name"]) == (200, "passes")
    assert [(one.method, one.kind) for one in proxy.since(began)] == [("GET", "read")]
    told = await frames(proxy, pair[0], "told")
    assert [frame["object"]["metadata"]["name"] for _, frame in told] == ["told"]


async def test_a_refusal_has_its_status_reason_and_retry_after(proxy: Proxy) -> None:
    proxy.begin(Faults(refuse=lambda request: Refusal(429, "TooManyRequests", 7)))
    status, headers, body = await get(proxy, EVENTS)
    assert (status, headers["Retry-After"], body["reason"]) == (429, "7", "TooManyRequests")


async def test_a_reset_comes_after_the_request_was_carried_out(pair: tuple[HttpApi, Proxy], proxy: Proxy) -> None:
    proxy.begin(Faults(reset=lambda request: True))
    manifest = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "lost", "namespace": "ml"}}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{proxy.url}{EVENTS}", json=manifest)
    assert "lost" in [raw["metadata"]["name"] for raw in pair[0].call(lambda: pair[0].server.of_kind("Event"))]


async def test_frames_are_dropped_and_late(pair: tuple[HttpApi, Proxy], proxy: Proxy) -> None:
    proxy.begin(Faults(drop=lambda frame: True))
    assert await frames(proxy, pair[0], "dropped", 0.5) == []
    proxy.begin(Faults(delay_seconds=0.6))
    ((after, _),) = await frames(proxy, pair[0], "late", 1.5)
    assert after >= 0.6


async def test_watches_are_ended_with_410(pair: tuple[HttpApi, Proxy], proxy: Proxy) -> None:
    proxy.begin(Faults(end_watches=True))
    told = await frames(proxy, pair[0], "gone")
    assert [(frame["type"], frame["object"]["code"]) for _, frame in told] == [("ERROR", 410)]


async def test_lists_stay_as_they_were(pair: tuple[HttpApi, Proxy], proxy: Proxy) -> None:
    proxy.begin(Faults(stale=True))
    first = await get(proxy, EVENTS)
    make(pair[0], "unseen")
    assert (await get(proxy, EVENTS))[2] == first[2]
    proxy.begin(Faults())
    assert "unseen" in json.dumps((await get(proxy, EVENTS))[2])
