"""What a gateway pod's agent says of demand, and what is made of an answer that is none."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from aiohttp import web

from nightshift.adapters.gateway_pods import ANSWER_BYTES, NAMED_RESULTS, GatewayPods
from nightshift.core.facts import Known, Unknown
from tests.support.builders import NOW

TOLD = {"written": "2026-03-01T12:00:00Z", "pod": "gw-1", "routes": {"ml/bot": {"inFlight": 3, "queued": 1}}}


@pytest.fixture
async def agent() -> AsyncIterator[dict[str, Any]]:
    """A server on a free port of the loopback; `answer` is what it says."""
    said: dict[str, Any] = {"answer": lambda: web.json_response(TOLD)}

    async def demand(request: web.Request) -> web.StreamResponse:
        said["query"] = request.query_string
        answer: web.StreamResponse = said["answer"]()
        return answer

    application = web.Application()
    application.router.add_get("/demand", demand)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    said["port"] = runner.addresses[0][1]
    yield said
    await runner.cleanup()


async def asked(port: int, pod: str = "gw-1", results: Collection[str] = ()) -> Any:
    pods = GatewayPods(lambda: NOW)
    try:
        return await pods.at("127.0.0.1", port).demand(pod, results)
    finally:
        await pods.close()


async def test_the_demand_of_each_deployment_is_read(agent: dict[str, Any]) -> None:
    found = await asked(agent["port"])
    assert isinstance(found, Known)
    assert found.value.routes["ml/bot"].in_flight == 3
    assert found.value.routes["ml/bot"].idle_seconds is None


@pytest.mark.parametrize(
    ("results", "query"),
    [
        pytest.param([], "", id="of nobody"),
        pytest.param(["ml/bot", "ml/a"], "results=ml/a&results=ml/bot", id="of some"),
        pytest.param([f"ml/bot-{number}" for number in range(NAMED_RESULTS + 1)], "results=*", id="of many: of all"),
    ],
)
async def test_results_are_asked_of(agent: dict[str, Any], results: list[str], query: str) -> None:
    assert isinstance(await asked(agent["port"], results=results), Known)
    assert agent["query"] == query


async def test_results_are_read_and_an_older_gateway_tells_none(agent: dict[str, Any]) -> None:
    older = await asked(agent["port"], results=["ml/bot"])
    assert (older.value.routes["ml/bot"].revisions, older.value.total_bounds) == ({}, ())
    results = {"r1": {"since": "2026-03-01T11:00:00Z", "ok": 7, "total": [3, 4], "newer": "field"}}
    told = {**TOLD, "routes": {"ml/bot": {"revisions": results}}, "totalBounds": [0.5]}
    agent["answer"] = lambda: web.json_response(told)
    found = await asked(agent["port"], results=["ml/bot"])
    revision = found.value.routes["ml/bot"].revisions["r1"]
    assert (revision.ok, revision.cut, revision.total, found.value.total_bounds) == (7, 0, (3, 4), (0.5,))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(lambda: web.Response(status=503), "status 503", id="an error"),
        pytest.param(lambda: web.Response(text="ok"), "says nothing of demand", id="nonsense"),
        pytest.param(
            lambda: web.json_response({**TOLD, "routes": {"ml/bot": {"inFlight": -1}}}), "nothing of demand", id="less"
        ),
        pytest.param(lambda: web.Response(text="x" * (ANSWER_BYTES + 1)), "more than", id="too much"),
        pytest.param(lambda: web.json_response({**TOLD, "pod": "gw-9"}), "another pod", id="another pod's address"),
    ],
)
async def test_an_answer_that_is_none_is_unknown(agent: dict[str, Any], answer: Any, why: str) -> None:
    agent["answer"] = answer
    found = await asked(agent["port"])
    assert isinstance(found, Unknown)
    assert why in found.reason


async def test_a_pod_that_is_not_there_is_unknown() -> None:
    assert isinstance(await asked(1), Unknown)
