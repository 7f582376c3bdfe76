"""Route objects: what is read, and how what is wrong is told."""

import json
from typing import Any

import pytest

from nightshift.api.route import ROUTE_KEY, Route, RouteError, parse_route

GOOD: dict[str, Any] = {
    "version": 1,
    "namespace": "ml",
    "name": "bot",
    "servedName": "bot",
    "revisions": [{"hash": "r1", "weight": 100, "service": "bot-r1", "maxConcurrentRequests": 8}],
}
REVISION: dict[str, Any] = GOOD["revisions"][0]


def manifest(route: Any) -> dict[str, Any]:
    text = route if isinstance(route, str) else json.dumps(route)
    return {"metadata": {"name": "ml.bot"}, "data": {ROUTE_KEY: text}}


def test_a_route_is_read_as_it_was_written() -> None:
    found = parse_route(manifest(GOOD))
    assert (found.key, found.task, found.state, found.queue.max_requests) == ("ml/bot", "Chat", "On", 200)
    assert parse_route(manifest(found.to_json())) == found
    assert Route.model_validate({**GOOD, "ofANewerVersion": 1}) == found


@pytest.mark.parametrize(
    ("route", "says"),
    [
        pytest.param("{", "no JSON", id="a text that is no JSON"),
        pytest.param("[" * 100_000, "no JSON", id="a text that nests too deeply"),
        pytest.param([], "dictionary", id="a list"),
        pytest.param({**GOOD, "version": 2}, "version", id="a version that is not known"),
        pytest.param({**GOOD, "namespace": "a|b"}, "namespace", id="a namespace with a sign of the maps"),
        pytest.param({**GOOD, "name": "a b"}, "name", id="a name with a space"),
        pytest.param({**GOOD, "name": "a\nb"}, "name", id="a name with a line break"),
        pytest.param({**GOOD, "shortNames": ["x;y"]}, "shortNames.0", id="a short name with a sign of commands"),
        pytest.param({**GOOD, "adapters": [{"name": "a:b"}]}, "adapters.0.name", id="an adapter with a colon"),
        pytest.param({**GOOD, "revisions": [{**REVISION, "weight": 90}]}, "add up to 90", id="weights of 90"),
        pytest.param({**GOOD, "revisions": [{**REVISION, "weight": 101}]}, "revisions.0.weight", id="a weight of 101"),
        pytest.param({**GOOD, "revisions": [{**REVISION, "maxConcurrentRequests": 0}]}, "max", id="a cap of 0"),
        pytest.param(
            {**GOOD, "revisions": [REVISION, {**REVISION, "weight": 0}]},
            "r1 stands in it twice",
            id="a double revision",
        ),
        pytest.param(
            {**GOOD, "adapters": [{"name": "a"}, {"name": "a"}]}, "a stands in it twice", id="a double adapter"
        ),
        pytest.param(
            {**GOOD, "revisions": [{**REVISION, "hash": f"r{n}", "weight": 20} for n in range(5)]},
            "at most 4",
            id="five revisions with a weight",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(route: Any, says: str) -> None:
    with pytest.raises(RouteError, match=r"ConfigMap ml\.bot") as caught:
        parse_route(manifest(route))
    assert says in str(caught.value)


def test_a_config_map_without_a_route_is_told() -> None:
    with pytest.raises(RouteError, match=r"has no key route\.json"):
        parse_route({"metadata": {"name": "x"}})
