"""HTTP servers of pods. Their answers are a stranger's: sizes, times and redirects are bounded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import aiohttp
from yarl import URL

from nightshift.adapters.bounded import read_bounded

CONNECT_SECONDS = 5.0
"""Longer than two lost packets. A pod that a NetworkPolicy hides refuses or drops within this time."""

REQUEST_SECONDS = 10.0
"""Time limit of every request that needs no work of the server."""

ANSWER_BYTES = 256 * 1024

_CONNECTIONS = 200
"""Open at the same time, over all pods of a session."""


class Unanswered(Exception):  # noqa: N818 - carries the reason of an Unknown
    """No usable answer came; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An answer, read in full unless the reader wanted its status only."""

    status: int
    body: bytes


def pod_session() -> aiohttp.ClientSession:
    """A session for requests to pods; needs a running event loop."""
    # No proxies, cookies or decompression; connections are not kept, since questions are far apart.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "nightshift"},
    )


class PodServer:
    """One server of one pod."""

    def __init__(self, session: aiohttp.ClientSession, pod_ip: str, port: int) -> None:
        """Set up the client; the session is opened and closed by the caller.

        Raises:
            ValueError: The address is no IP address.
        """
        self._session = session
        self._base = URL.build(scheme="http", host=str(ip_address(pod_ip)), port=port)

    @property
    def authority(self) -> str:
        """Address and port."""
        return str(self._base.authority)

    async def request(
        self,
        method: str,
        path: str,
        limit: int = ANSWER_BYTES,
        body: dict[str, Any] | None = None,
        seconds: float | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request.

        Args:
            method: HTTP method.
            path: Path on the server.
            limit: Most bytes that are read of the answer.
            body: Sent as JSON.
            seconds: Time limit; default: that of requests that need no work of the server.
            query: What stands behind the path.

        Raises:
            Unanswered: No answer came, or not in time, or it is too long.
        """
        total = REQUEST_SECONDS if seconds is None else seconds
        times = aiohttp.ClientTimeout(total=total, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            return await self.send(method, path, limit, times, body, query)
        except TimeoutError as error:
            raise Unanswered(f"{path} did not answer within {total:g} s.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unanswered(f"{path} cannot be reached: {named(error)}") from error

    async def send(
        self,
        method: str,
        path: str,
        limit: int,
        times: aiohttp.ClientTimeout,
        body: dict[str, Any] | None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request whose time limits and errors are the caller's; where nothing is read, the status says it all."""
        url = self._base.with_path(path).with_query(query)
        async with self._session.request(method, url, json=body, timeout=times, allow_redirects=False) as response:
            # Where the status says it all, the connection is dropped with the rest of the answer.
            read = await read_bounded(response, limit) if limit else b""
            if read is None:
                raise Unanswered(f"{response.url.path} answers with more than {limit} bytes.")
            return Answer(response.status, read)


def expect_ok(answer: Answer, path: str) -> None:
    """Refuse every answer but 200.

    Raises:
        Unanswered: It is another one.
    """
    if answer.status != 200:
        raise Unanswered(f"{path} answers with status {answer.status}.")


def json_object(body: bytes) -> dict[str, Any]:
    """An answer's JSON object.

    Raises:
        Unanswered: It is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unanswered("the answer is no JSON.") from error
    if not isinstance(found, dict):
        raise Unanswered("the answer is no JSON object.")
    return found


def named(error: Exception) -> str:
    """An error as words."""
    return str(error) if isinstance(error, Unanswered) else f"{type(error).__name__}: {error}"
