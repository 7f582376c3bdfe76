"""Values that many tests start from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nightshift.api import names
from nightshift.api.config import AcceleratorProfile, EngineDefaults, GatewayConfig, OperatorConfig
from nightshift.api.resource import LLMDeployment, parse
from nightshift.api.revision import RevisionSpec
from nightshift.api.spec import Spec
from nightshift.core.facts import Known
from nightshift.core.observed import ContainerFacts, ImageAnswer, PodFacts, image_key
from nightshift.core.revisions import Revision, build, carried, parse_revision, revision_spec

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER_SHA = "fedcba9876543210fedcba9876543210fedcba98"
DIGEST = "sha256:" + "1f" * 32
OTHER_DIGEST = "sha256:" + "2e" * 32
UID = "uid-of-bot"
HUB_MODEL = "hf://acme/tiny"


def config(**changes: Any) -> OperatorConfig:
    """An operator that offers one kind of GPU and the processor."""
    values: dict[str, Any] = {
        "namespace": "nightshift-system",
        "operator_labels": {"app.kubernetes.io/name": "nightshift"},
        "fetch_image": "registry.example/nightshift/operator:1",
        "defaults": EngineDefaults(
            engine_version="0.32.0", engine_image="registry.example/vllm", accelerator="nvidia-gpu"
        ),
        "accelerators": {
            "nvidia-gpu": AcceleratorProfile(
                resource_name="nvidia.com/gpu",
                node_selector={"accelerator": "nvidia"},
                tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},),
                requests={"cpu": "4", "memory": "32Gi"},
                limits={"memory": "32Gi"},
                shared_memory="8Gi",
            ),
            "cpu": AcceleratorProfile(requests={"cpu": "1000m", "memory": "3Gi"}),
        },
    }
    return OperatorConfig(**(values | changes))


def gateway(**changes: Any) -> GatewayConfig:
    """A gateway in a namespace of its own."""
    values: dict[str, Any] = {
        "namespace": "nightshift-gateway",
        "labels": {"app.kubernetes.io/component": "gateway"},
        "service": "nightshift-gateway",
    }
    return GatewayConfig(**(values | changes))


def with_gateway(**changes: Any) -> OperatorConfig:
    """The same operator beside a gateway."""
    return config(gateway=gateway(**changes))


def body(
    spec: Mapping[str, Any] | None = None,
    *,
    name: str = "bot",
    namespace: str = "ml",
    uid: str = UID,
    generation: int = 1,
    status: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An LLMDeployment as the API server holds it; by default a model pinned by its commit."""
    wanted = {"model": {"uri": HUB_MODEL, "revision": SHA}} if spec is None else dict(spec)
    result: dict[str, Any] = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": generation},
        "spec": wanted,
    }
    return result | ({"status": dict(status)} if status is not None else {})


def model_spec(**more: Any) -> dict[str, Any]:
    """A spec with a model pinned by its commit, and more fields.

    Revisions take over when they are ready, also behind a gateway: only who tells of comparisons sets strategy Auto.
    """
    rollout = {"strategy": "Readiness", **more.pop("rollout", {})}
    return {"model": {"uri": HUB_MODEL, "revision": SHA}, "rollout": rollout, **more}


def deployment(spec: Mapping[str, Any] | None = None, **more: Any) -> LLMDeployment:
    """A parsed LLMDeployment."""
    return parse(body(spec, **more))


def wanted_of(spec: Mapping[str, Any]) -> RevisionSpec:
    """The part of a spec, as the API server holds it, that matters to pods."""
    return revision_spec(Spec.model_validate(spec))


def digest_known(version: str = "0.32.0", image: str = "registry.example/vllm") -> dict[str, ImageAnswer]:
    """A registry that knows the digest of one image."""
    return {image_key(image, f"v{version}"): ImageAnswer(Known(DIGEST, NOW), 1, NOW)}


def revision(
    spec: Mapping[str, Any] | None = None,
    *,
    number: int = 1,
    chosen: OperatorConfig | None = None,
    previous: Revision | None = None,
    pinned: str | None = None,
    **resolved: Any,
) -> Revision:
    """A revision as it would be read from its ControllerRevision."""
    wanted = wanted_of(model_spec() if spec is None else spec)
    settings = chosen or config()
    base = carried(wanted, previous, settings).model_copy(
        update={"model_revision": SHA, "image_digest": DIGEST} | resolved
    )
    revision_hash, record = build("ml", "bot", wanted, base, settings)
    parsed = parse_revision(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": names.revision_name("bot", revision_hash),
                "namespace": "ml",
                "uid": f"uid-of-{revision_hash}",
                "resourceVersion": "7",
                "labels": {names.LABEL_REVISION: revision_hash, names.LABEL_DEPLOYMENT: "bot"},
                "annotations": {names.ANNOTATION_IMAGE_ID: pinned} if pinned else {},
                "ownerReferences": [{"uid": UID, "controller": True}],
            },
            "revision": number,
            "data": record.to_json(),
        }
    )
    assert parsed is not None
    return parsed


def container(name: str = names.ENGINE_CONTAINER, **changes: Any) -> ContainerFacts:
    """A container that was just made."""
    values: dict[str, Any] = {
        "name": name,
        "ready": False,
        "restarts": 0,
        "image_id": "",
        "running_since": None,
        "waiting_reason": None,
        "waiting_message": "",
        "exit_code": None,
        "termination_reason": None,
        "termination_message": "",
    }
    return ContainerFacts(**(values | changes))


def pod(revision_hash: str | None = "r1", **changes: Any) -> PodFacts:
    """An engine pod that was just made."""
    values: dict[str, Any] = {
        "name": "bot-r1-a",
        "uid": "uid-of-bot-r1-a",
        "owner": None,
        "ip": None,
        "component": names.COMPONENT_ENGINE,
        "revision": revision_hash,
        "job": None,
        "created": "2026-03-01T12:00:00Z",
        "phase": "Pending",
        "ready": False,
        "terminating": False,
        "unschedulable": None,
        "containers": (),
        "outcome": None,
    }
    return PodFacts(**(values | changes))
