"""One request on its way through the activator: it arrives, waits, is handed to HAProxy, and gets its answer."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from nightshift.core.gateway import forwarding
from nightshift.core.gateway.holding import BODY_SECONDS, COMMENT_SECONDS
from nightshift.core.gateway.refusals import Refusal, comment, engine_error_event, event
from nightshift.gateway.hall import Hall
from nightshift.gateway.line import Ticket

CONNECT_SECONDS = 5.0
_SENT_AT_ONCE_BYTES = 256 * 1024
_ERROR_LIMIT_BYTES = 64 * 1024
_WHOLE_LIMIT_BYTES = 4 * 1024 * 1024
_PUT_BACK_STATUS = frozenset({500, 503})
"""What HAProxy answers without a server that takes the request, and vLLM 0.32.0 while it shuts down."""
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)


def released_session(socket: str) -> aiohttp.ClientSession:
    """A session to HAProxy's socket for requests that have waited; it changes nothing of them.

    Args:
        socket: Path of the socket.
    """
    tracing = aiohttp.TraceConfig()

    async def sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        told = context.trace_request_ctx
        if told is not None:
            told()

    tracing.on_request_headers_sent.append(sent)
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(socket, limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        skip_auto_headers=_SKIPPED,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[tracing],
        max_line_size=65536,
        max_field_size=65536,
        read_bufsize=65536,
    )


class Visit:
    """A request that has a place in the hall."""

    def __init__(self, request: web.BaseRequest, ticket: Ticket, hall: Hall, session: aiohttp.ClientSession) -> None:
        self._request, self._ticket, self._hall, self._session = request, ticket, hall, session
        self._body = bytearray()
        self._stream: web.StreamResponse | None = None
        """The answer, once something of it was sent before the engine had it."""
        self._streaming = False
        self._next_comment = 0.0

    async def serve(self) -> web.StreamResponse:
        """Everything; the answer, of which the most has been sent."""
        refusal = await self._arrive()
        if refusal is not None:
            return await self._refuse(refusal)
        self._streaming = forwarding.awaits_stream(self._request.path, self._body)
        self._next_comment = self._ticket.arrived + COMMENT_SECONDS
        turn = self._turn()
        refusal = self._hall.join(self._ticket, turn.set_result, self._now())
        while refusal is None:
            refusal = await self._wait(turn)
            if refusal is None:
                answer = await self._forward()
                if answer is not None:
                    return answer
                turn = self._turn()
                refusal = self._hall.come_back(self._ticket, turn.set_result, self._now())
        return await self._refuse(refusal)

    async def _arrive(self) -> Refusal | None:
        """Read the body, within its time and the budget."""
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in self._request.content.iter_any():
                    refusal = self._hall.grow(self._ticket, len(chunk), self._now())
                    if refusal is not None:
                        return refusal
                    self._body += chunk
        except TimeoutError:
            return self._hall.give_up_arriving(self._ticket, self._now())
        return None

    # Waiting

    async def _wait(self, turn: "asyncio.Future[Refusal | None]") -> Refusal | None:
        """Wait for the turn; the answer where it never comes."""
        while not turn.done():
            deadline = self._hall.deadline(self._ticket)
            until = min(deadline, self._next_comment) if self._streaming else deadline
            await asyncio.wait([turn], timeout=max(0.0, until - self._now()))
            if turn.done():
                break
            if self._now() >= deadline:
                return self._hall.expire(self._ticket, self._now())
            if self._streaming and self._now() >= self._next_comment:
                await self._comment()
        return turn.result()

    async def _comment(self) -> None:
        """Tell a client that its stream lives."""
        self._next_comment += COMMENT_SECONDS
        waited = self._now() - self._ticket.arrived
        if self._stream is None:
            headers = {
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                forwarding.HEADER_COLD_START: "true",
            }
            self._ticket.begun = True
            self._stream = web.StreamResponse(headers=headers)
            await self._stream.prepare(self._request)
        await self._stream.write(comment(f"waiting for a replica of {self._ticket.key}, {waited:.0f} s so far"))

    async def _refuse(self, refusal: Refusal) -> web.StreamResponse:
        """Answer with a refusal: as an event where the client has got a stream."""
        self._body = bytearray()
        if self._stream is None:
            return web.Response(status=refusal.status, body=refusal.body(), headers=refusal.headers())
        await self._stream.write(event(refusal.body()))
        return self._stream

    # Going on

    async def _forward(self) -> web.StreamResponse | None:
        """Hand the request to HAProxy and pass its answer on; None where nothing of one came and it may wait again."""
        asking = asyncio.create_task(self._ask())
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=self._until_comment())
                if self._stream is not None and not asking.done() and self._now() >= self._next_comment:
                    await self._comment()
        except BaseException:
            asking.add_done_callback(_close_unused)
            asking.cancel()
            raise
        try:
            upstream = asking.result()
        except _BROKEN:
            return None
        async with upstream:
            if upstream.status in _PUT_BACK_STATUS and self._hall.may_come_back(self._ticket):
                return None
            self._hall.answered(self._ticket, self._now())
            self._body = bytearray()
            return await self._answer(upstream)

    async def _ask(self) -> aiohttp.ClientResponse:
        """Ask HAProxy; its word to go on with the body says that it knows of the request.

        Without that word the next request may overtake: HAProxy 2.6 reads a new connection, whose first bytes are
        there when it is accepted, before those that it accepted a moment earlier.
        """
        headers = forwarding.request_headers(self._request.headers.items(), self._ticket.key, len(self._body))
        return await self._session.request(
            self._request.method,
            URL(f"http://released{self._request.rel_url.raw_path_qs}", encoded=True),
            headers=CIMultiDict(headers),
            data=self._pieces() if self._body else None,
            allow_redirects=False,
            expect100=bool(self._body),
            trace_request_ctx=None if self._body else self._handed_over,
        )

    def _until_comment(self) -> float | None:
        """Seconds until a stream that has begun needs a comment; None where none has."""
        return None if self._stream is None else max(0.0, self._next_comment - self._now())

    async def _pieces(self) -> AsyncIterator[memoryview]:
        """The body bit by bit, so that a large one stops nobody else, and never twice in memory."""
        view = memoryview(self._body)
        for start in range(0, len(view), _SENT_AT_ONCE_BYTES):
            yield view[start : start + _SENT_AT_ONCE_BYTES]
        self._handed_over()

    def _handed_over(self) -> None:
        self._hall.handed_over(self._ticket, self._now())

    async def _answer(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        stream = self._stream
        if stream is None:
            headers = CIMultiDict(forwarding.answer_headers(upstream.headers.items()))
            stream = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
            await stream.prepare(self._request)
        elif upstream.status >= 400 or upstream.content_type != "text/event-stream":
            return await self._answer_in_stream(stream, upstream)
        try:
            async for chunk in upstream.content.iter_any():
                await stream.write(chunk)
        except _BROKEN:
            self._cut()
        return stream

    async def _answer_in_stream(
        self, stream: web.StreamResponse, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """The client has got a stream already, and the engine answered with something else: put it into an event."""
        refused = upstream.status >= 400
        limit = _ERROR_LIMIT_BYTES if refused else _WHOLE_LIMIT_BYTES
        body = bytearray()
        try:
            async for chunk in upstream.content.iter_any():
                body += chunk
                if len(body) > limit:
                    break
        except _BROKEN:
            self._cut()
            return stream
        whole = bytes(body[:limit])
        await stream.write(engine_error_event(upstream.status, whole) if refused else event(whole))
        return stream

    def _cut(self) -> None:
        """The answer broke off, or the client did: what was sent goes out, and no end is put to it."""
        if self._request.transport is not None:
            self._request.transport.close()

    @staticmethod
    def _turn() -> "asyncio.Future[Refusal | None]":
        return asyncio.get_running_loop().create_future()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _close_unused(asking: "asyncio.Task[aiohttp.ClientResponse]") -> None:
    """Close an answer that nobody waits for any more."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close()
