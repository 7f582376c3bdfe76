"""What a whole revision, a Job, or an object that cannot be made waits for."""

import pytest

from nightshift.api.fetch import Failed, FetchReason
from nightshift.core.causes import Cause, job_cause, name_taken, refused_object, revision_cause
from nightshift.core.engine_log import EngineFailure, FailureKind
from nightshift.core.observed import EngineLog, Observed, PodFacts, ReplicaSetFacts
from tests.support.builders import container, pod, revision

DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")
NO_GPU = "0/3 nodes are available: 2 Insufficient nvidia.com/gpu."


def unschedulable(message: str) -> PodFacts:
    return pod(unschedulable=message)


def ended(message: str = "", restarts: int = 1) -> PodFacts:
    return pod(containers=(container(exit_code=1, termination_message=message, restarts=restarts),))


def replica_set(failure: str | None) -> ReplicaSetFacts:
    return ReplicaSetFacts("bot-r1", "r1", replicas=1, ready=0, settled=True, failure=failure)


QUOTA = (
    'pods "bot-r1-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, '
    "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)
SECURITY = (
    'pods "bot-r1-x" is forbidden: violates PodSecurity "restricted:latest": privileged '
    '(container "sidecar" must not set securityContext.privileged=true)'
)


@pytest.mark.parametrize(
    ("observed", "reason", "definite"),
    [
        pytest.param(Observed(), None, None, id="nothing exists"),
        pytest.param(Observed(replica_sets=(replica_set(None),)), None, None, id="the pods are not made yet"),
        pytest.param(Observed(replica_sets=(replica_set(QUOTA),)), "QuotaExceeded", False, id="a quota"),
        pytest.param(Observed(replica_sets=(replica_set(SECURITY),)), "PodSecurityViolation", True, id="pod security"),
        pytest.param(
            Observed(pods=(unschedulable(NO_GPU), ended("error: argument --x: bad"))),
            "EngineArgsRejected",
            True,
            id="of several causes one that a person must remove",
        ),
        pytest.param(
            Observed(pods=(unschedulable(NO_GPU),), replica_sets=(replica_set(SECURITY),)),
            "NoGpuCapacity",
            False,
            id="what pods say comes before what refuses further ones",
        ),
        pytest.param(Observed(pods=(pod("r2", unschedulable=NO_GPU),)), None, None, id="another revision's pod"),
        pytest.param(Observed(pods=(pod(unschedulable=NO_GPU, terminating=True),)), None, None, id="a leaving pod"),
    ],
)
def test_the_cause_of_a_revision(observed: Observed, reason: str | None, definite: bool | None) -> None:
    cause = revision_cause(observed, "r1")
    assert (cause and cause.reason, cause and cause.definite) == (reason, definite)


def test_the_newest_pod_of_a_job_says_why_it_failed() -> None:
    old = pod(None, job="fetch", created="2026-03-01T12:00:00Z", outcome=DENIED)
    unreachable = Failed(reason=FetchReason.HUB_UNREACHABLE, message="The Hub does not answer.")
    new = pod(None, job="fetch", created="2026-03-01T12:05:00Z", outcome=unreachable)
    cause = job_cause(Observed(pods=(old, new)), "fetch")
    assert cause is not None
    assert cause.reason == "HubUnreachable"
    assert job_cause(Observed(pods=(old, new)), "another") is None


def test_a_foreign_object_and_a_refused_one_wait_for_a_person() -> None:
    taken = name_taken("Service", "bot")
    assert (taken.reason, taken.definite) == ("NameTaken", True)
    assert "Service bot exists already" in taken.message
    refused = refused_object("ReplicaSet", "bot-r1", 'admission webhook "policy" denied the request.')
    assert refused == Cause(
        "ObjectRefused",
        'The API server refuses ReplicaSet bot-r1: admission webhook "policy" denied the request. '
        "Correct podTemplate, engine.env or the namespace's policies and quotas.",
        definite=True,
    )
    unfinished = refused_object("ReplicaSet", "bot-r1", 'ReplicaSet.apps "bot-r1" is invalid: x: Required value')
    assert "is invalid: x: Required value. Correct podTemplate" in unfinished.message


def test_what_a_log_told_is_used_where_the_status_does_not_say_it_with_the_revisions_version() -> None:
    target = revision()
    crashed = pod(target.hash, containers=(container(exit_code=1, restarts=1),))
    told = EngineFailure(FailureKind.ARCHITECTURE, "x", {"name": "NewForCausalLM"})
    observed = Observed(revisions=(target,), pods=(crashed,), engine_logs={crashed.name: EngineLog(1, told)})
    cause = revision_cause(observed, target.hash)
    assert cause is not None
    assert cause.message.startswith("vLLM 0.32.0 does not support the model's architecture NewForCausalLM.")


def test_pods_that_their_node_put_out_tell_where_no_other_is_left() -> None:
    out = pod(phase="Failed", failure_reason="Evicted", failure_message="The node was low on resource: memory.")
    cause = revision_cause(Observed(pods=(out,)), "r1")
    assert cause is not None
    assert cause.reason == "PodEvicted"
    assert revision_cause(Observed(pods=(out, pod(name="b", ready=True))), "r1") is None
