"""From the scheduler's, the node's and the API server's words about a pod to what is missing."""

import re

from nightshift.core.cause import Cause

_INSUFFICIENT = re.compile(r"Insufficient ([A-Za-z0-9./_-]*[A-Za-z0-9])")
_TAINT = re.compile(r"untolerated taint(?:\(s\))? ?(\{[^}]*\})?")
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted|bound to non-existent)')

_ORDINARY = {
    "cpu": "processor: lower podTemplate.resources.requests.cpu, or add a larger node",
    "memory": "memory: lower podTemplate.resources.requests.memory, or add a larger node",
    "ephemeral-storage": "disk: lower podTemplate.resources.requests.ephemeral-storage, or add a node with more",
    "pods": "room for further pods: add a node",
}

_OBSTACLES: tuple[tuple[str, str], ...] = (
    (
        "didn't match Pod's node affinity/selector",
        "nodes with the labels that are asked for: correct podTemplate.nodeSelector, podTemplate.affinity or the "
        "accelerator profile, or label the nodes",
    ),
    ("had volume node affinity conflict", "a node that reaches the claim's disk: free one there, or use another claim"),
    ("unbound immediate PersistentVolumeClaims", "a volume for a claim: see kubectl describe pvc"),
    ("didn't find available persistent volumes", "a volume for a claim: see kubectl describe pvc"),
    ("didn't match pod topology spread constraints", "a node that podTemplate.topologySpreadConstraints allows"),
    ("didn't match pod anti-affinity rules", "a node that podTemplate.affinity allows"),
    ("didn't match pod affinity rules", "a node that podTemplate.affinity allows"),
    ("were unschedulable", "nodes that are not cordoned: kubectl uncordon"),
    ("didn't have free ports", "a node with the host port free: remove hostPort from podTemplate.sidecars"),
    ("exceed max volume count", "a node that can attach one more volume"),
)


def unschedulable(pod: str, message: str) -> Cause:
    """Why the scheduler places a pod nowhere, and what is missing.

    Worked example: ``0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}.`` is
    missing processor and a toleration.

    Args:
        pod: Its name.
        message: The scheduler's message.
    """
    claim = _CLAIM.search(message)
    if claim is not None:
        return Cause(
            "ModelClaimNotFound",
            f"Pod {pod} waits for claim {claim[1]}: {message.rstrip('.')}. Create it, or correct model.uri or "
            "podTemplate.volumes.",
            definite=True,
        )
    facts = message.partition("preemption:")[0].strip().rstrip(".")
    missing, accelerators = _missing(facts)
    said = f"{facts}. Missing: {'; '.join(missing)}." if missing else f"{facts}."
    if accelerators:
        return Cause("NoGpuCapacity", f"No node has a free accelerator for pod {pod}: {said}", definite=False)
    if not missing:
        said += " Compare hardware, podTemplate.nodeSelector and tolerations with the nodes."
    return Cause("Unschedulable", f"No node takes pod {pod}: {said}", definite=False)


def lacks_room(message: str) -> bool:
    """Whether a pod would find a node if another one went: something that pods use up is short.

    Labels, taints and volumes that do not match are none of it.
    """
    return bool(_INSUFFICIENT.search(message.partition("preemption:")[0]))


def over_quota(message: str) -> bool:
    """Whether the API server refuses pods because the namespace has used up its quota."""
    return "exceeded quota" in message


def _missing(facts: str) -> tuple[list[str], list[str]]:
    """What is missing, as phrases with the remedy; and which of it are accelerators.

    Only extended resources, which is what accelerators are asked for by, have a domain before a slash.
    """
    names = list(dict.fromkeys(_INSUFFICIENT.findall(facts)))
    accelerators = [name for name in names if "/" in name]
    missing = [f"{name}: add a node, free accelerators, or choose another hardware candidate" for name in accelerators]
    missing += [_ORDINARY.get(name, name) for name in names if name not in accelerators]
    if "Too many pods" in facts:
        missing.append(_ORDINARY["pods"])
    taints = list(dict.fromkeys(taint for taint in _TAINT.findall(facts) if "node.kubernetes.io" not in taint))
    if taints:
        named = " ".join(filter(None, taints))
        missing.append(f"a toleration{' of ' + named if named else ''}: add it to podTemplate.tolerations")
    if "node.kubernetes.io/" in facts:
        missing.append("nodes that are ready: see kubectl get nodes")
    missing += [remedy for words, remedy in _OBSTACLES if words in facts]
    return list(dict.fromkeys(missing)), accelerators


def node_lost(pod: str, node: str | None) -> Cause:
    """A pod whose containers were all ready when its node was last heard of."""
    where = f"Node {node}" if node else "The node"
    return Cause(
        "NodeNotReady",
        f"{where} does not report, so pod {pod} counts as not ready. Kubernetes moves the pod after about five "
        "minutes; see kubectl describe node, and restart or remove the node.",
        definite=False,
    )


def rejected(pod: str, reason: str, message: str) -> Cause:
    """A pod that its node refused or put out."""
    if reason == "Evicted":
        return Cause(
            "PodEvicted",
            f"The node put pod {pod} out: {message.rstrip('.') or 'it gives no reason'}. Ask for what the engine uses "
            "in podTemplate.resources.requests (memory, ephemeral-storage), or use a node with more.",
            definite=False,
        )
    return Cause(
        "PodRejected",
        f"The node refuses pod {pod}: {reason}{': ' + message.rstrip('.') if message else ''}. See kubectl describe "
        "node; a device plugin that restarts or a profile that asks for another resource does this.",
        definite=False,
    )


def job_refused(job: str, message: str) -> Cause:
    """What the API server says when it refuses a Job its pod. podTemplate.resources are not that pod's."""
    told = f"The API server refuses the pod of Job {job}: {message.rstrip('.')}."
    if "exceeded quota" in message:
        remedy = "Raise the namespace's ResourceQuota, or free what other pods use; Nightshift goes on by itself then."
        return Cause("QuotaExceeded", f"{told} {remedy}", definite=False)
    if "failed quota" in message:
        remedy = "Give the namespace a LimitRange with defaults for what the ResourceQuota asks every pod to state."
        return Cause("QuotaExceeded", f"{told} {remedy}", definite=True)
    if _breaks_limit_range(message):
        remedy = (
            "Have the namespace's LimitRange changed: the pod asks for cpu 100m and memory 128Mi (256Mi to look at an "
            "image), and sets no limits."
        )
        return Cause("LimitRangeViolation", f"{told} {remedy}", definite=True)
    return Cause("PodsRefused", f"{told} Correct the namespace's policies.", definite=True)


def _breaks_limit_range(message: str) -> bool:
    return "LimitRange" in message or "per Container is" in message or "per Pod is" in message


def pods_refused(message: str) -> Cause:
    """What the API server says when it refuses a ReplicaSet its pods."""
    if "failed quota" in message:
        return Cause(
            "QuotaExceeded",
            f"The namespace's quota asks every pod to state what it takes: {message.rstrip('.')}. State it in "
            "podTemplate.resources, or give the namespace a LimitRange with defaults.",
            definite=False,
        )
    if "exceeded quota" in message:
        return Cause(
            "QuotaExceeded",
            f"The namespace's quota does not allow the engine pods: {message.rstrip('.')}. Raise the ResourceQuota, "
            "free what other pods use, or ask for less (replicas, hardware, podTemplate.resources).",
            definite=False,
        )
    if "PodSecurity" in message:
        return Cause(
            "PodSecurityViolation",
            f"The namespace's pod security standard refuses the engine pods: {message.rstrip('.')}. Remove what it "
            "names from podTemplate; Nightshift's own part keeps the restricted standard.",
            definite=True,
        )
    if _breaks_limit_range(message):
        return Cause(
            "LimitRangeViolation",
            f"The namespace's LimitRange refuses the engine pods: {message.rstrip('.')}. Adapt "
            "podTemplate.resources, or have the LimitRange changed.",
            definite=True,
        )
    if "no PriorityClass" in message:
        return Cause(
            "PodsRefused",
            f"The API server refuses the engine pods: {message.rstrip('.')}. Correct podTemplate.priorityClassName.",
            definite=True,
        )
    return Cause(
        "PodsRefused",
        f"The API server refuses the engine pods: {message.rstrip('.')}. Correct podTemplate or the namespace's "
        "policies.",
        definite=True,
    )
