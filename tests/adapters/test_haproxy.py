"""HAProxy's runtime socket: what is read of its answers, and what is no answer."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from nightshift.adapters import haproxy as module
from nightshift.adapters.haproxy import (
    HaproxyError,
    Socket,
    parse_info,
    parse_map,
    parse_map_list,
    parse_servers,
    parse_stat,
)
from tests.support.real_haproxy import BINARIES, Gateway, Model, Pod, route

Answering = Callable[..., Awaitable[Socket]]


@pytest_asyncio.fixture
async def answering() -> AsyncIterator[Answering]:
    directory = Path(tempfile.mkdtemp(prefix="nightshift-", dir="/tmp"))
    servers, writers = [], []

    async def begin(answer: bytes, *, close: bool = True, seconds: float = 5.0) -> Socket:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await reader.readline()
            writer.write(answer)
            if close:
                writer.close()

        servers.append(await asyncio.start_unix_server(handle, directory / "s"))
        return Socket(directory / "s", seconds)

    yield begin
    for writer in writers:
        writer.transport.abort()
    for server in servers:
        server.close()
        await server.wait_closed()
    shutil.rmtree(directory)


@pytest.mark.parametrize("version", sorted(BINARIES))
async def test_a_real_process_is_read_as_it_is(version: str) -> None:
    async with Gateway(BINARIES[version]) as gateway:
        live = await gateway.settle(Model(route(cap=3), {"r1": [Pod("p", 9), Pod("q", 9, deleting=True)]}))
        assert sorted(live.slots) == [f"be_l600_{number}" for number in range(4)]
        first, second = sorted(live.slots["be_l600_0"].servers.values(), key=lambda one: one.name)
        assert (first.address, first.port, first.weight, first.cap, first.maintenance) == (
            "127.0.0.1",
            9,
            100,
            3,
            False,
        )
        assert second.weight == 0
        assert live.maps["maps/models.map"] == {"ml/bot": "ml/bot"}
        assert live.busy == {"be_l600_0"}
        assert gateway.decision is not None
        assert live.fingerprint == gateway.decision.desired.fingerprint


async def test_an_answer_is_read_to_its_end(answering: Answering) -> None:
    assert await (await answering(b"a\n\nb\n")).ask("x") == "a\n\nb\n"


async def test_no_answer_in_time_is_an_error(answering: Answering) -> None:
    socket = await answering(b"a", close=False, seconds=0.05)
    with pytest.raises(HaproxyError, match="did not answer"):
        await socket.ask("show info")


async def test_an_answer_without_end_is_an_error(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_BYTES", 10)
    socket = await answering(b"a" * 100)
    with pytest.raises(HaproxyError, match="larger than 10 bytes"):
        await socket.ask("show info")


async def test_nobody_there_is_an_error() -> None:
    with pytest.raises(HaproxyError, match="did not answer"):
        await Socket(Path("/nonexistent/s")).ask("show info")


@pytest.mark.parametrize("command", ["x" * 60_001, "set map a b\ndel map a c"], ids=["too long", "two in one"])
async def test_what_is_no_single_command_is_not_sent(command: str) -> None:
    with pytest.raises(HaproxyError, match="cannot be sent"):
        await Socket(Path("/nonexistent/s")).ask(command)


@pytest.mark.parametrize("text", ["", "1\n", "Unknown command\nx\n", "1\n# be_name srv_name\nbe_l600_0 s-p\n"])
def test_what_is_no_table_of_servers_is_an_error(text: str) -> None:
    with pytest.raises(HaproxyError, match=r"no table|unknown line"):
        parse_servers(text)


def test_what_is_no_table_of_statistics_is_an_error() -> None:
    with pytest.raises(HaproxyError, match="no table"):
        parse_stat("# a,b\n1,2\n", [])


def test_of_a_key_that_stands_twice_the_one_that_is_found_counts() -> None:
    assert parse_map("0x1 a 1\n0x2 a 2\n0x3 b x y\n\nnonsense\n") == {"a": "1", "b": "x y"}
    assert parse_map_list("# id (file) description\n1 (/r/a.map) pattern loaded\n-1 () acl\n") == ["/r/a.map", ""]
    assert parse_info("Name: HAProxy\nPid: 7\n\n") == {"Name": "HAProxy", "Pid": "7"}
