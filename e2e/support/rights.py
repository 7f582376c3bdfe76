"""Rights that accounts were given, and rights that they used."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from e2e.support.audit import Request
from e2e.support.client import Client, Object

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

CREATED = 201
BINDINGS = frozenset({"roles", "rolebindings", "clusterroles", "clusterrolebindings"})


def used(requests: Iterable[Request]) -> set[Right]:
    """What was asked for. A server-side apply that created its object used the right to create as well."""
    found: set[Right] = set()
    for request in requests:
        if request.resource:
            verbs = {request.verb} | ({"create"} if request.verb == "patch" and request.code == CREATED else set())
            found |= {(request.group, request.resource, verb) for verb in verbs}
    return found


def granted(client: Client, namespace: str, account: str) -> set[Right]:
    """What the bindings of the cluster give a service account by name; what everybody has is left out."""
    rights: set[Right] = set()
    for binding in _bindings(client):
        subjects = binding.get("subjects") or []
        if any(_is(subject, namespace, account) for subject in subjects):
            rights |= of_rules(_role(client, binding).get("rules") or [])
    return rights


def of_rules(rules: Iterable[Mapping[str, Any]]) -> set[Right]:
    """The rights of RBAC rules, each by itself."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups") or []
        for resource in rule.get("resources") or []
        for verb in rule["verbs"]
    }


def written(rights: Iterable[Right]) -> list[str]:
    """Rights as a person reads them, sorted."""
    return sorted(f"{verb} {resource}{'.' if group else ''}{group}" for group, resource, verb in rights)


def complaints(requests: Iterable[Request]) -> list[str]:
    """What no story may show, as sentences: a right that was wanting, and an engine or a Job that asks for anything.

    Engines and Jobs run in the stories' namespaces, under accounts that are given nothing. Where a release is
    uninstalled its rights go before its processes: these are refused to the end.
    """
    found, uninstalled = set(), set[str]()
    for request in requests:
        if request.resource in BINDINGS:
            _follow(request, uninstalled)
        if request.account is None:
            continue
        who = "/".join(request.account)
        what = f"{request.verb} {request.resource or 'a path'} in {request.namespace or 'all namespaces'}"
        ours = request.of_an_operator or request.of_a_gateway
        if ours and request.forbidden and request.account[1] not in uninstalled:
            found.add(f"{who} may not {what}")
        if not ours and request.account[0].startswith("story-"):
            found.add(f"{who} is no operator's account, and asked the API server to {what}")
    return sorted(found)


def _follow(request: Request, uninstalled: set[str]) -> None:
    """Note which accounts lose their rights, and get them again: the chart names bindings after the account."""
    name = request.name.removesuffix("-deployments")
    if request.verb == "delete" and request.code < 400:
        uninstalled.add(name)
    elif request.code == CREATED:
        uninstalled.discard(name)


def _bindings(client: Client) -> list[Object]:
    items: list[Object] = json.loads(client.kubectl("get", "clusterrolebindings,rolebindings", "-A", "-o", "json"))[
        "items"
    ]
    return items


def _is(subject: Mapping[str, Any], namespace: str, account: str) -> bool:
    return (subject["kind"], subject.get("namespace"), subject["name"]) == ("ServiceAccount", namespace, account)


def _role(client: Client, binding: Object) -> Object:
    kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
    found = client.get(kind.lower(), name, binding["metadata"].get("namespace", "default"))
    assert found is not None, f"{binding['metadata']['name']} binds {kind} {name}, which does not exist"
    return found
