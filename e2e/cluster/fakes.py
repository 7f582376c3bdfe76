"""Nodes that exist in the API only: KWOK plays their kubelets, so that hundreds of GPUs can be scheduled on."""

import subprocess
from pathlib import Path

from . import objects
from .components import Component
from .processes import write_atomically
from .settings import KWOK_PORT, LOOPBACK, ClusterError, Settings
from .tools import KWOK

STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
"""What KWOK's nodes and pods go through, from KWOK's own source."""

LEASE_SECONDS = 40


def kwok(settings: Settings) -> Component:
    """KWOK's controller, for nodes that carry its annotation."""
    kubeconfig, stages = settings.config / "kwok.kubeconfig", settings.config / "kwok-stages.yaml"
    return Component(
        "kwok",
        (
            str(settings.bin / "kwok"),
            f"--kubeconfig={kubeconfig}",
            f"--config={stages}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--node-lease-duration-seconds={LEASE_SECONDS}",
            f"--server-address={LOOPBACK}:{KWOK_PORT}",
        ),
        (kubeconfig, stages),
        ready_url=f"http://{LOOPBACK}:{KWOK_PORT}/healthz",
    )


def write_stages(settings: Settings) -> None:
    """Put the stages of the pinned KWOK module where its controller reads them."""
    done = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"],
        cwd=KWOK.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    source = Path(done.stdout.strip()) / "kustomize" / "stage"
    if done.returncode != 0 or not source.is_dir():
        raise ClusterError(
            f"the source of KWOK is not in Go's module cache: {done.stderr.strip()}", "run `go mod download`"
        )
    text = "\n---\n".join((source / stage).read_text() for stage in STAGES)
    write_atomically(settings.config / "kwok-stages.yaml", text)


def authorise(settings: Settings) -> None:
    """Let KWOK write the status of nodes and pods, and leases."""
    objects.apply(settings, [objects.role_binding("cluster-admin", "system:kwok")])


def node(number: int) -> objects.Manifest:
    """A fake node with eight GPUs; tainted, so that no real pod lands there by accident."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"kwok-{number}",
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": f"kwok-{number}", "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
    }


def node_status(number: int) -> objects.Manifest:
    """What a fake node has to offer; an object's status is written apart from the object."""
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110", objects.GPU_RESOURCE: "8"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"kwok-{number}"},
        "status": {"capacity": resources, "allocatable": resources},
    }


def add_nodes(settings: Settings, count: int) -> None:
    """Make sure that there are fake nodes 0 to ``count`` - 1."""
    if count:
        objects.apply(settings, [node(number) for number in range(count)])
        objects.apply(settings, [node_status(number) for number in range(count)], "status")
