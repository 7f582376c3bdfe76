"""The objects that Nightshift makes for a deployment, as whole manifests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nightshift.api import names
from nightshift.api.adapters import AdapterPin, AdapterSpec
from nightshift.api.config import OperatorConfig
from nightshift.api.resource import LLMDeployment
from nightshift.api.revision import RevisionRecord, RevisionSpec
from nightshift.api.spec import ModelCache
from nightshift.core.canonical import canonical_json, short_hash
from nightshift.core.engine import MODELS_DIRECTORY
from nightshift.core.marks import MARKS, Marks
from nightshift.core.model_uri import ClaimModel, parse_model_uri
from nightshift.core.pins import pin_name
from nightshift.core.pod import (
    PRE_STOP_SECONDS,
    RESTRICTED_POD,
    download_arguments,
    fetch_container,
    image_reference,
)
from nightshift.core.revisions import Revision, revision_spec

Manifest = dict[str, Any]

JOB_RETRIES = 2
JOB_KEEP_SECONDS = 3600
INSPECT_SECONDS = 120
"""A look at a model is given up after so long: whether it fits is unknown then, and the engine tries."""
_PLACEMENT = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets")


def own_metadata(owner: LLMDeployment, name: str, labels: Mapping[str, str]) -> Manifest:
    """Metadata of an object in the deployment's namespace, which goes when the deployment does."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": dict(labels),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def engine_selector(deployment: str) -> dict[str, str]:
    """Labels by which the engine pods of a deployment are selected."""
    return {names.LABEL_DEPLOYMENT: deployment, names.LABEL_COMPONENT: names.COMPONENT_ENGINE}


def evaluation_selector(deployment: str) -> dict[str, str]:
    """Labels by which the pods that ask golden questions of a deployment are selected."""
    return {names.LABEL_DEPLOYMENT: deployment, names.LABEL_COMPONENT: names.COMPONENT_EVALUATION}


def selector_text(deployment: str) -> str:
    """The label selector of the engine pods, as /scale wants it."""
    return ",".join(f"{key}={value}" for key, value in sorted(engine_selector(deployment).items()))


def service_account(owner: LLMDeployment) -> Manifest:
    """An account without token and rights, so that engine pods do not run under a shared one."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": own_metadata(owner, names.service_account_name(owner.name), names.deployment_labels(owner.name)),
        "automountServiceAccountToken": False,
    }


def disruption_budget(owner: LLMDeployment) -> Manifest:
    """Evictions take one engine at a time, and never wait for one that is broken."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": own_metadata(owner, owner.name, names.deployment_labels(owner.name)),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": engine_selector(owner.name)},
        },
    }


def cache_claim(owner: LLMDeployment, cache: ModelCache, annotations: Mapping[str, str]) -> Manifest:
    """The claim that keeps downloaded models, as the cache is to be, with what is noted on it."""
    spec: Manifest = {
        "accessModes": [cache.access_mode],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    metadata = own_metadata(owner, names.claim_name(owner.name), names.deployment_labels(owner.name))
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def controller_revision(
    owner: LLMDeployment,
    revision_hash: str,
    number: int,
    record: RevisionRecord,
) -> Manifest:
    """A revision as stored: its inputs and its rendered pod template."""
    metadata = own_metadata(
        owner,
        names.revision_name(owner.name, revision_hash),
        {**names.deployment_labels(owner.name), names.LABEL_REVISION: revision_hash},
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": number,
        "data": record.to_json(),
    }


def restated_revision(
    owner: LLMDeployment, revision: Revision, number: int, marks: Marks, more: Mapping[str, str] | None = None
) -> Manifest:
    """A stored revision with another place in history or other marks; its data stays as stored.

    Other annotations of ours stay as well: an apply of the whole object would take away what it leaves out.
    """
    manifest = controller_revision(owner, revision.hash, number, revision.record)
    live = revision.manifest["metadata"].get("annotations") or {}
    ours = {key: value for key, value in live.items() if key.startswith(f"{names.GROUP}/") and key not in MARKS}
    if annotations := {**ours, **marks.annotations(), **(more or {})}:
        manifest["metadata"]["annotations"] = annotations
    return {**manifest, "data": revision.manifest["data"]}


def replica_set(owner: LLMDeployment, revision: Revision, replicas: int) -> Manifest:
    """The ReplicaSet of a revision, from its stored template."""
    labels = names.engine_labels(owner.name, revision.hash)
    template = _pinned(revision.record.pod_template, image_reference(revision.resolved, revision.digest))
    metadata = own_metadata(owner, names.revision_name(owner.name, revision.hash), labels)
    if owner.scaling_note is not None:
        metadata["annotations"] = {names.ANNOTATION_SCALING: owner.scaling_note}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def _pinned(template: Manifest, image: str) -> Manifest:
    containers = [
        {**container, "image": image} if container["name"] == names.ENGINE_CONTAINER else container
        for container in template["spec"]["containers"]
    ]
    return {**template, "spec": {**template["spec"], "containers": containers}}


def plain_job(
    owner: LLMDeployment,
    component: str,
    container: Manifest,
    volumes: list[Manifest],
    annotations: Mapping[str, str],
    placement: Mapping[str, Any],
) -> Manifest:
    """A Job of one restricted pod without a token; it has yet to be named."""
    labels = names.component_labels(owner.name, component)
    metadata = own_metadata(owner, "", labels)
    metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": JOB_RETRIES,
            "ttlSecondsAfterFinished": JOB_KEEP_SECONDS,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": names.service_account_name(owner.name),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": RESTRICTED_POD,
                    "terminationGracePeriodSeconds": PRE_STOP_SECONDS,
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
                    **placement,
                },
            },
        },
    }


def _named(job: Manifest, name: Callable[[str, str], str], owner: LLMDeployment, *more: str) -> Manifest:
    """The Job under a name made of all that its pod is, and more.

    A Job cannot be changed, and a pod that waits for an image or a Secret never fails: under another name the
    corrected one does not wait behind it.
    """
    job["metadata"]["name"] = name(owner.name, short_hash([job["spec"]["template"]["spec"], *more], 8))
    return job


def resolve_job(
    owner: LLMDeployment, spec: RevisionSpec, config: OperatorConfig, revision: str | None = None
) -> Manifest:
    """A Job that resolves a branch or tag to a commit, and reads what the model is.

    The operator itself never holds a Hub token.

    Args:
        owner: The deployment.
        spec: The model, and the token to read it with.
        config: Image and Hub.
        revision: What to resolve; default: what the spec asks for.
    """
    revision = revision or spec.model.revision or "main"
    arguments = ["resolve", "--uri", spec.model.uri, "--revision", revision]
    container = fetch_container(names.RESOLVE_CONTAINER, spec, config, arguments, [])
    annotations = {names.ANNOTATION_MODEL_REQUEST: f"{spec.model.uri}@{revision}"}
    secrets = [secret.to_json() for secret in spec.pod_template.image_pull_secrets] if spec.pod_template else []
    placement = {"imagePullSecrets": secrets} if secrets else {}
    job = plain_job(owner, names.COMPONENT_RESOLVE, container, [], annotations, placement)
    return _named(job, names.resolve_job_name, owner)


def adapter_job(owner: LLMDeployment, adapter: AdapterSpec, config: OperatorConfig) -> Manifest:
    """A Job that resolves an adapter's revision to a commit, and reads its rank and its base."""
    spec = revision_spec(owner.spec)
    _, uri, revision = adapter.request
    arguments = ["resolve-adapter", "--uri", uri, "--revision", revision]
    container = fetch_container(names.RESOLVE_CONTAINER, spec, config, arguments, [])
    secrets = [secret.to_json() for secret in spec.pod_template.image_pull_secrets] if spec.pod_template else []
    placement = {"imagePullSecrets": secrets} if secrets else {}
    job = plain_job(
        owner, names.COMPONENT_ADAPTER, container, [], {names.ANNOTATION_MODEL_REQUEST: f"{uri}@{revision}"}, placement
    )
    return _named(job, names.adapter_name, owner)


def adapter_pin(owner: LLMDeployment, pin: AdapterPin) -> Manifest:
    """What an adapter was resolved to, as stored."""
    name = pin_name(owner.name, (pin.name, pin.uri, pin.revision))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": own_metadata(owner, name, names.component_labels(owner.name, names.COMPONENT_ADAPTER)),
        "revision": 1,
        "data": pin.to_json(),
    }


def inspect_job(owner: LLMDeployment, spec: RevisionSpec, config: OperatorConfig, pod: Mapping[str, Any]) -> Manifest:
    """A Job that looks at a model on a claim, mounted read-only where the engines may run.

    Args:
        owner: The deployment.
        spec: The revision that is to be made; another one looks anew, since a claim's files may change.
        config: Image.
        pod: Spec of the engine pods, whose placement it shares.
    """
    model = parse_model_uri(spec.model.uri)
    assert isinstance(model, ClaimModel)  # noqa: S101 - only those are asked about
    directory = f"{MODELS_DIRECTORY}/{model.path}".rstrip("/")
    mounts = [{"name": "models", "mountPath": MODELS_DIRECTORY, "readOnly": True}]
    container = fetch_container(names.RESOLVE_CONTAINER, spec, config, ["inspect", "--path", directory], mounts)
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": model.claim, "readOnly": True}}
    annotations = {names.ANNOTATION_MODEL_REQUEST: spec.model.uri}
    placement = {key: pod[key] for key in _PLACEMENT if key in pod}
    job = plain_job(owner, names.COMPONENT_RESOLVE, container, [volume], annotations, placement)
    job["spec"]["activeDeadlineSeconds"] = INSPECT_SECONDS
    return _named(job, names.inspect_job_name, owner, canonical_json(spec.to_sparse_json()))


def download_request(revision: Revision) -> str:
    """What a download Job is asked for."""
    return f"{revision.spec.model.uri}@{revision.resolved.model_revision}"


def download_job(
    owner: LLMDeployment, revision: Revision, config: OperatorConfig, claim_uid: str, room: Sequence[str] = ()
) -> Manifest:
    """A Job that downloads a revision's model into the cache claim, off the restart path.

    It runs where the engines may run, so that the claim's volume comes to lie where they can mount it.

    Args:
        owner: The deployment.
        revision: Names the commit, and the pods whose placement it shares.
        config: Image and Hub.
        claim_uid: The very claim: one of the same name that is made later is empty.
        room: Arguments that say which directories may go.
    """
    claim, pod = names.claim_name(owner.name), revision.record.pod_template["spec"]
    container = fetch_container(
        names.DOWNLOAD_CONTAINER,
        revision.spec,
        config,
        [*download_arguments(revision.spec, revision.resolved), *room],
        [{"name": "models", "mountPath": MODELS_DIRECTORY}],
    )
    annotations = {
        names.ANNOTATION_MODEL_REQUEST: download_request(revision),
        names.ANNOTATION_CLAIM_UID: claim_uid,
    }
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": claim}}
    placement = {key: pod[key] for key in _PLACEMENT if key in pod}
    job = plain_job(owner, names.COMPONENT_DOWNLOAD, container, [volume], annotations, placement)
    return _named(job, names.download_job_name, owner, claim_uid)
