"""The Kubernetes adapter's API server of a few lines."""

from collections.abc import AsyncIterator

import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from nightshift.adapters.kube import KubeClient
from tests.support.kube_wire import FakeApi, client_for


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(application) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest_asyncio.fixture
async def client(api: FakeApi) -> AsyncIterator[KubeClient]:
    found = client_for(api.url)
    yield found
    await found.close()
