"""What is done about engines that hang, and what is told."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.api import names
from nightshift.core.engine_sight import EngineSight
from nightshift.core.events import events, pod_notes
from nightshift.core.facts import Known, Unknown
from nightshift.core.hung import GRACE_SECONDS, Replacement, replacement, with_engines
from nightshift.core.observed import Observed, engine_start
from nightshift.core.planning import Apply, AskEngine, LookAtEngine, Plan
from nightshift.core.revisions import Revision, parse_revision
from nightshift.core.status import status
from tests.support.builders import NOW, config, container, deployment, model_spec, pod, revision
from tests.support.fake_engines import metrics

REVISION = revision()
SETS = {("ReplicaSet", f"bot-{REVISION.hash}"): {"metadata": {"uid": "uid-of-set"}}}
RUNNING = container(ready=True, running_since="2026-03-01T11:00:00Z")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def marked(seconds: float, uid: str) -> Revision:
    """The revision with the note of a deletion."""
    manifest = dict(REVISION.manifest)
    annotations = {names.ANNOTATION_HUNG: str(Replacement(at(seconds), uid))}
    manifest["metadata"] = {**manifest["metadata"], "annotations": annotations}
    found = parse_revision(manifest)
    assert found is not None
    return found


def observed(states: str, stored: Revision | None = REVISION, **more: Any) -> Observed:
    """One pod per letter: h hangs, s serves, q was not read lately, w is not ready."""
    pods, sights, live = [], {}, dict(SETS)
    for name, state in zip("abcd", states, strict=False):
        ready = state != "w"
        item = pod(
            REVISION.hash,
            name=f"bot-{name}",
            uid=f"uid-{name}",
            owner="uid-of-set",
            ip=f"10.0.0.{ord(name)}",
            phase="Running",
            ready=ready,
            containers=(replace(RUNNING, ready=ready),),
        )
        pods.append(item)
        live[("Pod", item.name)] = {"metadata": {"uid": item.uid, "resourceVersion": "9"}}
        sights[item.name] = sight(state, f"{engine_start(item)}")
    revisions = (stored,) if stored else ()
    return Observed(revisions=revisions, pods=tuple(pods), live=live, engines=sights, **more)


def sight(state: str, start: str) -> EngineSight:
    last = Known(metrics(running=3), at(0))
    if state == "s":
        return EngineSight(start, last, last, at(0))
    hanging = EngineSight(start, last, last, at(-125), unanswered=2, asked_at=at(-30))
    return replace(hanging, metrics=Unknown("no answer")) if state == "q" else hanging


def decided(seen: Observed, replicas: int, now: float = 0, plan: Plan | None = None, **spec: Any) -> Plan:
    return with_engines(plan or Plan(), deployment(model_spec(replicas=replicas, **spec)), seen, at(now))


@pytest.mark.parametrize(
    ("states", "replicas", "goes"),
    [
        pytest.param("ss", 2, None, id="nothing hangs"),
        pytest.param("h", 1, "bot-a", id="the only replica goes at once"),
        pytest.param("sh", 2, "bot-b", id="one of two goes"),
        pytest.param("hh", 2, "bot-a", id="of several that hang one goes"),
        pytest.param("hsw", 3, None, id="not while another replica is not ready"),
        pytest.param("hs", 3, None, id="not while another replica is missing"),
        pytest.param("hsw", 2, "bot-a", id="a surplus replica that does not come up keeps nothing waiting"),
        pytest.param("hw", 2, "bot-a", id="where nothing serves there is nothing to wait for"),
        pytest.param("qs", 2, None, id="not while it cannot be read"),
        pytest.param("qh", 2, "bot-b", id="but another that can"),
    ],
)
def test_who_goes(states: str, replicas: int, goes: str | None) -> None:
    plan = decided(observed(states), replicas)
    assert [item.name for item in plan.delete] == ([goes] if goes else [])
    for item in plan.delete:
        assert (item.kind, item.uid, item.resource_version) == ("Pod", f"uid-{item.name[-1]}", "9")
        assert item.grace_seconds == GRACE_SECONDS


@pytest.mark.parametrize(
    ("mark", "now", "goes"),
    [
        pytest.param((-599, "uid-gone"), 0, False, id="another went 599 s ago"),
        pytest.param((-600, "uid-gone"), 0, True, id="another went 600 s ago"),
        pytest.param((-10, "uid-a"), 0, True, id="its own deletion was begun by a process that ended"),
    ],
)
def test_the_budget_is_kept_in_the_revision(mark: tuple[float, str], now: float, goes: bool) -> None:
    plan = decided(observed("hs", marked(*mark)), 2, now)
    assert bool(plan.delete) is goes
    assert plan.hanging is not None
    if not goes:
        assert plan.requeue_after == 1.0
        assert "the next is at 2026-03-01T12:00:01Z" in plan.hanging.message
    assert bool(plan.apply) is (goes and mark[1] != "uid-a"), "a note that stands is not made again"


def test_the_note_is_written_before_the_deletion_and_keeps_what_stood_there() -> None:
    stored = revision(pinned="sha256:" + "9" * 64, image_digest=None)
    plan = decided(observed("h", replace(stored, hash=REVISION.hash)), 1)
    (note,) = plan.apply
    annotations = note.manifest["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_IMAGE_ID] == "sha256:" + "9" * 64
    assert annotations[names.ANNOTATION_HUNG] == "2026-03-01T12:00:00Z uid-a"
    again = parse_revision({**note.manifest, "metadata": {**note.manifest["metadata"]}})
    assert again is not None
    assert replacement(again) == Replacement(NOW, "uid-a")
    assert note.manifest["data"] == stored.manifest["data"]


@pytest.mark.parametrize("text", ["", "yesterday uid-a", "2026-03-01T12:00:00 uid-a"])
def test_a_note_that_cannot_be_read_is_none(text: str) -> None:
    manifest = {**REVISION.manifest, "metadata": {**REVISION.manifest["metadata"]}}
    manifest["metadata"]["annotations"] = {names.ANNOTATION_HUNG: text}
    found = parse_revision(manifest)
    assert found is not None
    assert replacement(found) is None


def test_others_that_never_get_ready_are_waited_for_only_so_long() -> None:
    seen = observed("hsw")
    early = decided(seen, 3)
    assert early.requeue_after == 570.0
    assert early.hanging is not None
    assert "once the other replicas are ready, or at 2026-03-01T12:09:30Z" in early.hanging.message
    fresh = {name: replace(item, metrics=Known(metrics(), at(570))) for name, item in seen.engines.items()}
    assert [item.name for item in decided(replace(seen, engines=fresh), 3, 570).delete] == ["bot-a"]


@pytest.mark.parametrize(
    ("seen", "plan", "spec"),
    [
        pytest.param(observed("hs"), Plan(), {"paused": True}, id="while the deployment is paused"),
        pytest.param(observed("hs", None), Plan(), {}, id="where its revision cannot be read"),
        pytest.param(
            observed("hs"), Plan(apply=(Apply(REVISION.manifest, "", create=False),)), {}, id="while it is restated"
        ),
        pytest.param(replace(observed("hs"), live={}), Plan(), {}, id="where no ReplicaSet of ours made the pod"),
    ],
)
def test_nothing_is_deleted(seen: Observed, plan: Plan, spec: Mapping[str, Any]) -> None:
    after = decided(seen, 2, plan=plan, **spec)
    assert after.delete == ()
    assert after.apply == plan.apply


def test_a_reading_that_is_too_old_deletes_nothing() -> None:
    assert decided(observed("hs"), 2, now=90).delete
    assert not decided(observed("hs"), 2, now=91).delete


def test_a_hang_of_the_fleet_waits_for_a_person_and_is_not_restarted_at_once() -> None:
    plan = decided(observed("hhhs"), 4)
    assert [item.name for item in plan.delete] == ["bot-a"]
    assert plan.hanging is not None
    assert plan.hanging.definite
    assert plan.hanging.message.startswith("3 of 4 ready engines hang at once, so the fault lies rather in the model")
    half = decided(observed("hhss"), 4)
    assert half.hanging is not None
    assert not half.hanging.definite


def test_what_is_told_of_one() -> None:
    plan = decided(observed("hs"), 2)
    assert plan.hanging is not None
    assert plan.hanging.message == (
        "The engine of pod bot-a hangs: by its own last count 3 requests run and 0 wait, it made no step and no token "
        "since 2026-03-01T11:57:55Z, and 2 questions for one token got no answer within 30 s each, while /health "
        "answers. It is deleted now, with 30 s to end, and its ReplicaSet starts another."
    )
    (note,) = pod_notes(plan)
    assert (note.type, note.reason) == ("Warning", "HungEngineDeleted")
    assert note.message == "Pod bot-a is deleted: its engine hangs, and what it holds is lost."


@pytest.mark.parametrize(
    ("states", "ready", "available", "stalled"),
    [
        pytest.param("hs", ("False", "EngineHung"), ("True", "Serving"), "False", id="one of two"),
        pytest.param("hh", ("False", "EngineHung"), ("False", "EngineHung"), "True", id="both"),
        pytest.param("h", ("False", "EngineHung"), ("False", "EngineHung"), "False", id="the only one"),
    ],
)
def test_what_the_conditions_say(states: str, ready: tuple[str, str], available: tuple[str, str], stalled: str) -> None:
    wanted = deployment(model_spec(replicas=len(states)))
    seen = observed(states)
    plan = with_engines(Plan(target=REVISION), wanted, seen, NOW)
    told = status(wanted, seen, plan, config(), NOW)
    found = {item.type: (item.status, item.reason) for item in told.conditions}
    assert found["Ready"] == ready
    assert found["Available"] == available
    assert found["Stalled"][0] == stalled
    assert found["Progressing"] == ("False", "EngineHung")
    notes = [(note.type, note.reason) for note in events(wanted.status, told, plan)]
    assert notes.count(("Warning", "EngineHung")) == 1, "said once"


def test_the_engines_to_watch_are_the_ready_ones_that_our_replica_sets_made() -> None:
    seen = observed("ssw")
    stranger = replace(seen.pods[0], name="stranger", owner="uid-of-someone")
    nowhere = replace(seen.pods[0], name="nowhere", ip=None)
    plan = decided(replace(seen, pods=(*seen.pods, stranger, nowhere)), 3)
    assert plan.looks == tuple(
        LookAtEngine(f"bot-{name}", f"10.0.0.{ord(name)}", f"uid-{name} 2026-03-01T11:00:00Z") for name in "ab"
    )


def test_a_suspect_is_asked_by_the_name_that_its_revision_serves() -> None:
    named = revision(model_spec(model={**model_spec()["model"], "servedName": "support"}))
    stored = replace(named, hash=REVISION.hash)
    seen = observed("h", stored)
    suspect = replace(seen.engines["bot-a"], unanswered=0, asked_at=None)
    plan = decided(replace(seen, engines={"bot-a": suspect}), 1)
    assert plan.requests == (AskEngine("bot-a", "10.0.0.97", "uid-a 2026-03-01T11:00:00Z", "support", 30.0),)
    assert plan.hanging is None
    once = replace(suspect, unanswered=1, asked_at=at(-2))
    assert decided(replace(seen, engines={"bot-a": once}), 1).requeue_after == 3.0


def test_the_kv_cache_of_a_revision_is_what_one_of_its_engines_tells() -> None:
    seen = observed("sw")
    assert isinstance(seen.cache_config(REVISION.hash), Unknown)
    told = Known(metrics(cache_config={"num_gpu_blocks": "512"}), at(-5))
    seen = replace(seen, engines={"bot-b": EngineSight("x", told, told)})
    assert seen.cache_config(REVISION.hash) == Known({"num_gpu_blocks": "512"}, at(-5))
    assert isinstance(seen.cache_config("other"), Unknown)
