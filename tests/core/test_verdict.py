from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.revision import FailedTry
from nightshift.api.rollout import Phase, RolloutState
from nightshift.core.facts import Known
from nightshift.core.marks import Marks, Order, Ordered
from nightshift.core.object_events import EventsAnswer, ObjectEvent
from nightshift.core.observed import ContainerFacts, Observed, PodFacts, ReplicaSetFacts
from nightshift.core.revisions import Revision
from nightshift.core.verdict import deadline, failing, held_up, judge, kept_out_until, last_good, told
from tests.core.test_hung import REVISION as HANGING
from tests.core.test_hung import observed as hanging
from tests.support.builders import NOW, container, deployment, model_spec, pod, revision

PROVEN = Marks(proven=NOW - timedelta(days=1))
GOOD = replace(revision(), marks=PROVEN)
STARTED = NOW - timedelta(seconds=7200)
TRIED = replace(revision(model_spec(engine={"args": ["--seed=1"]}), number=2), marks=Marks(started=STARTED))
REFUSED = "vllm: error: unrecognized arguments: --speed"
JUDGED = FailedTry(reason="EngineCrashed", message="It crashed.", at=NOW, returned_to="x")


def starting(*containers: ContainerFacts, advanced: datetime | None = STARTED, **changes: Any) -> PodFacts:
    return pod(TRIED.hash, containers=containers, advanced=advanced, **{"node": "n", **changes})


def crashed(message: str, restarts: int = 0) -> ContainerFacts:
    waiting = "CrashLoopBackOff" if restarts else None
    return container(exit_code=1, termination_message=message, restarts=restarts, waiting_reason=waiting)


LOADING = container(running_since="2026-03-01T10:00:00Z")
NO_SECRET = container(waiting_reason="CreateContainerConfigError", waiting_message='secret "hub" not found')
FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
SOON = NOW - timedelta(seconds=7199)


def verdict(pods: tuple[PodFacts, ...], target: Revision = TRIED, *others: Revision, **spec: Any) -> FailedTry | None:
    observed = Observed(revisions=(target, *(others or (GOOD,))), pods=pods)
    return judge(deployment(model_spec(**spec)), target, observed, NOW)


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        pytest.param(
            (starting(crashed(REFUSED), advanced=NOW),), "EngineArgsRejected", id="a refused argument: at once"
        ),
        pytest.param((starting(crashed("boom"), advanced=NOW),), None, id="one crash is not enough"),
        pytest.param((starting(crashed("boom", 3), advanced=NOW),), "EngineCrashed", id="a crash loop is"),
        pytest.param((starting(NO_SECRET, advanced=SOON),), None, id="a missing Secret may come: it has time"),
        pytest.param((starting(NO_SECRET),), "PodConfigInvalid", id="until the deadline"),
        pytest.param((starting(LOADING, advanced=SOON),), None, id="an engine that loads has time"),
        pytest.param((starting(LOADING),), "RolloutDeadlineExceeded", id="until the deadline without progress"),
        pytest.param(
            (starting(LOADING), pod(TRIED.hash, name="b", ready=True, advanced=SOON)),
            None,
            id="a ready one is progress",
        ),
        pytest.param((starting(initialized=False),), None, id="a download under way is not timed"),
        pytest.param((starting(unschedulable=FULL, node=None),), None, id="no accelerator is no fault of the revision"),
        pytest.param((starting(LOADING, containers_ready=True),), None, id="a node that does not report is no verdict"),
        pytest.param(
            (starting(phase="Failed", failure_reason="Evicted"),), None, id="a pod that its node put out is no verdict"
        ),
        pytest.param((), None, id="no pods, no verdict"),
    ],
)
def test_when_a_revision_has_failed(pods: tuple[PodFacts, ...], reason: str | None) -> None:
    found = verdict(pods)
    assert (found.reason if found else None) == reason
    if found is not None:
        assert found.returned_to == GOOD.hash
        assert found.at == NOW


CRASHING = (starting(crashed(REFUSED)),)
OTHER = replace(revision(model_spec(engine={"args": ["--seed=2"]}), number=3), marks=Marks())


@pytest.mark.parametrize(
    ("target", "others", "judged"),
    [
        pytest.param(TRIED, (GOOD,), True, id="an earlier one served in full"),
        pytest.param(TRIED, (replace(GOOD, marks=Marks(verdict=JUDGED)),), False, id="the earlier one failed too"),
        pytest.param(TRIED, (replace(GOOD, marks=Marks()),), False, id="the earlier one never served, nor does now"),
        pytest.param(
            replace(TRIED, marks=PROVEN), (GOOD,), False, id="it served in full: what comes later is no rollout"
        ),
        pytest.param(
            replace(TRIED, marks=replace(PROVEN, started=NOW)), (GOOD,), True, id="it served once, and is tried again"
        ),
    ],
)
def test_who_is_judged(target: Revision, others: tuple[Revision, ...], judged: bool) -> None:
    assert (verdict(CRASHING, target, *others) is not None) == judged


def test_without_an_earlier_revision_or_while_off_nothing_is_judged() -> None:
    alone = Observed(revisions=(TRIED,), pods=CRASHING)
    assert judge(deployment(), TRIED, alone, NOW) is None
    assert verdict(CRASHING, replicas=0) is None


def test_a_pod_that_never_begins_to_download_is_timed_once_events_say_what_is_in_its_way() -> None:
    waits = starting(container(names.DOWNLOAD_CONTAINER, waiting_reason="PodInitializing"), initialized=False)
    told = (ObjectEvent("FailedMount", 'configmap "settings" not found', NOW),)
    silent = Observed(revisions=(TRIED, GOOD), pods=(waits,))
    assert judge(deployment(model_spec()), TRIED, silent, NOW) is None
    named = replace(silent, events={waits.uid: EventsAnswer(NOW, Known(told, NOW))})
    found = judge(deployment(model_spec()), TRIED, named, NOW)
    assert found is not None
    assert found.reason == "VolumeNotMounted"


def test_where_replicas_are_missing_for_it_a_definite_cause_has_no_time() -> None:
    in_place = replace(TRIED, marks=Marks(started=NOW, ordered=Ordered(Order.IN_PLACE, NOW)))
    found = verdict((starting(NO_SECRET, advanced=NOW),), in_place)
    assert found is not None
    assert found.reason == "PodConfigInvalid"


def test_the_last_good_one_is_the_latest_that_served_in_full_before_one_that_serves_a_little() -> None:
    half = replace(OTHER, number=3)
    serving = Observed(revisions=(GOOD, TRIED, half), pods=(pod(half.hash, ready=True),))
    assert last_good(serving.revisions, TRIED, serving) == GOOD
    unproven = replace(GOOD, marks=Marks())
    of_an_older_operator = replace(serving, revisions=(unproven, TRIED, half))
    assert last_good(of_an_older_operator.revisions, TRIED, of_an_older_operator) == half
    assert last_good((TRIED,), TRIED, Observed(revisions=(TRIED,))) is None


GIVEN_UP = replace(OTHER, marks=replace(PROVEN, rollout=RolloutState(phase=Phase.ABANDONED, since=NOW, stable="x")))
AGAIN = replace(OTHER, marks=replace(PROVEN, started=NOW))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param((GOOD, GIVEN_UP), GOOD, id="an old one that was tried again and given up comes after what serves"),
        pytest.param((GOOD, AGAIN), GOOD, id="so does one that is tried again and has not served in full since"),
        pytest.param((replace(GOOD, marks=Marks()), GIVEN_UP), replace(GOOD, marks=Marks()), id="though it was none"),
        pytest.param((GIVEN_UP,), GIVEN_UP, id="where nothing serves it is better than nothing"),
    ],
)
def test_the_last_good_one_is_not_what_was_tried_again_in_vain(
    others: tuple[Revision, ...], expected: Revision
) -> None:
    serving = Observed(revisions=(*others, TRIED), pods=(pod(GOOD.hash, ready=True),))
    assert last_good(serving.revisions, TRIED, serving) == expected


def test_the_worked_example_of_the_deadline() -> None:
    target = replace(TRIED, marks=Marks(started=NOW))
    loading = starting(LOADING, advanced=NOW + timedelta(minutes=25))
    observed = Observed(revisions=(GOOD, target), pods=(loading,))
    assert deadline(deployment(), target, observed) == NOW + timedelta(minutes=145)


def test_a_revision_without_a_mark_began_when_it_was_stored() -> None:
    manifest = {
        **TRIED.manifest,
        "metadata": {**TRIED.manifest["metadata"], "creationTimestamp": "2026-03-01T10:00:00Z"},
    }
    stored = replace(TRIED, marks=Marks(), manifest=manifest)
    found = verdict((starting(LOADING, advanced=None),), stored)
    assert found is not None
    assert "0 of 1 replicas" in found.message
    assert "rollout.deadlineSeconds (7200 s)" in found.message


def test_a_verdict_remembers_the_retry_that_it_saw_and_names_both_ways_out() -> None:
    asked = deployment().model_copy(update={"retry": "2"})
    found = judge(asked, TRIED, Observed(revisions=(GOOD, TRIED), pods=CRASHING), NOW)
    assert found is not None
    assert found.retry == "2"
    cause = told(found)
    assert cause.definite
    assert cause.message.startswith(f"Rolled back to revision {GOOD.hash}: vLLM refuses its arguments")
    assert "nightshift.dev/retry" in cause.message


SLOW = starting(container(running_since="2026-03-01T10:59:59Z"), advanced=SOON)
STILL = starting(container(running_since="2026-03-01T11:00:00Z"), advanced=SOON)
LAPSED = container(running_since="2026-03-01T08:00:00Z", started=True)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(starting(crashed(REFUSED), advanced=NOW), "EngineArgsRejected", id="a refused argument: at once"),
        pytest.param(starting(NO_SECRET, advanced=SOON), None, id="a missing Secret may come"),
        pytest.param(STILL, None, id="an engine has an hour to load"),
        pytest.param(SLOW, "EngineStartTooSlow", id="and no longer"),
        pytest.param(starting(LAPSED, lapsed=NOW), None, id="one that started long ago is not ready for a moment"),
        pytest.param(starting(LAPSED, lapsed=SOON), None, id="one that is not ready any more has time again"),
        pytest.param(starting(LAPSED, lapsed=STARTED), "RolloutDeadlineExceeded", id="until the deadline"),
        pytest.param(starting(LOADING, containers_ready=True, advanced=SOON), None, id="its node does not report"),
        pytest.param(starting(unschedulable=FULL, node=None), None, id="no accelerator is no fault of the candidate"),
    ],
)
def test_what_fails_a_candidate_whatever_a_comparison_says(found: PodFacts, reason: str | None) -> None:
    asked = model_spec(engine={"args": ["--seed=1"], "startDeadlineSeconds": 3600})
    target = replace(revision(asked, number=2), marks=TRIED.marks)
    observed = Observed(revisions=(GOOD, target), pods=(replace(found, revision=target.hash),))
    cause = failing(deployment(asked), target, observed, NOW)
    assert (cause.reason if cause else None) == reason


def test_an_engine_that_hangs_while_it_is_healthy_fails_a_candidate() -> None:
    seen = hanging("sh")
    assert failing(deployment(), HANGING, hanging("s"), NOW) is None
    assert held_up(deployment(), HANGING, seen, NOW) is None
    cause = failing(deployment(), HANGING, seen, NOW)
    assert cause is not None
    assert (cause.reason, "bot-b" in cause.message) == ("EngineHung", True)


def test_a_candidate_that_hangs_beside_another_revision_that_hangs_has_not_failed() -> None:
    seen = hanging("hh")
    assert failing(deployment(), HANGING, seen, NOW) is not None
    pods = (replace(seen.pods[0], revision=TRIED.hash), seen.pods[1])
    assert failing(deployment(), HANGING, replace(seen, pods=pods), NOW) is None


UNLIKE = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
WAITED, NOT_YET = NOW - timedelta(seconds=900), NOW - timedelta(seconds=899)


def unplaced(message: str, since: datetime, **changes: Any) -> PodFacts:
    return starting(unschedulable=message, node=None, unplaced_since=since, advanced=since, **changes)


def refusing(message: str, since: datetime) -> ReplicaSetFacts:
    return ReplicaSetFacts("bot", TRIED.hash, 1, 0, True, failure=message, failing_since=since)


UNSAFE = 'pods "bot" is forbidden: violates PodSecurity "restricted:latest": privileged'
UNKNOWN_CLASS = 'pods "bot" is forbidden: no PriorityClass with name high was found'
UNSTATED = 'pods "bot" is forbidden: failed quota: team: must specify limits.memory'
SPENT = 'pods "bot" is forbidden: exceeded quota: team'


@pytest.mark.parametrize(
    ("pods", "refused", "reason"),
    [
        pytest.param((), refusing(UNSAFE, WAITED), "PodSecurityViolation", id="its pods are refused"),
        pytest.param((), refusing(UNSAFE, NOT_YET), None, id="the refusal may be lifted"),
        pytest.param((), refusing(UNKNOWN_CLASS, WAITED), "PodsRefused", id="its priority class does not exist"),
        pytest.param((), refusing(UNSTATED, WAITED), "QuotaExceeded", id="the quota asks for what it does not say"),
        pytest.param((), refusing(SPENT, WAITED), None, id="a quota that is used up is want of room"),
        pytest.param((unplaced(UNLIKE, WAITED),), None, "Unschedulable", id="no node has its labels"),
        pytest.param((unplaced(UNLIKE, NOT_YET),), None, None, id="such a node may come"),
        pytest.param((unplaced(FULL, WAITED),), None, None, id="no accelerator is want of room"),
        pytest.param(
            (unplaced(UNLIKE, WAITED), starting(LOADING, name="b", advanced=SOON)), None, None, id="another has a node"
        ),
        pytest.param((), None, None, id="nothing is told"),
    ],
)
def test_a_candidate_that_no_node_can_get_has_the_time_for_placing(
    pods: tuple[PodFacts, ...], refused: ReplicaSetFacts | None, reason: str | None
) -> None:
    owners = (refused,) if refused is not None else ()
    observed = Observed(revisions=(GOOD, TRIED), pods=pods, replica_sets=owners)
    cause = held_up(deployment(), TRIED, observed, NOW)
    assert (cause.reason if cause else None) == reason
    until = kept_out_until(deployment(), TRIED, observed)
    assert until is None or (until <= NOW) == (reason is not None)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(starting(unschedulable=FULL, node=None), "NoGpuCapacity", id="no accelerator until the deadline"),
        pytest.param(starting(unschedulable=FULL, node=None, advanced=SOON), None, id="it has time until then"),
        pytest.param(starting(crashed(REFUSED)), None, id="a fault of the candidate is no want of room"),
    ],
)
def test_when_the_cluster_cannot_run_a_candidate(found: PodFacts, reason: str | None) -> None:
    cause = held_up(deployment(), TRIED, Observed(revisions=(GOOD, TRIED), pods=(found,)), NOW)
    assert (cause.reason if cause else None) == reason
