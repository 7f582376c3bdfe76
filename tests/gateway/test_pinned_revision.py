"""A header that names a revision: for people's own tests of one that gets no other requests."""

import json
from typing import Any

import pytest

from tests.gateway.conftest import MakeEngine
from tests.gateway.test_routing import CHAT, ask
from tests.support.real_haproxy import Gateway, Model, Pod, pod, route

PATH = "/ml/bot/v1/chat/completions"
WEIGHTS = {"r1": 100, "r2": 0}


def pinned(revision: str) -> dict[str, str]:
    return {"x-nightshift-revision": revision}


async def test_a_revision_without_weight_gets_the_requests_that_name_it_and_no_others(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(weights=WEIGHTS), {"r1": [pod(a)], "r2": [pod(b)]}))
    for _ in range(5):
        assert (await ask(gateway, PATH))[1] == {"engine": "a"}
        assert (await ask(gateway, PATH, CHAT, pinned("r1")))[1] == {"engine": "a"}
    for headers, path in (
        (pinned("r2"), PATH),
        (pinned("r2") | {"Host": "bot.ml"}, "/v1/chat/completions"),
        (pinned("r2") | {"x-model": "ml/bot"}, "/v1/chat/completions"),
        (pinned("r2"), "/v1/chat/completions"),
        ({"X-Nightshift-Revision": "r2", "x-session-id": "s"}, PATH),
    ):
        assert (await ask(gateway, path, CHAT, headers))[:2] == (200, {"engine": "b"})
    assert (len(a.seen), len(b.seen)) == (10, 5)
    seen = {name for one in (*a.seen, *b.seen) for name in one.headers}
    assert not [name for name in seen if name.startswith("x-nightshift")], "the engine is not told"
    assert json.loads(b.seen[0].body) == CHAT


@pytest.mark.parametrize(
    ("revision", "pods", "there"),
    [
        pytest.param("r9", {"r1": "a", "r2": "b"}, "r1,r2", id="one that is none"),
        pytest.param("r2", {"r1": "a"}, "r1", id="one without a replica"),
        pytest.param("r1/x", {"r1": "a"}, "r1", id="one with more behind it"),
        pytest.param("/r1", {"r1": "a"}, "r1", id="one with a slash before it"),
        pytest.param("r1|be_agent", {"r1": "a"}, "r1", id="what would be a slot"),
        pytest.param("'\"%[var(txn.route)]\\", {"r1": "a"}, "r1", id="signs"),
        pytest.param("x" * 5000, {"r1": "a"}, "r1", id="a long one"),
        pytest.param("r2", {}, "none", id="any where no replica is ready"),
    ],
)
async def test_another_revision_is_a_404_that_names_those_there_are(
    gateway: Gateway, engine: MakeEngine, revision: str, pods: dict[str, str], there: str
) -> None:
    engines = {name: await engine(name) for name in pods.values()}
    activator = await engine("activator", gateway.directory / "activator.sock")
    await gateway.settle(Model(route(weights=WEIGHTS), {key: [pod(engines[name])] for key, name in pods.items()}))
    status, answer, _ = await ask(gateway, PATH, CHAT, pinned(revision))
    assert (status, answer["error"]["code"]) == (404, "revision_not_found")
    assert answer["error"]["message"].endswith(f"revisions with a ready one: {there}.")
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert [one.seen for one in (*engines.values(), activator)] == [[]] * (len(engines) + 1)


async def test_a_revision_whose_replicas_fail_their_checks_is_not_there_and_nobody_waits_for_it(
    gateway: Gateway, engine: MakeEngine
) -> None:
    """What the activator holds goes to whichever revision serves then."""
    a, activator = await engine("a"), await engine("activator", gateway.directory / "activator.sock")
    await gateway.settle(Model(route(weights=WEIGHTS), {"r1": [pod(a)], "r2": [Pod("gone", 1)]}))
    for _ in range(200):
        status, answer, _ = await ask(gateway, PATH, CHAT, pinned("r2"))
        if status == 404:
            break
    assert answer["error"]["code"] == "revision_not_found"
    assert (activator.seen, a.seen) == ([], [])
    assert (await ask(gateway, PATH))[0] == 200


async def test_who_names_a_revision_of_an_unknown_model_is_told_that_there_is_no_such_model(
    gateway: Gateway, engine: MakeEngine
) -> None:
    a = await engine("a")
    await gateway.settle(Model(route(weights=WEIGHTS), {"r1": [pod(a)]}))
    status, answer, _ = await ask(gateway, "/ml/none/v1/chat/completions", CHAT, pinned("r1"))
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/ml/bot%2fr2/v1/completions", "/ml/bot/r2/v1/completions", "/ml/bot/r2"])
async def test_a_path_names_no_revision(gateway: Gateway, engine: MakeEngine, path: str) -> None:
    a, b = await engine("a"), await engine("b")
    await gateway.settle(Model(route(weights=WEIGHTS), {"r1": [pod(a)], "r2": [pod(b)]}))
    async with gateway.session() as session, session.post(path, json=CHAT) as answer:
        assert answer.status == 404
    assert (a.seen, b.seen) == ([], [])


async def test_all_rules_of_a_route_hold_for_who_names_a_revision(gateway: Gateway, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    limited: dict[str, Any] = {"weights": WEIGHTS, "limits": {"bodyBytes": 2000}}
    await gateway.settle(Model(route(**limited), {"r1": [pod(a)], "r2": [pod(b)]}))
    status, answer, _ = await ask(gateway, PATH, {"prompt": "x" * 2001}, pinned("r2"))
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    status, answer, _ = await ask(gateway, "/ml/bot/v1/embeddings", CHAT, pinned("r2"))
    assert (status, answer["error"]["code"]) == (404, "path_not_served")
    await gateway.settle(Model(route(state="Off", **limited), {"r1": [pod(a)], "r2": [pod(b)]}))
    status, answer, _ = await ask(gateway, PATH, CHAT, pinned("r2"))
    assert (status, answer["error"]["code"]) == (503, "model_off")
    assert b.seen == []


async def test_an_adapter_is_asked_of_the_revision_that_is_named(gateway: Gateway, engine: MakeEngine) -> None:
    a, b = await engine("a"), await engine("b")
    adapters = [{"name": "refunds", "pods": ["a"]}]
    await gateway.settle(Model(route(weights=WEIGHTS, adapters=adapters), {"r1": [pod(a)], "r2": [pod(b)]}))
    assert (await ask(gateway, PATH, CHAT | {"model": "refunds"}))[1] == {"engine": "a"}
    assert (await ask(gateway, PATH, CHAT | {"model": "refunds"}, pinned("r2")))[1] == {"engine": "b"}
