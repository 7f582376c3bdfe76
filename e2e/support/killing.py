"""Killing a container without warning, as the kernel does when memory runs out."""

import os
import signal

from e2e.cluster import Settings
from e2e.cluster.host import first_process
from e2e.support.client import Client, Object


def kill_container(client: Client, pod: Object, container: str) -> str:
    """SIGKILL the first process of a container, which its kubelet starts again in the same pod.

    Of a cluster given by KUBECONFIG the nodes are out of reach: there the pod is deleted without grace, which is
    less, because the pod's name is gone with it.

    Args:
        client: The cluster.
        pod: The pod as it stands.
        container: The container's name.

    Returns:
        What was done, as words that follow "the leader".
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if not client.access.local:
        client.kubectl("delete", "pod", name, "-n", namespace, "--grace-period=0", "--force")
        return f"{name} is deleted without grace"
    (status,) = [item for item in pod["status"]["containerStatuses"] if item["name"] == container]
    pid = first_process(Settings(client.access.home), status["containerID"].removeprefix("containerd://"))
    assert pid is not None, f"container {container} of {namespace}/{name} has no process"
    os.kill(pid, signal.SIGKILL)
    return f"{name} (process {pid} of this machine) is killed by SIGKILL"
