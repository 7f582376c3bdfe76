"""What must not reach an engine does not, in any spelling: counted at the engine, with a control that does reach it."""

import asyncio
import json
import random

import pytest

from e2e.support.hostile import DISALLOWED, random_body, request, smuggling, spellings
from tests.gateway.conftest import MakeEngine
from tests.support.raw_engine import RawEngine
from tests.support.real_haproxy import BUNDLED, Gateway, Model, pod, route

_HEAD = b"POST /ml/bot/v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
GOOD = b"POST /ml/bot/v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"


async def _send(gateway: Gateway, data: bytes) -> bytes:
    return await gateway.raw(data, seconds=10)


@pytest.mark.parametrize("host", ["g", "bot.ml"])
async def test_no_path_outside_the_list_reaches_an_engine_in_any_spelling(
    gateway: Gateway, engine: MakeEngine, host: str
) -> None:
    a = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    targets = sorted({target for path in DISALLOWED for target in spellings(path)})
    allowed = asyncio.Semaphore(16)

    async def one(method: str, target: str) -> tuple[str, bytes]:
        async with allowed:
            return target, await _send(gateway, request(method, target, host))

    answers = await asyncio.gather(*(one("POST", target) for target in targets))
    answers += await asyncio.gather(*(one(method, path) for path in DISALLOWED for method in ("GET", "DELETE", "PUT")))
    # What an engine sees of a good path with a query or a fragment is that path and no other.
    assert {one.target.partition("?")[0] for one in a.seen} <= {"/v1/chat/completions"}
    reached = [target for target, answer in answers if answer.startswith(b"HTTP/1.1 200")]
    assert reached == []
    assert a.seen == []
    assert (await _send(gateway, GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).startswith(
        b"HTTP/1.1 200"
    )
    assert len(a.seen) == 1


async def test_the_control_sends_each_of_these_paths_straight_to_the_engine_and_is_counted(engine: MakeEngine) -> None:
    a = await engine()
    for path in DISALLOWED:
        reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
        writer.write(request("POST", path, "engine"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert a.paths == [f"POST {path}" for path in DISALLOWED if path != "/health"]


@pytest.mark.parametrize("trick", list(smuggling()))
async def test_a_request_hidden_in_another_never_reaches_an_engine_by(
    gateway: Gateway, engine: MakeEngine, trick: str
) -> None:
    a = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    await gateway.raw(smuggling()[trick] + b"\r\n\r\n", seconds=0.5)
    assert {one.target for one in a.seen} <= {"/v1/chat/completions"}
    assert all(b"load_lora" not in one.body and "upgrade" not in one.headers for one in a.seen)
    assert (await _send(gateway, GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).startswith(
        b"HTTP/1.1 200"
    )


async def test_random_bodies_break_nothing_and_good_requests_between_them_are_served(engine: MakeEngine) -> None:
    """Each body is sent by the shared address, where HAProxy looks for a model in it."""
    async with Gateway(BUNDLED) as gateway:
        a = await engine()
        await gateway.settle(Model(route(), {"r1": [pod(a)]}))
        dice = random.Random(20260301)
        bodies = [random_body(dice) for _ in range(2000)]
        wanted = sum(_names_bot(body) for body in bodies)
        allowed = asyncio.Semaphore(8)

        async def some(part: list[bytes]) -> bytes:
            data = b""
            for number, body in enumerate(part):
                end = b"Connection: close\r\n" if number == len(part) - 1 else b""
                data += b"POST /v1/completions HTTP/1.1\r\nHost: g\r\n%bContent-Length: %d\r\n\r\n%b" % (
                    end,
                    len(body),
                    body,
                )
            async with allowed:
                return await _send(gateway, GOOD * 2 + data)

        parts = [bodies[at : at + 50] for at in range(0, len(bodies), 50)]
        answers = await asyncio.gather(*(some(part) for part in parts))
        for answer, part in zip(answers, parts, strict=True):
            assert answer.count(b"HTTP/1.1 ") == len(part) + 2
            assert answer.count(b"HTTP/1.1 200") >= 2
        assert len(a.seen) >= 2 * len(parts) + wanted
        assert gateway.process is not None
        assert gateway.process.returncode is None


def _names_bot(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("model") == "ml/bot" and body.count(b'"model"') == 1


async def test_slow_clients_are_sent_away_and_others_are_served_meanwhile(engine: MakeEngine) -> None:
    async with Gateway(BUNDLED, request_seconds=1.0) as gateway:
        a = await engine()
        await gateway.settle(Model(route(), {"r1": [pod(a)]}))
        starts = (GOOD[:20], GOOD[:-2], _HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        slow = [asyncio.create_task(gateway.raw(starts[number % 3])) for number in range(150)]
        for _ in range(20):
            assert (await _send(gateway, GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).startswith(
                b"HTTP/1.1 200"
            )
        answers = await asyncio.gather(*slow)
        assert {answer.split(b" ", 2)[1] for answer in answers} == {b"408"}
        # Before a request can be read as HTTP, HAProxy answers with its own words; after that with ours.
        assert all(b'"request_timeout"' in answer for number, answer in enumerate(answers) if number % 3)
        assert len(a.seen) == 20


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("one header of 100 KB", b"X: " + b"y" * 100_000 + b"\r\n"),
        ("a thousand headers", b"".join(b"X-%d: y\r\n" % number for number in range(1000))),
        ("a path of 100 KB", b""),
    ],
)
async def test_header_bombs_are_refused(gateway: Gateway, engine: MakeEngine, what: str, headers: bytes) -> None:
    a: RawEngine = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    data = _HEAD + headers + b"Content-Length: 2\r\n\r\n{}"
    if not headers:
        data = b"POST /ml/bot/v1/" + b"z" * 100_000 + b" HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"
    answer = await _send(gateway, data)
    assert answer.startswith(b"HTTP/1.1 400")
    assert a.seen == []
