"""Engines as pods of the cluster in use, in a namespace that enforces the restricted pod security standard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import cluster
from e2e.contract.engine import Engine, Kind, Running
from e2e.contract.local import ARGUMENTS, LORA, watch_start

NAMESPACE = "engine-contract"
MODELS = "/models"
CLAIM = "models"
VOLUME = f"{NAMESPACE}-models"
PORT = 8000
_TERMINATE = "import os, signal; os.kill(1, signal.SIGTERM)"
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "HOME": "/tmp",
}


async def _kubectl(*arguments: str, text: str | None = None) -> str:
    return await asyncio.to_thread(cluster.kubectl, *arguments, input=text)


def namespace_objects(models: Path) -> list[dict[str, Any]]:
    """The namespace, and the claim to the directory on the node that holds the tiny model."""
    volume = cluster.local_volume(VOLUME, models, "1Gi", storage_class_name=VOLUME)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": VOLUME,
            "volumeName": VOLUME,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        volume,
        claim,
    ]


def pod(name: str, image: str, arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """A pod that runs an engine once, with nothing that the restricted standard forbids."""
    container = {
        "name": "engine",
        "image": image,
        "args": list(arguments),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"containerPort": PORT}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "readOnly": True},
            {"name": "memory", "mountPath": "/dev/shm"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "engine-contract"}},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "models", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "scratch", "emptyDir": {}},
            ],
        },
    }


@dataclass
class PodLauncher:
    """Starts one image as pods and talks to their addresses, which the local cluster's machine can reach.

    Attributes:
        image: name and tag under the cluster's image prefix, such as ``vllm-cpu:0.32.0``.
        models: directory on the node that holds the tiny model; None for the cluster's own.
    """

    name: str
    kind: Kind
    version: str
    image: str
    models: Path | None = None
    ready_seconds: float = 300.0
    address_seconds: float = 900.0
    """Scheduling and the first pull of an image of some gigabytes included."""
    _count: int = 0

    async def start(self, *more: str) -> Running:
        """An engine that answers."""
        name = await self._create(more)
        gone = asyncio.Event()
        watcher = asyncio.create_task(self._watch_end(name, gone))
        try:
            url = f"http://{await self._address(name)}:{PORT}"
            startup = await watch_start(url, self.ready_seconds, gone)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{await _last_words(name)}") from error
        finally:
            watcher.cancel()

        async def terminate() -> None:
            await _kubectl("exec", name, f"--namespace={NAMESPACE}", "--", "python3", "-c", _TERMINATE)

        async def exit_code(seconds: float) -> int | None:
            return await _exit_code(name, seconds)

        async def kill() -> None:
            await _delete(name)

        async def logs() -> str:
            return await _logs(name)

        engine = Engine(self.name, self.kind, self.version, url, adapter_path=f"{MODELS}/tiny-lora-elsewhere")
        return Running(engine, terminate, exit_code, kill, logs, startup)

    async def fail(self, *more: str) -> tuple[int | None, str]:
        """An engine that ends by itself."""
        name = await self._create(more)
        try:
            return await _exit_code(name, self.ready_seconds), await _logs(name)
        finally:
            await _delete(name)

    async def _create(self, more: Sequence[str]) -> str:
        access = cluster.current()
        self._count += 1
        name = f"{self.kind}-{self.version.replace('.', '-')}-{self._count}"
        await _delete(name)
        objects = namespace_objects(self.models or access.home / "models")
        await _apply({"apiVersion": "v1", "kind": "List", "items": objects})
        image = f"{access.image_prefix}/{self.image}"
        await _apply(pod(name, image, [*self._arguments(), *more], self._environment()))
        return name

    def _arguments(self) -> list[str]:
        served = [f"{MODELS}/tiny", "--served-model-name", "tiny", "--port", str(PORT)]
        memory = ["--kv-cache-memory-bytes", "67108864", "--enforce-eager", "--shutdown-timeout", "20"]
        blocks = ["--block-size", "128"] if self.kind == "sim" else []
        return [*served, *ARGUMENTS, *memory, *blocks, *LORA]

    def _environment(self) -> dict[str, str]:
        if self.kind != "sim":
            return _ENVIRONMENT
        sizes = {"VLLM_SIM_KV_BYTES_PER_TOKEN": "1024", "VLLM_SIM_VERSION": self.version}
        return {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", **sizes}

    async def _address(self, name: str) -> str:
        deadline = time.monotonic() + self.address_seconds
        while time.monotonic() < deadline:
            status = (await _get(name))["status"]
            if address := status.get("podIP"):
                return str(address)
            if status.get("phase") in ("Failed", "Succeeded"):
                break
            await asyncio.sleep(0.5)
        raise RuntimeError(f"pod {name} got no address\n{await _described()}")

    async def _watch_end(self, name: str, gone: asyncio.Event) -> None:
        await _exit_code(name, self.ready_seconds)
        gone.set()


async def run_program(name: str, image: str, command: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Run a program in an engine image, beside the models, to its end.

    Args:
        name: of the pod.
        image: name and tag under the cluster's image prefix.
        command: instead of the image's own.
        seconds: the most that it may take.

    Returns:
        The exit code, None where it did not end in time; and what it wrote.
    """
    access = cluster.current()
    await _delete(name)
    await _apply({"apiVersion": "v1", "kind": "List", "items": namespace_objects(access.home / "models")})
    manifest = pod(name, f"{access.image_prefix}/{image}", (), _ENVIRONMENT)
    manifest["spec"]["containers"][0]["command"] = list(command)
    await _apply(manifest)
    return await _exit_code(name, seconds), await _logs(name)


async def clean() -> None:
    """Remove the namespace and the volume.

    Also before a run: a volume that outlived its claim, as after a killed run, stays bound to that claim for ever.
    """
    await _kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    await _kubectl("delete", "persistentvolume", VOLUME, "--ignore-not-found")


async def _apply(manifest: dict[str, Any]) -> None:
    await _kubectl("apply", "-f", "-", text=json.dumps(manifest))


async def _get(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await _kubectl("get", "pod", name, f"--namespace={NAMESPACE}", "--output=json"))
    return found


async def _delete(name: str) -> None:
    await _kubectl(
        "delete", "pod", name, f"--namespace={NAMESPACE}", "--ignore-not-found", "--force", "--grace-period=0"
    )


async def _described() -> str:
    """What the cluster says of the pods, the claim and the volume."""
    return await _kubectl("describe", "pods,pvc,pv", f"--namespace={NAMESPACE}")


async def _last_words(name: str) -> str:
    """The end of the log; where there is none, why: it must not hide what went wrong before."""
    try:
        return (await _logs(name))[-2000:]
    except cluster.ClusterError as error:
        return f"no log: {error}"


async def _logs(name: str) -> str:
    return await _kubectl("logs", name, f"--namespace={NAMESPACE}")


async def _exit_code(name: str, seconds: float) -> int | None:
    """The container's exit code once it has ended; None when it has not in time."""
    deadline = time.monotonic() + seconds
    while True:
        statuses = (await _get(name))["status"].get("containerStatuses") or [{}]
        ended = statuses[0].get("state", {}).get("terminated")
        if ended is not None:
            return int(ended["exitCode"])
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(0.5)
