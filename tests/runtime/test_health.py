from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from nightshift.runtime import health


class Process:
    """A process that may have a problem."""

    problem: str | None = None
    unready: str | None = None


@pytest.fixture
def process() -> Process:
    return Process()


@pytest_asyncio.fixture
async def url(process: Process) -> AsyncIterator[str]:
    runner = await health.serve(lambda: process.problem, lambda: process.unready, port=0)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("problem", "unready", "path", "status", "text"),
    [
        (None, None, "/healthz", 200, "ok"),
        ("a reconcile is overdue", None, "/healthz", 503, "a reconcile is overdue"),
        (None, "the Lease could not be read yet", "/healthz", 200, "ok"),
        (None, None, "/readyz", 200, "ok"),
        ("a reconcile is overdue", None, "/readyz", 200, "ok"),
        (None, "the Lease could not be read yet", "/readyz", 503, "the Lease could not be read yet"),
    ],
)
async def test_probes(
    process: Process, url: str, problem: str | None, unready: str | None, path: str, status: int, text: str
) -> None:
    process.problem, process.unready = problem, unready
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        assert (response.status, await response.text()) == (status, text)


async def test_metrics_are_in_prometheus_text_format(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    assert response.headers["Content-Type"].startswith("text/plain")
    for name in ("nightshift_reconcile_seconds", "nightshift_queue_depth", "nightshift_leader"):
        assert f"# HELP {name} " in text
