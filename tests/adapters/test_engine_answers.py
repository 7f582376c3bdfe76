"""One question to one engine: against a server that answers as the test says, and against the simulator."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nightshift.adapters import engine_answers as module
from nightshift.adapters.engine_answers import AnsweringEngine
from nightshift.adapters.pod_http import pod_session
from nightshift.api.golden import GoldenQuestion
from nightshift.core.golden.answer import Ending, EngineAnswer
from tests.vllm_sim.simulated import simulated
from vllm_sim.faults import Errors, Faults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = "127.0.0.1"
CHAT = GoldenQuestion.model_validate(
    {"id": "1", "messages": [{"role": "user", "content": "What is the capital of France?"}], "maxTokens": 9}
)
PLAIN = GoldenQuestion(id="2", prompt="The capital of France is", max_tokens=9)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with pod_session() as made:
        yield made


@pytest.fixture
async def serve(session: aiohttp.ClientSession) -> AsyncIterator[Callable[[Handler], Awaitable[AnsweringEngine]]]:
    """Starts a server with one handler for all paths; its engine's clock goes on by a tenth of a second per look."""
    async with AsyncExitStack() as stack:

        async def begin(handler: Handler) -> AnsweringEngine:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = await stack.enter_async_context(TestServer(app))
            assert server.port is not None
            ticks = iter(range(1_000_000))
            return AnsweringEngine(session, LOOPBACK, server.port, "tiny", lambda: next(ticks) / 10)

        yield begin


Serve = Callable[[Handler], Awaitable[AnsweringEngine]]


def asked(engine: AnsweringEngine, question: GoldenQuestion = CHAT, **more: Any) -> Awaitable[EngineAnswer]:
    values: dict[str, Any] = {"seconds": 30.0, "logprobs": 5, "salt": "s"}
    return engine.ask(question, **(values | more))


def events(*found: Any) -> Handler:
    """A stream of events; a text stands as it is, and None breaks the connection off."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for item in found:
            if item is None:
                assert request.transport is not None
                request.transport.abort()
                break
            text = item if isinstance(item, str) else f"data: {json.dumps(item)}\n\n"
            await response.write(text.encode())
        return response

    return handler


def token(content: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
TOP: dict[str, Any] = {"logprobs": {"content": [{"top_logprobs": [{"token": "Pa", "logprob": -0.5}]}]}}
DONE = "data: [DONE]\n\n"


def usage(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"completion_tokens": tokens}}


async def test_an_answer_with_its_times(serve: Serve) -> None:
    """The clock looks at the start, and at each of three events with tokens."""
    engine = await serve(
        events(": a comment\n\n", ROLE, token("Pa", **TOP), token("ri"), token("s", "stop"), usage(5), DONE)
    )
    found = await asked(engine)
    assert (found.ending, found.text, found.likely) == (Ending.ANSWERED, "Paris", {"Pa": -0.5})
    assert found.first_token == pytest.approx(0.1)
    assert found.inter_token == pytest.approx(0.2 / 4), "five tokens came in three events"


async def test_events_that_arrive_in_pieces_are_put_together(serve: Serve) -> None:
    text = f"data: {json.dumps(token('Paris', 'stop'))}\n\n" + DONE
    found = await asked(await serve(events(*text)))
    assert (found.ending, found.text, found.inter_token) == (Ending.ANSWERED, "Paris", None)


@pytest.mark.parametrize(
    ("question", "path", "own"),
    [
        pytest.param(
            CHAT,
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
                "logprobs": True,
                "top_logprobs": 5,
            },
            id="a chat",
        ),
        pytest.param(
            PLAIN, "/v1/completions", {"prompt": "The capital of France is", "logprobs": 5}, id="a plain completion"
        ),
    ],
)
async def test_what_is_sent(serve: Serve, question: GoldenQuestion, path: str, own: dict[str, Any]) -> None:
    seen: list[tuple[str, str | None, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("x-nightshift-synthetic"), await request.json()))
        return await events(token("a", "stop"), DONE)(request)

    assert (await asked(await serve(handler), question, salt="x-1")).ending is Ending.ANSWERED
    common = {"model": "tiny", "temperature": 0, "seed": 1, "stream": True, "max_tokens": 9, "cache_salt": "x-1"}
    assert seen == [(path, "golden", {**common, "stream_options": {"include_usage": True}, **own})]


async def test_log_probabilities_are_asked_for_only_where_they_are_wanted(serve: Serve) -> None:
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await events(token("a", "stop"), DONE)(request)

    engine = await serve(handler)
    for question in (CHAT, PLAIN):
        await asked(engine, question, logprobs=0, max_tokens=1)
    assert [body["max_tokens"] for body in bodies] == [1, 1]
    assert not any("logprob" in name for body in bodies for name in body)


def status(number: int) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=number, text="no", headers={"Location": "http://elsewhere/"})

    return handler


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits so long")


async def stalls(request: web.Request) -> web.StreamResponse:
    await events(token("Pa"))(request)
    return await silent(request)


@pytest.mark.parametrize(
    ("handler", "ending", "note"),
    [
        pytest.param(status(400), Ending.REFUSED, "status 400", id="it refuses the question"),
        pytest.param(status(500), Ending.FAILED, "status 500", id="it fails"),
        pytest.param(status(503), Ending.FAILED, "status 503", id="it is busy"),
        pytest.param(status(302), Ending.FAILED, "status 302", id="it leads elsewhere, where nobody goes"),
        pytest.param(silent, Ending.FAILED, "no whole answer within 0.3 s", id="it says nothing"),
        pytest.param(stalls, Ending.FAILED, "no whole answer within 0.3 s", id="it stops in the middle"),
        pytest.param(events(token("Pa"), None), Ending.FAILED, "Client", id="the connection breaks"),
        pytest.param(
            events(token("Pa"), DONE), Ending.FAILED, "the stream ended before the answer did", id="the end is missing"
        ),
        pytest.param(
            events(token("Pa"), {"error": {"message": "dead"}}, DONE),
            Ending.FAILED,
            "the engine broke off: {'message': 'dead'}",
            id="it breaks off in the middle",
        ),
        pytest.param(
            events("data: {\n\n"), Ending.FAILED, "the stream has an event that is no JSON object", id="it is no JSON"
        ),
    ],
)
async def test_what_is_no_answer(serve: Serve, handler: Handler, ending: Ending, note: str) -> None:
    found = await asked(await serve(handler), seconds=0.3 if handler in (silent, stalls) else 30.0)
    assert (found.ending, found.text, found.inter_token) == (ending, "", None)
    assert found.note.startswith(note)


async def test_when_an_answer_began_is_known_even_if_it_broke_off(serve: Serve) -> None:
    found = await asked(await serve(events(token("Pa"), None)))
    assert found.first_token == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("limit", "handler"),
    [
        pytest.param("STREAM_BYTES", events(*(token("a") for _ in range(50))), id="a stream without end"),
        pytest.param("EVENT_BYTES", events("data: " + "a" * 5000), id="an event without end"),
        pytest.param("ANSWER_CHARACTERS", events(token("a" * 5000)), id="an answer without end"),
    ],
)
async def test_a_strangers_answer_is_bounded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, limit: str, handler: Handler
) -> None:
    monkeypatch.setattr(module, limit, 1000)
    found = await asked(await serve(handler))
    assert found.ending is Ending.FAILED
    assert "more than" in found.note


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        yield int(probe.getsockname()[1])


async def test_of_a_pod_that_takes_no_connection_nothing_is_known(
    session: aiohttp.ClientSession, free_port: int
) -> None:
    found = await asked(AnsweringEngine(session, LOOPBACK, free_port, "tiny"))
    assert found.ending is Ending.UNREACHABLE


async def test_only_addresses_are_asked(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ValueError, match="somewhere"):
        AnsweringEngine(session, "somewhere", 80, "tiny")


@pytest.mark.parametrize("question", [CHAT, PLAIN], ids=["a chat", "a plain completion"])
async def test_the_simulator_is_understood(session: aiohttp.ClientSession, question: GoldenQuestion) -> None:
    async with simulated((), Faults(), {}) as engine:
        assert engine.http.port is not None
        client = AnsweringEngine(session, LOOPBACK, engine.http.port, "tiny")
        one, other = await asked(client, question), await asked(client, question)
    assert one.ending is Ending.ANSWERED
    assert one.text == other.text != ""
    assert one.first_token is not None
    assert one.inter_token is not None
    assert len(one.likely) == 5
    assert one.likely == other.likely


async def test_errors_of_the_simulator_are_failures(session: aiohttp.ClientSession) -> None:
    async with simulated((), Faults(errors=Errors()), {}) as engine:
        assert engine.http.port is not None
        client = AnsweringEngine(session, LOOPBACK, engine.http.port, "tiny")
        assert (await asked(client)).ending is Ending.FAILED
