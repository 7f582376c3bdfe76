"""The spec of an LLMDeployment, as a user writes it.

A field stands here only when it works. Every description says whether a change restarts pods.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from nightshift.api.adapters import MAX_ADAPTERS, AdapterSpec
from nightshift.api.base import ATOMIC, KubernetesObject, Model, list_map, rules
from nightshift.api.evaluation import EvaluationSpec
from nightshift.api.overlay import PodTemplate
from nightshift.api.rollout_spec import RolloutSpec as RolloutSpec
from nightshift.api.scaling import SPEC_RULES, ScalingSpec
from nightshift.api.traffic import TrafficSpec as TrafficSpec

OWNED_FLAGS: dict[str, str] = {
    "--api-key": "carries a secret; access is decided by traffic.allowFrom",
    "--config": "would bring in flags unseen; write them in engine.args",
    "-dp": "belongs to hardware, which does not offer it yet",
    "--data-parallel-size": "belongs to hardware, which does not offer it yet",
    "--download-dir": "Nightshift downloads the model; see model.cache",
    "--enable-lora": "use spec.adapters",
    "--hf-token": "carries a secret; use model.tokenSecretRef",
    "--host": "Nightshift sets it",
    "--lora-modules": "use spec.adapters",
    "--max-lora-rank": "follows from spec.adapters",
    "--model": "use model.uri",
    "--port": "Nightshift sets it",
    "--quantization": "use model.quantization",
    "-q": "use model.quantization",
    "--revision": "use model.revision",
    "--served-model-name": "use model.servedName",
    "--shutdown-timeout": "use traffic.drainSeconds",
    "--ssl-certfile": "engines serve plain HTTP inside the cluster",
    "--ssl-keyfile": "engines serve plain HTTP inside the cluster",
    "--tensor-parallel-size": "use hardware.candidates[].count",
    "--tokenizer-revision": "use model.revision",
    "--uds": "Nightshift sets it",
    "-tp": "use hardware.candidates[].count",
}
"""Flags that Nightshift owns or that carry secrets, and what to use instead."""

REFUSED_ENVIRONMENT: dict[str, str] = {
    "HF_ENDPOINT": "the administrator sets the Hub's address in the chart",
    "HF_TOKEN": "use model.tokenSecretRef",
    "HUGGING_FACE_HUB_TOKEN": "use model.tokenSecretRef",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "would let anyone who reaches the engine load adapters",
    "VLLM_API_KEY": "carries a secret; access is decided by traffic.allowFrom",
    "VLLM_HOST_IP": "Nightshift sets it",
    "VLLM_PORT": "Nightshift sets it",
    "VLLM_SERVER_DEV_MODE": "would open the engine's developer endpoints",
}
"""Variables that would open the engine or move secrets, and why they are refused."""


_LEGITIMATE_BEGINNINGS = ("--tokenizer",)
"""Flags that are spelled like the beginning of a refused one."""


def _flag_rule(flag: str) -> str:
    """CEL: no element is the flag, in any spelling that vLLM's parser takes.

    argparse completes unambiguous beginnings of long flags, and vLLM reads ``_`` as ``-``.
    Source: vllm/utils/argparse_utils.py, FlexibleArgumentParser, 0.32.0.
    """
    if len(flag) == 2:  # argparse takes the value of a one-letter flag without a space: -qfp8
        return f"!self.exists(a, a.startsWith('{flag}'))"
    if not flag.startswith("--"):
        return f"!self.exists(a, a == '{flag}' || a.startsWith('{flag}='))"
    allowed = ", ".join(f"'{name}'" for name in _LEGITIMATE_BEGINNINGS)
    written = "a.split('=', 2)[0].replace('_', '-')"
    return f"!self.exists(a, a.startsWith('--') && '{flag}'.startsWith({written}) && !({written} in [{allowed}]))"


def _refused_flags() -> list[tuple[str, str]]:
    return [(_flag_rule(flag), f"argument {flag} is refused: {why}") for flag, why in OWNED_FLAGS.items()]


def _refused_variables() -> list[tuple[str, str]]:
    return [
        (f"!self.exists(e, e.name == '{name}')", f"variable {name} is refused: {why}")
        for name, why in REFUSED_ENVIRONMENT.items()
    ]


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    key: str = Field(default="token", min_length=1, max_length=253, description="Key in the Secret.")


class ModelCache(Model):
    """Where downloaded model files are kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.type != 'Claim' || has(self.size)", "cache type Claim needs a size, such as 20Gi"),
            (
                "self.type == 'Claim' || !(has(self.size) || has(self.storageClassName))",
                "size and storageClassName belong to cache type Claim",
            ),
            (
                "self.type != 'Claim' || oldSelf.type != 'Claim' || !has(self.size) || !has(oldSelf.size) || "
                "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                "a cache claim cannot shrink; set cache.type to Pod, delete the claim NAME-models once no pod of it "
                "is left, and ask for the smaller one",
            ),
            (
                "self.type != 'Claim' || oldSelf.type != 'Claim' || (self.accessMode == oldSelf.accessMode && "
                "has(self.storageClassName) == has(oldSelf.storageClassName) "
                "&& (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName))",
                "of a cache claim only the size can be changed; set cache.type to Pod, delete the claim NAME-models "
                "once no pod of it is left, and ask for the new one",
            ),
        )
    )

    type: Literal["Pod", "Claim"] = Field(
        default="Pod",
        description="Pod: each pod downloads the model to its own disk. Claim: a Job downloads it once into a "
        "PersistentVolumeClaim that all replicas mount. A change restarts the pods, one after another.",
    )
    storage_class_name: str | None = Field(
        default=None, max_length=253, description="Storage class of the claim; default: the cluster's."
    )
    size: str | None = Field(
        default=None,
        max_length=32,
        pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$",
        description="Size of the claim, such as 20Gi. While the model changes it holds the old and the new one. A "
        "larger size enlarges the claim, where its storage class allows that (allowVolumeExpansion). No restart.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteMany lets replicas run on several nodes.",
    )


Task = Literal["Chat", "Completion", "Embedding", "Rerank"]
"""What a model is for, and so which paths of its engines the gateway lets through (core/gateway/paths.py)."""

_TASK_FLAGS = ("--task", "--runner")
"""Flags of vLLM that say the same as model.task."""


class ModelSpec(Model):
    """The model and where its files come from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.uri.startsWith('hf://') || !(has(self.revision) || has(self.tokenSecretRef) || has(self.cache))",
                "revision, tokenSecretRef and cache belong to hf:// models; a pvc:// model is used as it lies there",
            ),
        )
    )

    uri: str = Field(
        min_length=7,
        max_length=512,
        pattern=r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
        r"|pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[A-Za-z0-9][A-Za-z0-9._-]*)*)$",
        description="hf://ORGANISATION/MODEL (the Hugging Face Hub) or pvc://CLAIM/PATH (a directory on a claim in "
        "the same namespace, mounted read-only). A change restarts the pods, one after another.",
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Branch, tag or commit of an hf:// model; default: main. It is resolved to a commit when "
        "uri or revision changes, and stays pinned there; back at an earlier one it is the commit of then. "
        "A change restarts the pods, one after another.",
    )
    served_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Name that clients use in `model`; default: metadata.name. A change restarts the pods.",
    )
    task: Task | None = Field(
        default=None,
        description="What the model is for: the engine is started for it, and the gateway lets through its paths "
        "only. Chat: chat completions, completions, responses and messages. Completion: completions. Embedding: "
        "embeddings. Rerank: rerank and score. Default: as engine.args and the model's architecture say, else Chat. "
        "A change restarts the pods, one after another.",
    )
    quantization: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$",
        description="How vLLM holds the weights, such as fp8, which it applies while it loads an unquantized model; "
        "default: as the model's files are. A method that cannot go with the model's files, the vLLM version or the "
        "accelerator is refused before anything is started. A change restarts the pods, one after another.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Hub token for gated or private models. Only the containers that download see it. "
        "A change restarts the pods.",
    )
    cache: ModelCache | None = Field(default=None, description="Where downloaded files are kept; default: Pod.")


class EnvVar(Model):
    """An environment variable of the engine, as in core/v1 EnvVar."""

    name: str = Field(
        min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", description="Name of the variable."
    )
    value: str | None = Field(default=None, max_length=32768, description="Its value. Put no secrets here.")
    value_from: KubernetesObject | None = Field(default=None, description="As in core/v1 EnvVarSource.")


Argument = Annotated[str, Field(min_length=1, max_length=4096)]


class EngineSpec(Model):
    """vLLM: version, image, arguments."""

    version: str | None = Field(
        default=None,
        max_length=32,
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?$",
        description="vLLM version, such as 0.32.0; default: the version the chart was tested with, kept as "
        "first resolved. A change restarts the pods, one after another.",
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+/)?[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        description="Image repository without a tag; the tag is v and the version, and its digest is pinned. "
        "A change restarts the pods, one after another.",
    )
    args: tuple[Argument, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra={
            **ATOMIC,
            **rules(*_refused_flags()),
        },
        description="More vLLM flags, one element each, such as --max-model-len=8192. Flags that Nightshift "
        "owns or that carry secrets are refused. A change restarts the pods, one after another.",
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra={
            **list_map("name"),
            **rules(*_refused_variables()),
        },
        description="Environment of the engine. A change restarts the pods, one after another.",
    )
    start_deadline_seconds: int = Field(
        default=1800,
        ge=30,
        le=86400,
        description="Time that an engine may take from its start to its first healthy answer before it is "
        "restarted. A change restarts the pods, one after another.",
    )


class HardwareCandidate(Model):
    """One way to place a replica."""

    accelerator: str = Field(
        min_length=1,
        max_length=63,
        description="Name of an accelerator profile, which the administrator lists in the chart.",
    )
    count: int = Field(default=1, ge=1, le=16, description="Accelerators per replica (tensor parallelism).")


class HardwareSpec(Model):
    """What the engine runs on."""

    candidates: tuple[HardwareCandidate, ...] = Field(
        min_length=1,
        max_length=8,
        json_schema_extra=ATOMIC,
        description="Accelerators to run on, the first choice first. Where no node has room for the present one for "
        "rollout.placementTimeoutSeconds, and nothing can be replaced in place, the next one is tried, after the last "
        "the first again. What serves stays where it is as long as its entry is listed: adding, removing and "
        "reordering other entries restarts nothing; any other change restarts the pods, one after another.",
    )


def _task_rules() -> list[tuple[str, str]]:
    return [
        (
            "!has(self.model.task) || !has(self.engine) || !has(self.engine.args) || "
            f"!self.engine.args.exists(a, a == '{flag}' || a.startsWith('{flag}='))",
            f"model.task and the argument {flag} say the same twice; remove {flag} from engine.args",
        )
        for flag in _TASK_FLAGS
    ]


class Spec(Model):
    """Spec of an LLMDeployment. Only model.uri is required."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.adapters) || size(self.adapters) == 0 || !has(self.traffic) || !has(self.traffic.mode) || "
                "self.traffic.mode != 'Service'",
                "adapters and traffic.mode Service exclude each other: whoever reaches an engine that takes adapters "
                "can make it load any; set traffic.mode to Gateway, which lets through inference only, or remove the "
                "adapters",
            ),
            (
                "!has(self.adapters) || !has(self.model.servedName) || "
                "self.adapters.all(a, a.name != self.model.servedName)",
                "an adapter cannot have the model's own name (model.servedName); rename the adapter",
            ),
            *SPEC_RULES,
            *_task_rules(),
        )
    )

    model: ModelSpec = Field(description="The model to serve.")
    adapters: tuple[AdapterSpec, ...] = Field(
        default=(),
        max_length=MAX_ADAPTERS,
        json_schema_extra=list_map("name"),
        description="LoRA adapters of the model, loaded into every replica. Names, addresses and revisions change "
        "without a restart. The first adapter, and one of a higher rank than the engines were started for (16 at "
        "least), make a new revision, whose pods replace the old ones one after another; removing adapters makes none. "
        "While there are adapters, only the gateway, the operator and the configured scrapers reach the engines.",
    )
    engine: EngineSpec = Field(default=EngineSpec(), description="The vLLM engine.")
    hardware: HardwareSpec | None = Field(
        default=None, description="What to run on; default: one of the administrator's default accelerator."
    )
    pod_template: PodTemplate | None = Field(
        default=None,
        description="Additions to the engine pods. A change restarts the pods, one after another.",
    )
    replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Engine replicas in scaling.mode Manual and External; 0 turns the deployment off. No restart.",
    )
    scaling: ScalingSpec = Field(default=ScalingSpec(), description="Who decides the number of replicas.")
    rollout: RolloutSpec = Field(
        default=RolloutSpec(), description="How a new revision takes the place of the one that serves."
    )
    evaluation: EvaluationSpec | None = Field(
        default=None,
        description="What a new revision is asked while it is compared with the one that serves; default: a few "
        "neutral questions, which tell times and likeness and nothing of right and wrong. No restart.",
    )
    traffic: TrafficSpec = Field(default=TrafficSpec(), description="How requests reach the engines.")
    revision_history_limit: int = Field(
        default=5, ge=0, le=50, description="Earlier revisions kept to go back to. No restart."
    )
    paused: bool = Field(
        default=False,
        description="True: Nightshift changes nothing of this deployment; what serves goes on serving. Where no "
        "replica runs none is started, and requests through the gateway are told so at once. No restart.",
    )
