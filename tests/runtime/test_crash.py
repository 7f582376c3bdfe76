"""The process ends before or after any write; a new one with an empty memory finishes the work.

Every story of `tests/sim`, of `tests/support/tales.py`, and two short ones of judged rollouts are told with the real
reconciler, once for each crash.
The fast tests take some of the crashes, spread over all stories; `make crash` takes every one (--every-crash-point),
and then goes on with a real cluster, once for each kind of write, to a process that is really killed.
"""

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nightshift.adapters.kube import Object
from nightshift.api import names
from nightshift.api.route import ROUTE_KEY
from nightshift.core import images, target
from nightshift.runtime.leadership import Leadership
from tests.sim import test_stories
from tests.support.api_server import ApiServer
from tests.support.fake_kube import Crash, FakeKube
from tests.support.judged_tales import SHORT
from tests.support.mortal import Deaths, Mortal
from tests.support.simulation import Simulation
from tests.support.tales import TALES
from tests.support.virtual_time import run

Story = Callable[[Deaths], Mortal]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
_VOLATILE = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields")
TAKEOVER_SECONDS = 20.0
CRASH_POINTS = 1500
"""At least so many: twice the writes of all stories."""

FAST_STRIDE = 12
"""The fast tests end the process at every twelfth write, beginning elsewhere in each story."""


def of_simulation(story: Callable[[], Simulation], deaths: Deaths) -> Mortal:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_stories, "Simulation", partial(Mortal, deaths=deaths))
        told = story()
    assert isinstance(told, Mortal)
    return told


def of_tale(tale: Callable[[Any], Simulation], deaths: Deaths) -> Mortal:
    told = tale(partial(Mortal, deaths=deaths))
    assert isinstance(told, Mortal)
    return told


STORIES: dict[str, Story] = {
    **{story.__name__.replace("_", " "): partial(of_simulation, story) for story in test_stories.TOLD},
    **{tale.__name__.replace("_", " "): partial(of_tale, tale) for tale in (*TALES, *SHORT)},
}


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not answer is asked again after seconds, for which a story does not wait."""
    for module in (images, target):
        monkeypatch.setattr(module, "IMAGE_ATTEMPTS", 1)


@pytest.fixture(autouse=True)
def few_words(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand stories need not be logged in full."""
    caplog.set_level(logging.ERROR, "nightshift")


def end_state(told: Mortal) -> list[Any]:
    """All objects without what differs from run to run; pods by revision and readiness."""
    uids = {raw["metadata"]["uid"]: (raw["kind"], raw["metadata"]["name"]) for raw in told.server.everything()}
    found: list[Any] = []
    for raw in told.server.everything():
        if raw["kind"] == "Event":
            continue
        if raw["kind"] == "Pod":
            labels = raw["metadata"]["labels"]
            found.append(("Pod", labels.get(names.LABEL_REVISION), raw["status"]["phase"], raw["spec"]))
        else:
            found.append(without_volatile(raw, uids))
    return sorted(found, key=repr)


def without_volatile(raw: Object, uids: dict[str, tuple[str, str]]) -> Object:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in _VOLATILE}
    owners = [uids[owner["uid"]] for owner in metadata.pop("ownerReferences", ())]
    annotations = {
        key: _TIME.sub("a time", value)
        for key, value in metadata.pop("annotations", {}).items()
        if key != names.ANNOTATION_APPLIED
    }
    status = dict(raw.get("status") or {})
    if raw["kind"] == "ReplicaSet":
        status.pop("observedGeneration", None)  # counts the steps of a rollout, as `generation` does
    status["conditions"] = [
        {key: value for key, value in item.items() if key not in ("lastTransitionTime", "message")}
        for item in status.get("conditions", ())
    ]
    if raw["kind"] == "ConfigMap":
        found = json.loads(raw["data"][ROUTE_KEY])
        raw = {**raw, "data": {key: value for key, value in found.items() if key not in ("uid", "generation")}}
    return {**raw, "metadata": {**metadata, "annotations": annotations}, "owners": owners, "status": status}


def assert_at_rest(told: Mortal, after: str) -> None:
    writes = told.writes
    told.reconcile()
    assert told.writes == writes, f"never at rest after {after}"


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--every-crash-point") else FAST_STRIDE


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_at_any_write_heals_in_a_new_process(name: str, stride: int) -> None:
    """What lies outside of the process is the same before a write as after the one before it, if nobody else acted
    in between: then one telling shows both."""
    story = STORIES[name]
    undisturbed = story(Deaths())
    expected, writes = end_state(undisturbed), undisturbed.deaths.writes
    assert len(writes) >= 15
    for index, write in list(enumerate(writes))[list(STORIES).index(name) % stride :: stride]:
        shown_by_the_last = index > 0 and index not in undisturbed.deaths.others_acted_before
        deaths = {f"after write {index}, {write}": Deaths(after=index)}
        if not shown_by_the_last:
            deaths[f"before write {index}, {write}"] = Deaths(before=index)
        for when, ends in deaths.items():
            told = story(ends)
            assert told.deaths.count == 1
            assert end_state(told) == expected, f"the process ended {when}"
            assert_at_rest(told, f"the process ended {when}")


@pytest.mark.parametrize("name", STORIES)
def test_processes_that_end_after_every_fifth_write_get_there_too(name: str) -> None:
    story = STORIES[name]
    told = story(Deaths(after=4, again=True))
    assert told.deaths.count >= 3
    assert end_state(told) == end_state(story(Deaths()))


def test_the_number_of_crash_points() -> None:
    writes = {name: story(Deaths()).deaths.writes for name, story in STORIES.items()}
    points = 2 * sum(map(len, writes.values()))
    kinds = sorted({write for tried in writes.values() for write in tried})
    sys.stdout.write(f"{points} crash points in {len(writes)} stories: before and after {', '.join(kinds)}\n")
    assert points >= CRASH_POINTS
    assert {kind.partition(" ")[0] for kind in kinds} == {"apply", "create", "delete", "evict", "merge", "status"}


def test_what_an_ended_process_still_tries_does_not_reach_the_api_server() -> None:
    told = STORIES["first start from a branch"](Deaths())
    kube = told.reconciler.kube
    told.deaths.before = len(told.deaths.writes)
    told.begin()
    kube, before = told.reconciler.kube, list(told.server.everything())
    with pytest.raises(Crash):
        _drive(kube.create({"kind": "Event", "metadata": {"name": "a", "namespace": "ml"}}))
    with pytest.raises(Crash):
        _drive(kube.create({"kind": "Event", "metadata": {"name": "b", "namespace": "ml"}}))
    assert list(told.server.everything()) == before


def _drive(coroutine: Any) -> None:
    coroutine.send(None)


def test_a_crash_is_caught_by_nobody() -> None:
    assert not issubclass(Crash, Exception)


@pytest.mark.parametrize("where", ["crash_before", "crash_after"], ids=["before the write", "after it"])
@pytest.mark.parametrize("index", range(4), ids=["of a new Lease", "that renews it", "that renews it again", "later"])
def test_after_a_crash_at_a_write_of_the_lease_another_process_leads(where: str, index: int) -> None:
    async def body() -> float:
        server = ApiServer()
        kube = FakeKube(server)
        setattr(kube, where, index)
        first = Leadership(kube, "nightshift-system", "lease", "first")
        await first.acquire() if index else None
        with pytest.raises(Crash):
            await (first.hold() if index else first.acquire())
        assert kube.attempted_writes == index + 1
        ended = asyncio.get_running_loop().time()
        second = Leadership(FakeKube(server), "nightshift-system", "lease", "second")
        await second.acquire()
        assert second.may_write()
        assert [raw["spec"]["holderIdentity"] for raw in server.of_kind("Lease")] == ["second"]
        return asyncio.get_running_loop().time() - ended

    assert run(body()) <= TAKEOVER_SECONDS
