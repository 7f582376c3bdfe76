"""The pod template of a revision: rendered once, stored, and never rendered again."""

import math
from typing import Any

from nightshift.api import names
from nightshift.api.config import AcceleratorProfile, OperatorConfig
from nightshift.api.overlay import PodTemplate
from nightshift.api.revision import Resolved, RevisionSpec
from nightshift.core import engine
from nightshift.core.adapter_sight import DIRECTORY as ADAPTERS_DIRECTORY
from nightshift.core.model_uri import ClaimModel, parse_model_uri

USER = 65532
PRE_STOP_SECONDS = 15
"""Time for routers to stop sending before vLLM stops taking (KServe uses the same)."""

PROBE_PERIOD_SECONDS = 2
STARTUP_PERIOD_SECONDS = 1
"""An engine that has begun to serve is noticed half of it later, on average: time for which held requests wait on."""

RESTRICTED_CONTAINER: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the restricted pod security standard asks of a container."""

RESTRICTED_POD: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


def model_path(spec: RevisionSpec, resolved: Resolved) -> str:
    """Where the engine finds the model's files."""
    source = parse_model_uri(spec.model.uri)
    if isinstance(source, ClaimModel):
        return f"{engine.MODELS_DIRECTORY}/{source.path}".rstrip("/")
    return f"{engine.MODELS_DIRECTORY}/{resolved.model_revision}"


def image_reference(resolved: Resolved, digest: str | None = None) -> str:
    """The engine image with its tag, and with its digest once that is known.

    Worked example: docker.io/vllm/vllm-openai, 0.32.0 and sha256:1f2e give
    ``docker.io/vllm/vllm-openai:v0.32.0@sha256:1f2e``.
    """
    reference = f"{resolved.engine_image}:{image_tag(resolved.engine_version)}"
    pinned = resolved.image_digest or digest
    return f"{reference}@{pinned}" if pinned else reference


def image_tag(version: str) -> str:
    """The tag under which vLLM's images are published."""
    return f"v{version}"


def _probe(period: int, failures: int, timeout: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _models_volume(deployment: str, spec: RevisionSpec) -> dict[str, Any]:
    source = parse_model_uri(spec.model.uri)
    if isinstance(source, ClaimModel):
        return {"name": "models", "persistentVolumeClaim": {"claimName": source.claim, "readOnly": True}}
    if spec.model.cache is not None and spec.model.cache.type == "Claim":
        claim = names.claim_name(deployment)
        return {"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return {"name": "models", "emptyDir": {}}


def downloads_in_pod(spec: RevisionSpec) -> bool:
    """Whether each pod fetches the model itself."""
    hub = not isinstance(parse_model_uri(spec.model.uri), ClaimModel)
    return hub and (spec.model.cache is None or spec.model.cache.type == "Pod")


def fetch_container(
    name: str, spec: RevisionSpec, config: OperatorConfig, arguments: list[str], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """A container that asks the Hub: the only kind that ever sees the Hub token."""
    environment: list[dict[str, Any]] = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
    ]
    if config.hub_endpoint:
        environment.append({"name": "HF_ENDPOINT", "value": config.hub_endpoint})
    if spec.model.token_secret_ref:
        reference = spec.model.token_secret_ref.to_json()
        environment.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return {
        "name": name,
        "image": config.fetch_image,
        "command": ["/opt/nightshift/bin/python", "-m", "nightshift.fetch"],
        "args": arguments,
        "env": environment,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108
    }


def download_arguments(spec: RevisionSpec, resolved: Resolved) -> list[str]:
    """Arguments that download exactly the pinned commit into the models directory."""
    target = f"{engine.MODELS_DIRECTORY}/{resolved.model_revision}"
    return ["download", "--uri", spec.model.uri, "--sha", str(resolved.model_revision), "--to", target]


_ADAPTERS_MOUNT: dict[str, Any] = {"name": "adapters", "mountPath": ADAPTERS_DIRECTORY}


def _adapters_container(spec: RevisionSpec, resolved: Resolved, config: OperatorConfig) -> dict[str, Any]:
    """The container beside an engine that fetches adapters, and compares them with the base model's files.

    It begins before the engine, ends after it, and never keeps the pod from being ready.
    """
    arguments = ["adapters", "--to", ADAPTERS_DIRECTORY, "--base", model_path(spec, resolved)]
    arguments += ["--port", str(names.ADAPTERS_PORT)]
    mounts = [_ADAPTERS_MOUNT, {"name": "models", "mountPath": engine.MODELS_DIRECTORY, "readOnly": True}]
    return {
        **fetch_container(names.ADAPTERS_CONTAINER, spec, config, arguments, mounts),
        "restartPolicy": "Always",
        "ports": [{"name": "adapters", "containerPort": names.ADAPTERS_PORT, "protocol": "TCP"}],
    }


def _engine_container(
    served_names: tuple[str, ...], spec: RevisionSpec, resolved: Resolved, profile: AcceleratorProfile
) -> dict[str, Any]:
    overlay = spec.pod_template or PodTemplate()
    requests, limits = dict(profile.requests), dict(profile.limits)
    if overlay.resources:
        requests |= overlay.resources.requests
        limits |= overlay.resources.limits
    if profile.resource_name:
        requests[profile.resource_name] = limits[profile.resource_name] = str(resolved.accelerator_count)
    tensor_parallel = resolved.accelerator_count if profile.resource_name else 1
    path = model_path(spec, resolved)
    environment = {entry["name"]: dict(entry) for entry in engine.environment(resolved)}
    environment |= {entry.name: entry.to_json() for entry in spec.engine.env}
    adapters = [{**_ADAPTERS_MOUNT, "readOnly": True}] if resolved.lora_rank is not None else []
    return {
        "name": names.ENGINE_CONTAINER,
        "image": image_reference(resolved),
        "args": engine.arguments(spec, resolved, served_names, path, tensor_parallel),
        "env": list(environment.values()),
        "ports": [{"name": "http", "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        "resources": {key: value for key, value in (("requests", requests), ("limits", limits)) if value},
        "startupProbe": _probe(
            STARTUP_PERIOD_SECONDS, math.ceil(spec.engine.start_deadline_seconds / STARTUP_PERIOD_SECONDS), 5
        ),
        "readinessProbe": _probe(PROBE_PERIOD_SECONDS, 3, 5),
        "livenessProbe": _probe(10, 3, 5),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [
            {"name": "models", "mountPath": engine.MODELS_DIRECTORY, "readOnly": True},
            {"name": "cache", "mountPath": engine.CACHE_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            *adapters,
            *overlay.volume_mounts,
        ],
    }


def served_names(namespace: str, deployment: str, spec: RevisionSpec) -> tuple[str, ...]:
    """What clients may call the model: its served name, and the name that the gateway's shared address knows it by.

    Worked example: bot and ml/bot.
    """
    return tuple(dict.fromkeys((spec.model.served_name or deployment, f"{namespace}/{deployment}")))


def pod_template(
    namespace: str, deployment: str, revision: str, spec: RevisionSpec, resolved: Resolved, config: OperatorConfig
) -> dict[str, Any]:
    """Render the pod template of a revision.

    Args:
        namespace: Of the LLMDeployment.
        deployment: Name of the LLMDeployment.
        revision: Hash of the revision.
        spec: What the user wrote.
        resolved: Version, image digest and model commit that the revision is pinned to.
        config: Profiles and addresses as they are at this moment.
    """
    profile = config.accelerators[resolved.accelerator]
    overlay = spec.pod_template or PodTemplate()
    initial = []
    if downloads_in_pod(spec):
        mounts = [{"name": "models", "mountPath": engine.MODELS_DIRECTORY}]
        arguments = download_arguments(spec, resolved)
        initial.append(fetch_container(names.DOWNLOAD_CONTAINER, spec, config, arguments, mounts))
    adapters = []
    if resolved.lora_rank is not None:
        initial.append(_adapters_container(spec, resolved, config))
        adapters.append({"name": "adapters", "emptyDir": {}})
    metadata = overlay.metadata
    pod: dict[str, Any] = {
        "serviceAccountName": names.service_account_name(deployment),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "terminationGracePeriodSeconds": spec.drain_seconds + PRE_STOP_SECONDS + 15,
        "initContainers": initial,
        "containers": [
            _engine_container(served_names(namespace, deployment, spec), spec, resolved, profile),
            *overlay.sidecars,
        ],
        "volumes": [
            _models_volume(deployment, spec),
            {"name": "cache", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": profile.shared_memory}},
            *adapters,
            *overlay.volumes,
        ],
        "nodeSelector": {**profile.node_selector, **overlay.node_selector},
        "tolerations": [*profile.tolerations, *overlay.tolerations],
        "affinity": overlay.affinity,
        "topologySpreadConstraints": list(overlay.topology_spread_constraints),
        "priorityClassName": overlay.priority_class_name,
        "runtimeClassName": overlay.runtime_class_name,
        "imagePullSecrets": [secret.to_json() for secret in overlay.image_pull_secrets],
    }
    return {
        "metadata": {
            "labels": {**(metadata.labels if metadata else {}), **names.engine_labels(deployment, revision)},
            "annotations": dict(metadata.annotations) if metadata else {},
        },
        "spec": {key: value for key, value in pod.items() if value not in (None, [], {})},
    }
