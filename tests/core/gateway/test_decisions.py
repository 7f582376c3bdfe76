"""From the cluster to slots, servers and maps, and from there to commands: pure tables."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from nightshift.core.facts import Known, Unknown
from nightshift.core.gateway.desired import Decision, decide, share
from nightshift.core.gateway.diff import Command, diff, nudges
from nightshift.core.gateway.listing import models_of
from nightshift.core.gateway.maps import choice_line
from nightshift.core.gateway.observed import Endpoint, Observed, PodFact, endpoints_of, gateways_of, pod_fact
from nightshift.core.gateway.settings import ADAPTERS_MAP, BARE_MAP, HOSTS_MAP, MAPS, MODELS_MAP, ROUTES_MAP, Settings
from nightshift.core.gateway.slots import Assignment
from nightshift.core.gateway.state import Desired, Live, LiveServer, LiveSlot, Server
from tests.support.real_haproxy import NOW, Model, Pod, observed, route

SETTINGS = Settings(first_pool=4, other_pool=1)
ADDRESS = "10.0.0.7"


def decided(*models: Model, before: Assignment | None = None, **options: Any) -> Decision:
    processes = options.pop("processes", [{}])
    settings = options.pop("settings", SETTINGS)
    found = decide(settings, observed(models, **options), before or Assignment(), processes)
    assert not isinstance(found, Unknown)
    return found


def servers(decision: Decision) -> dict[str, dict[str, int]]:
    return {
        slot: {name[2:4].rstrip("-"): one.weight for name, one in found.items()}
        for slot, found in decision.desired.servers.items()
    }


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(Pod("p", 1), {"p": 100}, id="a ready replica takes requests"),
        pytest.param(Pod("p", 1, ready=False), {}, id="one that is not ready is no server"),
        pytest.param(Pod("p", 1, deleting=True), {"p": 0}, id="one that is being deleted drains, ready or not"),
        pytest.param(Pod("p", 1, ready=False, deleting=True), {"p": 0}, id="also when it is no longer ready"),
        pytest.param(Pod("p", 1, address="0.0.0.0"), {}, id="an address that stands for all is none"),
        pytest.param(Pod("p", 1, address="169.254.169.254"), {}, id="nor is that of a cloud's metadata"),
        pytest.param(Pod("p", 1, address="224.0.0.1"), {}, id="nor one of many receivers"),
        pytest.param(Pod("p", 1, address="evil.example"), {}, id="nor a name"),
        pytest.param(Pod("p", 1, address="fd00::7"), {"p": 100}, id="an IPv6 address is one"),
    ],
)
def test_what_becomes_of_a_pod(pod: Pod, expected: dict[str, int]) -> None:
    assert servers(decided(Model(route(), {"r1": [pod]}))) == ({"be_l600_0": expected} if expected else {})


POD = PodFact("ml", "p", "uid", "bot", "r1", frozenset({ADDRESS}), deleting=False)
ENDPOINT = Endpoint("ml", "bot-r1", ADDRESS, "p", "uid", ready=True, terminating=False)


@pytest.mark.parametrize(
    ("pod", "endpoint", "says"),
    [
        pytest.param(POD, ENDPOINT, None, id="the revision's own pod is used"),
        pytest.param(replace(POD, uid="new"), ENDPOINT, "another one by now", id="a pod of the same name is not"),
        pytest.param(replace(POD, deployment="x"), ENDPOINT, "not of revision r1", id="nor another deployment's"),
        pytest.param(replace(POD, revision="r2"), ENDPOINT, "not of revision r1", id="nor another revision's"),
        pytest.param(POD, replace(ENDPOINT, address="10.0.0.8"), "not an address of pod p", id="nor a foreign address"),
        pytest.param(
            replace(POD, namespace="other"), ENDPOINT, None, id="a pod that is not known yet is waited for in silence"
        ),
    ],
)
def test_addresses_that_are_not_of_the_revisions_pods_get_nothing(
    pod: PodFact, endpoint: Endpoint, says: str | None
) -> None:
    cluster = Observed(Known((route(),), NOW), Known((endpoint,), NOW), Known((pod,), NOW))
    found = decide(SETTINGS, cluster, Assignment(), [{}])
    assert not isinstance(found, Unknown)
    assert bool(found.desired.servers) is (pod == POD and endpoint == ENDPOINT)
    assert [says in reason for reason in found.rejected if says] == ([True] if says else [])
    assert bool(found.rejected) is bool(says)


@pytest.mark.parametrize("missing", ["routes", "endpoints", "pods"])
def test_nothing_is_decided_while_a_list_is_not_known(missing: str) -> None:
    unread: dict[str, Any] = {missing: Unknown("not read")}
    cluster = replace(observed([Model(route(), {})]), **unread)
    assert decide(SETTINGS, cluster, Assignment(), [{}]) == Unknown("not read")


@pytest.mark.parametrize(
    ("cap", "gateways", "expected"),
    [
        pytest.param(16, 1, 16, id="alone a gateway has all of it"),
        pytest.param(16, 3, 5, id="three have five each"),
        pytest.param(2, 3, 1, id="one is the least"),
        pytest.param(2, 0, 2, id="no gateway is counted as one"),
    ],
)
def test_a_cap_is_shared(cap: int, gateways: int, expected: int) -> None:
    assert share(cap, gateways) == expected


@pytest.mark.parametrize(
    ("asked", "gateways", "whole", "each"),
    [
        pytest.param(200, 1, 200, "200", id="a queue is as long as the route says"),
        pytest.param(200, 3, 200, "67", id="and shared by the gateways"),
        pytest.param(1_000_000, 1, 1000, "1000", id="but takes a quarter of the connections at most"),
        pytest.param(1_000_000, 2, 2000, "1000", id="of each gateway pod"),
    ],
)
def test_how_many_requests_may_wait(asked: int, gateways: int, whole: int, each: str) -> None:
    found = decided(Model(route(queue={"maxRequests": asked}), {}), gateways=gateways)
    assert [one.queue.max_requests for one in found.routes] == [whole]
    assert found.desired.maps[ROUTES_MAP]["ml/bot"].split("|")[3] == each


def test_an_alias_is_known_by_the_cluster_s_own_domain() -> None:
    hosts = decided(Model(route(), {}), settings=Settings(cluster_domain="corp.internal")).desired.maps[HOSTS_MAP]
    assert set(hosts) == {"bot.ml", "bot.ml.svc", "bot.ml.svc.corp.internal"}


def test_maps_name_routes_by_path_host_and_model() -> None:
    other = route("bot", shortNames=["quick", "shared"]).model_copy(update={"namespace": "team"})
    adapters = [{"name": "refunds", "pods": []}]
    maps = decided(Model(route(shortNames=["shared"], adapters=adapters), {}), Model(other, {})).desired.maps
    assert maps[ROUTES_MAP] == {
        "ml/bot": "Chat|On|33554432|200|None|1|1|be_l600_0|100",
        "team/bot": "Chat|On|33554432|200|None|0|1|be_l600_1|100",
    }
    assert maps[HOSTS_MAP]["bot.ml.svc.cluster.local"] == "ml/bot"
    assert maps[BARE_MAP] == {"bot": "bot.ml,bot.team"}
    assert maps[MODELS_MAP] == {
        "ml/bot": "ml/bot",
        "team/bot": "team/bot",
        "quick": "team/bot",
        "refunds": "ml/bot",
        "ml/bot:refunds": "ml/bot",
        "shared:refunds": "ml/bot",
    }
    assert maps[ADAPTERS_MAP] == {}


@pytest.mark.parametrize(
    ("ours", "others", "means"),
    [
        pytest.param({"shortNames": ["llama"]}, {"adapters": ["llama"]}, "ml/bot", id="is not taken by an adapter"),
        pytest.param({"shortNames": ["llama"]}, {"shortNames": ["llama"]}, None, id="of two means neither"),
        pytest.param(
            {"shortNames": ["llama"], "adapters": ["llama"]},
            {"shortNames": ["llama"]},
            None,
            id="of two means neither, whoever has an adapter of that name",
        ),
        pytest.param({"adapters": ["llama"]}, {"adapters": ["llama"]}, None, id="as adapters of two mean neither"),
        pytest.param({"adapters": ["llama"]}, {}, "ml/bot", id="as an adapter of one means it"),
    ],
)
def test_a_short_name(ours: dict[str, list[str]], others: dict[str, list[str]], means: str | None) -> None:
    def named(namespace: str, shortNames: Sequence[str] = (), adapters: Sequence[str] = ()) -> Model:  # noqa: N803
        found = route(shortNames=list(shortNames), adapters=[{"name": name, "pods": []} for name in adapters])
        return Model(found.model_copy(update={"namespace": namespace}), {})

    assert decided(named("ml", **ours), named("team", **others)).desired.maps[MODELS_MAP].get("llama") == means


@pytest.mark.parametrize(
    ("weighted", "expected"),
    [
        pytest.param([], "0", id="nobody"),
        pytest.param([("a", 100)], "1|a|100", id="one"),
        pytest.param([("a", 95), ("b", 5)], "2|a|95|b|100", id="a canary"),
        pytest.param([("a", 30), ("b", 10)], "2|a|75|b|100", id="a part of all keeps its proportion"),
    ],
)
def test_weights_are_written_cumulatively(weighted: list[tuple[str, int]], expected: str) -> None:
    assert choice_line(weighted) == expected


TWO = {"r1": [Pod("p", 1), Pod("q", 1)]}


@pytest.mark.parametrize(
    ("having", "pods", "line"),
    [
        pytest.param(["p", "q"], TWO, None, id="one that all have goes where the model does"),
        pytest.param(["p"], TWO, "1|be_l600_1|100", id="one that some have gets a slot of these"),
        pytest.param([], TWO, "0", id="one that none has goes nowhere"),
        pytest.param(["x"], TWO, "0", id="a pod that is none of them does not count"),
        pytest.param([], {}, None, id="at zero it is held as the model is"),
        pytest.param(["p"], {"r1": [Pod("p", 1), Pod("q", 1, deleting=True)]}, None, id="one that drains is not asked"),
    ],
)
def test_where_an_adapter_goes(having: list[str], pods: dict[str, list[Pod]], line: str | None) -> None:
    found = decided(Model(route(adapters=[{"name": "x", "pods": having}]), pods))
    lines = found.desired.maps[ADAPTERS_MAP]
    assert lines == ({} if line is None else {"ml/bot:x": line, "ml/bot:ml/bot:x": line})
    if line == "1|be_l600_1|100":
        assert servers(found)["be_l600_1"] == {"p": 100}


def test_an_adapter_on_one_revision_of_two_takes_only_that() -> None:
    both = route(weights={"r1": 50, "r2": 50}, adapters=[{"name": "x", "pods": ["p"]}])
    found = decided(Model(both, {"r1": [Pod("p", 1)], "r2": [Pod("q", 1)]}))
    assert found.desired.maps[ADAPTERS_MAP]["ml/bot:x"] == "1|be_l600_0|100"


SERVER = Server("s-p", "10.0.0.7", 8000, 100, 8)
LIVE = LiveServer("s-p", "10.0.0.7", 8000, 100, 8, maintenance=False, up=True)


def options(server: Server) -> str:
    return f"weight {server.weight}"


@pytest.mark.parametrize(
    ("live", "wanted", "commands"),
    [
        pytest.param(LIVE, SERVER, [], id="what is as it should be is left alone"),
        pytest.param(
            None,
            SERVER,
            ["add server b/s-p 10.0.0.7:8000 weight 100", "enable health b/s-p", "enable server b/s-p"],
            id="a new one is added, then checked, then enabled",
        ),
        pytest.param(
            None,
            replace(SERVER, address="fd00::7"),
            ["add server b/s-p [fd00::7]:8000 weight 100", "enable health b/s-p", "enable server b/s-p"],
            id="an IPv6 address stands in brackets",
        ),
        pytest.param(LIVE, replace(SERVER, weight=0), ["set server b/s-p weight 0"], id="one that leaves drains"),
        pytest.param(LIVE, replace(SERVER, cap=4), ["set maxconn server b/s-p 4"], id="a cap is changed"),
        pytest.param(
            LIVE,
            replace(SERVER, address="10.0.0.9"),
            ["set server b/s-p addr 10.0.0.9 port 8000"],
            id="a pod with a new address is moved",
        ),
        pytest.param(
            LIVE, None, ["set server b/s-p state maint", "del server b/s-p"], id="one that is gone is deleted"
        ),
        pytest.param(
            replace(LIVE, connections=2), None, ["set server b/s-p state maint"], id="but not while it has requests"
        ),
        pytest.param(
            replace(LIVE, connections=2, maintenance=True), None, [], id="and is asked no more while it has them"
        ),
        pytest.param(
            replace(LIVE, maintenance=True), SERVER, ["set server b/s-p state ready"], id="one that returns is ready"
        ),
        pytest.param(
            replace(LIVE, weight=0, maintenance=True),
            SERVER,
            ["set server b/s-p weight 100", "set server b/s-p state ready"],
            id="with its weight first",
        ),
    ],
)
def test_the_way_of_a_server(live: LiveServer | None, wanted: Server | None, commands: list[str]) -> None:
    name = "be_l600_0"
    now = Live("f", {name: LiveSlot({live.name: live} if live else {})}, {})
    then = Desired({name: {wanted.name: wanted}} if wanted else {}, {}, "f")
    assert [one.text.replace(name, "b") for one in diff(now, then, {}, options).commands] == commands


def test_what_comes_is_there_before_maps_lead_to_it_and_what_goes_leaves_after() -> None:
    old, new = (
        LiveServer("s-o", "10.0.0.1", 1, 100, 1, maintenance=False, up=True),
        Server("s-n", "10.0.0.2", 1, 100, 1),
    )
    live = Live(
        "f", {"be_l600_0": LiveSlot({"s-o": old}), "be_l600_1": LiveSlot()}, {"m": {"a": "1|be_l600_0|100", "b": ""}}
    )
    wanted = Desired({"be_l600_1": {"s-n": new}}, {"m": {"a": "1|be_l600_1|100", "c": "x"}}, "f")
    way = diff(live, wanted, {"m": "/m"}, options)
    assert not way.reload
    assert [one.text.split(" ", 2)[0] + " " + one.text.split(" ", 2)[1] for one in way.commands] == [
        "add server",
        "enable health",
        "enable server",
        "set map",
        "add map",
        "del map",
        "set server",
        "del server",
    ]
    assert [one for one in way.commands if one.optional] == [
        Command("del server be_l600_0/s-o", "Server deleted", True)
    ]


def test_a_line_that_leads_to_a_slot_that_is_not_there_waits_for_the_reload() -> None:
    live = Live("old", {"be_l600_0": LiveSlot()}, {"m": {}})
    wanted = Desired(
        {"be_l600_1": {"s-p": SERVER}}, {"m": {"a": "1|be_l600_1|100", "b": "1|be_l600_0|100"}, "n": {}}, "new"
    )
    way = diff(live, wanted, {"m": "/m", "n": "/n"}, options)
    assert way.reload
    assert [one.text for one in way.commands] == ["add map /m b 1|be_l600_0|100"]


@pytest.mark.parametrize(
    ("slot", "nudged"),
    [
        pytest.param(LiveSlot({"s-p": LIVE}, waiting=1), True, id="one with room, where requests wait, is nudged"),
        pytest.param(LiveSlot({"s-p": LIVE}), False, id="not where none waits"),
        pytest.param(LiveSlot({"s-p": replace(LIVE, connections=8)}, waiting=1), False, id="not one that is full"),
        pytest.param(
            LiveSlot({"s-p": replace(LIVE, connections=8, waiting=1)}, waiting=1),
            True,
            id="but one is not full of what waits for it",
        ),
        pytest.param(LiveSlot({"s-p": replace(LIVE, up=False)}, waiting=1), False, id="not one that is down"),
        pytest.param(LiveSlot({"s-p": replace(LIVE, weight=0)}, waiting=1), False, id="not one that drains"),
    ],
)
def test_who_is_made_to_look_into_the_queue(slot: LiveSlot, nudged: bool) -> None:
    assert [one.text for one in nudges({"b": slot})] == (["set maxconn server b/s-p 8"] if nudged else [])


DRAINING = replace(LIVE, name="s-q", weight=0, connections=3, waiting=2)


@pytest.mark.parametrize(
    ("slot", "led"),
    [
        pytest.param(LiveSlot({"s-p": LIVE, "s-q": DRAINING}), True, id="to one that takes them"),
        pytest.param(LiveSlot({"s-q": DRAINING}), False, id="not where there is none, or they would get 503"),
        pytest.param(
            LiveSlot({"s-p": replace(LIVE, up=False), "s-q": DRAINING}), False, id="nor where the other one is down"
        ),
        pytest.param(LiveSlot({"s-p": LIVE, "s-q": replace(DRAINING, waiting=0)}), False, id="nor where none waits"),
        pytest.param(
            LiveSlot({"s-p": LIVE, "s-q": replace(DRAINING, maintenance=True)}), False, id="nor from maintenance again"
        ),
    ],
)
def test_requests_that_wait_for_a_server_that_drains_are_led(slot: LiveSlot, led: bool) -> None:
    expected = ["set server b/s-q state maint", "set server b/s-q state ready"] if led else []
    assert [one.text for one in nudges({"b": slot})] == expected


def test_endpoints_and_pods_are_read_from_api_objects() -> None:
    raw = {
        "metadata": {"namespace": "ml", "labels": {"kubernetes.io/service-name": "bot-r1"}},
        "endpoints": [
            {
                "addresses": [ADDRESS],
                "targetRef": {"kind": "Pod", "name": "p", "uid": "uid"},
                "conditions": {"ready": True},
            },
            {"addresses": ["10.0.0.9"], "targetRef": {"kind": "Node", "name": "n"}},
            {"addresses": ["10.0.0.9"]},
            {"addresses": ["10.0.0.8"], "targetRef": {"kind": "Pod", "name": "q", "uid": "u"}, "conditions": None},
        ],
    }
    first, second = endpoints_of(raw)
    assert first == ENDPOINT
    assert (second.ready, second.terminating) == (False, False)
    labels = {"nightshift.dev/deployment": "bot", "nightshift.dev/revision": "r1"}
    pod = {"metadata": {"namespace": "ml", "name": "p", "uid": "uid", "labels": labels}, "status": {"podIP": ADDRESS}}
    assert pod_fact(pod) == POD
    assert pod_fact({"metadata": {"namespace": "ml", "name": "x", "deletionTimestamp": "t"}}).deleting


def test_gateways_are_counted_by_their_ready_pods() -> None:
    ready = [{"targetRef": {"uid": uid}, "conditions": {"ready": ok}} for uid, ok in (("a", True), ("b", False))]
    assert gateways_of([{"endpoints": ready}, {"endpoints": ready}]) == 1
    assert gateways_of([{"endpoints": [*ready, {"targetRef": {"uid": "c"}, "conditions": {"ready": True}}]}]) == 2
    assert gateways_of([]) == 1


def test_models_that_are_asked_for_under_an_unknown_route_are_none() -> None:
    assert models_of([route()], "ml/other") == []
    assert [one["id"] for one in models_of([route()], "ml/bot")] == ["bot"]


def test_all_maps_are_written_even_without_routes() -> None:
    assert set(decided().desired.maps) == set(MAPS)
