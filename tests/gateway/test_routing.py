"""Which engine a request reaches, and what the client is told where none is: real HAProxy, engines on sockets."""

import json
from typing import Any

import aiohttp
import httpx2
import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types import Model as OpenAIModel

from nightshift.core.gateway.holding import standing
from nightshift.core.gateway.paths import ALLOWED
from nightshift.gateway.models import serve_models
from tests.gateway.conftest import MakeEngine
from tests.gateway.states import state
from tests.support.raw_engine import respond
from tests.support.real_haproxy import Gateway, Model, Pod, pod, route

CHAT = {"model": "ml/bot", "messages": [{"role": "user", "content": "hello"}]}
Headers = dict[str, str]


async def ask(
    gateway: Gateway, path: str, body: Any = CHAT, headers: Headers | None = None, method: str = "POST"
) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with gateway.session() as session:
        given = {"Content-Type": "application/json", **(headers or {})}
        async with session.request(method, path, data=data if method == "POST" else None, headers=given) as response:
            text = await response.text()
            assert response.content_type == "application/json", text
            return response.status, json.loads(text), response


@pytest.mark.parametrize(
    ("what", "path", "headers", "body", "reached"),
    [
        ("the path", "/ml/bot/v1/chat/completions", {}, CHAT, "a"),
        ("the path, whatever the body says", "/ml/other/v1/chat/completions", {}, CHAT, "b"),
        ("the path, whatever the Host says", "/ml/other/v1/chat/completions", {"Host": "bot.ml"}, CHAT, "b"),
        ("the Host", "/v1/chat/completions", {"Host": "other.ml"}, CHAT, "b"),
        ("the Host with a port", "/v1/chat/completions", {"Host": "other.ml:8000"}, CHAT, "b"),
        ("the Host's service name", "/v1/chat/completions", {"Host": "other.ml.svc"}, CHAT, "b"),
        ("the Host in full", "/v1/chat/completions", {"Host": "other.ml.svc.cluster.local:80"}, CHAT, "b"),
        ("the Host with a dot at its end", "/v1/chat/completions", {"Host": "other.ml.svc.cluster.local."}, CHAT, "b"),
        ("the Host in capitals", "/v1/chat/completions", {"Host": "Other.ML"}, CHAT, "b"),
        ("the header x-model", "/v1/chat/completions", {"x-model": "ml/other"}, CHAT, "b"),
        ("a short name in the header", "/v1/chat/completions", {"x-model": "quick"}, CHAT, "b"),
        ("the model in the body", "/v1/chat/completions", {}, {"model": "ml/other"}, "b"),
        ("a short name in the body", "/v1/chat/completions", {}, {"model": "quick"}, "b"),
        ("the model behind the messages", "/v1/chat/completions", {}, {"m": ["x" * 30_000], "model": "ml/bot"}, "a"),
        ("its path in a namespace called v1", "/v1/bot/v1/chat/completions", {}, {}, "c"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
async def test_a_request_reaches_the_engine_that_it_names_by(
    gateway: Gateway, engine: MakeEngine, what: str, path: str, headers: Headers, body: Any, reached: str
) -> None:
    a, b, c = [await engine(name) for name in "abc"]
    elsewhere = route().model_copy(update={"namespace": "v1"})
    await gateway.settle(
        Model(route(), {"r1": [pod(a)]}),
        Model(route("other", shortNames=["quick"]), {"r1": [pod(b)]}),
        Model(elsewhere, {"r1": [pod(c)]}),
    )
    status, answer, _ = await ask(gateway, path, body, headers)
    assert (status, answer) == (200, {"engine": reached})
    (seen,) = a.seen + b.seen + c.seen
    assert (seen.method, seen.target) == ("POST", "/v1/chat/completions")
    assert json.loads(seen.body) == body


@pytest.mark.parametrize(
    ("what", "path", "headers", "body", "status", "code", "says"),
    [
        ("an unknown model in the body", "/v1/chat/completions", {}, {"model": "gpt"}, 404, "model_not_found", "gpt"),
        ("a name with signs", "/v1/chat/completions", {}, {"model": "'\"%[x]\\"}, 404, "model_not_found", "'\"%[x]\\"),
        ("an unknown model in the header", "/v1/completions", {"x-model": "gpt"}, {}, 404, "model_not_found", "gpt"),
        ("an unknown model in the path", "/ml/x/v1/completions", {}, {}, 404, "model_not_found", "ml/x"),
        ("a bare Host", "/v1/completions", {"Host": "bot"}, CHAT, 404, "host_not_full", "bot.ml"),
        ("no model at all", "/v1/completions", {}, {"messages": []}, 400, "model_missing", "x-model"),
        ("a model that is no text", "/v1/completions", {}, {"model": ["ml/bot"]}, 400, "model_missing", "x-model"),
        ("a body that is no JSON", "/v1/completions", {}, b"\xff{{{", 400, "model_missing", "x-model"),
        ("no body", "/v1/completions", {}, b"", 400, "model_missing", "x-model"),
        ("an embedding of a chat model", "/v1/embeddings", {}, CHAT, 404, "path_not_served", "/v1/embeddings"),
        ("a path outside of all", "/metrics", {}, CHAT, 404, "unknown_path", "/metrics"),
        ("the root", "/", {}, CHAT, 404, "unknown_path", "/NAMESPACE/NAME/v1"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
async def test_an_error_in_openais_shape_says_what_is_wrong_with(
    gateway: Gateway, what: str, path: str, headers: Headers, body: Any, status: int, code: str, says: str
) -> None:
    await gateway.settle(Model(route(), {"r1": [Pod("p", 1)]}))
    got, answer, _ = await ask(gateway, path, body, headers)
    assert (got, answer["error"]["code"]) == (status, code)
    assert says in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


async def test_a_body_of_a_megabyte_reaches_the_engine_by_path_host_and_header(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    large = {"messages": ["x" * 1_000_000], "model": "ml/bot"}
    for path, headers in (
        ("/ml/bot/v1/chat/completions", {}),
        ("/v1/chat/completions", {"Host": "bot.ml"}),
        ("/v1/chat/completions", {"x-model": "ml/bot"}),
        ("/ml/bot/v1/chat/completions", {"Expect": "100-continue"}),
    ):
        status, _, _ = await ask(gateway, path, large, headers)
        assert status == 200
    assert [len(one.body) for one in a.seen] == [len(json.dumps(large))] * 4


@pytest.mark.parametrize("early", [False, True], ids=["model behind", "model in front"])
async def test_a_body_over_the_buffer_without_another_way_to_know_the_model_is_told_the_remedies(
    gateway: Gateway, engine: MakeEngine, early: bool
) -> None:
    a = await engine()
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    parts = [("model", "ml/bot"), ("messages", ["x" * 1_000_000])]
    status, answer, _ = await ask(gateway, "/v1/chat/completions", dict(parts if early else parts[::-1]))
    assert (status, answer["error"]["code"]) == (413, "model_not_visible")
    for remedy in ("/NAMESPACE/NAME/v1", "Host", "x-model"):
        assert remedy in answer["error"]["message"]
    assert a.seen == []


async def test_a_body_over_the_models_own_limit_is_refused_with_the_limit(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine()
    await gateway.settle(Model(route(limits={"bodyBytes": 100_000}), {"r1": [pod(a)]}))
    status, answer, _ = await ask(gateway, "/ml/bot/v1/completions", {"prompt": "x" * 100_001})
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "100000 bytes" in answer["error"]["message"]
    status, _, _ = await ask(gateway, "/ml/bot/v1/completions", {"prompt": "x" * 90_000})
    assert (status, len(a.seen)) == (200, 1)


async def test_a_chunked_body_passes_where_it_fits_the_buffer_and_needs_a_length_where_not(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine()
    await gateway.settle(Model(route(limits={"bodyBytes": 100_000}), {"r1": [pod(a)]}))
    head = b"POST /ml/bot/v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for count, status in ((3, b"200"), (100, b"411")):
        chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        answer = await gateway.raw(head + chunk * count + b"0\r\n\r\n")
        assert answer.split(b" ", 2)[1] == status
    assert [len(one.body) for one in a.seen] == [30_000]


async def test_a_model_that_is_off_is_refused_at_once_with_its_name(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine()
    await gateway.settle(Model(route(state="Off"), {"r1": [pod(a)]}))
    status, answer, response = await ask(gateway, "/ml/bot/v1/chat/completions")
    assert (status, answer["error"]["code"], response.headers["x-should-retry"]) == (503, "model_off", "false")
    held = standing("ml/bot", state(state="Off"))
    assert held is not None
    assert answer["error"]["message"] == held.message, "the same that the activator says, with the remedy"
    assert a.seen == []


@pytest.mark.parametrize("task", sorted(ALLOWED))
async def test_a_task_has_its_paths_and_no_others(gateway: Gateway, engine: MakeEngine, task: str) -> None:
    a = await engine()
    await gateway.settle(Model(route(task=task), {"r1": [pod(a)]}))
    every = sorted({line for lines in ALLOWED.values() for line in lines})
    served = []
    for line in every:
        status, _, _ = await ask(gateway, "/ml/bot" + line.split()[1], {})
        assert status in (200, 404)
        served += [line] if status == 200 else []
    assert served == sorted(ALLOWED[task])  # type: ignore[index]
    assert a.paths == served


async def test_what_clients_say_in_nightshifts_own_headers_reaches_nobody(gateway: Gateway, engine: MakeEngine) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(), {"r1": [pod(a)]}), Model(route("asleep"), {}))
    activator = await engine("activator", gateway.directory / "activator.sock")
    forged = {"X-Nightshift-Released": "ml/asleep", "x-nightshift-route": "ml/other", "x-nightshift-x": "1"}
    assert (await ask(gateway, "/ml/bot/v1/chat/completions", CHAT, forged))[0] == 200
    assert [name for name in a.seen[0].headers if name.startswith("x-nightshift")] == []
    assert (await ask(gateway, "/ml/asleep/v1/chat/completions", CHAT, forged))[0] == 200
    (held,) = activator.seen
    told = {name: value for name, value in held.headers.items() if name.startswith("x-nightshift")}
    assert told == {"x-nightshift-route": "ml/asleep", "x-nightshift-revision-slot": "be_l600_0"}
    assert held.target == "/v1/chat/completions"


async def test_models_are_listed_for_all_and_for_one_by_the_official_client(gateway: Gateway) -> None:
    adapters = [{"name": "refunds", "pods": []}]
    models = (route(shortNames=["quick"], adapters=adapters), route("other"))
    await gateway.settle(*(Model(one, {}) for one in models))
    runner = await serve_models(gateway.directory / "agent.sock", lambda: models)
    try:
        assert [one.id for one in await _models(gateway, "/v1")] == [
            "ml/bot",
            "ml/bot:refunds",
            "ml/other",
            "quick",
            "quick:refunds",
            "refunds",
        ]
        assert [(one.id, getattr(one, "parent", "")) for one in await _models(gateway, "/ml/bot/v1")] == [
            ("bot", None),
            ("refunds", "bot"),
        ]
    finally:
        await runner.cleanup()


async def _models(gateway: Gateway, base: str) -> list[OpenAIModel]:
    transport = httpx2.AsyncHTTPTransport(uds=str(gateway.directory / "main.sock"))
    async with httpx2.AsyncClient(transport=transport) as http:
        client = AsyncOpenAI(base_url=f"http://gateway{base}", api_key="none", http_client=http, max_retries=0)
        found = [model async for model in client.models.list()]
        for model in found[:1]:
            assert (await client.models.retrieve(model.id)).id == model.id
        with pytest.raises(NotFoundError, match="There is no model nothing"):
            await client.models.retrieve("nothing")
        return found


async def test_an_answer_of_the_engine_comes_back_as_it_is(gateway: Gateway, engine: MakeEngine) -> None:
    async def refuses(_: Any, writer: Any) -> None:
        respond(writer, b'{"error": {"message": "too long", "type": "BadRequestError"}}', 400)

    a = await engine(answer=refuses)
    await gateway.settle(Model(route(), {"r1": [pod(a)]}))
    status, answer, _ = await ask(gateway, "/ml/bot/v1/chat/completions")
    assert (status, answer["error"]["message"], len(a.seen)) == (400, "too long", 1)
