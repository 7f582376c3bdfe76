"""How a watch goes on, in virtual time, when it ends and whatever ends it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from nightshift.adapters.kube import KubeError
from nightshift.adapters.kube_watch import Query, Watch
from tests.support.virtual_time import run

HOUR = 3600.0
EXPIRED = json.dumps({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}).encode()
BOOKMARK = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}).encode()

Stream = Callable[[], AsyncIterator[bytes]]


NOTHING: tuple[bytes, ...] = ()


async def ends_at_once() -> AsyncIterator[bytes]:
    for line in NOTHING:
        yield line


async def expires_at_once() -> AsyncIterator[bytes]:
    yield EXPIRED


async def is_refused_as_expired() -> AsyncIterator[bytes]:
    for line in NOTHING:
        yield line
    raise KubeError(410, "Expired", "too old")


async def ends_after_a_word() -> AsyncIterator[bytes]:
    yield BOOKMARK


async def lasts() -> AsyncIterator[bytes]:
    for _ in range(9):
        await asyncio.sleep(60)
        yield BOOKMARK
    await asyncio.sleep(60)


async def lasts_and_expires() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield EXPIRED


class Api:
    """Every watch is answered alike."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.lists = 0
        self.watches: list[float] = []
        """When each was begun."""

    async def read(self, path: str) -> dict[str, Any]:
        self.lists += 1
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    async def stream(self, path: str, silence: float) -> AsyncIterator[bytes]:
        self.watches.append(asyncio.get_running_loop().time())
        assert len(self.watches) <= 20_000, "it is begun without a pause"
        async for line in self._stream():
            yield line


class Silent:
    def replace(self, objects: list[Any]) -> None: ...

    def change(self, event: str, raw: Any) -> None: ...

    def heard(self) -> None: ...

    def failed(self, problem: str) -> None:
        raise AssertionError(problem)


def followed(stream: Stream, seconds: float) -> Api:
    api = Api(stream)

    async def follow() -> None:
        watch = Watch(cast(Any, api), Query("v1", "Pod"), Silent())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await watch.run()

    run(follow())
    return api


@pytest.mark.parametrize(
    ("stream", "least", "most", "lists"),
    [
        pytest.param(ends_at_once, 360, 370, False, id="ends at once is begun every ten seconds in the end"),
        pytest.param(expires_at_once, 360, 370, True, id="expires at once as well, with a list"),
        pytest.param(is_refused_as_expired, 360, 370, True, id="is refused as expired as well"),
        pytest.param(ends_after_a_word, 5000, 18001, False, id="ends after a word is begun five times a second"),
        pytest.param(lasts, 6, 7, False, id="was ended by the API server in its time goes on at once"),
        pytest.param(lasts_and_expires, 60, 61, True, id="expires after a minute begins with a list at once"),
    ],
)
def test_a_watch_that(stream: Stream, least: int, most: int, lists: bool) -> None:
    api = followed(stream, HOUR)
    assert least <= len(api.watches) <= most
    assert api.lists == (len(api.watches) if lists else 1)
