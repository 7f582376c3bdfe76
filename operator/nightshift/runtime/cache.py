"""What the watches have told: LLMDeployments by key, and their children by the key of their owner.

The cache is filled by a list before the first plan is made, kept by watch events, and compared with a list
now and then, because a deletion that happens while a watch is interrupted is never told. Watches, lists and
answers to writes overtake each other: the newer version of an object wins, and one that was told deleted does
not come back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from nightshift.api import names
from nightshift.core.kept import kept
from nightshift.core.observed import ObjectKey
from nightshift.core.ownership import route_key

Key: TypeAlias = tuple[str, str]
"""Namespace and name of an LLMDeployment."""

Object: TypeAlias = Mapping[str, Any]

_REMEMBERED_DELETIONS = 4096


def owner_key(raw: Object) -> Key | None:
    """The LLMDeployment that an object belongs to, by its label; a route, which lies elsewhere, by two."""
    if raw.get("kind") == "ConfigMap":
        return route_key(raw)
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(names.LABEL_DEPLOYMENT)
    return (metadata["namespace"], name) if name else None


def _version(raw: Object) -> int:
    text = str(raw["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0


class Cache:
    """The last known state of every watched object."""

    def __init__(self) -> None:
        self._deployments: dict[Key, Object] = {}
        self._children: defaultdict[Key, dict[ObjectKey, Object]] = defaultdict(dict)
        self._gone: dict[str, int] = {}
        """Versions at which objects, by uid, left what is watched."""
        self._newest: defaultdict[str, int] = defaultdict(int)

    def deployment(self, key: Key) -> Object | None:
        """The LLMDeployment of a key."""
        return self._deployments.get(key)

    def keys(self) -> tuple[Key, ...]:
        """All LLMDeployments."""
        return tuple(self._deployments)

    def newest(self, kind: str) -> int:
        """The newest resourceVersion of a kind that was told of; versions of several kinds do not compare."""
        return self._newest[kind]

    def children(self, key: Key) -> dict[ObjectKey, Object]:
        """The objects that carry a deployment's label."""
        return dict(self._children.get(key, {}))

    def put_deployment(self, raw: Object) -> Key:
        """Remember an LLMDeployment unless a newer version is known."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        known = self._deployments.get(key)
        if self._believe(names.KIND, raw) and (known is None or _version(raw) >= _version(known)):
            self._deployments[key] = kept(names.KIND, raw)
        return key

    def drop_deployment(self, raw: Object) -> Key:
        """Forget a deleted LLMDeployment. A namesake made since then is kept."""
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        known = self._deployments.get(key)
        if known is not None and _uid(known) == _uid(raw):
            del self._deployments[key]
        self._bury(raw)
        return key

    def put_child(self, kind: str, raw: Object) -> Key | None:
        """Remember a child unless a newer version is known; its owner's key."""
        key = owner_key(raw)
        if key is None:
            return None
        name = (kind, raw["metadata"]["name"])
        known = self._children.get(key, {}).get(name)
        if self._believe(kind, raw) and (known is None or _version(raw) >= _version(known)):
            self._children[key][name] = kept(kind, raw)
        return key

    def drop_child(self, kind: str, raw: Object) -> Key | None:
        """Forget a deleted child; its owner's key. A namesake made since then is kept."""
        key = owner_key(raw)
        if key is None:
            return None
        name = (kind, raw["metadata"]["name"])
        known = self._children.get(key, {}).get(name)
        if known is not None and _uid(known) == _uid(raw):
            self._drop_child(key, name)
        self._bury(raw)
        return key

    def forget_child(self, key: Key, name: ObjectKey, uid: str) -> None:
        """Forget a child that the API server does not have any more; a namesake with another uid is kept."""
        known = self._children.get(key, {}).get(name)
        if known is not None and _uid(known) == uid:
            self.drop_child(name[0], known)

    def replace_deployments(self, items: Iterable[Object], horizon: int) -> frozenset[Key]:
        """Compare with a list of all LLMDeployments; the keys that differed.

        Args:
            items: What the API server listed.
            horizon: `newest` of the kind as it was before the list was asked for. What became known since then
                is kept: the list may be older.
        """
        listed = {(raw["metadata"]["namespace"], raw["metadata"]["name"]): raw for raw in items}
        changed = {key for key, raw in self._deployments.items() if key not in listed and _version(raw) <= horizon}
        for key in changed:
            del self._deployments[key]
        for key, raw in listed.items():
            known = self._deployments.get(key)
            if self._believe(names.KIND, raw) and (known is None or _version(raw) > _version(known)):
                self._deployments[key] = kept(names.KIND, raw)
                changed.add(key)
        return frozenset(changed)

    def replace_children(self, kind: str, items: Iterable[Object], horizon: int) -> frozenset[Key]:
        """Compare with a list of all children of a kind; the keys whose children differed.

        Args:
            kind: Kind of the children.
            items: What the API server listed.
            horizon: As in `replace_deployments`.
        """
        listed = {(key, raw["metadata"]["name"]): raw for raw in items if (key := owner_key(raw)) is not None}
        gone = [
            (key, name)
            for key, children in self._children.items()
            for name, raw in children.items()
            if name[0] == kind and (key, name[1]) not in listed and _version(raw) <= horizon
        ]
        for key, name in gone:
            self._drop_child(key, name)
        changed = {key for key, _ in gone}
        for (key, name_), raw in listed.items():
            known = self._children.get(key, {}).get((kind, name_))
            if self._believe(kind, raw) and (known is None or _version(raw) > _version(known)):
                self._children[key][(kind, name_)] = kept(kind, raw)
                changed.add(key)
        return frozenset(changed)

    def _drop_child(self, key: Key, name: ObjectKey) -> None:
        del self._children[key][name]
        if not self._children[key]:
            del self._children[key]

    def _believe(self, kind: str, raw: Object) -> bool:
        """Whether an object still exists as far as anyone told."""
        self._newest[kind] = max(self._newest[kind], _version(raw))
        return _version(raw) > self._gone.get(_uid(raw), -1)

    def _bury(self, raw: Object) -> None:
        """Remember a deletion; an object that only lost its label for a while comes back with a newer version."""
        self._gone[_uid(raw)] = _version(raw)
        if len(self._gone) > _REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]


def _uid(raw: Object) -> str:
    return str(raw["metadata"].get("uid"))
