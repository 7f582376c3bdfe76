from collections.abc import Sequence

import pytest

from nightshift.api import names
from nightshift.api.fetch import Downloaded, Failed, FetchReason
from nightshift.core.causes import Cause, job_cause, name_taken, pod_cause, refused_object, revision_cause
from nightshift.core.observed import Observed, PodFacts, ReplicaSetFacts
from tests.support.builders import SHA, container, pod

DENIED = Failed(reason=FetchReason.MODEL_ACCESS_DENIED, message="acme/tiny is gated. Set model.tokenSecretRef.")
NO_GPU = (
    "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
    "2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for "
    "scheduling, 2 No preemption victims found for incoming pod."
)


def waiting(reason: str, message: str = "") -> PodFacts:
    return pod(containers=(container(waiting_reason=reason, waiting_message=message),))


def ended(
    message: str = "", *, name: str = names.ENGINE_CONTAINER, code: int = 1, reason: str = "Error", restarts: int = 1
) -> PodFacts:
    item = container(name, exit_code=code, termination_reason=reason, termination_message=message, restarts=restarts)
    return pod(containers=(item,))


def unschedulable(message: str) -> PodFacts:
    return pod(unschedulable=message)


@pytest.mark.parametrize(
    ("observed", "reason", "definite", "says"),
    [
        pytest.param(
            waiting(
                "ErrImagePull",
                'failed to pull and unpack image "registry.example/vllm:v9.9.9": failed to resolve reference '
                '"registry.example/vllm:v9.9.9": registry.example/vllm:v9.9.9: not found',
            ),
            "ImagePullFailed",
            False,
            ["v9.9.9: not found", "engine.image", "imagePullSecrets"],
            id="an image that cannot be pulled",
        ),
        pytest.param(
            waiting("ImagePullBackOff"),
            "ImagePullFailed",
            False,
            ["ImagePullBackOff"],
            id="a pull that waits without saying why",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "hub" not found'),
            "PodConfigInvalid",
            True,
            ['secret "hub" not found', "model.tokenSecretRef"],
            id="a secret that is missing",
        ),
        pytest.param(
            ended(
                "usage: vllm serve [model_tag] [options]\n"
                "vllm serve: error: argument --max-model-len: invalid human_readable_int_or_auto value: 'many'\n"
            ),
            "EngineArgsRejected",
            True,
            ["argument --max-model-len: invalid", "engine.args"],
            id="an argument whose value vLLM does not take",
        ),
        pytest.param(
            ended("api_server.py: error: unrecognized arguments: --speed=ludicrous", code=2),
            "EngineArgsRejected",
            True,
            ["unrecognized arguments: --speed=ludicrous"],
            id="an argument that vLLM does not know",
        ),
        pytest.param(
            ended("unrecognized arguments: --x", name="sidecar"),
            "ContainerCrashed",
            False,
            ["Container sidecar"],
            id="the same words from another container",
        ),
        pytest.param(
            ended(reason="OOMKilled", code=137),
            "OutOfMemory",
            False,
            ["podTemplate.resources.limits.memory"],
            id="more memory than the limit, for the first time",
        ),
        pytest.param(
            ended(reason="OOMKilled", code=137, restarts=3),
            "OutOfMemory",
            True,
            [],
            id="more memory than the limit, again and again",
        ),
        pytest.param(
            ended("Traceback (most recent call last):\n  ...\nRuntimeError: Engine core initialization failed.\n\n"),
            "EngineCrashed",
            False,
            [
                "code 1 (1 restarts): RuntimeError: Engine core initialization failed.",
                "kubectl logs bot-r1-a -c engine",
            ],
            id="a crash, with the last line that the engine wrote",
        ),
        pytest.param(
            ended(restarts=3), "EngineCrashed", True, ["(3 restarts). See"], id="a third crash without a word"
        ),
        pytest.param(unschedulable(NO_GPU), "NoGpuCapacity", False, [NO_GPU, "Add a node"], id="no free GPU"),
        pytest.param(
            unschedulable("0/1 nodes are available: 1 Insufficient gpu.intel.com/i915. preemption: none."),
            "NoGpuCapacity",
            False,
            [],
            id="no free accelerator of another maker",
        ),
        pytest.param(
            unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.10gb."),
            "NoGpuCapacity",
            False,
            [],
            id="no free slice of a GPU",
        ),
        pytest.param(
            unschedulable("0/1 nodes are available: 1 Insufficient memory. preemption: none."),
            "Unschedulable",
            False,
            ["Insufficient memory", "nodeSelector"],
            id="too little memory",
        ),
        pytest.param(
            unschedulable("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
            "Unschedulable",
            False,
            ["node affinity/selector"],
            id="no node of that kind",
        ),
        pytest.param(
            unschedulable('0/1 nodes are available: persistentvolumeclaim "models" not found.'),
            "ModelClaimNotFound",
            True,
            ['persistentvolumeclaim "models" not found', "model.uri"],
            id="a claim that does not exist",
        ),
        pytest.param(
            unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            "Unschedulable",
            False,
            [],
            id="a claim that is not bound yet",
        ),
        pytest.param(pod(outcome=DENIED), "ModelAccessDenied", True, ["acme/tiny is gated"], id="a gated model"),
        pytest.param(
            pod(outcome=Failed(reason=FetchReason.HUB_UNREACHABLE, message="The Hub does not answer.")),
            "HubUnreachable",
            False,
            [],
            id="a Hub that does not answer",
        ),
        pytest.param(
            pod(outcome=Failed(reason=FetchReason.MODEL_DOWNLOAD_STALLED, message="No byte for 60 s.")),
            "ModelDownloadStalled",
            False,
            [],
            id="a download that stalls",
        ),
        pytest.param(
            pod(outcome=DENIED, containers=(container(waiting_reason="ErrImagePull"),)),
            "ModelAccessDenied",
            True,
            [],
            id="what the fetch container said comes before what the kubelet says",
        ),
    ],
)
def test_the_cause_has_a_name_and_a_remedy(
    observed: PodFacts, reason: str, definite: bool, says: Sequence[str]
) -> None:
    cause = pod_cause(observed)
    assert cause is not None
    assert (cause.reason, cause.definite) == (reason, definite)
    assert [part for part in says if part not in cause.message] == []


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(pod(), id="a pod that was just made"),
        pytest.param(waiting("ContainerCreating"), id="a container that is being made"),
        pytest.param(ended(code=0), id="a container that ended well"),
        pytest.param(pod(ready=True, containers=(container(exit_code=1, restarts=9),)), id="a pod that is ready"),
        pytest.param(
            pod(containers=(container("sidecar", exit_code=1, running_since="x", ready=True),)),
            id="a container that recovered, in a pod that is not ready",
        ),
        pytest.param(pod(outcome=Downloaded(sha=SHA, files=1, bytes=1)), id="a download that is done"),
    ],
)
def test_where_nothing_speaks_against_it_there_is_no_cause(observed: PodFacts) -> None:
    assert pod_cause(observed) is None


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
        pytest.param(Observed(replica_sets=(replica_set(SECURITY),)), "PodsRefused", True, id="pod security"),
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
