"""Objects that the cache knows and the API server has no more: no watch told that they went."""

import copy

from nightshift.api import names
from tests.support.builders import model_spec
from tests.support.harness import KEY, Harness


async def test_a_retired_replica_set_that_went_before_its_watch_began_is_deleted_once_and_forgotten() -> None:
    harness = await Harness(model_spec()).settle()
    (raw,) = harness.server.of_kind("ReplicaSet")
    stale = copy.deepcopy(raw)
    stale["metadata"] |= {"name": "bot-old", "uid": "gone"}
    stale["metadata"]["labels"] |= {names.LABEL_REVISION: "old"}
    stale["spec"]["replicas"] = 0
    stale["status"] = {}
    harness.cache.put_child("ReplicaSet", stale)
    await harness.reconcile()
    assert ("ReplicaSet", "bot-old") not in harness.cache.children(KEY)
    writes = harness.writes()
    await harness.settle()
    assert harness.writes() == writes
    assert harness.condition("Ready") == ("True", "Serving")


def test_a_namesake_that_was_made_since_is_kept() -> None:
    harness = Harness(model_spec())
    raw = {"metadata": {"name": "a", "namespace": KEY[0], "uid": "new", "labels": {names.LABEL_DEPLOYMENT: KEY[1]}}}
    harness.cache.put_child("ReplicaSet", raw)
    harness.cache.forget_child(KEY, ("ReplicaSet", "a"), "old")
    assert ("ReplicaSet", "a") in harness.cache.children(KEY)
    harness.cache.forget_child(KEY, ("ReplicaSet", "a"), "new")
    assert ("ReplicaSet", "a") not in harness.cache.children(KEY)
