from collections.abc import Sequence
from typing import Any

import pytest

from nightshift.api import names
from nightshift.api.fetch import Downloaded, Failed, FetchReason
from nightshift.core.causes import pod_cause
from nightshift.core.observed import PodFacts
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
    message: str = "",
    *,
    name: str = names.ENGINE_CONTAINER,
    code: int = 1,
    reason: str = "Error",
    restarts: int = 1,
    **more: Any,
) -> PodFacts:
    values = {"exit_code": code, "termination_reason": reason, "termination_message": message, "restarts": restarts}
    item = container(name, **(values | more))
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
            True,
            ["v9.9.9: not found", "engine.image", "engine.version"],
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
        pytest.param(
            ended(restarts=3, running_since="2026-03-01T12:09:00Z"),
            "EngineCrashed",
            False,
            ["(3 restarts). It was started again. See"],
            id="an engine that crashed three times in its life and runs again",
        ),
        pytest.param(
            ended(restarts=7, waiting_reason="CrashLoopBackOff"),
            "EngineCrashed",
            True,
            ["(7 restarts)"],
            id="an engine that waits to be started for the eighth time",
        ),
        pytest.param(
            ended(restarts=7, waiting_reason="ContainerCreating"),
            "EngineCrashed",
            False,
            [],
            id="an engine whose pod is being made anew on its node",
        ),
        pytest.param(
            ended(code=0, waiting_reason="CrashLoopBackOff"),
            "EngineCrashed",
            False,
            ["ended with code 0", "remove arguments such as --help"],
            id="an engine that ends by itself",
        ),
        pytest.param(
            ended(code=137, ran_seconds=60.0, start_deadline_seconds=60.0, waiting_reason="CrashLoopBackOff"),
            "EngineStartTooSlow",
            False,
            ["engine.startDeadlineSeconds (60 s)", "Raise engine.startDeadlineSeconds"],
            id="an engine that was stopped at its start deadline",
        ),
        pytest.param(
            ended(code=137, ran_seconds=3.0, start_deadline_seconds=60.0, waiting_reason="CrashLoopBackOff"),
            "EngineCrashed",
            False,
            ["code 137"],
            id="an engine that was killed before its start deadline",
        ),
        pytest.param(
            ended(
                reason="StartError",
                code=128,
                message='failed to create containerd task: exec: "vllm": executable file not found in $PATH: unknown',
            ),
            "ImageUnsuitable",
            True,
            ["executable file not found", "entry point"],
            id="an image without vLLM",
        ),
        pytest.param(
            ended(reason="StartError", code=128, name="sidecar", message="mounting /etc: not a directory"),
            "PodConfigInvalid",
            True,
            ["cannot be started: mounting /etc", "podTemplate"],
            id="a sidecar that cannot be started",
        ),
        pytest.param(
            ended("kept hf_abcdefgh1234 and Bearer abc.def-ghi"),
            "EngineCrashed",
            False,
            ["kept [redacted] and [redacted]"],
            id="a crash that would show secrets",
        ),
        pytest.param(
            waiting(
                "ErrImagePull",
                "pull access denied, repository does not exist or may require authorization: "
                "server message: insufficient_scope: authorization failed",
            ),
            "ImagePullFailed",
            True,
            ["asks for a login", "kubernetes.io/dockerconfigjson", "podTemplate.imagePullSecrets"],
            id="an image that needs a login",
        ),
        pytest.param(
            waiting("ImagePullBackOff", "dial tcp: lookup registry.example: no such host"),
            "ImagePullFailed",
            False,
            ["reachable from the node"],
            id="a registry that the node does not reach",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", "couldn't find key token in Secret ml/hub"),
            "PodConfigInvalid",
            True,
            ["Add the key token to the Secret ml/hub"],
            id="a key that is missing in a secret",
        ),
        pytest.param(
            waiting("CreateContainerError", "container create failed: bad rootfs"),
            "PodConfigInvalid",
            True,
            ["bad rootfs", "podTemplate"],
            id="a container that cannot be created for another reason",
        ),
        pytest.param(
            waiting(
                "RunContainerError",
                "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, "
                "please update your driver to a newer version, or use an earlier cuda container: unknown",
            ),
            "CudaDriverMismatch",
            True,
            ["unsatisfied condition: cuda>=13.0", "Update the driver"],
            id="a driver that is too old for the image, as the container runtime says",
        ),
        pytest.param(
            pod(node="gpu-1", containers_ready=True, containers=(container(running_since="x", ready=True),)),
            "NodeNotReady",
            False,
            ["Node gpu-1 does not report", "kubectl describe node"],
            id="a node that is lost",
        ),
        pytest.param(
            pod(phase="Failed", failure_reason="Evicted", failure_message="The node was low on resource: memory."),
            "PodEvicted",
            False,
            ["low on resource: memory", "podTemplate.resources.requests"],
            id="an eviction",
        ),
        pytest.param(
            pod(phase="Failed", failure_reason="UnexpectedAdmissionError", failure_message="no healthy devices"),
            "PodRejected",
            False,
            ["UnexpectedAdmissionError: no healthy devices", "device plugin"],
            id="a node that refuses the pod",
        ),
        pytest.param(
            unschedulable(NO_GPU),
            "NoGpuCapacity",
            False,
            [
                "2 Insufficient nvidia.com/gpu. Missing: nvidia.com/gpu: add a node",
                "a toleration of {node-role.kubernetes.io/control-plane: }: add it to podTemplate.tolerations",
            ],
            id="no free GPU",
        ),
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
            ["Insufficient memory", "lower podTemplate.resources.requests.memory"],
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
