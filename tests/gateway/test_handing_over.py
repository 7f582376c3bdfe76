"""What was held is handed to a fake HAProxy: in order, again where nobody took it, and never after the first byte."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.gateway.standins import SILENT, STREAM, Place, as_json, now, served, tell_story


def test_64_clients_are_served_in_order_at_the_rate_that_the_first_replica_takes(tmp_path: Path) -> None:
    busy = most = 0

    async def counting(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(3)
        busy -= 1
        return await as_json(request, body)

    async def story(place: Place) -> None:
        place.haproxy.answering = counting
        names = [f"{number:02}" for number in range(64)]
        waiting = []
        for name in names:
            waiting.append(place.ask({**SILENT, "pad": "x" * 3000 * (int(name) % 3)}, name=name))
            await asyncio.sleep(0.01)
        await asyncio.sleep(20)
        place.tell(usable=1, capacity=8)
        answers = await served(*waiting)
        assert [answer.json["id"] for answer in answers] == names
        assert place.haproxy.ids == names
        assert most == 8

    tell_story(tmp_path, story)


@pytest.mark.parametrize("status", [500, 503])
def test_a_request_that_no_replica_took_is_tried_again_before_those_behind_it(tmp_path: Path, status: int) -> None:
    async def story(place: Place) -> None:
        async def not_yet(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
            place.haproxy.answering = as_json
            return web.Response(status=status)

        place.haproxy.answering = not_yet
        waiting = [place.ask(SILENT, name=name) for name in "ab"]
        await asyncio.sleep(20)
        place.tell(usable=1, capacity=1)
        answers = await served(*waiting)
        assert [answer.status for answer in answers] == [200, 200]
        assert place.haproxy.ids == ["a", "a", "b"]
        assert place.metric("nightshift_gateway_put_back_total", namespace="ml", name="bot") == 1

    tell_story(tmp_path, story)


def test_an_error_that_stays_is_the_engines_own_answer_in_the_end(tmp_path: Path) -> None:
    async def broken(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return web.json_response({"error": {"message": "a bug"}}, status=500)

    async def story(place: Place) -> None:
        place.haproxy.answering = broken
        place.tell(usable=1)
        (answer,) = await served(place.ask(SILENT, name="a"))
        assert (answer.status, answer.json["error"]["message"]) == (500, "a bug")
        assert place.haproxy.ids == ["a", "a", "a"]

    tell_story(tmp_path, story)


def test_haproxy_that_is_away_for_a_moment_costs_a_pause_and_for_long_a_503(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        await place.haproxy.stop()
        place.tell(usable=1)
        brief = place.ask(SILENT, name="a")
        await asyncio.sleep(0.7)
        await place.haproxy.start()
        assert (await brief).status == 200
        await place.haproxy.stop()
        (answer,) = await served(place.ask(SILENT, name="b"))
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_replica")
        assert answer.headers["Retry-After"] == "5"

    tell_story(tmp_path, story)


def test_an_answer_that_breaks_off_breaks_off_for_the_client_and_is_not_tried_again(tmp_path: Path) -> None:
    async def breaking(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: {}\n\n")
        await asyncio.sleep(1)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def story(place: Place) -> None:
        place.haproxy.answering = breaking
        place.tell(usable=1)
        for asking in (place.ask(STREAM), place.ask(SILENT)):
            with pytest.raises(aiohttp.ClientPayloadError):
                await asking
        assert len(place.haproxy.requests) == 2
        assert place.activator.hall.used == 0

    tell_story(tmp_path, story)


@pytest.mark.parametrize("before", [True, False], ids=["before the first byte", "in the middle of the answer"])
def test_a_client_that_leaves_a_released_request_ends_it_at_the_engine_too(tmp_path: Path, before: bool) -> None:
    async def endless(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if before:
            await asyncio.sleep(3600)
        await answer.prepare(request)
        while True:
            await answer.write(b"data: {}\n\n")
            await asyncio.sleep(1)

    async def story(place: Place) -> None:
        place.haproxy.answering = endless
        place.tell(usable=1, capacity=1)
        asking, behind = place.ask(STREAM, name="a"), place.ask(SILENT, name="b")
        await asyncio.sleep(5)
        place.haproxy.answering = as_json
        asking.cancel()
        assert (await behind).status == 200
        assert place.haproxy.gone == 1
        assert now() < 6

    tell_story(tmp_path, story)
