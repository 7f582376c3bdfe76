"""Installing Nightshift by its chart, and a small model Hub beside it."""

import json
from pathlib import Path

import yaml

from e2e.support.client import Client, KubectlError, Object
from e2e.support.lane import StepError

SYSTEM = "nightshift-system"
HUB = "nightshift-hub"
RELEASE = "nightshift"
GATEWAY = "nightshift-gateway"
"""The gateway's Service and Deployment, as the chart names them."""
GATEWAY_NAMESPACE = f"{SYSTEM}-gateway"
GATEWAY_PORT = 80
ADMITTED = "nightshift.dev/gateway-access"
"""Label of namespaces whose pods the gateway lets in."""
CHART = Path(__file__).resolve().parents[2] / "charts" / "nightshift"
HUB_PORT = 8080
HUB_URL = f"http://tiny-hub.{HUB}.svc.cluster.local:{HUB_PORT}"
USER = 65532
STORY_LABEL = "nightshift.dev/story"


def restricted_namespace(name: str, *, story: bool = False) -> Object:
    """A namespace that lets in only pods of the restricted standard."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    if story:
        labels |= {STORY_LABEL: "true", ADMITTED: "true"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def values(client: Client, operator_image: str, gateway_image: str | None = None) -> Object:
    """Chart values for a cluster whose engines run on the processor; without an image there is no gateway."""
    repository, _, tag = operator_image.rpartition(":")
    registry = client.access.registry
    return {
        "image": {"repository": repository, "tag": tag},
        # Engines that crash side by side would starve it of its Lease on a small machine.
        "resources": {"requests": {"cpu": "200m", "memory": "160Mi"}},
        "hubEndpoint": HUB_URL,
        "insecureRegistries": [registry] if client.access.plain_http else [],
        "engine": {
            "version": "0.32.0",
            "image": f"{client.access.image_prefix}/vllm-cpu",
        },
        "defaultAccelerator": "cpu",
        "accelerators": {
            "cpu": {"requests": {"cpu": "200m", "memory": "512Mi"}},
            "fake-gpu": {"resourceName": "nvidia.com/gpu", "requests": {"cpu": "200m", "memory": "512Mi"}},
            "small-gpu": {
                "resourceName": "nvidia.com/gpu",
                "requests": {"cpu": "200m", "memory": "512Mi"},
                "memoryGiB": 4,
                "computeCapability": "8.9",
            },
        },
        "gateway": {"enabled": False} if gateway_image is None else _gateway_values(gateway_image),
    }


def _gateway_values(image: str) -> Object:
    """So small that two pods fit beside the engines on two cores."""
    repository, _, tag = image.rpartition(":")
    requests = {"haproxy": ("50m", "64Mi"), "agent": ("20m", "80Mi"), "activator": ("20m", "80Mi")}
    return {
        "image": {"repository": repository, "tag": tag},
        "replicas": 2,
        "resources": {name: {"requests": {"cpu": cpu, "memory": size}} for name, (cpu, size) in requests.items()},
    }


def install(client: Client, operator_image: str, gateway_image: str, timeout: str = "5m") -> None:
    """Install or upgrade the chart, and wait as a user would."""
    spare_others_release(client)
    client.apply(restricted_namespace(SYSTEM))
    unblock_release(client)
    client.helm(
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        "--namespace",
        SYSTEM,
        "--wait",
        "--force-conflicts",
        "--timeout",
        timeout,
        "--values",
        "-",
        stdin=yaml.safe_dump(values(client, operator_image, gateway_image)),
        timeout=600,
    )


class OthersReleaseError(StepError):
    """The cluster has a Nightshift that is somebody's; the message says what to do."""


def spare_others_release(client: Client) -> None:
    """Look whether the release that is about to be upgraded came from here: its Hub is the small one.

    Raises:
        OthersReleaseError: It did not; these values would break what it serves.
    """
    try:
        said = client.helm("get", "values", RELEASE, "--namespace", SYSTEM, "--output", "json")
    except KubectlError as error:
        if "not found" in str(error):
            return
        raise
    if (json.loads(said) or {}).get("hubEndpoint") != HUB_URL:
        raise OthersReleaseError(
            f"Release {RELEASE} in namespace {SYSTEM} was not installed by these commands and is left as it is. "
            "Use another cluster (KUBECONFIG), or none for the local one; or uninstall that release first."
        )


def unblock_release(client: Client) -> None:
    """Undo an installation that was killed in the middle: Helm refuses every later one otherwise."""
    try:
        said = client.helm("status", RELEASE, "--namespace", SYSTEM, "--output", "json")
    except KubectlError as error:
        if "not found" in str(error):
            return
        raise
    state = json.loads(said)["info"]["status"]
    if state == "pending-install":
        client.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "2m")
    elif state.startswith("pending-"):
        client.helm("rollback", RELEASE, "--namespace", SYSTEM)


def remove_stories(client: Client) -> None:
    """Delete what stories of a killed run left, and wait until their accelerators are free."""
    client.kubectl("delete", "runtimeclass", "-l", f"{STORY_LABEL}=true", "--ignore-not-found")
    command = ["delete", "namespace", "-l", f"{STORY_LABEL}=true", "--ignore-not-found", "--timeout=180s"]
    client.kubectl(*command, timeout=200)


def install_hub(client: Client, image: str) -> None:
    """Run a Hub that holds the tiny model, and wait until it serves."""
    labels = {"app": "tiny-hub"}
    container = {
        "name": "hub",
        "image": image,
        "ports": [{"containerPort": HUB_PORT}],
        "readinessProbe": {"tcpSocket": {"port": HUB_PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tiny-hub", "namespace": HUB},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"automountServiceAccountToken": False, "containers": [container]},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "tiny-hub", "namespace": HUB},
        "spec": {"selector": labels, "ports": [{"port": HUB_PORT, "targetPort": HUB_PORT}]},
    }
    client.apply(restricted_namespace(HUB))
    client.apply(deployment, service)
    client.kubectl("rollout", "status", "-n", HUB, "deployment/tiny-hub", "--timeout=180s", timeout=200)
