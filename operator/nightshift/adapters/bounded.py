"""Reading answers of servers that are not ours."""

import aiohttp


async def read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body of an answer; None where it is longer than so many bytes, of which no more than a chunk is read."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)
