"""OpenAI's official client before the activator, in virtual time: what it sees of waiting, failures and refusals."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from aiohttp import web

from nightshift.core.gateway.starts import Starts
from nightshift.gateway.activator import SOCKET
from tests.gateway.standins import Place, as_stream, now
from tests.gateway.states import KEY
from tests.support import virtual_time

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


def tell_story(
    directory: Path, story: Callable[[Place, openai.AsyncOpenAI], Awaitable[None]], retries: int = 0
) -> None:
    async def told() -> None:
        async with Place(directory) as place:
            transport = httpx2.AsyncHTTPTransport(uds=str(directory / SOCKET))
            async with (
                openai.DefaultAsyncHttpxClient(transport=transport, trust_env=False) as direct,
                openai.AsyncOpenAI(
                    base_url="http://bot.ml/v1",
                    api_key="k",
                    http_client=direct,
                    max_retries=retries,
                    default_headers={"x-nightshift-route": KEY},
                ) as client,
            ):
                client._platform = "Linux"  # else a thread finds it out, and virtual time knows of no threads
                await story(place, client)

    virtual_time.run(told())


async def later(place: Place, seconds: float, **given: Any) -> None:
    await asyncio.sleep(seconds)
    place.tell(**given)


async def words(client: openai.AsyncOpenAI) -> list[str | None]:
    stream = await client.chat.completions.create(model="ml/bot", messages=MESSAGES, stream=True)
    return [chunk.choices[0].delta.content async for chunk in stream]


async def a_completion(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    message = {"role": "assistant", "content": "good night"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    found = {"id": "c", "object": "chat.completion", "created": 1, "model": "bot", "choices": [choice]}
    return web.json_response(found)


def test_a_stream_passes_over_the_comments_and_gets_every_token(tmp_path: Path) -> None:
    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        place.haproxy.answering = as_stream
        starting = asyncio.create_task(later(place, 95, usable=1))
        assert await words(client) == ["good", "night"]
        assert now() > 95
        await starting

    tell_story(tmp_path, story)


def test_an_answer_in_one_piece_comes_after_the_start_with_the_word_that_it_was_cold(tmp_path: Path) -> None:
    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        place.haproxy.answering = a_completion
        starting = asyncio.create_task(later(place, 95, usable=1))
        raw = await client.chat.completions.with_raw_response.create(model="ml/bot", messages=MESSAGES)
        assert raw.headers["x-nightshift-cold-start"] == "true"
        assert raw.parse().choices[0].message.content == "good night"
        await starting

    tell_story(tmp_path, story)


FAILED: dict[str, Any] = {"start": {"failure": {"reason": "NoGpuCapacity", "message": "No node has a free GPU."}}}


@pytest.mark.parametrize("after", [15.0, 3.0], ids=["once a comment was sent", "before any comment"])
def test_a_failed_start_is_an_error_with_its_reason(tmp_path: Path, after: float) -> None:
    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        failing = asyncio.create_task(later(place, after, **FAILED))
        with pytest.raises(openai.APIError, match=r"NoGpuCapacity\. No node has a free GPU\.") as caught:
            await words(client)
        assert isinstance(caught.value, openai.InternalServerError) == (after < 10)
        assert now() < after + 0.5, "nothing is tried again in vain"
        await failing

    tell_story(tmp_path, story, retries=2)


def test_the_engines_refusal_is_an_error_also_where_the_stream_has_begun(tmp_path: Path) -> None:
    async def refusing(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        error = {
            "message": "This model's maximum context length is 8192 tokens.",
            "type": "BadRequestError",
            "code": 400,
        }
        return web.json_response({"error": error}, status=400)

    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        place.haproxy.answering = refusing
        starting = asyncio.create_task(later(place, 15, usable=1))
        with pytest.raises(openai.APIError, match="maximum context length"):
            await words(client)
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await words(client)
        await starting

    tell_story(tmp_path, story)


def test_a_full_queue_is_tried_again_when_it_was_told_to(tmp_path: Path) -> None:
    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        place.haproxy.answering = a_completion
        place.tell(cap=1)
        place.activator.hall.learn(KEY, Starts((40.0,)))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(client.chat.completions.create(model="ml/bot", messages=MESSAGES))
        await asyncio.sleep(5)
        starting = asyncio.create_task(later(place, 30, usable=1, cap=1))
        second = await client.chat.completions.create(model="ml/bot", messages=MESSAGES)
        assert second.choices[0].message.content == "good night"
        assert now() >= 39, "not before the 35 s that were left of a typical start"
        await first
        await starting

    tell_story(tmp_path, story, retries=1)


def test_a_client_that_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(place: Place, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="ml/bot", messages=MESSAGES, timeout=20)
        await asyncio.sleep(0.1)
        assert place.activator.hall.used == 0
        assert place.lease() is not None

    tell_story(tmp_path, story)
