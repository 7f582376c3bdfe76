"""The client of one engine pod, against a server that answers as the test says, and against the simulator."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.adapters import engine as module
from nightshift.adapters import pod_http
from nightshift.adapters.engine import METRICS_BYTES, Engine, Engines
from nightshift.adapters.pod_http import Unanswered
from nightshift.core.analysis.evidence import EMPTY, Histogram
from nightshift.core.engine_metrics import BUCKETS, DETAILS, WANTED, EngineMetrics, ProbeAnswer, engine_metrics
from nightshift.core.facts import Known, Unknown
from tests.support.builders import NOW
from tests.vllm_sim.simulated import Simulated, simulated
from vllm_sim.faults import Faults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[Engine]]
LOOPBACK = "127.0.0.1"
REAL = (Path(__file__).parent / "vllm-0.32.0-metrics.txt").read_text()


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    made = Engines(now=lambda: NOW)
    yield made
    await made.close()


@pytest.fixture
async def serve(engines: Engines) -> AsyncIterator[Serve]:
    """Starts a server with one handler for all paths."""
    async with AsyncExitStack() as stack:

        async def begin(handler: Handler) -> Engine:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = await stack.enter_async_context(TestServer(app))
            assert server.port is not None
            return engines.at(LOOPBACK, server.port)

        yield begin


@pytest.fixture
async def start(engines: Engines) -> AsyncIterator[Callable[..., Awaitable[tuple[Simulated, Engine]]]]:
    """Starts simulators."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str, faults: Faults | None = None, **settings: str) -> tuple[Simulated, Engine]:
            made = await stack.enter_async_context(simulated(arguments, faults or Faults(), settings))
            assert made.http.port is not None
            return made, engines.at(LOOPBACK, made.http.port)

        yield begin


def text(body: str, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    return handler


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits so long")


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(METRICS_BYTES // 65536 + 2):
        await response.write(b"#" * 65536)
    return response


async def redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("http://169.254.169.254/latest")


@pytest.fixture
def unreachable() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not wait long for an answer."""
    monkeypatch.setattr(pod_http, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(pod_http, "CONNECT_SECONDS", 0.2)


async def test_reads_what_real_vllm_exports(serve: Serve) -> None:
    found = await (await serve(text(REAL))).metrics()
    assert isinstance(found, Known)
    assert found.at == NOW
    value = found.value
    assert (value.running, value.waiting, value.prompt_tokens, value.kv_cache_usage) == (0, 0, 19, 0.0)
    assert (value.generation_tokens, value.iterations, value.awake) == (20, 20, True)
    assert value.cache_config["kv_cache_size_tokens"] == "131072"


BUCKET = 'vllm:time_to_first_token_seconds_bucket{engine="0",le="%s",model_name="%s"} %s\n'
FIRST_TOKEN = "".join(
    BUCKET % row for row in (("0.001", "tiny", "0.0"), ("0.5", "tiny", "2.0"), ("+Inf", "tiny", "3.0"))
)


async def test_details_of_real_vllm_are_read_where_they_are_asked_for(serve: Serve) -> None:
    engine = await serve(text(REAL + FIRST_TOKEN))
    plain, found = await engine.metrics(), await engine.metrics(detailed=True)
    assert isinstance(plain, Known)
    assert isinstance(found, Known)
    assert plain.value.details is None
    details = found.value.details
    assert details is not None
    assert details.first_token == Histogram((0.001, 0.5), (0, 2, 1))
    assert details.finished == {"stop": 0, "length": 3, "abort": 0, "error": 0, "repetition": 0}
    assert details.inference_seconds == pytest.approx(0.25236, abs=1e-4)
    assert replace(found.value, details=None) == plain.value


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        pytest.param(BUCKET % ("+Inf", 'a\\",le=\\"1', "3"), (3,), id="a model whose name looks like a bound"),
        pytest.param(BUCKET % ("+Inf", "tiny", "3e+06"), (3_000_000,), id="many"),
        pytest.param(BUCKET % ("+Inf", "tiny", "3.0 1795457132"), (3,), id="with its time"),
        pytest.param(BUCKET % ("+Inf", "tiny", "three"), None, id="a count that is no number"),
        pytest.param(
            BUCKET % ("+Inf", "tiny", "3") + "vllm:time_to_first_token_seconds_bucket 3\n", None, id="no bound"
        ),
        pytest.param(BUCKET % ("1e", "tiny", "3"), None, id="a bound that is no number"),
    ],
)
async def test_a_bucket_as_it_is_written(serve: Serve, line: str, counts: tuple[int, ...] | None) -> None:
    lines = REAL + BUCKET % ("0.5", "tiny", "0.0") + line
    found = await (await serve(text(lines))).metrics(detailed=True)
    read = found.value.details if isinstance(found, Known) else None
    assert (read.first_token.counts[1:] if read is not None and read.first_token is not None else None) == counts


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param(text("", 503), "status 503", id="an error"),
        pytest.param(redirecting, "status 307", id="a redirect is not followed"),
        pytest.param(text("<html>"), "exports no vllm:num_requests_running", id="another server's page"),
        pytest.param(
            text(REAL.replace("num_requests_running{", "num_requests_running{=")), "text format", id="no metrics' text"
        ),
        pytest.param(text("vllm:num_requests_running 1.0\n" * 10_000), "262144 characters", id="too much of it"),
        pytest.param(endless, "more than 4194304 bytes", id="an endless answer"),
        pytest.param(cut, "ServerDisconnectedError", id="a broken connection"),
    ],
)
async def test_metrics_that_cannot_be_read_are_unknown(serve: Serve, handler: Handler, reason: str) -> None:
    found = await (await serve(handler)).metrics()
    assert isinstance(found, Unknown)
    assert reason in found.reason
    assert found.reason.startswith(f"{LOOPBACK}:")


@pytest.mark.usefixtures("impatient")
async def test_metrics_that_do_not_come_in_time_are_unknown(serve: Serve) -> None:
    found = await (await serve(silent)).metrics()
    assert isinstance(found, Unknown)
    assert "did not answer within 0.2 s" in found.reason


async def test_nobody_there_is_unknown(engines: Engines, unreachable: int) -> None:
    engine = engines.at(LOOPBACK, unreachable)
    for found in (await engine.metrics(), await engine.version(), await engine.probe("tiny", 1.0)):
        assert isinstance(found, Unknown)
        assert "ClientConnectorError" in found.reason


async def test_a_probe_asks_for_one_token_and_is_answered(serve: Serve) -> None:
    asked = []

    async def completion(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.path, await request.json()))
        return web.json_response({"choices": [{"text": "a"}]})

    found = await (await serve(completion)).probe("tiny", 60.0)
    assert isinstance(found, Known)
    assert found.value.answered
    assert 0 < found.value.seconds < 60
    question = {"model": "tiny", "prompt": "Hi", "max_tokens": 1, "temperature": 0}
    assert asked == [("POST", "/v1/completions", question)]


async def test_silence_after_the_question_is_an_answer_too(serve: Serve) -> None:
    found = await (await serve(silent)).probe("tiny", 0.3)
    assert found == Known(ProbeAnswer(answered=False, seconds=0.3), NOW)


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(text("no such model", 404), id="the model completes no text"),
        pytest.param(text("cannot schedule new futures after shutdown", 500), id="the engine is shutting down"),
        pytest.param(text("The engine is currently busy.", 503), id="the queue is full"),
        pytest.param(redirecting, id="a redirect"),
        pytest.param(cut, id="a broken connection"),
    ],
)
async def test_a_probe_that_is_refused_or_cut_off_is_unknown(serve: Serve, handler: Handler) -> None:
    found = await (await serve(handler)).probe("tiny", 60.0)
    assert isinstance(found, Unknown)
    assert "the probe came to nothing" in found.reason


@pytest.mark.usefixtures("impatient")
async def test_a_pod_that_lets_nobody_in_is_unknown_and_not_silent(engines: Engines) -> None:
    with socket.socket() as full:
        # A queue of connections that nobody accepts: what a policy that drops packets looks like.
        full.bind((LOOPBACK, 0))
        full.listen(0)
        port = int(full.getsockname()[1])
        with socket.create_connection((LOOPBACK, port)), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex((LOOPBACK, port))
            found = await engines.at(LOOPBACK, port).probe("tiny", 60.0)
    assert isinstance(found, Unknown)
    assert "ConnectionTimeoutError" in found.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param('{"version": "0.32.0"}', "0.32.0", id="a release"),
        pytest.param('{"version": "0.33.0rc1+cpu"}', "0.33.0rc1+cpu", id="a build"),
        pytest.param('{"version": "<b>"}', None, id="markup"),
        pytest.param('{"version": 3}', None, id="a number"),
        pytest.param('["0.32.0"]', None, id="a list"),
        pytest.param("0.32.0", None, id="no object"),
        pytest.param("{", None, id="no JSON"),
    ],
)
async def test_the_version_that_answers(serve: Serve, body: str, expected: str | None) -> None:
    found = await (await serve(text(body))).version()
    assert (found.value if isinstance(found, Known) else None) == expected


@pytest.mark.parametrize("address", ["example.com", "10.0.0.1/x", "10.0.0.1:80", ""])
async def test_only_addresses_are_asked(engines: Engines, address: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        engines.at(address)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(WANTED | DETAILS | BUCKETS)), st.text(max_size=40)), max_size=5))
def test_no_answer_upsets_the_reader(lines: list[tuple[str, str]]) -> None:
    body = "\n".join(f"{name}{rest}" for name, rest in lines)
    try:
        found = engine_metrics(module._samples(body, detailed=True), detailed=True)
    except Unanswered:
        return
    assert isinstance(found, EngineMetrics | Unknown)


@pytest.mark.parametrize("version", ["0.8.0", "0.9.1", "0.10.0", "0.18.0", "0.31.0", "0.32.0"])
async def test_a_simulated_engine_of_each_age_is_read_and_probed(
    start: Callable[..., Awaitable[tuple[Simulated, Engine]]], version: str
) -> None:
    _, engine = await start(version=version)
    before = await engine.metrics()
    answer = await engine.probe("tiny", 60.0)
    after = await engine.metrics(detailed=True)
    assert isinstance(before, Known)
    assert isinstance(after, Known)
    assert isinstance(answer, Known)
    assert answer.value.answered
    assert (after.value.generation_tokens, before.value.generation_tokens) == (1, 0)
    assert after.value.mark != before.value.mark
    details = after.value.details
    assert details is not None
    assert (details.first_token or EMPTY).total == 1
    assert details.inter_token is not None
    assert {reason: count for reason, count in details.finished.items() if count} == {"length": 1}
    assert (details.inference_seconds or 0) > 0
    assert await engine.version() == Known(version, NOW)


async def test_a_hung_simulated_engine_is_silent_while_its_metrics_answer(
    start: Callable[..., Awaitable[tuple[Simulated, Engine]]],
) -> None:
    _, engine = await start(faults=Faults(hang=True))
    before = await engine.metrics()
    assert await engine.probe("tiny", 0.5) == Known(ProbeAnswer(answered=False, seconds=0.5), NOW)
    after = await engine.metrics(detailed=True)
    assert isinstance(before, Known)
    assert isinstance(after, Known)
    assert isinstance(after.value, EngineMetrics)
    assert after.value.mark == before.value.mark
