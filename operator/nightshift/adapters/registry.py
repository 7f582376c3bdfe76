"""An OCI image registry, asked for one thing: the digest that a tag names now.

Speaks the distribution protocol without credentials, with the anonymous token that public registries
hand out. https://github.com/opencontainers/distribution-spec
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import aiohttp
from yarl import URL

from nightshift.adapters.bounded import read_bounded
from nightshift.core.facts import Fact, ImageNotFound, Known, Unknown

REQUEST_SECONDS = 10.0
"""Time limit of a whole question, redirects and token included."""

MANIFEST_BYTES = 4 * 1024 * 1024
"""Largest manifest that registries must accept, and the most that is read of an answer."""

_TOKEN_BYTES = 64 * 1024
_MAX_REDIRECTS = 3
_DOCKER_HUB = "registry-1.docker.io"
_DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", _DOCKER_HUB})
_ACCEPT = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")


DigestAnswer: TypeAlias = Fact[str] | ImageNotFound
"""A digest (sha256:...), a definite no, or unknown."""


@dataclass(frozen=True)
class ImageRepository:
    """Where the tags of an image are kept."""

    host: str
    """HOST or HOST:PORT that answers the protocol."""
    path: str

    def __str__(self) -> str:
        """The repository as users write it in full."""
        return f"{'docker.io' if self.host == _DOCKER_HUB else self.host}/{self.path}"


def parse_repository(text: str) -> ImageRepository:
    """Parse HOST[:PORT]/PATH, or a short form of Docker Hub: `vllm/vllm-openai`, `busybox`.

    The first part is a host when it has a dot or a colon or is localhost, as container runtimes read it.

    Raises:
        ValueError: It is not a repository, or has a tag or digest.
    """
    first, slash, rest = text.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if has_host else ("docker.io", text)
    host = host.lower()
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or len(path) > 255:
        raise ValueError(f"{text[:300]!r} is not an image repository (HOST[:PORT]/PATH, without tag or digest)")
    if host in _DOCKER_HUB_NAMES:
        return ImageRepository(_DOCKER_HUB, path if "/" in path else f"library/{path}")
    return ImageRepository(host, path)


class _Unanswered(Exception):  # noqa: N818 - carries the reason of an Unknown
    pass


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Registry:
    """Asks registries; one for the life of the operator, over one session."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        insecure: frozenset[str] = frozenset(),
        timeout_seconds: float = REQUEST_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set up the client.

        Args:
            session: Opened and closed by the caller.
            insecure: HOST[:PORT] of registries that are asked over plain HTTP; all others over TLS.
            timeout_seconds: For one question.
            now: The clock that dates the answers.
        """
        self._session = session
        self._insecure = frozenset(host.lower() for host in insecure)
        self._timeout_seconds = timeout_seconds
        self._now = now

    async def resolve_digest(self, repository: str, tag: str) -> DigestAnswer:
        """The digest that a tag names now: of the index where the image has one, else of the manifest.

        Args:
            repository: As users write it, such as docker.io/vllm/vllm-openai.
            tag: Such as v0.32.0.

        Returns:
            Known with the digest; ImageNotFound when the registry says that there is none; Unknown for
            everything else, such as missing credentials, a time limit, or an answer that makes no sense.
        """
        try:
            image = parse_repository(repository)
        except ValueError as error:
            return Unknown(f"{error}.")
        if not _TAG.fullmatch(tag):
            return Unknown(f"{tag[:200]!r} is not an image tag.")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask(image, tag)
        except _Unanswered as error:
            return Unknown(str(error))
        except TimeoutError:
            return Unknown(f"Registry {image.host} did not answer within {self._timeout_seconds:g} s.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Unknown(f"Registry {image.host} cannot be reached: {type(error).__name__}: {error}")

    async def _ask(self, image: ImageRepository, tag: str) -> DigestAnswer:
        scheme = "http" if image.host in self._insecure else "https"
        url = URL(f"{scheme}://{image.host}/v2/{image.path}/manifests/{tag}")
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        answer = await self._request("HEAD", url, headers)
        if answer.status == 401:
            token = await self._anonymous_token(image, answer)
            headers["Authorization"] = f"Bearer {token}"
            answer = await self._request("HEAD", url, headers)
        digest = answer.headers.get("docker-content-digest", "")
        if answer.status == 200 and _DIGEST.fullmatch(digest):
            return Known(digest, self._now())
        if answer.status in (200, 400, 404, 405):
            # Some registries answer HEAD badly; and only a body tells a registry's 404 from a web server's.
            answer = await self._request("GET", url, headers)
        if answer.status == 200:
            return Known(_digest_of(image, answer), self._now())
        if answer.status == 404 and "html" not in answer.headers.get("content-type", ""):
            return ImageNotFound(
                f"Registry {image.host} has no image {image.path} with tag {tag}; correct spec.engine.image or "
                "spec.engine.version."
            )
        raise _Unanswered(_explain(image, answer.status))

    async def _anonymous_token(self, image: ImageRepository, refusal: _Answer) -> str:
        challenge = refusal.headers.get("www-authenticate", "")
        kind, _, parameters = challenge.partition(" ")
        values = {name.lower(): value for name, value in _CHALLENGE.findall(parameters)}
        realm = URL(values.get("realm", ""))
        if kind.lower() != "bearer" or not self._may_ask(realm):
            raise _Unanswered(_explain(image, 401))
        scope = f"repository:{image.path}:pull"
        query = {"scope": scope} | ({"service": values["service"]} if "service" in values else {})
        answer = await self._request("GET", realm.update_query(query), {}, _TOKEN_BYTES)
        if answer.status != 200:
            raise _Unanswered(_explain(image, answer.status))
        try:
            found = json.loads(answer.body)
            token = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not _BEARER_TOKEN.fullmatch(token):
            raise _Unanswered(f"Registry {image.host} sends to {realm.host} for a token and none came.")
        return token

    def _may_ask(self, url: URL) -> bool:
        """Plain HTTP only where an administrator allowed it: the answer would be anybody's."""
        if url.scheme == "http":
            return url.authority.lower() in self._insecure
        return url.scheme == "https" and bool(url.host) and url.user is None

    async def _request(self, method: str, url: URL, headers: dict[str, str], limit: int = MANIFEST_BYTES) -> _Answer:
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    body = await read_bounded(response, limit) if method == "GET" else b""
                    if body is None:
                        raise _Unanswered(f"Registry {response.url.host} answers with more than {limit} bytes.")
                    return _Answer(
                        response.status, {name.lower(): value for name, value in response.headers.items()}, body
                    )
                target = url.join(URL(response.headers.get("Location", "")))
            if target.scheme != url.scheme or not self._may_ask(target):
                raise _Unanswered(
                    f"Registry {url.host} redirects to {target.scheme}://{target.host}, which is not asked."
                )
            if target.origin() != url.origin():
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise _Unanswered(f"Registry {url.host} redirects more than {_MAX_REDIRECTS} times.")


def _digest_of(image: ImageRepository, answer: _Answer) -> str:
    """The digest of a manifest that was read in full, checked against what the registry claims."""
    try:
        manifest = json.loads(answer.body)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
        raise _Unanswered(f"Registry {image.host} answers with something that is no image manifest.")
    digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
    if answer.headers.get("docker-content-digest", digest) != digest:
        raise _Unanswered(f"Registry {image.host} names another digest than its manifest has.")
    return digest


def _explain(image: ImageRepository, status: int) -> str:
    if status in (401, 403):
        return f"Registry {image.host} wants credentials for {image.path}, and the operator asks without any."
    if status == 429:
        return f"Registry {image.host} limits the rate of questions (429); it is asked again later."
    return f"Registry {image.host} answered {status} for {image.path}."
