"""The activator between clients and a fake HAProxy, over unix sockets, in virtual time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nightshift.core.gateway.holding import OVERHEAD_BYTES
from nightshift.core.gateway.starts import Starts
from tests.gateway.standins import SILENT, STREAM, Place, as_stream, now, served, tell_story
from tests.gateway.states import KEY, entry
from tests.support import virtual_time

FAILURE = {"reason": "NoGpuCapacity", "message": "No node has a free GPU. Add one."}


def test_a_request_waits_in_silence_and_gets_the_engines_own_answer(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        asking = place.ask(SILENT, name="a", path="/v1/chat%2Fx//y?a=1&b=%20", headers={"Authorization": "Bearer k"})
        await asyncio.sleep(80)
        assert not asking.done()
        place.tell(usable=1)
        answer = await asking
        assert answer.status == 200
        assert answer.json["id"] == "a"
        assert answer.headers["x-nightshift-cold-start"] == "true"
        (line, headers, body) = place.haproxy.requests[0]
        assert line == "POST /v1/chat%2Fx//y?a=1&b=%20"
        assert (headers["host"], headers["authorization"]) == ("bot.ml", "Bearer k")
        assert headers["x-nightshift-released"] == KEY
        assert "x-nightshift-route" not in headers
        assert json.loads(body) == SILENT
        assert 80 <= now() < 80.5

    tell_story(tmp_path, story)


def test_the_engines_own_refusal_reaches_a_client_that_waited_in_silence(tmp_path: Path) -> None:
    async def refusing(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return web.json_response({"error": {"message": "too long", "code": 400}}, status=400, reason="Bad Request")

    async def story(place: Place) -> None:
        place.haproxy.answering = refusing
        asking, quick = place.ask(SILENT), place.ask(STREAM)
        await asyncio.sleep(5)
        place.tell(usable=1)
        for answer in await served(asking, quick):
            assert (answer.status, answer.json["error"]["message"]) == (400, "too long")

    tell_story(tmp_path, story)


def test_a_streaming_client_hears_a_comment_every_ten_seconds_and_then_its_tokens_as_they_come(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.haproxy.answering = as_stream
        asking = place.ask(STREAM)
        await asyncio.sleep(35)
        place.tell(usable=1)
        answer = await asking
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        assert answer.headers["x-nightshift-cold-start"] == "true"
        assert [event[:2] for event in answer.events] == [": ", ": ", ": ", "da", "da", "da"]
        assert answer.events[-1] == "data: [DONE]"
        assert answer.at[:3] == pytest.approx([10, 20, 30], abs=0.01)
        assert answer.at[4] - answer.at[3] == pytest.approx(1, abs=0.01), "nothing is kept back"

    tell_story(tmp_path, story)


def test_comments_go_on_while_the_engine_thinks_about_its_first_token(tmp_path: Path) -> None:
    async def slow(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(27)
        return await as_stream(request, body)

    async def story(place: Place) -> None:
        place.haproxy.answering = slow
        asking = place.ask(STREAM)
        await asyncio.sleep(15)
        place.tell(usable=1)
        answer = await asking
        assert [event[:2] for event in answer.events] == [": ", ": ", ": ", ": ", "da", "da", "da"]

    tell_story(tmp_path, story)


def test_once_a_comment_was_sent_the_engines_refusal_comes_as_an_event_without_done(tmp_path: Path) -> None:
    async def refusing(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return web.json_response({"error": {"message": "too long", "code": 400}}, status=400)

    async def story(place: Place) -> None:
        place.haproxy.answering = refusing
        asking = place.ask(STREAM)
        await asyncio.sleep(15)
        place.tell(usable=1)
        answer = await asking
        assert answer.status == 200
        assert json.loads(answer.events[-1].removeprefix("data: "))["error"]["message"] == "too long"
        assert b"[DONE]" not in answer.body

    tell_story(tmp_path, story)


def test_an_answer_in_one_piece_to_a_client_of_a_stream_becomes_an_event(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        asking = place.ask(STREAM, name="a")
        await asyncio.sleep(15)
        place.tell(usable=1)
        assert json.loads((await asking).events[-1].removeprefix("data: "))["id"] == "a"

    tell_story(tmp_path, story)


def test_a_start_that_fails_is_answered_at_once_in_the_form_that_each_client_can_read(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        silent, stream = place.ask(SILENT), place.ask(STREAM)
        await asyncio.sleep(15)
        place.tell(start={"failure": FAILURE})
        late = place.ask(STREAM)
        answers = await served(silent, stream, late)
        assert now() < 15.2
        message = "ml/bot cannot start: NoGpuCapacity. No node has a free GPU. Add one."
        for answer in (answers[0], answers[2]):
            assert (answer.status, answer.json["error"]["message"]) == (503, message)
            assert answer.json["error"]["code"] == "start_failed"
        assert json.loads(answers[1].events[-1].removeprefix("data: "))["error"]["message"] == message
        assert place.metric("nightshift_gateway_refused_total", namespace="ml", name="bot", reason="StartFailed") == 3

    tell_story(tmp_path, story)


def test_past_the_cap_a_client_is_told_when_to_try_again(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.tell(cap=2)
        place.activator.hall.learn(KEY, Starts((100.0,)))
        await asyncio.sleep(0.1)
        waiting = [place.ask(SILENT, name=name) for name in "ab"]
        await asyncio.sleep(30)
        (answer,) = await served(place.ask(SILENT, name="c"))
        assert (answer.status, answer.headers["Retry-After"]) == (429, "70")
        assert answer.json["error"]["type"] == "rate_limit_error"
        place.tell(usable=1)
        assert [one.json["id"] for one in await served(*waiting)] == ["a", "b"]

    tell_story(tmp_path, story)


def test_a_request_that_waited_for_as_long_as_it_may_is_told_so(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.tell(timeout=60)
        place.activator.hall.learn(KEY, Starts((100.0,)))
        await asyncio.sleep(0.1)
        silent, stream = await served(place.ask(SILENT), place.ask(STREAM))
        assert 60 <= now() < 60.3
        assert (silent.status, silent.headers["Retry-After"]) == (503, "40")
        assert silent.json["error"]["code"] == "start_timeout"
        assert len(stream.events) == 6
        assert json.loads(stream.events[-1].removeprefix("data: "))["error"]["code"] == "start_timeout"

    tell_story(tmp_path, story)


def test_a_deployment_that_is_off_or_not_there_is_said_to_be_so_at_once(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.tell(state="Off")
        await asyncio.sleep(0.1)
        off, other = await served(place.ask(SILENT), place.ask(SILENT, key="ml/unknown"))
        assert (off.status, off.json["error"]["code"]) == (503, "model_off")
        assert (other.status, other.json["error"]["code"]) == (404, "model_not_found")
        assert place.lease() is None, "a deployment that is off is not woken"

    tell_story(tmp_path, story)


def test_a_client_that_leaves_frees_its_place_and_its_bytes_and_the_wake_goes_on(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.tell(cap=1)
        await asyncio.sleep(0.1)
        asking = place.ask(b"x" * 100_000)
        await asyncio.sleep(1)
        assert place.activator.hall.used == OVERHEAD_BYTES + 100_000
        asking.cancel()
        await asyncio.sleep(0.01)
        assert place.activator.hall.used == 0
        assert place.metric("nightshift_gateway_left_total", namespace="ml", name="bot") == 1
        renewed = place.lease()
        await asyncio.sleep(12)
        assert place.lease() != renewed, "renewed after it left"
        place.tell(usable=1, cap=1)
        (answer,) = await served(place.ask(SILENT))
        assert answer.status == 200

    tell_story(tmp_path, story)


def test_a_body_that_does_not_arrive_is_given_up_and_keeps_nobody_up(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        async def dripping() -> Any:
            while True:
                yield b"x"
                await asyncio.sleep(1)

        slow = asyncio.create_task(drip(place, dripping()))
        await asyncio.sleep(1)
        other = place.ask(SILENT, name="other")
        place.tell(usable=1)
        assert (await other).status == 200
        assert now() < 2
        assert await slow == 408
        assert now() == pytest.approx(30, abs=0.1)

    tell_story(tmp_path, story)


async def drip(place: Place, pieces: Any) -> int:
    headers = {"x-nightshift-route": KEY}
    async with place.clients.post("http://bot.ml/v1/completions", data=pieces, headers=headers) as answer:
        return answer.status


def test_a_megabyte_arrives_whole_and_costs_its_size_of_the_budget(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        body = bytes(range(256)) * 4000
        asking = place.ask(body, headers={"Expect": "100-continue"}, expect100=True)
        await asyncio.sleep(5)
        assert place.activator.hall.used == OVERHEAD_BYTES + len(body)
        (refused,) = await served(place.ask(body))
        assert (refused.status, refused.json["error"]["code"]) == (429, "queue_full")
        place.tell(usable=1)
        assert (await asking).status == 200
        assert place.haproxy.requests[0][2] == body
        assert place.activator.hall.used == 0

    tell_story(tmp_path, story, budget_bytes=1_500_000)


def test_a_state_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        asking = place.ask(SILENT)
        await asyncio.sleep(1)
        (place.directory / "state.json").write_text("{")
        await asyncio.sleep(1)
        place.tell({**entry(), "usable": "many"}, entry("ml/other"))
        await asyncio.sleep(1)
        assert not asking.done()
        place.tell(usable=1)
        assert (await asking).status == 200

    tell_story(tmp_path, story)


def test_told_to_stop_it_sends_silent_clients_elsewhere_and_keeps_streams_to_the_end(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        begun = place.ask(STREAM)
        await asyncio.sleep(12)
        silent = place.ask(SILENT)
        await asyncio.sleep(0.1)
        ending = asyncio.create_task(place.activator.stop())
        (answer,) = await served(silent)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert now() < 13
        assert place.activator.unready() == "it is being stopped"
        (late,) = await served(place.ask(SILENT))
        assert late.status == 503
        assert not begun.done()
        last = json.loads((await begun).events[-1].removeprefix("data: "))
        assert last["error"]["code"] == "gateway_stopping"
        await ending
        assert now() < 12.2 + 25

    tell_story(tmp_path, story)


def test_told_to_stop_it_lets_answers_under_way_end(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        place.haproxy.answering = as_stream
        place.tell(usable=1)
        asking = place.ask(STREAM)
        await asyncio.sleep(0.5)
        await place.activator.stop()
        assert (await asking).events[-1] == "data: [DONE]"

    tell_story(tmp_path, story)


def test_it_is_ready_once_the_agent_told_how_the_deployments_stand(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        assert place.activator.unready() is None
        assert place.activator.problem() is None
        await asyncio.sleep(30)
        assert place.activator.problem() is None

    tell_story(tmp_path, story)

    async def alone() -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        place = Place(empty)
        await place.activator.start()
        assert place.activator.unready() == "the agent has not told how the deployments stand"
        (answer,) = await served(place.ask(SILENT))
        assert answer.status == 404
        place.tell()
        await asyncio.sleep(0.1)
        assert place.activator.unready() is None
        await place.__aexit__()

    virtual_time.run(alone())
