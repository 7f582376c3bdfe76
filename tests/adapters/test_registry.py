import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from nightshift.adapters.registry import (
    MANIFEST_BYTES,
    DigestAnswer,
    ImageRepository,
    Registry,
    parse_repository,
)
from nightshift.core.facts import ImageNotFound, Known, Unknown

NOW = datetime(2026, 3, 1, tzinfo=UTC)
INDEX = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
DIGEST = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Ask = Callable[..., Awaitable[DigestAnswer]]


class FakeRegistry:
    """A registry whose answers a test writes; keeps what it was asked."""

    def __init__(self) -> None:
        self.handler: Handler = self.serve
        self.asked: list[web.Request] = []
        self.url = ""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.handler(request)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v2/team/engine/manifests/v1":
            return self.missing()
        return web.Response(body=INDEX, content_type=INDEX_TYPE, headers={"Docker-Content-Digest": DIGEST})

    def missing(self) -> web.Response:
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    def methods(self) -> list[str]:
        return [request.method for request in self.asked]


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake


@pytest_asyncio.fixture
async def ask(registry: FakeRegistry) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession() as session:
        client = Registry(session, frozenset({registry.host}), timeout_seconds=2, now=lambda: NOW)

        async def resolve(tag: str = "v1", image: str = "team/engine") -> DigestAnswer:
            return await client.resolve_digest(f"{registry.host}/{image}", tag)

        yield resolve


def answering(response: Callable[[web.Request], web.StreamResponse]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return response(request)

    return handler


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", ImageRepository("registry-1.docker.io", "library/busybox")),
        ("vllm/vllm-openai", ImageRepository("registry-1.docker.io", "vllm/vllm-openai")),
        ("docker.io/vllm/vllm-openai", ImageRepository("registry-1.docker.io", "vllm/vllm-openai")),
        ("docker.io/busybox", ImageRepository("registry-1.docker.io", "library/busybox")),
        ("index.docker.io/vllm/vllm-openai", ImageRepository("registry-1.docker.io", "vllm/vllm-openai")),
        ("10.250.0.1:5000/nightshift/vllm-cpu", ImageRepository("10.250.0.1:5000", "nightshift/vllm-cpu")),
        ("localhost/a", ImageRepository("localhost", "a")),
        ("localhost:5000/a/b/c", ImageRepository("localhost:5000", "a/b/c")),
        ("Quay.IO/team/my_image.x", ImageRepository("quay.io", "team/my_image.x")),
        ("[::1]:5000/a", ImageRepository("[::1]:5000", "a")),
    ],
)
def test_parses_repositories_as_container_runtimes_do(text: str, expected: ImageRepository) -> None:
    assert parse_repository(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "quay.io/",
        "quay.io/team/image:v1",
        "quay.io/team/image@sha256:" + "0" * 64,
        "https://quay.io/team/image",
        "user:secret@quay.io/team/image",
        "quay.io/../v2/other",
        "quay.io/Team/image",
        "quay.io/team//image",
        "quay.io:port/team/image",
        "quay.io/team/image?x=1",
        "quay.io/team/ima ge",
        "a/" * 200 + "a",
    ],
)
def test_refuses_what_is_no_repository(text: str) -> None:
    with pytest.raises(ValueError, match="not an image repository"):
        parse_repository(text)


def test_shows_docker_hub_under_the_name_that_users_write() -> None:
    assert str(parse_repository("busybox")) == "docker.io/library/busybox"


async def test_a_tag_is_resolved_without_reading_the_manifest(ask: Ask, registry: FakeRegistry) -> None:
    assert await ask() == Known(DIGEST, NOW)
    assert registry.methods() == ["HEAD"]
    assert INDEX_TYPE in registry.asked[0].headers["Accept"]


@pytest.mark.parametrize("status", [200, 405])
async def test_the_manifest_is_hashed_when_head_names_no_digest(ask: Ask, registry: FakeRegistry, status: int) -> None:
    def response(request: web.Request) -> web.StreamResponse:
        return web.Response(body=INDEX) if request.method == "GET" else web.Response(status=status)

    registry.handler = answering(response)
    assert await ask() == Known(DIGEST, NOW)
    assert registry.methods() == ["HEAD", "GET"]


async def test_a_missing_tag_is_a_definite_answer(ask: Ask) -> None:
    answer = await ask("v9")
    assert isinstance(answer, ImageNotFound)
    assert "no image team/engine with tag v9; correct spec.engine.image" in answer.message


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda _: web.Response(status=401), "wants credentials for team/engine"),
        (
            lambda _: web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
            "wants credentials",
        ),
        (lambda _: web.Response(status=403), "wants credentials"),
        (lambda _: web.Response(status=429), "limits the rate"),
        (lambda _: web.Response(status=503), "answered 503"),
        (lambda _: web.Response(status=404, text="<html>", content_type="text/html"), "answered 404"),
        (lambda _: web.Response(text="<html>", content_type="text/html"), "no image manifest"),
        (lambda _: web.Response(text='{"schemaVersion": 1}'), "no image manifest"),
        (lambda _: web.Response(text="[" * 100_000), "no image manifest"),
        (
            lambda r: web.Response(
                body=INDEX,
                headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"} if r.method == "GET" else {},
            ),
            "another digest",
        ),
        (lambda _: web.Response(body=b" " * (MANIFEST_BYTES + 1)), f"more than {MANIFEST_BYTES} bytes"),
        (lambda r: web.Response(status=307, headers={"Location": r.path}), "redirects more than"),
        (
            lambda r: web.Response(status=307, headers={"Location": f"https://{r.host}{r.path}"}),
            "redirects to https",
        ),
        (lambda _: web.Response(status=307, headers={"Location": "file:///etc/passwd"}), "redirects to file"),
        (lambda _: web.Response(status=307, headers={"Location": "http://10.0.0.1/"}), "redirects to http"),
    ],
)
async def test_every_other_answer_is_unknown(
    ask: Ask, registry: FakeRegistry, response: Callable[[web.Request], web.StreamResponse], reason: str
) -> None:
    registry.handler = answering(response)
    answer = await ask()
    assert isinstance(answer, Unknown)
    assert reason in answer.reason


async def test_a_redirect_within_the_registry_is_followed(ask: Ask, registry: FakeRegistry) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/team/moved/manifests/v1":
            raise web.HTTPTemporaryRedirect("/v2/team/engine/manifests/v1")
        return await registry.serve(request)

    registry.handler = handler
    assert await ask(image="team/moved") == Known(DIGEST, NOW)


async def test_silence_is_unknown_within_the_time_limit(ask: Ask, registry: FakeRegistry) -> None:
    released = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    registry.handler = handler
    try:
        async with asyncio.timeout(5):
            answer = await ask()
    finally:
        released.set()
    assert isinstance(answer, Unknown)
    assert "did not answer within 2 s" in answer.reason


async def test_nobody_listening_is_unknown(unused_tcp_port: int) -> None:
    host = f"127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession() as session:
        answer = await Registry(session, frozenset({host})).resolve_digest(f"{host}/a", "v1")
    assert isinstance(answer, Unknown)
    assert "cannot be reached" in answer.reason


async def test_plain_http_only_where_allowed(registry: FakeRegistry) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await Registry(session).resolve_digest(f"{registry.host}/team/engine", "v1")
    assert isinstance(answer, Unknown)
    assert registry.asked == []


@pytest.mark.parametrize(("repository", "tag"), [("not a repository", "v1"), ("quay.io/a", "v1/../v2")])
async def test_nonsense_is_not_asked(repository: str, tag: str) -> None:
    async with aiohttp.ClientSession() as session:
        assert isinstance(await Registry(session).resolve_digest(repository, tag), Unknown)


def with_tokens(registry: FakeRegistry, realm: str, token: object = "anonymous-token") -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": token})
        if request.headers.get("Authorization") == f"Bearer {token}":
            return await registry.serve(request)
        challenge = f'Bearer realm="{realm}",service="registry",scope="repository:other:push"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    return handler


async def test_an_anonymous_token_is_fetched_for_this_image_only(ask: Ask, registry: FakeRegistry) -> None:
    registry.handler = with_tokens(registry, f"{registry.url}/token")
    assert await ask() == Known(DIGEST, NOW)
    token_request = registry.asked[1]
    assert dict(token_request.query) == {"service": "registry", "scope": "repository:team/engine:pull"}
    assert "Authorization" not in token_request.headers


async def test_a_missing_tag_is_told_with_a_token_too(ask: Ask, registry: FakeRegistry) -> None:
    registry.handler = with_tokens(registry, f"{registry.url}/token")
    assert isinstance(await ask("v9"), ImageNotFound)


@pytest.mark.parametrize(
    "realm", ["http://elsewhere.example/token", "file:///etc/passwd", "https://user:pw@elsewhere.example/", ""]
)
async def test_a_token_is_not_fetched_from_just_anywhere(ask: Ask, registry: FakeRegistry, realm: str) -> None:
    registry.handler = with_tokens(registry, realm)
    assert isinstance(await ask(), Unknown)
    assert registry.methods() == ["HEAD"]


@pytest.mark.parametrize("token", [None, 5, "", "a\nb", "x" * 20_000])
async def test_a_token_that_is_none_is_unknown(ask: Ask, registry: FakeRegistry, token: object) -> None:
    registry.handler = with_tokens(registry, f"{registry.url}/token", token)
    answer = await ask()
    assert isinstance(answer, Unknown)
    assert "none came" in answer.reason


async def test_the_token_stays_with_its_registry(ask: Ask, registry: FakeRegistry) -> None:
    other = registry.url.replace("127.0.0.1", "localhost")
    tokens = with_tokens(registry, f"{registry.url}/token")

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.host.startswith("127.0.0.1") and "Authorization" in request.headers:
            raise web.HTTPTemporaryRedirect(f"{other}{request.path}")
        return await tokens(request)

    registry.handler = handler
    async with aiohttp.ClientSession() as session:
        hosts = frozenset({registry.host, other.removeprefix("http://")})
        answer = await Registry(session, hosts).resolve_digest(f"{registry.host}/team/engine", "v1")
    assert isinstance(answer, Unknown)
    assert registry.asked[-1].host.startswith("localhost")
    assert "Authorization" not in registry.asked[-1].headers
