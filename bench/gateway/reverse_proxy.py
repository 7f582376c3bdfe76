"""A reverse proxy of aiohttp, as one would write it: `python -m bench.gateway.reverse_proxy PORT UPSTREAM...`.

GET / is the server example of aiohttp's documentation, GET /chain its example of streaming uploads: the body of one
answer is sent on as it comes (https://docs.aiohttp.org/en/stable/web_quickstart.html and client_quickstart.html).
"""

import itertools
import sys

import aiohttp
from aiohttp import web

_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


async def hello(_: web.Request) -> web.Response:
    """The server example."""
    return web.Response(text="Hello, world")


class Proxy:
    """Sends requests to several engines in turn, and answers on as they come."""

    def __init__(self, upstreams: list[str]) -> None:
        self._upstreams = itertools.cycle(upstreams)

    async def session(self, application: web.Application) -> None:
        """A session without the limit of 100 connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )

    async def close(self, application: web.Application) -> None:
        """Close the session."""
        await self._session.close()

    async def chain(self, _: web.Request) -> web.Response:
        """The client example."""
        base = next(self._upstreams)
        source = await self._session.get(f"{base}/v1/models")
        async with self._session.post(f"{base}/v1/chat/completions", data=source.content) as answer:
            return web.Response(body=await answer.read(), content_type=answer.content_type)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = next(self._upstreams) + request.path_qs
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response


def main(port: int, upstreams: list[str]) -> None:
    """Serve until killed."""
    proxy = Proxy(upstreams)
    application = web.Application()
    application.on_startup.append(proxy.session)
    application.on_cleanup.append(proxy.close)
    application.add_routes(
        [web.get("/", hello), web.get("/chain", proxy.chain), web.route("*", "/{path:.*}", proxy.forward)]
    )
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, backlog=4096)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
