from typing import Any

import pytest

from nightshift.api import names
from nightshift.runtime.cache import _REMEMBERED_DELETIONS, Cache, owner_key

KEY = ("ml", "bot")
OTHER = ("ml", "other")


def lld(version: int, *, name: str = "bot", uid: str = "u1") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ml", "uid": uid, "resourceVersion": str(version)}}


def child(version: int, *, name: str = "pod", uid: str = "p1", owner: str | None = "bot") -> dict[str, Any]:
    labels = {names.LABEL_DEPLOYMENT: owner} if owner else {}
    metadata = {"name": name, "namespace": "ml", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata}


def test_a_child_belongs_to_the_deployment_of_its_label() -> None:
    assert owner_key(child(1)) == KEY
    assert owner_key(child(1, owner=None)) is None
    cache = Cache()
    assert cache.put_child("Pod", child(1, owner=None)) is None
    assert cache.drop_child("Pod", child(1, owner=None)) is None
    assert cache.children(KEY) == {}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        pytest.param(5, 7, 7, id="a newer event replaces"),
        pytest.param(7, 5, 7, id="an older event is passed over"),
        pytest.param(7, 7, 7, id="the same event again"),
    ],
)
def test_the_newest_version_wins(first: int, second: int, kept: int) -> None:
    cache = Cache()
    for version in (first, second):
        assert cache.put_deployment(lld(version)) == KEY
        assert cache.put_child("Pod", child(version)) == KEY
    assert cache.deployment(KEY) == lld(kept)
    assert cache.children(KEY) == {("Pod", "pod"): child(kept)}
    assert (cache.newest("Pod"), cache.newest(names.KIND), cache.newest("Job")) == (kept, kept, 0)
    assert cache.keys() == (KEY,)


def test_a_deleted_object_is_gone_and_an_older_event_does_not_bring_it_back() -> None:
    cache = Cache()
    cache.put_deployment(lld(1))
    cache.put_child("Pod", child(2))
    assert cache.drop_deployment(lld(5)) == KEY
    assert cache.drop_child("Pod", child(6)) == KEY
    assert cache.put_deployment(lld(3)) == KEY
    assert cache.put_child("Pod", child(4)) == KEY
    assert cache.deployment(KEY) is None
    assert cache.children(KEY) == {}


def test_an_object_whose_label_was_taken_off_and_put_back_is_known_again() -> None:
    cache = Cache()
    cache.put_child("ReplicaSet", child(2))
    cache.drop_child("ReplicaSet", child(5))
    cache.put_child("ReplicaSet", child(6))
    assert cache.children(KEY) == {("ReplicaSet", "pod"): child(6)}


def test_a_namesake_made_after_a_deletion_is_kept_whichever_is_told_first() -> None:
    for deletion_first in (True, False):
        cache = Cache()
        cache.put_deployment(lld(1))
        cache.put_child("Pod", child(2))
        tell = [lambda c=cache: (c.drop_deployment(lld(5)), c.drop_child("Pod", child(6)))]
        tell.append(lambda c=cache: (c.put_deployment(lld(7, uid="u2")), c.put_child("Pod", child(8, uid="p2"))))
        for step in tell if deletion_first else reversed(tell):
            step()
        assert cache.deployment(KEY) == lld(7, uid="u2")
        assert cache.children(KEY) == {("Pod", "pod"): child(8, uid="p2")}


def test_an_unknown_object_may_be_dropped() -> None:
    cache = Cache()
    assert cache.drop_child("Pod", child(1)) == KEY
    assert cache.drop_deployment(lld(1)) == KEY


def test_ghosts_are_dropped_by_a_list() -> None:
    cache = Cache()
    for raw in (lld(1), lld(2, name="other", uid="u2")):
        cache.put_deployment(raw)
    for raw in (child(3), child(4, name="ghost", uid="p2"), child(5, name="far", uid="p3", owner="other")):
        cache.put_child("Pod", raw)
    cache.put_child("Service", child(6, name="ghost", uid="s1"))
    assert cache.replace_children("Pod", [child(3)], cache.newest("Pod")) == {KEY, OTHER}
    assert cache.children(KEY) == {("Pod", "pod"): child(3), ("Service", "ghost"): child(6, name="ghost", uid="s1")}
    assert cache.children(OTHER) == {}
    assert cache.replace_deployments([lld(1)], cache.newest(names.KIND)) == {OTHER}
    assert cache.keys() == (KEY,)


def test_a_list_brings_what_no_watch_told() -> None:
    cache = Cache()
    cache.put_deployment(lld(1))
    cache.put_child("Pod", child(2))
    listed = [child(9), child(8, name="more", uid="p2"), child(7, owner=None)]
    assert cache.replace_children("Pod", listed, cache.newest("Pod")) == {KEY}
    assert set(cache.children(KEY)) == {("Pod", "pod"), ("Pod", "more")}
    assert cache.children(KEY)[("Pod", "pod")] == child(9)
    assert cache.replace_deployments([lld(9), lld(8, name="other", uid="u2")], cache.newest(names.KIND)) == {KEY, OTHER}


def test_a_list_that_says_the_same_changes_nothing() -> None:
    cache = Cache()
    cache.put_deployment(lld(1))
    cache.put_child("Pod", child(2))
    assert cache.replace_children("Pod", [child(2)], cache.newest("Pod")) == frozenset()
    assert cache.replace_deployments([lld(1)], cache.newest(names.KIND)) == frozenset()


def test_what_was_made_while_the_list_was_under_way_is_kept() -> None:
    cache = Cache()
    cache.put_child("Pod", child(3))
    cache.put_deployment(lld(4))
    pods, deployments = cache.newest("Pod"), cache.newest(names.KIND)
    cache.put_child("Pod", child(5, name="new", uid="p2"))
    cache.put_deployment(lld(6, name="other", uid="u2"))
    assert cache.replace_children("Pod", [child(3)], pods) == frozenset()
    assert cache.replace_deployments([lld(4)], deployments) == frozenset()
    assert ("Pod", "new") in cache.children(KEY)
    assert cache.deployment(OTHER) is not None


def test_what_was_deleted_while_the_list_was_under_way_stays_away() -> None:
    cache = Cache()
    cache.put_child("Pod", child(3))
    cache.put_deployment(lld(4))
    pods, deployments = cache.newest("Pod"), cache.newest(names.KIND)
    cache.drop_child("Pod", child(5))
    cache.drop_deployment(lld(6))
    assert cache.replace_children("Pod", [child(3)], pods) == frozenset()
    assert cache.replace_deployments([lld(4)], deployments) == frozenset()
    assert (cache.children(KEY), cache.keys()) == ({}, ())


def test_an_older_list_does_not_replace_what_is_newer() -> None:
    cache = Cache()
    cache.put_child("Pod", child(9))
    cache.put_deployment(lld(9))
    assert cache.replace_children("Pod", [child(3)], cache.newest("Pod")) == frozenset()
    assert cache.replace_deployments([lld(3)], cache.newest(names.KIND)) == frozenset()
    assert cache.children(KEY) == {("Pod", "pod"): child(9)}


def test_deletions_are_remembered_for_a_bounded_number_of_objects() -> None:
    cache = Cache()
    for number in range(_REMEMBERED_DELETIONS + 10):
        cache.drop_child("Pod", child(number, uid=f"p{number}"))
    assert len(cache._gone) == _REMEMBERED_DELETIONS


def test_a_version_that_is_no_number_counts_as_the_oldest() -> None:
    cache = Cache()
    strange = {"metadata": {**lld(1)["metadata"], "resourceVersion": "opaque"}}
    cache.put_deployment(strange)
    cache.put_deployment(lld(1))
    assert cache.deployment(KEY) == lld(1)
