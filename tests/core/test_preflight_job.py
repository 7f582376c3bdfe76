"""Whether a new revision's image is asked, how, and what follows from its answer or its silence."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift.api import names
from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult, StoredPreflight
from nightshift.api.resource import LLMDeployment, parse
from nightshift.api.status import Status
from nightshift.core.canonical import canonical_json
from nightshift.core.children import Manifest
from nightshift.core.events import events
from nightshift.core.fetch_jobs import RETRY_SECONDS
from nightshift.core.marks import Marks
from nightshift.core.observed import JobFacts, Observed, PodFacts
from nightshift.core.plan import plan
from nightshift.core.preflight_job import (
    GIVEN_UP_SECONDS,
    NOT_ASKED,
    PROGRAM,
    PULL_SECONDS,
    Asked,
    Judged,
    Pending,
    Refused,
    ask,
    preflight_job,
    request_of,
)
from nightshift.core.revisions import Revision
from nightshift.core.status import status
from nightshift.core.target import New, Waiting, choose
from tests.core.test_manifests_golden import PlainDumper
from tests.support.builders import HUB_MODEL, NOW, body, config, container, digest_known, model_spec, pod, revision
from tests.support.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"
CHANGED = model_spec(engine={"args": ["--max-num-seqs=4"]})
STABLE = replace(revision(), marks=Marks(proven=NOW))
NEW = revision(CHANGED, number=2)
FULL = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available."
DENIED = "Back-off pulling image: unauthorized"


def wanting(written: dict[str, Any] | None = None, **annotations: str) -> LLMDeployment:
    raw = body(written or CHANGED)
    raw["metadata"]["annotations"] = {f"nightshift.dev/{key}": value for key, value in annotations.items()}
    return parse(raw)


JOB = preflight_job(wanting(), NEW)
NAME = str(JOB["metadata"]["name"])


def said(result: str = "Passed", text: str = "") -> PreflightOutcome:
    return PreflightOutcome(checks=(PreflightCheck(check="arguments", result=PreflightResult(result), said=text),))


def its_pod(**changes: Any) -> PodFacts:
    values: dict[str, Any] = {"name": f"{NAME}-a", "component": names.COMPONENT_PREFLIGHT, "job": NAME}
    return pod(None, **(values | changes))


def running(seconds: float) -> PodFacts:
    begun = (NOW - timedelta(seconds=seconds)).isoformat()
    inside = container(names.PREFLIGHT_CONTAINER, running_since=begun)
    return its_pod(phase="Running", node="n", containers=(inside,))


def pulling(reason: str | None, message: str = "") -> PodFacts:
    inside = container(names.PREFLIGHT_CONTAINER, waiting_reason=reason, waiting_message=message)
    return its_pod(node="n", containers=(inside,))


def asked_for(*pods: PodFacts, ago: float = 5, ended: float | None = None, **ends: bool) -> Observed:
    """The Job, made some seconds ago, beside a revision that serves."""
    finished = (NOW - timedelta(seconds=ended)).isoformat() if ended is not None else None
    state: dict[str, Any] = {"succeeded": False, "failed": False, "finished_at": finished, "annotations": {}} | ends
    created = (NOW - timedelta(seconds=ago)).isoformat()
    live = {"metadata": {"uid": "j", "resourceVersion": "1", "creationTimestamp": created}}
    return Observed(
        revisions=(STABLE,),
        jobs=(JobFacts(name=NAME, component=names.COMPONENT_PREFLIGHT, **state),),
        pods=pods,
        live={("Job", NAME): live},
    )


def found(observed: Observed, written: dict[str, Any] | None = None, new: Revision = NEW, **notes: str) -> Asked:
    return ask(wanting(written, **notes), new, observed, NOW)


def pending(observed: Observed, written: dict[str, Any] | None = None) -> Pending:
    result = found(observed, written)
    assert isinstance(result, Pending), result
    return result


@pytest.mark.parametrize(
    ("observed", "written", "notes"),
    [
        pytest.param(Observed(), None, {}, id="the first revision of all"),
        pytest.param(Observed(revisions=(revision(),)), None, {}, id="beside one that never served"),
        pytest.param(Observed(revisions=(STABLE,)), None, {"preflight": "off"}, id="switched off by an annotation"),
        pytest.param(Observed(revisions=(STABLE,)), {**CHANGED, "paused": True}, {}, id="while it is paused"),
    ],
)
def test_nobody_is_asked(observed: Observed, written: dict[str, Any] | None, notes: dict[str, Any]) -> None:
    assert found(observed, written, **notes) == NOT_ASKED


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(Observed(revisions=(STABLE,)), id="beside one that has served in full"),
        pytest.param(
            Observed(revisions=(revision(),), pods=(pod(revision().hash, ready=True),)), id="beside one that serves now"
        ),
    ],
)
def test_the_image_is_asked_where_something_could_be_lost(observed: Observed) -> None:
    result = pending(observed)
    assert [(item.manifest, item.create) for item in result.apply] == [(JOB, True)]
    assert (result.job, result.blocker) == (NAME, None)
    assert result.note.startswith("Asking the image of vLLM 0.32.0")


@pytest.mark.parametrize(
    ("observed", "due", "reason"),
    [
        pytest.param(asked_for(), 895, None, id="a Job that has no pod yet"),
        pytest.param(asked_for(its_pod()), 895, None, id="a pod that the scheduler has yet to see"),
        pytest.param(
            asked_for(its_pod(unschedulable=FULL, unplaced_since=NOW), ago=800), 100, "Unschedulable",
            id="a pod that finds no node",
        ),
        pytest.param(asked_for(pulling(None), ago=1800), PULL_SECONDS - 1800, None, id="a large image that is pulled"),
        pytest.param(asked_for(running(20)), GIVEN_UP_SECONDS - 20, None, id="a program that runs"),
        pytest.param(asked_for(its_pod(phase="Running"), succeeded=True), 895, None, id="an answer that is on its way"),
        pytest.param(
            asked_for(its_pod(phase="Failed", node="n")), 895, None, id="a pod that was lost, before the next is made"
        ),
        pytest.param(
            asked_for(its_pod(phase="Failed", node="n"), its_pod(unschedulable=FULL, unplaced_since=NOW), ago=800), 100,
            "Unschedulable", id="the next one, which finds no node",
        ),
        pytest.param(
            asked_for(pulling("ImagePullBackOff", DENIED)), None, "ImagePullFailed", id="an image that is not had"
        ),
        pytest.param(
            asked_for(pulling("ImagePullBackOff", DENIED), ago=1e6), None, "ImagePullFailed",
            id="however long: the engine would have it no more",
        ),
    ],
)  # fmt: skip
def test_an_answer_is_waited_for(observed: Observed, due: float | None, reason: str | None) -> None:
    result = pending(observed)
    assert (result.apply, result.delete) == ((), ())
    assert result.requeue_after == pytest.approx(due)
    assert (result.blocker.reason if result.blocker else None) == reason


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(
            asked_for(its_pod(unschedulable=FULL, unplaced_since=NOW), ago=900), id="nothing but a node was missing"
        ),
        pytest.param(asked_for(ago=900), id="the API server let it have no pod"),
        pytest.param(asked_for(pulling(None), ago=PULL_SECONDS), id="a node that does not get on"),
        pytest.param(asked_for(pulling("CreateContainerConfigError", "x"), ago=900), id="a container that is not made"),
        pytest.param(asked_for(running(GIVEN_UP_SECONDS)), id="a node that was lost meanwhile"),
        pytest.param(asked_for(its_pod(phase="Failed"), failed=True), id="it failed without a word"),
        pytest.param(asked_for(its_pod(phase="Succeeded"), succeeded=True), id="it ended without a word"),
    ],
)
def test_a_silence_holds_nothing_back(observed: Observed) -> None:
    assert found(observed) == NOT_ASKED


def test_what_is_in_the_way_calls_nobody_and_says_what_follows() -> None:
    result = pending(asked_for(pulling("CreateContainerConfigError", "x")))
    assert result.blocker is not None
    assert not result.blocker.definite
    assert "From 12:14:55 UTC on (rollout.placementTimeoutSeconds) the engine is started without it" in (
        result.blocker.message
    )


def test_a_patience_of_none_still_leaves_time_to_be_placed() -> None:
    written = {**CHANGED, "rollout": {"placementTimeoutSeconds": 0}}
    assert pending(asked_for(its_pod()), written).requeue_after == 25
    assert found(asked_for(its_pod(unschedulable=FULL, unplaced_since=NOW)), written) == NOT_ASKED


def test_what_is_refused_is_named_and_the_job_stays_as_its_witness() -> None:
    refused = said("Refused", "unrecognized arguments: --swap-space=4")
    result = found(asked_for(its_pod(phase="Succeeded", preflight=refused), succeeded=True))
    assert isinstance(result, Refused)
    assert (result.cause.reason, result.job) == ("EngineArgsRejected", NAME)


@pytest.mark.parametrize("outcome", [said(), said("Unknown", "no vLLM"), PreflightOutcome()])
def test_everything_else_is_stored_and_goes_on(outcome: PreflightOutcome) -> None:
    result = found(asked_for(its_pod(preflight=outcome)))
    assert result == Judged(StoredPreflight(request=request_of(JOB), outcome=outcome))


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    """Such as with a node, or by the collection of pods that have ended."""
    soon = pending(asked_for(succeeded=True, ended=1))
    assert (soon.delete, soon.apply) == ((), ())
    later = pending(asked_for(succeeded=True, ended=RETRY_SECONDS))
    assert [(item.kind, item.name) for item in later.delete] == [("Job", NAME)]


def knowing(new: Revision = NEW) -> Observed:
    stored = StoredPreflight(request=request_of(preflight_job(wanting(), new)), outcome=said())
    other = revision(model_spec(engine={"args": ["--seed=1"]}))
    asked = replace(other, record=other.record.model_copy(update={"preflight": stored}))
    return Observed(revisions=(STABLE, asked))


def test_what_was_answered_once_is_never_asked_again() -> None:
    result = found(knowing())
    assert isinstance(result, Judged)
    assert result.stored is not None


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(revision(CHANGED, image_digest=None), id="a tag without a digest"),
        pytest.param(revision({**CHANGED, "model": {"uri": "pvc://models/llama"}}), id="a model on a claim"),
        pytest.param(revision(model_spec(engine={"args": ["--max-num-seqs=5"]})), id="other arguments"),
        pytest.param(revision({**CHANGED, "model": {"uri": HUB_MODEL, "task": "Embedding"}}), id="another task"),
    ],
)
def test_it_is_asked_anew_where_it_may_have_another_answer(new: Revision) -> None:
    assert isinstance(found(knowing(new) if new.digest is None else knowing(), new=new), Pending)


def test_the_plan_waits_and_then_stores_the_answer_with_the_revision() -> None:
    observed = replace(asked_for(), images=digest_known())
    waits = choose(wanting(), observed, config(), NOW)
    assert isinstance(waits, Waiting)
    assert (waits.job, waits.blocker, waits.unfit, waits.preflight) == (NAME, None, False, True)
    answered = replace(observed, pods=(its_pod(preflight=said()),))
    stores = choose(wanting(), answered, config(), NOW)
    assert isinstance(stores, New)
    assert stores.revision.hash == NEW.hash, "what an image said is no part of the identity"
    assert stores.revision.manifest["data"]["preflight"]["outcome"]["checks"][0]["result"] == "Passed"


def test_the_status_names_the_preflight_while_it_runs_and_what_it_came_to() -> None:
    observed = replace(asked_for(), images=digest_known())
    asks = plan(wanting(), observed, config(), NOW)
    conditions = {item.type: item for item in status(wanting(), observed, asks, config(), NOW).conditions}
    ready = conditions["Ready"]
    assert (ready.status, ready.reason) == ("False", "Preflight")
    assert ready.message.startswith("Asking the image of vLLM 0.32.0 what it says of the arguments and the model")
    assert [conditions[name].status for name in ("Reconciling", "Stalled")] == ["True", "False"]
    answered = replace(observed, pods=(its_pod(preflight=said()),))
    goes_on = plan(wanting(), answered, config(), NOW)
    found = status(wanting(), answered, goes_on, config(), NOW)
    assert found.image is not None
    assert found.image.preflight == "The image's own vLLM accepts: arguments."
    (selected,) = [note for note in events(Status(), found, goes_on) if note.reason == "RevisionSelected"]
    assert selected.message.endswith("The image's own vLLM accepts: arguments.")


VOLUMES = {
    "volumes": [
        {"name": "templates", "configMap": {"name": "templates"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
    ],
    "volumeMounts": [{"name": "templates", "mountPath": "/templates"}, {"name": "keys", "mountPath": "/keys"}],
}


def test_the_job_as_it_is_made(regenerate: bool) -> None:
    written = model_spec(
        engine={
            "args": ["--chat-template=/templates/chat.jinja"],
            "env": [
                {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
            ],
        },
        podTemplate={
            **VOLUMES,
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "dedicated"}],
            "imagePullSecrets": [{"name": "pull"}],
            "priorityClassName": "important",
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
            },
        },
    )
    made = preflight_job(wanting(written), revision(written))
    command = made["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command == ["python3", "-c", PROGRAM]
    command[2] = "<program>"
    made["metadata"]["name"] = made["metadata"]["name"].rpartition("-")[0] + "-<hash>"
    text = yaml.dump(made, Dumper=PlainDumper, sort_keys=False, width=120)
    assert_golden(
        GOLDEN / "preflight_job.yaml", text.replace(revision(written).hash, "<revision>"), regenerate=regenerate
    )


def inside(written: dict[str, Any]) -> Manifest:
    made: Manifest = preflight_job(wanting(written), revision(written))["spec"]["template"]["spec"]
    return made


def test_a_model_on_a_claim_of_the_users_is_at_hand_and_never_written() -> None:
    found = inside({"model": {"uri": "pvc://models/llama"}})
    (container_,) = found["containers"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container_["volumeMounts"]
    assert '"hidden": []' in container_["args"][0]
    assert '"model": "/models/llama"' in container_["args"][0]


def test_no_accelerator_is_asked_for_and_none_is_handed_over() -> None:
    found = canonical_json(inside(CHANGED))
    assert "nvidia.com/gpu" not in found.replace('"key":"nvidia.com/gpu"', "")
    assert '{"name":"NVIDIA_VISIBLE_DEVICES","value":"void"}' in found


@pytest.mark.parametrize(
    "change",
    [
        {"podTemplate": {"imagePullSecrets": [{"name": "pull"}]}},
        {"podTemplate": {"nodeSelector": {"zone": "a"}}},
        {"engine": {"args": ["--max-num-seqs=4"], "version": "0.31.0"}},
        {"engine": {"args": ["--max-num-seqs=5"]}},
    ],
)
def test_a_corrected_one_has_another_name_and_does_not_wait_behind_it(change: dict[str, Any]) -> None:
    written = {**CHANGED, **change}
    assert preflight_job(wanting(written), revision(written))["metadata"]["name"] != NAME


def test_the_name_has_room_for_the_longest_deployment() -> None:
    assert len(names.preflight_job_name("a" * names.MAX_NAME_LENGTH, "x" * 8)) <= 63
