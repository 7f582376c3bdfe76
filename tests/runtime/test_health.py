from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from nightshift.runtime import health


class Process:
    """A process that may have a problem."""

    problem: str | None = None

    def __call__(self) -> str | None:
        return self.problem


@pytest.fixture
def process() -> Process:
    return Process()


@pytest_asyncio.fixture
async def url(process: Process) -> AsyncIterator[str]:
    runner = await health.serve(process, port=0)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("problem", "path", "status", "text"),
    [
        (None, "/healthz", 200, "ok"),
        ("a reconcile has been overdue for 130 s", "/healthz", 503, "a reconcile has been overdue for 130 s"),
        (None, "/readyz", 200, "ok"),
        ("a reconcile has been overdue for 130 s", "/readyz", 200, "ok"),
    ],
)
async def test_probes(process: Process, url: str, problem: str | None, path: str, status: int, text: str) -> None:
    process.problem = problem
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        assert (response.status, await response.text()) == (status, text)


async def test_metrics_are_in_prometheus_text_format(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    assert response.headers["Content-Type"].startswith("text/plain")
    for name in ("nightshift_reconcile_seconds", "nightshift_queue_depth", "nightshift_leader"):
        assert f"# HELP {name} " in text
