"""A fleet of LLMDeployments on nodes that KWOK plays, and one operator process that serves it alone."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from bench.audit_log import AuditLog
from bench.control_plane import API_CLIENT, ENGINE_TAG, ControlPlane, control_plane
from bench.operator_process import OperatorProcess
from e2e.support.install import CHART, restricted_namespace
from nightshift.adapters.kube import KubeClient

T = TypeVar("T")

NAME = "nightshift-bench"
"""Of the release and of its namespace."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMESPACES = 10
GPUS_PER_NODE = 8
CLIENTS = 16
PROFILE = {
    "resourceName": "nvidia.com/gpu",
    "nodeSelector": {"type": "kwok"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    "requests": {"cpu": "1", "memory": "8Gi"},
}
INPUTS = {
    "nodes": f"played by KWOK, {GPUS_PER_NODE} GPUs each: pods are Ready at once and no engine runs",
    "model": "hf://, pinned by its commit, so that no Job resolves it",
    "image": "one tag for all, asked of the local registry once",
    "operator": "one process from the checkout with the chart's configuration, account and rights, Lease included",
    "namespaces": NAMESPACES,
    "pod_security": "restricted, enforced",
    "control_plane": "real etcd, API server, controller manager and scheduler of its own, all on this machine; no "
    f"kubelet, kube-proxy and DNS; controller manager and scheduler with {' '.join(API_CLIENT)}",
}
"""What every measurement on the fleet stands on."""


@dataclass(frozen=True)
class Ground:
    """What a benchmark of the fleet works with."""

    plane: ControlPlane
    directory: Path
    audit: AuditLog

    @property
    def administrator(self) -> str:
        """The kubeconfig of who creates and changes LLMDeployments."""
        return self.plane.client.access.kubeconfig

    @property
    def user(self) -> str:
        """The operator's account, as the audit log names it."""
        return f"system:serviceaccount:{NAME}:{NAME}"

    def start_operator(self) -> OperatorProcess:
        """Start an operator process with an account of its own, and wait until it leads."""
        process = OperatorProcess(
            self.plane.client.access,
            self.directory / "kubeconfig",
            self.directory / "config.yaml",
            self.directory / "log",
        )
        process.wait("nightshift_leader", 1, 60, every=0.1)
        return process


def keys(count: int) -> list[tuple[str, str]]:
    """Namespace and name of every LLMDeployment of the fleet."""
    return [(f"bench-{number % NAMESPACES}", f"bot-{number:04}") for number in range(count)]


def manifest(key: tuple[str, str], replicas: int = 1) -> dict[str, Any]:
    """An LLMDeployment of the fleet."""
    namespace, name = key
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": "hf://nightshift/tiny", "revision": COMMIT},
            "engine": {"args": ["--max-model-len=8192"]},
            "replicas": replicas,
        },
    }


async def _with_kube(kubeconfig: str, work: Callable[[KubeClient], Awaitable[None]]) -> None:
    configuration = Configuration()
    await load_kube_config(kubeconfig, client_configuration=configuration)
    kube = KubeClient(ApiClient(configuration))
    try:
        await work(kube)
    finally:
        await kube.close()


def for_each(kubeconfig: str, items: Sequence[T], do: Callable[[KubeClient, T], Awaitable[Any]]) -> None:
    """Do something with each item, as fast as several clients side by side can."""

    async def work(kube: KubeClient) -> None:
        left = list(reversed(items))

        async def client() -> None:
            while left:
                await do(kube, left.pop())

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    asyncio.run(_with_kube(kubeconfig, work))


def create_all(kubeconfig: str, found: Sequence[tuple[str, str]]) -> None:
    """Create LLMDeployments as fast as several clients side by side can."""
    for_each(kubeconfig, found, lambda kube, key: kube.create(manifest(key)))


def change_each(kubeconfig: str, found: Sequence[tuple[str, str]], every_seconds: float) -> None:
    """Ask each LLMDeployment for two replicas, one after the other."""

    async def work(kube: KubeClient) -> None:
        for key in found:
            await kube.apply(manifest(key, 2), "nightshift-bench")
            await asyncio.sleep(every_seconds)

    asyncio.run(_with_kube(kubeconfig, work))


@contextlib.contextmanager
def prepared(gpus: int) -> Iterator[Ground]:
    """A control plane with nodes for so many GPUs, the fleet's namespaces, and a release without pods."""
    with control_plane(-(-gpus // GPUS_PER_NODE)) as plane:
        directory = plane.settings.run / "operator"
        directory.mkdir()
        install(plane, directory)
        audit = AuditLog(plane.audit_log)
        yield Ground(plane, directory, audit)
        audit.close()


def install(plane: ControlPlane, directory: Path) -> None:
    """Install the chart without pods, and write down configuration and account as a pod would get them."""
    client = plane.client
    client.apply(restricted_namespace(NAME), *(restricted_namespace(f"bench-{number}") for number in range(NAMESPACES)))
    values = {
        "image": {"repository": f"{client.access.image_prefix}/operator", "tag": "dev"},
        "replicas": 0,
        "gateway": {"enabled": False},
        "insecureRegistries": [client.access.registry],
        "engine": {"version": ENGINE_TAG.removeprefix("v"), "image": plane.engine_repository},
        "defaultAccelerator": "played",
        "accelerators": {"played": PROFILE},
    }
    options = ["--namespace", NAME, "--values", "-"]
    client.helm("upgrade", "--install", NAME, str(CHART), *options, stdin=yaml.safe_dump(values))
    written = client.get("configmap", NAME, NAME)
    assert written is not None
    (directory / "config.yaml").write_text(written["data"]["config.yaml"])
    token = client.kubectl("create", "token", NAME, "--namespace", NAME, "--duration=1h").strip()
    kubeconfig = yaml.safe_load(Path(client.access.kubeconfig).read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    path = directory / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(kubeconfig))
