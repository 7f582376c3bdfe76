"""The evaluator of NetworkPolicies against what Kubernetes documents."""

from typing import Any

import pytest

from tests.support.network_policy import Endpoint, allowed, matches

Rules = dict[str, Any]
DB = Endpoint("shop", {"app": "db"}, address="10.1.0.1", ports={"sql": 5432})
WEB = Endpoint("shop", {"app": "web"}, {"team": "a"}, address="10.1.0.2")
OTHER_WEB = Endpoint("bank", {"app": "web"}, {"team": "b"}, address="10.2.0.2")
OUTSIDE = Endpoint(address="192.0.2.7")
NODE = Endpoint(own_node=True)


def policy(namespace: str = "shop", **spec: Any) -> Rules:
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": {"podSelector": {}, **spec}}


def let_in(*peers: Rules, **more: Any) -> Rules:
    return policy(ingress=[{"from": list(peers), **more}])


ONLY_DB = {"podSelector": {"matchLabels": {"app": "db"}}}
WEB_PODS = {"podSelector": {"matchLabels": {"app": "web"}}}
BANK = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "bank"}}}
TEAM_A = {"namespaceSelector": {"matchLabels": {"team": "a"}}}
DENY = policy(policyTypes=["Ingress"])
DENY_OUT = policy(policyTypes=["Egress"])


@pytest.mark.parametrize(
    ("policies", "source", "port", "expected"),
    [
        pytest.param([], OTHER_WEB, 5432, True, id="no policy: everybody"),
        pytest.param([policy("bank", policyTypes=["Ingress"])], WEB, 5432, True, id="a policy of another namespace"),
        pytest.param([{**DENY, "spec": {**DENY["spec"], **WEB_PODS}}], WEB, 5432, True, id="one for other pods"),
        pytest.param([DENY], WEB, 5432, False, id="selected, and no rule: nobody"),
        pytest.param([policy()], WEB, 5432, False, id="without policyTypes it rules what comes in"),
        pytest.param([policy(ingress=[{}])], OUTSIDE, 5432, True, id="an empty rule: everybody, every port"),
        pytest.param([policy(ingress=[{"from": []}])], OUTSIDE, 5432, True, id="an empty list of peers: everybody"),
        pytest.param([DENY], NODE, 5432, True, id="the node of the pod, whatever a policy says"),
        pytest.param([let_in(WEB_PODS)], WEB, 5432, True, id="a pod selector: pods of this namespace"),
        pytest.param([let_in(WEB_PODS)], OTHER_WEB, 5432, False, id="and of no other"),
        pytest.param([let_in(BANK)], OTHER_WEB, 5432, True, id="a namespace selector: all its pods"),
        pytest.param([let_in(TEAM_A)], OTHER_WEB, 5432, False, id="a namespace with other labels"),
        pytest.param([let_in({**BANK, **ONLY_DB})], OTHER_WEB, 5432, False, id="both in one peer: both must hold"),
        pytest.param([let_in(BANK, ONLY_DB)], OTHER_WEB, 5432, True, id="as two peers: one is enough"),
        pytest.param(
            [let_in({"namespaceSelector": {}})], OTHER_WEB, 5432, True, id="an empty selector: every namespace"
        ),
        pytest.param([let_in({"namespaceSelector": {}})], OUTSIDE, 5432, False, id="but nobody from outside"),
        pytest.param([let_in({"ipBlock": {"cidr": "192.0.2.0/24"}})], OUTSIDE, 5432, True, id="an address block"),
        pytest.param(
            [let_in({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}})],
            OUTSIDE,
            5432,
            False,
            id="and its exceptions",
        ),
        pytest.param([DENY, let_in(WEB_PODS)], WEB, 5432, True, id="policies add up"),
        pytest.param([let_in(WEB_PODS, ports=[{"port": 5432}])], WEB, 5432, True, id="a port"),
        pytest.param([let_in(WEB_PODS, ports=[{"port": 5432}])], WEB, 5433, False, id="and no other"),
        pytest.param(
            [let_in(WEB_PODS, ports=[{"port": "sql"}])], WEB, 5432, True, id="a port by the pod's name for it"
        ),
        pytest.param([let_in(WEB_PODS, ports=[{"port": "web"}])], WEB, 5432, False, id="a name that the pod lacks"),
        pytest.param([let_in(WEB_PODS, ports=[{"port": 5000, "endPort": 6000}])], WEB, 5432, True, id="a range"),
        pytest.param([let_in(WEB_PODS, ports=[{"port": 5432, "protocol": "UDP"}])], WEB, 5432, False, id="a protocol"),
        pytest.param([let_in(WEB_PODS, ports=[{}])], WEB, 5432, True, id="a protocol alone: all its ports"),
        pytest.param([DENY_OUT], WEB, 5432, False, id="the source may not go out"),
        pytest.param([DENY_OUT], OTHER_WEB, 5432, True, id="which says nothing of what comes in"),
        pytest.param(
            [policy(egress=[{"to": [ONLY_DB]}], ingress=[{}])], WEB, 5432, True, id="it may go out to this one"
        ),
    ],
)
def test_who_reaches_the_database(policies: list[Rules], source: Endpoint, port: int, expected: bool) -> None:
    assert allowed(policies, source, DB, port) is expected


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ["a", "b"], {"team": "b"}, True),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {"team": "b"}, True),
        ("NotIn", ["a"], {}, True),
        ("NotIn", ["a"], {"team": "a"}, False),
        ("Exists", None, {"team": "x"}, True),
        ("Exists", None, {}, False),
        ("DoesNotExist", None, {}, True),
        ("DoesNotExist", None, {"team": "x"}, False),
    ],
)
def test_expressions_of_selectors(operator: str, values: Any, labels: dict[str, str], expected: bool) -> None:
    item = {"key": "team", "operator": operator} | ({"values": values} if values is not None else {})
    assert matches({"matchExpressions": [item]}, labels) is expected
