"""One engine pod, by vLLM's HTTP server: its metrics, its version, and a question that costs one token.

A pod's answer is a stranger's: sizes, times and redirects are bounded, and what makes no sense is Unknown.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from nightshift.api import names
from nightshift.core.engine_metrics import WANTED, EngineMetrics, ProbeAnswer, Sample, engine_metrics
from nightshift.core.facts import Fact, Known, Unknown

CONNECT_SECONDS = 5.0
"""Longer than two lost packets. A pod that a NetworkPolicy hides refuses or drops within this time."""

REQUEST_SECONDS = 10.0
"""Time limit of every request that needs no work of the engine."""

METRICS_BYTES = 4 * 1024 * 1024
"""vLLM 0.32.0 sends 64 KB; histograms of many adapters and handlers are several times that."""

ANSWER_BYTES = 256 * 1024

_WANTED_CHARACTERS = 256 * 1024
"""Of the lines that are parsed: 2 KB for one engine of vLLM 0.32.0."""

_CONNECTIONS = 200
"""Open at the same time, over all engines."""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,63}")
_PROBE_PROMPT = "Hi"


class Engine(Protocol):
    """What is needed of one engine."""

    async def metrics(self) -> Fact[EngineMetrics]:
        """What the engine counts, as of now."""

    async def probe(self, served_name: str, deadline_seconds: float) -> Fact[ProbeAnswer]:
        """Ask the engine for one token."""

    async def version(self) -> Fact[str]:
        """The vLLM version that answers."""


class Engines:
    """Clients of engine pods over one session; one for the life of the operator."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the session; needs a running event loop."""
        # No proxies, cookies or decompression; connections are not kept, since questions are far apart.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "nightshift"},
        )
        self._now = now

    def at(self, pod_ip: str, port: int = names.ENGINE_PORT) -> Engine:
        """The engine of a pod.

        Raises:
            ValueError: The address is no IP address.
        """
        return EngineClient(self._session, str(ip_address(pod_ip)), port, self._now)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


class Unanswered(Exception):  # noqa: N818 - carries the reason of an Unknown
    """No usable answer came; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An answer, read in full unless the reader wanted its status only."""

    status: int
    body: bytes


class EngineClient:
    """One engine pod."""

    def __init__(self, session: aiohttp.ClientSession, ip: str, port: int, now: Callable[[], datetime]) -> None:
        """Set up the client; the session is opened and closed by the caller."""
        self._session = session
        self._base = URL.build(scheme="http", host=ip, port=port)
        self._now = now

    async def metrics(self) -> Fact[EngineMetrics]:
        """What the engine counts, as of now. Unknown when it does not answer, or answers nonsense."""
        try:
            answer = await self._request("GET", "/metrics", METRICS_BYTES)
            self._expect(answer, "/metrics")
            found = engine_metrics(_samples(answer.body.decode(errors="replace")))
        except Unanswered as error:
            return self._unknown(error)
        return self._unknown(found.reason) if isinstance(found, Unknown) else Known(found, self._now())

    async def probe(self, served_name: str, deadline_seconds: float) -> Fact[ProbeAnswer]:
        """Ask the engine for one token.

        Args:
            served_name: The model's served name.
            deadline_seconds: How long the answer may take once the server took the question.

        Returns:
            Known with `answered` when a token came, and with `answered` false when the connection stood and
            nothing came within the deadline. Unknown for everything else: a connection that could not be made
            or broke, and refusals, such as those of a model that completes no text.
        """
        question = {"model": served_name, "prompt": _PROBE_PROMPT, "max_tokens": 1, "temperature": 0}
        started = asyncio.get_running_loop().time()
        times = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=deadline_seconds
        )
        try:
            # The outer limit bounds a server that sends a little now and then; what that means is not known.
            async with asyncio.timeout(deadline_seconds + 2 * CONNECT_SECONDS):
                answer = await self._send("POST", "/v1/completions", 0, times, question)
            self._expect(answer, "/v1/completions")
        except aiohttp.SocketTimeoutError:
            return Known(ProbeAnswer(answered=False, seconds=deadline_seconds), self._now())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, Unanswered) as error:
            return self._unknown(f"the probe came to nothing: {_named(error)}")
        seconds = asyncio.get_running_loop().time() - started
        return Known(ProbeAnswer(answered=True, seconds=seconds), self._now())

    async def version(self) -> Fact[str]:
        """The vLLM version that answers, such as 0.32.0."""
        try:
            answer = await self._request("GET", "/version", ANSWER_BYTES)
            self._expect(answer, "/version")
            version = _json(answer.body).get("version")
        except Unanswered as error:
            return self._unknown(error)
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            return self._unknown("/version names no version.")
        return Known(version, self._now())

    def _unknown(self, why: object) -> Unknown:
        return Unknown(f"{self._base.authority}: {why}")

    async def _request(self, method: str, path: str, limit: int, body: dict[str, Any] | None = None) -> Answer:
        """One request that needs no work of the engine.

        Args:
            method: HTTP method.
            path: Path of vLLM's server.
            limit: Most bytes that are read of the answer.
            body: Sent as JSON.

        Raises:
            Unanswered: No answer came, or not in time, or it is too long.
        """
        times = aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            return await self._send(method, path, limit, times, body)
        except TimeoutError as error:
            raise Unanswered(f"{path} did not answer within {REQUEST_SECONDS:g} s.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unanswered(f"{path} cannot be reached: {_named(error)}") from error

    async def _send(
        self, method: str, path: str, limit: int, times: aiohttp.ClientTimeout, body: dict[str, Any] | None
    ) -> Answer:
        url = self._base.with_path(path)
        async with self._session.request(method, url, json=body, timeout=times, allow_redirects=False) as response:
            # Where the status says it all, the connection is dropped with the rest of the answer.
            read = await _read(response, limit) if limit else b""
            return Answer(response.status, read)

    @staticmethod
    def _expect(answer: Answer, path: str) -> None:
        if answer.status != 200:
            raise Unanswered(f"{path} answers with status {answer.status}.")


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > limit:
            raise Unanswered(f"{response.url.path} answers with more than {limit} bytes.")
    return bytes(body)


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, Unanswered) else f"{type(error).__name__}: {error}"


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unanswered("the answer is no JSON.") from error
    if not isinstance(found, dict):
        raise Unanswered("the answer is no JSON object.")
    return found


def _samples(text: str) -> Iterator[Sample]:
    """The wanted samples of an answer; the others, most of its lines, are not parsed.

    Raises:
        Unanswered: A wanted line is not in Prometheus' text format, or there are too many.
    """
    wanted = "\n".join(line for line in text.splitlines() if _name(line) in WANTED)
    if len(wanted) > _WANTED_CHARACTERS:
        raise Unanswered(f"/metrics has more than {_WANTED_CHARACTERS} characters of what is read of it.")
    families: Iterable[Any] = text_string_to_metric_families(f"{wanted}\n")
    try:
        for family in families:
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value
    except (ValueError, LookupError) as error:
        raise Unanswered(f"/metrics is not in Prometheus' text format: {str(error)[:200]}") from error


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]
