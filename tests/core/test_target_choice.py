from datetime import timedelta
from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.fetch import Failed, FetchReason
from nightshift.api.fetch import Resolved as ModelResolved
from nightshift.core import children
from nightshift.core.facts import ImageNotFound, Known, Unknown
from nightshift.core.fetch_jobs import RETRY_SECONDS
from nightshift.core.images import IMAGE_ANSWER_SECONDS, IMAGE_ATTEMPTS
from nightshift.core.observed import ImageAnswer, JobFacts, Observed, PodFacts
from nightshift.core.planning import ResolveImage
from nightshift.core.target import (
    Existing,
    New,
    Target,
    Waiting,
    choose,
)
from tests.support.builders import (
    DIGEST,
    HUB_MODEL,
    NOW,
    OTHER_DIGEST,
    OTHER_SHA,
    SHA,
    config,
    container,
    deployment,
    digest_known,
    model_spec,
    pod,
    revision,
    wanted_of,
)

IMAGE = "registry.example/vllm:v0.32.0"
BRANCH = {"model": {"uri": HUB_MODEL, "revision": "main"}}


def chosen(spec: dict[str, Any], observed: Observed) -> Target:
    return choose(deployment(spec), observed, config(), NOW)


def waiting(spec: dict[str, Any], observed: Observed) -> Waiting:
    found = chosen(spec, observed)
    assert isinstance(found, Waiting)
    return found


def answered(answer: Known[str] | ImageNotFound | Unknown, *, silences: int = 1, ago: float = 0.0) -> Observed:
    return Observed(images={IMAGE: ImageAnswer(answer, silences, NOW - timedelta(seconds=ago))})


def test_a_revision_of_history_that_fits_is_taken_without_asking_anyone() -> None:
    stored = revision(BRANCH)
    assert chosen(BRANCH, Observed(revisions=(stored,))) == Existing(stored)


def test_an_accelerator_that_is_not_offered_waits_for_a_person_and_names_those_that_are() -> None:
    found = waiting(model_spec(hardware={"candidates": [{"accelerator": "tpu"}]}), Observed())
    assert found.blocker is not None
    assert (found.blocker.reason, found.blocker.definite) == ("UnknownAccelerator", True)
    assert "hardware.candidates[0].accelerator 'tpu'" in found.blocker.message
    assert "Offered: cpu, nvidia-gpu." in found.blocker.message


def test_a_default_accelerator_that_nobody_listed_is_said_too() -> None:
    found = choose(deployment(), Observed(), config(accelerators={}), NOW)
    assert isinstance(found, Waiting)
    assert found.blocker is not None
    assert "Offered: none." in found.blocker.message


ASK = (ResolveImage("registry.example/vllm", "v0.32.0"),)
MISSING = ImageNotFound("registry.example/vllm has no tag v0.32.0.")
SILENT = Unknown("registry.example does not answer.")


@pytest.mark.parametrize(
    ("observed", "requests", "requeue", "blocker"),
    [
        pytest.param(Observed(), ASK, 1.0, None, id="nobody was asked yet: the registry is asked"),
        pytest.param(
            answered(Known(DIGEST, NOW), ago=IMAGE_ANSWER_SECONDS + 1), ASK, 1.0, None, id="an old answer is asked anew"
        ),
        pytest.param(answered(SILENT, ago=1), (), 1.0, None, id="no answer: it is asked again, but not at once"),
        pytest.param(answered(SILENT, ago=2), ASK, 1.0, None, id="no answer two seconds ago: it is asked again"),
        pytest.param(
            answered(SILENT, silences=2, ago=1), (), 3.0, None, id="no second answer: it is asked later still"
        ),
        pytest.param(
            answered(SILENT, silences=9, ago=IMAGE_ANSWER_SECONDS + 1),
            ASK,
            1.0,
            None,
            id="a registry that was silent long ago is asked for a revision made now",
        ),
        pytest.param(answered(MISSING, ago=10), (), RETRY_SECONDS - 10, "ImagePullFailed", id="no such tag: told"),
        pytest.param(answered(MISSING, ago=RETRY_SECONDS), ASK, 1.0, "ImagePullFailed", id="no such tag: asked again"),
    ],
)
def test_waiting_for_the_images_digest(
    observed: Observed, requests: tuple[ResolveImage, ...], requeue: float, blocker: str | None
) -> None:
    found = waiting(model_spec(), observed)
    assert (found.requests, found.requeue_after) == (requests, requeue)
    assert (found.blocker and found.blocker.reason) == blocker
    assert found.note or found.blocker, "somebody who waits is told for what"


@pytest.mark.parametrize(
    ("observed", "digest"),
    [
        pytest.param(answered(Known(OTHER_DIGEST, NOW)), OTHER_DIGEST, id="the registry's answer pins the image"),
        pytest.param(answered(SILENT, silences=IMAGE_ATTEMPTS), None, id="a silent registry leaves the tag"),
    ],
)
def test_a_new_revision_is_made_with_what_the_registry_said(observed: Observed, digest: str | None) -> None:
    found = chosen(model_spec(), observed)
    assert isinstance(found, New)
    assert found.revision.resolved.image_digest == digest
    assert found.revision.resolved.model_revision == SHA
    assert found.revision.number == 1


def test_a_new_revision_comes_after_all_others() -> None:
    old, new = revision(number=3), revision(model_spec(engine={"args": ["--seed=1"]}), number=7)
    found = chosen(model_spec(engine={"args": ["--seed=2"]}), Observed(revisions=(new, old)))
    assert isinstance(found, New)
    assert found.revision.number == 8
    assert found.revision.resolved.image_digest == DIGEST, "carried without asking"


def test_a_model_on_a_claim_has_no_commit() -> None:
    found = chosen({"model": {"uri": "pvc://models/llama"}}, Observed(images=digest_known()))
    assert isinstance(found, New)
    assert found.revision.resolved.model_revision is None


def resolve_job(**changes: Any) -> tuple[str, JobFacts]:
    name = children.resolve_job(deployment(BRANCH), wanted_of(BRANCH), config())["metadata"]["name"]
    values: dict[str, Any] = {"succeeded": False, "failed": False, "finished_at": None, "annotations": {}}
    return name, JobFacts(name=name, **(values | changes))


def fetching(job: JobFacts, *pods: PodFacts) -> Observed:
    live = {("Job", job.name): {"metadata": {"uid": "job-uid", "resourceVersion": "5"}}}
    return Observed(images=digest_known(), jobs=(job,), pods=pods, live=live)


def test_a_branch_is_resolved_by_a_job() -> None:
    found = waiting(BRANCH, Observed(images=digest_known()))
    assert [item.manifest["kind"] for item in found.apply] == ["Job"]
    assert found.apply[0].create
    assert found.note == "Resolving revision main of hf://acme/tiny to a commit."
    annotations = found.apply[0].manifest["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_MODEL_REQUEST] == "hf://acme/tiny@main"


def test_the_jobs_answer_pins_the_commit() -> None:
    name, job = resolve_job()
    answer = ModelResolved(sha=OTHER_SHA, files=1, bytes=1)
    found = chosen(BRANCH, fetching(job, pod(None, job="another", outcome=answer), pod(None, job=name, outcome=answer)))
    assert isinstance(found, New)
    assert found.revision.resolved.model_revision == OTHER_SHA


def test_another_token_asks_again() -> None:
    token = {"model": {**BRANCH["model"], "tokenSecretRef": {"name": "hub"}}}
    first = waiting(BRANCH, Observed(images=digest_known())).apply[0].manifest["metadata"]["name"]
    second = waiting(token, Observed(images=digest_known())).apply[0].manifest["metadata"]["name"]
    assert first != second


DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")
JUST_NOW = "2026-03-01T11:59:30Z"
LONG_AGO = "2026-03-01T11:50:00Z"


@pytest.mark.parametrize(
    ("ends", "outcome", "reason", "deleted"),
    [
        pytest.param({}, None, None, False, id="the Job runs"),
        pytest.param({}, DENIED, "ModelAccessDenied", False, id="a pod of it failed, and the Job tries again"),
        pytest.param(
            {"failed": True, "finished_at": JUST_NOW}, DENIED, "ModelAccessDenied", False, id="the Job failed just now"
        ),
        pytest.param(
            {"failed": True, "finished_at": LONG_AGO}, DENIED, "ModelAccessDenied", True, id="its retry is due"
        ),
        pytest.param(
            {"succeeded": True, "finished_at": LONG_AGO}, None, "ModelResolveFailed", True, id="its answer was lost"
        ),
        pytest.param({"failed": True}, None, "ModelResolveFailed", False, id="nobody knows when it ended"),
    ],
)
def test_waiting_for_the_models_commit(
    ends: dict[str, Any], outcome: Failed | None, reason: str | None, deleted: bool
) -> None:
    name, job = resolve_job(**ends)
    found = waiting(BRANCH, fetching(job, pod(None, job=name, outcome=outcome, containers=(container(),))))
    assert (found.blocker and found.blocker.reason) == reason
    assert [(item.kind, item.uid, item.resource_version) for item in found.delete] == (
        [("Job", "job-uid", "5")] if deleted else []
    )
    assert found.apply == ()
    if ends:
        assert found.requeue_after is not None, "nothing will tell when the retry is due"


def test_a_failed_job_that_is_gone_already_is_not_deleted() -> None:
    _, job = resolve_job(failed=True, finished_at=LONG_AGO)
    assert waiting(BRANCH, Observed(images=digest_known(), jobs=(job,))).delete == ()
