"""Who may reach whom, by Kubernetes' rules for NetworkPolicies; the local cluster's network enforces none.

Pure: policies and pods in, yes or no out. Source: the API reference of networking.k8s.io/v1 NetworkPolicy and
https://kubernetes.io/docs/concepts/services-networking/network-policies/.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Every namespace carries its name in this label."""


@dataclass(frozen=True)
class Endpoint:
    """A pod, something outside of the cluster, or the node that a pod runs on."""

    namespace: str | None = None
    """None: no pod."""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    """Named ports of the pod's containers."""
    own_node: bool = False
    """The node of the pod that it talks to: kubelets probe whatever a policy says."""

    def labels_of_namespace(self) -> dict[str, str]:
        return {NAMESPACE_NAME: self.namespace or "", **self.namespace_labels}


def pod_endpoint(raw: Object, **namespace_labels: str) -> Endpoint:
    """The pod of a manifest that has one: a Pod, or the template of a ReplicaSet, Job or Deployment."""
    template = raw["spec"].get("template", raw)
    containers = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for item in containers for port in item.get("ports", ())}
    labels = template["metadata"].get("labels", {})
    return Endpoint(raw["metadata"]["namespace"], labels, namespace_labels, ports=ports)


def allowed(policies: Iterable[Object], source: Endpoint, target: Endpoint, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection may be made: the source's policies must let it out, and the target's let it in."""
    known = tuple(policies)
    return _out(known, source, target, port, protocol) and _in(known, source, target, port, protocol)


def _in(policies: Iterable[Object], source: Endpoint, target: Endpoint, port: int, protocol: str) -> bool:
    if source.own_node:
        return True
    ruling = [item for item in policies if _selects(item, target) and "Ingress" in _types(item)]
    return not ruling or any(
        _peers(rule.get("from"), source, item) and _ports(rule.get("ports"), target, port, protocol)
        for item in ruling
        for rule in item["spec"].get("ingress") or ()
    )


def _out(policies: Iterable[Object], source: Endpoint, target: Endpoint, port: int, protocol: str) -> bool:
    ruling = [item for item in policies if _selects(item, source) and "Egress" in _types(item)]
    return not ruling or any(
        _peers(rule.get("to"), target, item) and _ports(rule.get("ports"), target, port, protocol)
        for item in ruling
        for rule in item["spec"].get("egress") or ()
    )


def _selects(policy: Object, endpoint: Endpoint) -> bool:
    here = policy["metadata"]["namespace"] == endpoint.namespace
    return here and matches(policy["spec"].get("podSelector") or {}, endpoint.labels)


def _types(policy: Object) -> frozenset[str]:
    """Which directions a policy rules: as it says, or else Ingress, and Egress if it has such rules."""
    spec = policy["spec"]
    if "policyTypes" in spec:
        return frozenset(spec["policyTypes"])
    return frozenset({"Ingress", "Egress"} if spec.get("egress") else {"Ingress"})


def _peers(peers: Iterable[Object] | None, other: Endpoint, policy: Object) -> bool:
    """No peers at all means everybody."""
    given = list(peers or ())
    return not given or any(_peer(peer, other, policy) for peer in given)


def _peer(peer: Object, other: Endpoint, policy: Object) -> bool:
    if "ipBlock" in peer:
        return other.address is not None and _in_block(peer["ipBlock"], other.address)
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], other.labels_of_namespace()):
            return False
    elif other.namespace != policy["metadata"]["namespace"]:
        return False
    return matches(peer.get("podSelector") or {}, other.labels)


def _in_block(block: Object, address: str) -> bool:
    def holds(cidr: str) -> bool:
        return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)

    return holds(block["cidr"]) and not any(holds(cidr) for cidr in block.get("except", ()))


def _ports(ports: Iterable[Object] | None, target: Endpoint, port: int, protocol: str) -> bool:
    """No ports at all means all ports; a rule without a number means all ports of its protocol."""
    given = list(ports or ())
    return not given or any(_port(rule, target, port, protocol) for rule in given)


def _port(rule: Object, target: Endpoint, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    wanted = rule.get("port")
    if isinstance(wanted, str):
        return target.ports.get(wanted) == port
    return wanted is None or wanted <= port <= rule.get("endPort", wanted)


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _expression(item, labels) for item in selector.get("matchExpressions") or ()
    )


def _expression(item: Object, labels: Mapping[str, str]) -> bool:
    has, value = item["key"] in labels, labels.get(item["key"])
    return {
        "In": has and value in item.get("values", ()),
        "NotIn": value not in item.get("values", ()),
        "Exists": has,
        "DoesNotExist": not has,
    }[item["operator"]]
