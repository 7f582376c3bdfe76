"""The restricted pod security standard, as far as a pod without exotic fields can break it.

Source: Kubernetes documentation, "Pod Security Standards", version 1.34.
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)


def restricted_violations(pod: dict[str, Any]) -> list[str]:
    """What of a pod's spec the standard forbids, as paths."""
    return [*_pod(pod), *(found for container in _containers(pod) for found in _container(pod, container))]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def _pod(pod: dict[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volumes.{volume['name']}"
    if pod.get("securityContext", {}).get("runAsUser") == 0:
        yield "runAsUser"


def _container(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
    capabilities = own.get("capabilities", {})
    checks = {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities": "ALL" in capabilities.get("drop", [])
        and set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
        "runAsNonRoot": own.get("runAsNonRoot", shared.get("runAsNonRoot")) is True,
        "runAsUser": own.get("runAsUser") != 0,
        "seccompProfile": own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
        in ("RuntimeDefault", "Localhost"),
        "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
    }
    yield from (f"{container['name']}.{name}" for name, held in checks.items() if not held)
