"""The Kubernetes objects of a fresh local cluster: DNS, storage, the node's fake GPUs."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .processes import run
from .settings import DNS_PORT, DNS_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME, Settings

Manifest = dict[str, Any]

FIELD_MANAGER = "nightshift-cluster"
GPU_RESOURCE = "nvidia.com/gpu"
SCRATCH_COUNT = 6
SCRATCH_SIZE = "5Gi"
VOLUME_GROUP = 65532


def storage_class(name: str, *, default: bool = False) -> Manifest:
    """A class of volumes that exist beforehand on the node."""
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def local_volume(name: str, path: Path, size: str, storage_class_name: str = "local") -> Manifest:
    """A static volume on the node's disk, for pods that may not use hostPath.

    Args:
        name: of the volume.
        path: a directory that exists on the node; the pod's user must be able to read it.
        size: a Kubernetes quantity; nothing enforces it.
        storage_class_name: claims name the same one.
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class_name,
            "local": {"path": str(path)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
                            ]
                        }
                    ]
                }
            },
        },
    }


def dns() -> list[Manifest]:
    """The DNS Service, which leads to CoreDNS on the node, and what CoreDNS may read."""
    ports = [{"name": "dns", "protocol": "UDP"}, {"name": "dns-tcp", "protocol": "TCP"}]
    labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": FIELD_MANAGER}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {
                "clusterIP": DNS_SERVICE_ADDRESS,
                "ports": [{**port, "port": 53, "targetPort": DNS_PORT} for port in ports],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns-node", "namespace": "kube-system", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": [{**port, "port": DNS_PORT} for port in ports],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        role_binding("system:coredns", "system:coredns"),
    ]


def role_binding(role: str, user: str) -> Manifest:
    """A ClusterRoleBinding of a user."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{user}:{role}" if role != user else role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }


def scratch_directories(settings: Settings) -> list[Path]:
    """Where the scratch volumes lie."""
    return [settings.volumes / f"scratch-{number}" for number in range(SCRATCH_COUNT)]


def make_scratch(settings: Settings) -> None:
    """Make the directories of the scratch volumes, writable for the group that engine pods run as."""
    for directory in scratch_directories(settings):
        directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(directory, user=VOLUME_GROUP, group=VOLUME_GROUP)
        directory.chmod(0o2770)


def base_objects(settings: Settings) -> list[Manifest]:
    """Everything that ``up`` applies."""
    scratch = [
        local_volume(directory.name, directory, SCRATCH_SIZE, "scratch") for directory in scratch_directories(settings)
    ]
    return [*dns(), storage_class("local"), storage_class("scratch", default=True), *scratch]


def kubectl(settings: Settings, arguments: Sequence[str], input_text: str | None = None) -> str:
    """Run the cached kubectl as administrator of the local cluster."""
    argv = [str(settings.bin / "kubectl"), f"--kubeconfig={settings.kubeconfig}", *arguments]
    return run(argv, input_text=input_text).stdout


def apply(settings: Settings, manifests: Sequence[Manifest], subresource: str = "") -> None:
    """Server-side apply, of the objects or of a subresource of them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    arguments = ["apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "-f", "-"]
    kubectl(settings, [*arguments, *([f"--subresource={subresource}"] if subresource else [])], text)


def recycle(settings: Settings) -> int:
    """Empty scratch volumes whose claim is gone and offer them again; returns how many."""
    listing = json.loads(kubectl(settings, ["get", "persistentvolumes", "-o", "json"]))
    released = [
        volume["metadata"]["name"]
        for volume in listing["items"]
        if volume["spec"].get("storageClassName") == "scratch" and volume.get("status", {}).get("phase") == "Released"
    ]
    for name in released:
        shutil.rmtree(settings.volumes / name, ignore_errors=True)
    make_scratch(settings)
    for name in released:
        patch = json.dumps([{"op": "remove", "path": "/spec/claimRef"}])
        kubectl(settings, ["patch", "persistentvolume", name, "--type=json", f"--patch={patch}"])
    return len(released)


def gpu_patch(count: int) -> str:
    """The JSON patch of the node's status; scheduler and kubelet honour the count as if a plugin had reported it."""
    key = GPU_RESOURCE.replace("/", "~1")
    operations = [
        {"op": "add", "path": f"/status/{field}/{key}", "value": str(count)} for field in ("capacity", "allocatable")
    ]
    return json.dumps(operations)


def set_gpus(settings: Settings, count: int) -> None:
    """Give the node ``count`` fake GPUs."""
    arguments = ["patch", "node", NODE_NAME, "--subresource=status", "--type=json", f"--patch={gpu_patch(count)}"]
    kubectl(settings, arguments)


def running_containers(pods: Manifest) -> set[str]:
    """Ids of the containers that a list of pods claims to be running."""
    return {
        state["containerID"].split("://", 1)[1]
        for pod in pods["items"]
        if pod["spec"].get("nodeName") == NODE_NAME
        for state in pod.get("status", {}).get("containerStatuses", [])
        if "running" in state.get("state", {})
    }


def node_ready_since(node: Manifest) -> str | None:
    """When a node last reported that it is ready (RFC 3339), None when it is not."""
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return str(condition["lastHeartbeatTime"])
    return None
