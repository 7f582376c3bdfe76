"""What must not reach an engine does not, in any spelling: counted at the engine, with a control that does reach it."""

import asyncio
import json
import random

import pytest

from tests.gateway.conftest import MakeEngine
from tests.support.raw_engine import RawEngine
from tests.support.real_haproxy import BUNDLED, Gateway, Model, pod, route

DISALLOWED = (
    "/metrics",
    "/health",
    "/version",
    "/load",
    "/ping",
    "/invocations",
    "/tokenize",
    "/detokenize",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/adapters",
    "/adapters/x",
    "/kv_event_sources",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/server_info",
    "/sleep",
    "/wake_up",
    "/is_sleeping",
    "/collective_rpc",
    "/reset_prefix_cache",
    "/pause",
    "/resume",
    "/abort_requests",
    "/update_weights",
    "/scale_elastic_ep",
    "/is_scaling_elastic_ep",
    "/generative_scoring",
    "/inference/v1/generate",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/systemone",
    "/v1/responses/r/cancel",
    "/v1/chat/completions/render",
    "/v1/embeddings",
    "/v1/audio/transcriptions",
)
"""Paths of vLLM 0.31 to 0.33 that a chat model's clients have no business with, /health among them."""

GOOD = b"POST /ml/bot/v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"


def spellings(path: str) -> list[str]:
    """A path as somebody writes it who wants to get past a list."""
    tail = path[1:]
    first = f"%{ord(tail[0]):02x}"
    plain = [
        path,
        "/" + path,
        path + "/",
        path + "?x=/v1/chat/completions",
        path + ";/v1/chat/completions",
        path + "%00",
        path + "%2f",
        path + "#/v1/chat/completions",
        "/." + path,
        "/%2e" + path,
        "/" + first + tail[1:],
        path.upper(),
        "/v1/../" + tail,
        "/v1/%2e%2e/" + tail,
        "/v1/chat/completions/../../.." + path,
        "/v1/chat/completions/..%2f..%2f.." + path,
        "/v1/chat/completions%2f..%2f..%2f.." + path,
        "/v1/chat/completions;" + path,
        "/v1/chat/completions#" + path,
        "\\" + tail,
        "/v1/..\\" + tail,
        "http://ml" + path,
        "//ml" + path,
    ]
    under = ["/ml/bot" + one for one in plain if one.startswith("/")]
    return [*plain, *under, "/ml/bot/v1" + path, "/ml/bot/v1/.." + path, "/ml/bot/../.." + path, "*", tail]


async def _send(gateway: Gateway, data: bytes) -> bytes:
    return await gateway.raw(data, seconds=10)


def _request(method: str, target: str, host: str) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return (head + "x-model: ml/bot\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").encode("latin-1")


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
            return target, await _send(gateway, _request(method, target, host))

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
        writer.write(_request("POST", path, "engine"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert a.paths == [f"POST {path}" for path in DISALLOWED if path != "/health"]


HIDDEN = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: e\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"POST /ml/bot/v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN
SMUGGLING = {
    "a length and chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKED_HIDDEN,
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}" + HIDDEN,
    "two lengths in one line": HEAD + b"Content-Length: 2, 90\r\n\r\n{}" + HIDDEN,
    "a length with a sign": HEAD + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
    "a length that is negative": HEAD + b"Content-Length: -2\r\n\r\n{}" + HIDDEN,
    "a length with a space in its name": HEAD + b"Content-Length : 2\r\n\r\n{}" + HIDDEN,
    "a length in hexadecimal": HEAD + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
    "an encoding with a space in its name": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding in odd letters": HEAD + b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding that is listed twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding behind another": HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding in front of another": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding with a tab": HEAD + b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_HIDDEN,
    "an encoding with a vertical tab": HEAD
    + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n"
    + CHUNKED_HIDDEN,
    "a folded line": HEAD + b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_HIDDEN,
    "a folded length": HEAD + b"Content-Length:\r\n 2\r\n\r\n{}" + HIDDEN,
    "a bare line feed": HEAD + b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_HIDDEN,
    "a bare carriage return": HEAD + b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_HIDDEN,
    "a zero byte": HEAD + b"X: \x00\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "a chunk of a negative size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + HIDDEN,
    "a chunk of an enormous size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + HIDDEN,
    "a chunk with an extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0;x=\n\r\n\r\n" + HIDDEN,
    "HTTP/1.0 with chunks": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "an upgrade": HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "an upgrade to HTTP/2": HEAD
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    b"Content-Length: 2\r\n\r\n{}" + HIDDEN,
    "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "CONNECT": b"CONNECT e:8000 HTTP/1.1\r\nHost: e:8000\r\n\r\n" + HIDDEN,
    "a line break in the path": b"POST /ml/bot/v1/completions\r\nX: y HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("trick", list(SMUGGLING))
async def test_a_request_hidden_in_another_never_reaches_an_engine_by(
    gateway: Gateway, engine: MakeEngine, trick: str
) -> None:
    a = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    await gateway.raw(SMUGGLING[trick] + b"\r\n\r\n", seconds=0.5)
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
        bodies = [_random_body(dice) for _ in range(2000)]
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


def _random_body(dice: random.Random) -> bytes:
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(300))
    if kind == 1:
        return b"[" * dice.randrange(5000)
    if kind == 2:
        text = "".join(chr(dice.choice([34, 92, 0x20AC, 0x1F600, 10, 37, 39, 0x202E, 97])) for _ in range(20))
        return json.dumps({"model": text}, ensure_ascii=dice.random() < 0.5).encode()
    if kind == 3:
        return b'{"model": "ml/bot", "model": "ml/none", "x": ' + str(dice.random()).encode() + b"}"
    if kind == 4:
        return json.dumps({"messages": "x" * dice.randrange(2000), "model": "ml/bot"}).encode()
    whole = json.dumps({"model": "ml/bot", "prompt": "y" * dice.randrange(200)}).encode()
    return whole[: dice.randrange(len(whole))]


async def test_slow_clients_are_sent_away_and_others_are_served_meanwhile(engine: MakeEngine) -> None:
    async with Gateway(BUNDLED, request_seconds=1.0) as gateway:
        a = await engine()
        await gateway.settle(Model(route(), {"r1": [pod(a)]}))
        starts = (GOOD[:20], GOOD[:-2], HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
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
    data = HEAD + headers + b"Content-Length: 2\r\n\r\n{}"
    if not headers:
        data = b"POST /ml/bot/v1/" + b"z" * 100_000 + b" HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}"
    answer = await _send(gateway, data)
    assert answer.startswith(b"HTTP/1.1 400")
    assert a.seen == []
