"""What the scheduler, the node and the API server say about pods, and what is missing."""

import pytest

from nightshift.core.placement import job_refused, pods_refused, unschedulable


@pytest.mark.parametrize(
    ("message", "reason", "missing"),
    [
        pytest.param(
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}.",
            "Unschedulable",
            ["processor: lower podTemplate.resources.requests.cpu", "a toleration of {gpu: yes}"],
            id="the worked example",
        ),
        pytest.param(
            "0/1 nodes are available: 1 Insufficient ephemeral-storage.", "Unschedulable", ["disk: lower"], id="disk"
        ),
        pytest.param(
            "0/1 nodes are available: 1 Too many pods.", "Unschedulable", ["room for further pods"], id="pods"
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) were unschedulable.", "Unschedulable", ["not cordoned"], id="cordoned"
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.",
            "Unschedulable",
            ["nodes that are ready"],
            id="a node that does not report",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            "Unschedulable",
            ["a toleration: add it"],
            id="a taint without a name",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "Unschedulable",
            ["correct podTemplate.nodeSelector"],
            id="a node selector",
        ),
        pytest.param(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "Unschedulable",
            ["a volume for a claim: see kubectl describe pvc"],
            id="a claim that is not bound",
        ),
        pytest.param(
            "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu.",
            "NoGpuCapacity",
            ["nvidia.com/gpu: add a node", "processor"],
            id="accelerators come first",
        ),
        pytest.param(
            "0/1 nodes are available: 1 the moon is full.",
            "Unschedulable",
            ["the moon is full. Compare hardware"],
            id="words that nobody knows",
        ),
        pytest.param(
            '0/1 nodes are available: persistentvolumeclaim "models" is being deleted.',
            "ModelClaimNotFound",
            ["claim models", "Create it"],
            id="a claim that is on its way out",
        ),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(message: str, reason: str, missing: list[str]) -> None:
    cause = unschedulable("bot-1", message)
    assert cause.reason == reason
    assert [part for part in missing if part not in cause.message] == []


@pytest.mark.parametrize(
    ("message", "reason", "definite", "says"),
    [
        pytest.param(
            'pods "a" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1',
            "QuotaExceeded",
            False,
            "Raise the ResourceQuota",
            id="a quota that is used up",
        ),
        pytest.param(
            'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: engine',
            "QuotaExceeded",
            False,
            "podTemplate.resources",
            id="a quota that asks for limits",
        ),
        pytest.param(
            'pods "a" is forbidden: minimum cpu usage per Pod is 1.  No request is specified',
            "LimitRangeViolation",
            True,
            "have the LimitRange changed",
            id="a limit range for whole pods",
        ),
        pytest.param(
            'pods "a" is forbidden: maximum memory usage per Container is 1Gi, but limit is 8Gi',
            "LimitRangeViolation",
            True,
            "Adapt podTemplate.resources",
            id="a limit range",
        ),
        pytest.param(
            'pods "a" is forbidden: no PriorityClass with name urgent was found',
            "PodsRefused",
            True,
            "Correct podTemplate.priorityClassName",
            id="a priority class that does not exist",
        ),
        pytest.param(
            'admission webhook "x" denied the request', "PodsRefused", True, "the namespace's policies", id="a policy"
        ),
    ],
)
def test_why_the_api_server_refuses_pods(message: str, reason: str, definite: bool, says: str) -> None:
    cause = pods_refused(message)
    assert (cause.reason, cause.definite) == (reason, definite)
    assert says in cause.message


@pytest.mark.parametrize(
    ("message", "reason", "definite", "says"),
    [
        pytest.param(
            'pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4',
            "QuotaExceeded",
            False,
            "Raise the namespace's ResourceQuota",
            id="a quota that is used up",
        ),
        pytest.param(
            'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: model-resolve',
            "QuotaExceeded",
            True,
            "LimitRange with defaults",
            id="a quota that asks for limits, which a Job's pod has none of",
        ),
        pytest.param(
            'pods "a" is forbidden: minimum memory usage per Container is 1Gi, but request is 128Mi',
            "LimitRangeViolation",
            True,
            "LimitRange changed",
            id="a limit range",
        ),
        pytest.param('admission webhook "x" denied the request', "PodsRefused", True, "policies", id="a policy"),
    ],
)
def test_why_the_api_server_refuses_the_pod_of_a_job(message: str, reason: str, definite: bool, says: str) -> None:
    cause = job_refused("bot-resolve-1", message)
    assert (cause.reason, cause.definite) == (reason, definite)
    assert cause.message.startswith(f"The API server refuses the pod of Job bot-resolve-1: {message}. ")
    assert says in cause.message
