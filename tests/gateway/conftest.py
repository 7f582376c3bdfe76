"""A gateway and engines for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.support.raw_engine import RawEngine
from tests.support.real_haproxy import BINARIES, Gateway

MakeEngine = Callable[..., Awaitable[RawEngine]]


@pytest_asyncio.fixture
async def gateway(haproxy_version: str) -> AsyncIterator[Gateway]:
    async with Gateway(BINARIES[haproxy_version]) as found:
        yield found


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[MakeEngine]:
    started: list[RawEngine] = []

    async def make(name: str = "a", socket: Path | None = None, **fields: Any) -> RawEngine:
        started.append(await RawEngine(name, **fields).start(socket))
        return started[-1]

    yield make
    for one in started:
        await one.stop()
