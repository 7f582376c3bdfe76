"""One engine pod, by vLLM's HTTP server: its metrics, its version, and a question that costs one token.

A pod's answer is a stranger's: sizes, times and redirects are bounded, and what makes no sense is Unknown.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from nightshift.adapters import pod_http
from nightshift.adapters.pod_http import PodServer, Unanswered, expect_ok, json_object, named, pod_session
from nightshift.api import names
from nightshift.core.adapter_sight import AdapterAnswer
from nightshift.core.engine_metrics import (
    BUCKETS,
    DETAILS,
    WANTED,
    EngineMetrics,
    ProbeAnswer,
    Sample,
    engine_metrics,
)
from nightshift.core.facts import Fact, Known, Unknown

METRICS_BYTES = 4 * 1024 * 1024
"""vLLM 0.32.0 sends 64 KB; histograms of many adapters and handlers are several times that."""

LOAD_SECONDS = 120.0
"""Time limit for loading an adapter: it is read from the disk and copied to every accelerator."""

_LONGEST_REFUSAL = 500
"""Characters that are kept of an engine's words."""

_MOST_MODELS = 1000
"""Entries of /v1/models that are looked at."""

_WANTED_CHARACTERS = 256 * 1024
"""Of the lines that are parsed: 2 KB for one engine of vLLM 0.32.0, with the details 6 KB."""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,63}")
_BUCKET = re.compile(r'([a-z_:]+)\{(?:.*,)?le="([0-9.e+Inf-]+)".*\} ([0-9.e+-]+)(?: [0-9]+)?')
_PROBE_PROMPT = "Hi"


class Engine(Protocol):
    """What is needed of one engine."""

    async def metrics(self, *, detailed: bool = False) -> Fact[EngineMetrics]:
        """What the engine counts, as of now; with the details that comparisons need, where they are asked for."""

    async def probe(self, served_name: str, deadline_seconds: float) -> Fact[ProbeAnswer]:
        """Ask the engine for one token."""

    async def version(self) -> Fact[str]:
        """The vLLM version that answers."""


class AdapterEngine(Protocol):
    """What is needed of one engine to give it adapters."""

    async def adapters(self) -> Fact[Mapping[str, str]]:
        """Paths of the loaded adapters, by name."""

    async def load_adapter(self, name: str, path: str) -> Fact[AdapterAnswer]:
        """Load the adapter of a directory under a name that is free."""

    async def unload_adapter(self, name: str) -> Fact[AdapterAnswer]:
        """Forget a name; requests under way end as they began."""


class Engines:
    """Clients of engine pods over one session; one for the life of the operator."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the session; needs a running event loop."""
        self._session = pod_session()
        self._now = now

    def at(self, pod_ip: str, port: int = names.ENGINE_PORT) -> "EngineClient":
        """The engine of a pod.

        Raises:
            ValueError: The address is no IP address.
        """
        return EngineClient(PodServer(self._session, pod_ip, port), self._now)

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


class EngineClient:
    """One engine pod."""

    def __init__(self, server: PodServer, now: Callable[[], datetime]) -> None:
        """Set up the client."""
        self._server = server
        self._now = now

    async def metrics(self, *, detailed: bool = False) -> Fact[EngineMetrics]:
        """What the engine counts, as of now. Unknown when it does not answer, or answers nonsense."""
        try:
            answer = await self._server.request("GET", "/metrics", METRICS_BYTES)
            expect_ok(answer, "/metrics")
            samples = _samples(answer.body.decode(errors="replace"), detailed=detailed)
            found = engine_metrics(samples, detailed=detailed)
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
            total=None,
            connect=pod_http.CONNECT_SECONDS,
            sock_connect=pod_http.CONNECT_SECONDS,
            sock_read=deadline_seconds,
        )
        try:
            # The outer limit bounds a server that sends a little now and then; what that means is not known.
            async with asyncio.timeout(deadline_seconds + 2 * pod_http.CONNECT_SECONDS):
                answer = await self._server.send("POST", "/v1/completions", 0, times, question)
            expect_ok(answer, "/v1/completions")
        except aiohttp.SocketTimeoutError:
            return Known(ProbeAnswer(answered=False, seconds=deadline_seconds), self._now())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, Unanswered) as error:
            return self._unknown(f"the probe came to nothing: {named(error)}")
        seconds = asyncio.get_running_loop().time() - started
        return Known(ProbeAnswer(answered=True, seconds=seconds), self._now())

    async def version(self) -> Fact[str]:
        """The vLLM version that answers, such as 0.32.0."""
        try:
            answer = await self._server.request("GET", "/version")
            expect_ok(answer, "/version")
            version = json_object(answer.body).get("version")
        except Unanswered as error:
            return self._unknown(error)
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            return self._unknown("/version names no version.")
        return Known(version, self._now())

    async def adapters(self) -> Fact[Mapping[str, str]]:
        """Paths of the loaded adapters, by name. Unknown when the engine does not answer, or answers nonsense.

        In /v1/models an adapter has a `parent`, the base model, and its path as `root`.
        """
        try:
            answer = await self._server.request("GET", "/v1/models")
            expect_ok(answer, "/v1/models")
            cards = json_object(answer.body).get("data")
        except Unanswered as error:
            return self._unknown(error)
        if not isinstance(cards, list) or len(cards) > _MOST_MODELS:
            return self._unknown("/v1/models is no list of models.")
        loaded = (card for card in cards if isinstance(card, dict) and card.get("parent"))
        return Known({str(card.get("id")): str(card.get("root")) for card in loaded}, self._now())

    async def load_adapter(self, name: str, path: str) -> Fact[AdapterAnswer]:
        """Load the adapter of a directory under a name that is free."""
        return await self._told("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, LOAD_SECONDS)

    async def unload_adapter(self, name: str) -> Fact[AdapterAnswer]:
        """Forget a name; requests under way end as they began."""
        return await self._told("/v1/unload_lora_adapter", {"lora_name": name}, pod_http.REQUEST_SECONDS)

    async def _told(self, path: str, body: dict[str, Any], seconds: float) -> Fact[AdapterAnswer]:
        try:
            answer = await self._server.request("POST", path, body=body, seconds=seconds)
        except Unanswered as error:
            return self._unknown(error)
        if answer.status == 200:
            return Known(AdapterAnswer(taken=True), self._now())
        return Known(AdapterAnswer(taken=False, message=_refusal(answer.status, answer.body)), self._now())

    def _unknown(self, why: object) -> Unknown:
        return Unknown(f"{self._server.authority}: {why}")


def _refusal(status: int, body: bytes) -> str:
    """Why a request was refused: the engine's message, or the status alone."""
    try:
        error = json_object(body).get("error")
    except Unanswered:
        error = None
    said = error.get("message") if isinstance(error, dict) else None
    return " ".join(str(said).split())[:_LONGEST_REFUSAL] if said else f"status {status}"


def _samples(text: str, *, detailed: bool = False) -> Iterator[Sample]:
    """The wanted samples of an answer; the others, most of its lines, are not parsed.

    Buckets are many and all alike, so they are read by an expression of their own: the parser takes ten times as long.

    Raises:
        Unanswered: A wanted line is not in Prometheus' text format, or there are too many.
    """
    names = WANTED | DETAILS if detailed else WANTED
    lines, buckets = [], []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name = _name(line)
        if name in names:
            lines.append(line)
        elif detailed and name in BUCKETS:
            buckets.append(line)
    wanted = "\n".join(lines)
    if len(wanted) + sum(map(len, buckets)) > _WANTED_CHARACTERS:
        raise Unanswered(f"/metrics has more than {_WANTED_CHARACTERS} characters of what is read of it.")
    families: Iterable[Any] = text_string_to_metric_families(f"{wanted}\n")
    try:
        for family in families:
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value
        for line in buckets:
            yield _bucket(line)
    except (ValueError, LookupError) as error:
        raise Unanswered(f"/metrics is not in Prometheus' text format: {str(error)[:200]}") from error


def _bucket(line: str) -> Sample:
    """A bucket of a histogram. A quotation mark inside of another label's value has a backslash before it.

    Raises:
        ValueError: It is none.
    """
    found = _BUCKET.fullmatch(line)
    if found is None:
        raise ValueError(line)
    return found[1], {"le": found[2]}, float(found[3])


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]
