"""Names shared by everything: the API group, labels, annotations, field managers, names of children."""

GROUP = "nightshift.dev"
VERSION = "v1alpha1"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_NAMESPACE = f"{GROUP}/namespace"
"""On what lies in the gateway's namespace: the namespace of the deployment that it is about."""

LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "nightshift"

COMPONENT_ENGINE = "engine"
COMPONENT_RESOLVE = "model-resolve"
COMPONENT_DOWNLOAD = "model-download"
COMPONENT_ADAPTER = "adapter-resolve"
COMPONENT_EVALUATION = "evaluation"

ANNOTATION_APPLIED = f"{GROUP}/applied-hash"
"""Hash of the whole object as Nightshift last applied it: tells a removed field from an equal one."""

ANNOTATION_IMAGE_ID = f"{GROUP}/image-digest"
"""On a ControllerRevision: the digest that its first pod ran, where no registry could be asked before."""

ANNOTATION_MODEL_REQUEST = f"{GROUP}/model-request"
"""On a fetch Job: the model address and revision it is asked for, so that an answer fits its question."""

ANNOTATION_CLAIM_UID = f"{GROUP}/claim-uid"
"""On a download Job: the claim that it downloads into; a later one of the same name is another."""

ANNOTATION_DOWNLOADED = f"{GROUP}/downloaded"
"""On a cache claim: its uid, and the commits that it holds. With another uid, as after a restore, it says nothing."""

ANNOTATION_FIT_CHECK = f"{GROUP}/fit-check"
"""On an LLMDeployment, with the value "off": a revision is made even if it does not seem to fit."""

ANNOTATION_HUNG = f"{GROUP}/hung-engine-deleted"
"""On a ControllerRevision: when a hung engine of it was deleted last, and the pod's uid; the budget of the next."""

ANNOTATION_STARTED = f"{GROUP}/rollout-started"
"""On a ControllerRevision: when its present rollout began, where that was after it was stored."""

ANNOTATION_PROVEN = f"{GROUP}/proven"
"""On a ControllerRevision: when it first served in full; its rollout is over then."""

ANNOTATION_ORDER = f"{GROUP}/rollout-order"
"""On a ControllerRevision: that it replaces another one in place, or with an outage, and since when."""

ANNOTATION_CORRECTED = f"{GROUP}/template-corrected"
"""On a ReplicaSet: when its pod template was set back last, since pods that were made before may differ from it."""

ANNOTATION_SCALING = f"{GROUP}/scaling"
"""On a ReplicaSet, in scaling.mode Auto: how many replicas were decided on, when and why, as JSON."""

ANNOTATION_VERDICT = f"{GROUP}/verdict"
"""On a ControllerRevision: that it was judged failed, as JSON with reason, sentence and time."""

ANNOTATION_GOLDEN = f"{GROUP}/golden"
"""On a ControllerRevision: what came of golden questions that were asked of it and of another revision, as JSON."""

ANNOTATION_PERSON = f"{GROUP}/order"
"""On an LLMDeployment, set by people: what is to be done with the rollout, who asks and why (`core.judged.orders`)."""

ANNOTATION_RETRY = f"{GROUP}/retry"
"""On an LLMDeployment, set by people: another value asks for another try of a revision that was judged failed."""

FIELD_MANAGER = "nightshift"
STATUS_FIELD_MANAGER = "nightshift-status"

ENGINE_PORT = 8000
ENGINE_CONTAINER = "engine"
DOWNLOAD_CONTAINER = "model-download"
RESOLVE_CONTAINER = "model-resolve"
EVALUATION_CONTAINER = "evaluation"
ADAPTERS_CONTAINER = "adapters"
ADAPTERS_PORT = 8089
"""On which the container beside an engine is told which adapters to hold."""

MAX_NAME_LENGTH = 40
"""Of an LLMDeployment: what is left of 63 characters for a revision's hash and a pod's suffix."""


def revision_name(deployment: str, revision_hash: str) -> str:
    """Name of a revision's ControllerRevision and ReplicaSet."""
    return f"{deployment}-{revision_hash}"


def route_name(namespace: str, deployment: str) -> str:
    """Name of a deployment's route object in the gateway's namespace; a namespace's name has no dot."""
    return f"{namespace}.{deployment}"


def service_account_name(deployment: str) -> str:
    """Name of the service account of the engine pods; it carries no token and no rights."""
    return f"{deployment}-engine"


def claim_name(deployment: str) -> str:
    """Name of the claim that caches models for `model.cache.type: Claim`."""
    return f"{deployment}-models"


def resolve_job_name(deployment: str, request_hash: str) -> str:
    """Name of the Job that resolves a model revision to a commit."""
    return f"{deployment}-resolve-{request_hash}"


def inspect_job_name(deployment: str, request_hash: str) -> str:
    """Name of the Job that looks at a model on a claim."""
    return f"{deployment}-inspect-{request_hash}"


def download_job_name(deployment: str, request_hash: str) -> str:
    """Name of the Job that downloads a model into the cache claim."""
    return f"{deployment}-download-{request_hash}"


def evaluation_job_name(deployment: str, request_hash: str) -> str:
    """Name of a Job that asks golden questions."""
    return f"{deployment}-golden-{request_hash}"


def adapter_name(deployment: str, request_hash: str) -> str:
    """Name of the Job that resolves an adapter's revision, and of the ControllerRevision that keeps the answer."""
    return f"{deployment}-adapter-{request_hash}"


def deployment_labels(deployment: str) -> dict[str, str]:
    """Labels of every object that Nightshift makes for a deployment."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": deployment,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_DEPLOYMENT: deployment,
    }


def component_labels(deployment: str, component: str) -> dict[str, str]:
    """Labels of the objects and pods of one component of a deployment."""
    return {**deployment_labels(deployment), LABEL_COMPONENT: component}


def engine_labels(deployment: str, revision_hash: str) -> dict[str, str]:
    """Labels of the engine pods of a revision."""
    return {**component_labels(deployment, COMPONENT_ENGINE), LABEL_REVISION: revision_hash}
