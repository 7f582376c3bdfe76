"""Adapters by HTTP: engines against the simulator, sidecars against the container's own server, and strangers."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nightshift.adapters.engine import AdapterEngine, Engines
from nightshift.adapters.sidecar import Sidecar, Sidecars
from nightshift.api.adapters import AdapterState, WantedAdapter, WantedAdapters
from nightshift.api.fetch import Downloaded, FetchOutcome
from nightshift.core.adapter_sight import AdapterAnswer
from nightshift.core.facts import Known, Unknown
from nightshift.fetch.sidecar import Keeper
from nightshift.fetch.sidecar import serve as serve_sidecar
from tests.fetch.test_adapters import write_adapter
from tests.support.builders import NOW
from tests.vllm_sim.simulated import simulated
from vllm_sim.faults import Faults

LOOPBACK = "127.0.0.1"
SHA = "a" * 40
WANTED = WantedAdapters(adapters=(WantedAdapter(repository="acme/french", sha=SHA),), keep=())


@pytest.fixture
async def engine() -> AsyncIterator[AdapterEngine]:
    engines = Engines(now=lambda: NOW)
    async with simulated(("--enable-lora", "--max-lora-rank", "16"), Faults(), {}) as made:
        assert made.http.port is not None
        yield engines.at(LOOPBACK, made.http.port)
    await engines.close()


async def test_an_adapter_is_loaded_listed_and_unloaded(engine: AdapterEngine, tmp_path: Path) -> None:
    write_adapter(tmp_path / SHA)
    assert await engine.adapters() == Known({}, NOW), "the model itself is none"
    assert await engine.load_adapter("french", str(tmp_path / SHA)) == Known(AdapterAnswer(taken=True), NOW)
    assert await engine.adapters() == Known({"french": str(tmp_path / SHA)}, NOW)
    assert await engine.unload_adapter("french") == Known(AdapterAnswer(taken=True), NOW)
    assert await engine.adapters() == Known({}, NOW)


async def test_a_refusal_carries_the_engines_words(engine: AdapterEngine, tmp_path: Path) -> None:
    write_adapter(tmp_path / SHA, rank=24)
    refused = await engine.load_adapter("french", str(tmp_path / SHA))
    assert isinstance(refused, Known)
    assert not refused.value.taken
    assert "LoRA rank 24 is greater than max_lora_rank 16" in refused.value.message
    unknown = await engine.unload_adapter("french")
    assert unknown == Known(AdapterAnswer(False, "The lora adapter 'french' cannot be found."), NOW)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Ask = Callable[[Handler], Awaitable[tuple[AdapterEngine, Sidecar]]]


@pytest.fixture
async def stranger() -> AsyncIterator[Ask]:
    """Clients of a server with one handler for all paths."""
    engines, sidecars = Engines(now=lambda: NOW), Sidecars(now=lambda: NOW)
    async with AsyncExitStack() as stack:

        async def begin(handler: Handler) -> tuple[AdapterEngine, Sidecar]:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = await stack.enter_async_context(TestServer(app))
            assert server.port is not None
            return engines.at(LOOPBACK, server.port), sidecars.at(LOOPBACK, server.port)

        yield begin
    await engines.close()
    await sidecars.close()


def says(body: str, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    return handler


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param("[]", 200, id="a list"),
        pytest.param("{", 200, id="no JSON"),
        pytest.param("{}", 200, id="no models"),
        pytest.param('{"data": 3}', 200, id="no list of models"),
        pytest.param('{"data": []}', 503, id="an error"),
        pytest.param('{"data": [' + ",".join(["{}"] * 1001) + "]}", 200, id="very many models"),
        pytest.param("#" * (300 * 1024), 200, id="very much"),
    ],
)
async def test_nonsense_is_not_taken_for_an_answer(stranger: Ask, body: str, status: int) -> None:
    engine, sidecar = await stranger(says(body, status))
    assert isinstance(await engine.adapters(), Unknown)
    assert isinstance(await sidecar.sync(WANTED), Unknown)


async def test_a_refusal_without_words_is_told_by_its_status(stranger: Ask) -> None:
    engine, _ = await stranger(says("Internal Server Error", 500))
    assert await engine.load_adapter("x", "/x") == Known(AdapterAnswer(False, "status 500"), NOW)
    engine, _ = await stranger(says('{"error": {"message": "no\\n ' + "x" * 1000 + '"}}', 400))
    refused = await engine.load_adapter("x", "/x")
    assert isinstance(refused, Known)
    assert (refused.value.message[:5], len(refused.value.message)) == ("no xx", 500)


async def test_nobody_there_is_unknown(unused_tcp_port: int) -> None:
    engines, sidecars = Engines(), Sidecars()
    assert isinstance(await engines.at(LOOPBACK, unused_tcp_port).load_adapter("x", "/x"), Unknown)
    assert isinstance(await sidecars.at(LOOPBACK, unused_tcp_port).sync(WANTED), Unknown)
    await engines.close()
    await sidecars.close()


@pytest.fixture
def container(tmp_path: Path, unused_tcp_port: int) -> Iterator[tuple[Keeper, int]]:
    """The server of the container, with a Hub that has everything."""

    def fetch(repository: str, sha: str, directory: Path) -> FetchOutcome:
        return Downloaded(sha=sha, files=1, bytes=1)

    keeper = Keeper(tmp_path, fetch, lambda directory: None)
    server = serve_sidecar(keeper, unused_tcp_port, LOOPBACK)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield keeper, unused_tcp_port
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_sidecar_is_told_what_is_wanted_and_says_how_far_it_is(container: tuple[Keeper, int]) -> None:
    keeper, port = container
    sidecars = Sidecars(now=lambda: NOW)
    assert await sidecars.at(LOOPBACK, port).sync(WANTED) == Known({SHA: AdapterState(sha=SHA, phase="Fetching")}, NOW)
    keeper.step()
    assert await sidecars.at(LOOPBACK, port).sync(WANTED) == Known({SHA: AdapterState(sha=SHA, phase="Ready")}, NOW)
    await sidecars.close()


async def test_states_of_what_nobody_asked_for_are_passed_over(stranger: Ask) -> None:
    _, sidecar = await stranger(says('{"adapters": [{"sha": "' + "b" * 40 + '", "phase": "Ready"}]}'))
    assert await sidecar.sync(WANTED) == Known({}, NOW)
