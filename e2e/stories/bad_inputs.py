"""Bad inputs, each as a person might write it: what is said about it, and what mends it in place.

All of them pass the API server's admission and fail later; refused_inputs.py has those that do not pass. Texts of
engines that need an accelerator or minutes of loading are replayed by the simulator as vLLM printed them
(tests/core/engine_texts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parents[2] / "tests" / "core" / "engine_texts"
Spec = Mapping[str, Any]

SMALL: Spec = {"resources": {"requests": {"cpu": "10m", "memory": "48Mi"}}}
"""Many engines side by side on two cores: the simulator needs little."""


@dataclass(frozen=True)
class BadInput:
    """A spec that passes admission and cannot serve."""

    what: str
    """As a sentence: the row's name."""
    reason: str
    says: Sequence[str]
    """Words that the sentence must hold."""
    spec: Spec = field(default_factory=dict)
    """Parts of the spec that are bad; left out again to correct them."""
    engine: Spec = field(default_factory=dict)
    """Parts of spec.engine that are bad."""
    objects: Sequence[Spec] = ()
    """Foreign objects; NAME stands for the deployment. Deleted to correct them."""
    over_serving: bool = False
    """Also applied to a deployment that serves, which must go on."""
    passes: bool = False
    """What is in the way may pass by itself, so nobody is called: Reconciling, not Stalled."""
    serves: bool = False
    """Its engine serves all the same, and is waited for: a start is not quiet."""


def printed(text: str) -> dict[str, Any]:
    """An engine that prints a recorded text and ends."""
    said = (TEXTS / f"{text}.txt").read_text().split("\n", 1)[1]
    return {"env": [{"name": "VLLM_SIM_FAILURE", "value": said}]}


def faulty(oom: str) -> Spec:
    """An engine that runs out of memory in vLLM's words."""
    return {"env": [{"name": "VLLM_SIM_FAULTS", "value": f'{{"oom": "{oom}"}}'}], "args": ["--max-model-len=4096"]}


_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _sidecar(**more: Any) -> Spec:
    sidecar = {"name": "beside", "image": "registry.invalid/none:1", "securityContext": _RESTRICTED} | more
    return {"podTemplate": {**SMALL, "sidecars": [sidecar]}}


def _pod(**more: Any) -> Spec:
    return {"podTemplate": {**SMALL, **more}}


def _asks(**requests: str) -> Spec:
    return {"podTemplate": {"resources": {"requests": {**SMALL["resources"]["requests"], **requests}}}}


def _object(api_version: str, kind: str, name: str = "NAME", **more: Any) -> Spec:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}


REJECTED, GONE = "EngineArgsRejected", "0123456789012345678901234567890123456789"

MODELS = (
    BadInput(
        "a gated model without a token",
        "ModelAccessDenied",
        ["tokenSecretRef"],
        {"model": {"uri": "hf://nightshift/gated"}},
        over_serving=True,
    ),
    BadInput(
        "a model that the Hub does not have",
        "ModelNotFound",
        ["nightshift/absent"],
        {"model": {"uri": "hf://nightshift/absent"}},
        over_serving=True,
    ),
    BadInput(
        "a branch that the model does not have",
        "ModelRevisionNotFound",
        ["nosuch"],
        {"model": {"uri": "hf://nightshift/tiny", "revision": "nosuch"}},
    ),
    BadInput(
        "a commit that the model does not have",
        "ModelRevisionNotFound",
        [GONE[:8]],
        {"model": {"uri": "hf://nightshift/tiny", "revision": GONE}},
    ),
    BadInput(
        "a token whose Secret does not exist",
        "PodConfigInvalid",
        ["absent", "Create the secret"],
        {"model": {"uri": "hf://nightshift/tiny", "tokenSecretRef": {"name": "absent"}}},
    ),
    BadInput(
        "a claim that does not exist",
        "ModelClaimNotFound",
        ["claim absent", "Create it"],
        {"model": {"uri": "pvc://absent/model"}},
    ),
)

IMAGES = (
    BadInput(
        "a version that the registry does not have",
        "ImagePullFailed",
        ["v9.9.9"],
        engine={"version": "9.9.9"},
        over_serving=True,
    ),
    BadInput(
        "an image that the registry does not have", "ImagePullFailed", ["nosuch"], engine={"image": "REGISTRY/nosuch"}
    ),
)

ARGUMENTS = (
    BadInput(
        "a flag that no vLLM has",
        REJECTED,
        ["--speed=ludicrous"],
        engine={"args": ["--speed=ludicrous"]},
        over_serving=True,
    ),
    BadInput(
        "a value of the wrong type", REJECTED, ["--max-model-len", "'many'"], engine={"args": ["--max-model-len=many"]}
    ),
    BadInput(
        "a flag that is misspelled",
        REJECTED,
        ["Did you mean --max-model-len?"],
        engine={"args": ["--max-model-length=512"]},
    ),
    BadInput(
        "a flag that vLLM removed, at 0.31",
        REJECTED,
        ["vLLM 0.18.0 removed --swap-space"],
        engine={"args": ["--swap-space=4"], "version": "0.31.0"},
    ),
    BadInput(
        "another flag that vLLM removed",
        REJECTED,
        ["vLLM 0.13.0 removed --task", "--runner=pooling"],
        engine={"args": ["--task=embed"]},
    ),
    BadInput(
        "a flag that comes with the next version",
        REJECTED,
        ["exists from vLLM 0.32.0 on"],
        engine={"args": ["--custom-histogram-buckets={}"], "version": "0.31.0"},
    ),
    BadInput("a choice that does not exist", REJECTED, ["--dtype", "float7"], engine={"args": ["--dtype=float7"]}),
    BadInput("a flag without its value", REJECTED, ["--seed", "expected one argument"], engine={"args": ["--seed"]}),
    BadInput("a flag written in another script", REJECTED, ["--größe"], engine={"args": ["--größe=7"]}),
    BadInput("a question for help", "EngineCrashed", ["--help"], engine={"args": ["--help"]}),
)

MEMORY = (
    BadInput(
        "a context that does not fit the KV cache",
        "DoesNotFit",
        ["4096 tokens", "--max-model-len to at most"],
        engine=faulty("max-model-len"),
        over_serving=True,
    ),
    BadInput("no memory for the KV cache", "DoesNotFit", ["No available memory"], engine=faulty("no-blocks")),
    BadInput(
        "an accelerator that somebody else fills",
        "OutOfGpuMemory",
        ["were free at the start"],
        engine=faulty("not-free"),
        passes=True,
    ),
)

_PRINTED = {
    "an architecture that vLLM does not know": ("vllm-0.32.0-arch", "ModelNotSupported", ["TotallyNewForCausalLM"]),
    "a kind of model that no library knows": ("vllm-0.32.0-type", "ModelNotSupported", ["llamax"]),
    "a context beyond what the model was made for": ("vllm-0.32.0-context", REJECTED, ["at most 2048"]),
    "a directory without a model": ("vllm-0.32.0-noconfig", "ModelFilesMissing", ["config.json"]),
    "a model without a tokenizer": ("vllm-0.32.0-notokenizer", "ModelFilesMissing", ["tokenizer"]),
    "a config.json that is cut off": ("vllm-0.32.0-badjson", "ModelCorrupt", ["cannot be used"]),
    "a model with code of its own": ("vllm-0.32.0-remote", "ModelNeedsRemoteCode", ["--trust-remote-code"]),
    "a quantization that is not the model's": ("vllm-0.32.0-quant-mismatch", "QuantizationUnsupported", ["gptq"]),
    "a quantization that does not exist": ("vllm-0.32.0-quant-unknown", "QuantizationUnsupported", ["int3"]),
    "a tool parser that does not exist": ("vllm-0.32.0-tool-parser", REJECTED, ["nosuch"]),
    "tools without a parser": ("vllm-0.32.0-tool-none", REJECTED, ["--tool-call-parser"]),
    "a reasoning parser that does not exist": ("vllm-0.32.0-reasoning", REJECTED, ["nosuch"]),
    "more memory than there is": ("vllm-0.32.0-util", REJECTED, ["gpu_memory_utilization"]),
    "a batch smaller than the context": ("vllm-0.32.0-batched", REJECTED, ["max_num_batched_tokens (16)"]),
    "a chat template that does not exist": ("vllm-0.32.0-chat-template", REJECTED, ["/no/such/file.jinja"]),
    "a port that is taken in the pod": ("vllm-0.32.0-port", "PortTaken", ["podTemplate.sidecars"]),
    "a GPU that is too small for the weights": ("torch-2.13.0-cuda-out-of-memory", "OutOfGpuMemory", ["22.06 GiB"]),
    "a driver that is too old": ("torch-2.13.0-driver-too-old", "CudaDriverMismatch", ["12040"]),
    "a pod that sees no GPU": ("torch-2.13.0-no-driver", "AcceleratorNotVisible", ["device plugin"]),
    "a number of GPUs that does not divide the heads": (
        "vllm-0.32.0-source-heads",
        "AcceleratorCountUnsuitable",
        ["28 attention heads"],
    ),
    "a GPU without bfloat16": ("vllm-0.32.0-source-bfloat16", "AcceleratorUnsuitable", ["--dtype=half"]),
}
_PRINTED_AT_31 = {
    "an architecture that vLLM 0.31 does not know": ("vllm-0.31.0-arch", "ModelNotSupported", ["vLLM 0.31.0 does not"]),
    "a directory without a model, at 0.31": ("vllm-0.31.0-noconfig", "ModelFilesMissing", ["config.json"]),
    "a tool parser that 0.31 does not have": ("vllm-0.31.0-tool-parser", REJECTED, ["nosuch"]),
    "a quantization that 0.31 does not have": ("vllm-0.31.0-quant-unknown", "QuantizationUnsupported", ["int3"]),
}
RECORDED = (
    *(BadInput(what, reason, says, engine=printed(text)) for what, (text, reason, says) in _PRINTED.items()),
    *(
        BadInput(what, reason, says, engine=printed(text) | {"version": "0.31.0"})
        for what, (text, reason, says) in _PRINTED_AT_31.items()
    ),
)

_SMALL_GPU: Spec = {"candidates": [{"accelerator": "small-gpu"}]}
_TINY = "hf://nightshift/tiny"
FIT = (
    BadInput(
        "more memory for KV than the accelerator has",
        "DoesNotFit",
        ["1 x small-gpu", "more than 1 x 4 GiB", "use engine.args without --kv-cache-memory-bytes"],
        {"hardware": _SMALL_GPU},
        {"args": ["--max-model-len=512", "--kv-cache-memory-bytes=8G"]},
        over_serving=True,
    ),
    BadInput(
        "a context longer than the model's positions",
        "DoesNotFit",
        ["more than the model's 2,048 positions", "use --max-model-len=2048"],
        {"hardware": _SMALL_GPU},
        {"args": ["--max-model-len=100000"]},
    ),
    BadInput(
        "accelerators that cannot share the heads",
        "DoesNotFit",
        ["cannot be split over 3 accelerators", "use 2 accelerators"],
        {"hardware": {"candidates": [{"accelerator": "small-gpu", "count": 3}]}},
    ),
    BadInput(
        "a quantization that the model's files do not have",
        "QuantizationUnsupported",
        ["model.quantization awq", "this model is not quantized"],
        {"model": {"uri": _TINY, "quantization": "awq"}},
        over_serving=True,
    ),
    BadInput(
        "a quantization that the vLLM version does not have any more",
        "QuantizationUnsupported",
        ["has no bitsandbytes any more", "fp8"],
        {"model": {"uri": _TINY, "quantization": "bitsandbytes"}, "hardware": _SMALL_GPU},
    ),
)

PLACEMENT = (
    BadInput(
        "an accelerator that nobody offers",
        "UnknownAccelerator",
        ["Offered: "],
        {"hardware": {"candidates": [{"accelerator": "quantum"}]}},
        over_serving=True,
    ),
    BadInput(
        "more GPUs than any node has",
        "NoGpuCapacity",
        ["nvidia.com/gpu"],
        {"hardware": {"candidates": [{"accelerator": "fake-gpu", "count": 16}]}},
        passes=True,
    ),
    BadInput(
        "more processors than any node has", "Unschedulable", ["processor: lower"], _asks(cpu="1000"), passes=True
    ),
    BadInput("more memory than any node has", "Unschedulable", ["memory: lower"], _asks(memory="100Ti"), passes=True),
    BadInput(
        "a node label that no node has",
        "Unschedulable",
        ["podTemplate.nodeSelector"],
        _pod(nodeSelector={"moon": "full"}),
        passes=True,
    ),
)

PODS = (
    BadInput(
        "a sidecar that may gain privileges",
        "PodSecurityViolation",
        ["allowPrivilegeEscalation"],
        _sidecar(securityContext=_RESTRICTED | {"allowPrivilegeEscalation": True}),
        over_serving=True,
    ),
    BadInput(
        "a directory of the host",
        "PodSecurityViolation",
        ["hostPath"],
        _pod(volumes=[{"name": "host", "hostPath": {"path": "/etc"}}]),
    ),
    BadInput(
        "a priority class that does not exist",
        "PodsRefused",
        ["podTemplate.priorityClassName"],
        _pod(priorityClassName="urgent"),
    ),
    BadInput("a runtime class that does not exist", "PodsRefused", ["RuntimeClass"], _pod(runtimeClassName="turbo")),
    BadInput(
        "a mount of no volume",
        "ObjectRefused",
        ["nothing"],
        _pod(volumeMounts=[{"name": "nothing", "mountPath": "/x"}]),
    ),
    BadInput("a sidecar without an image", "ObjectRefused", ["image"], _sidecar(image="")),
    BadInput(
        "a sidecar whose image cannot be pulled", "ImagePullFailed", ["container beside"], _sidecar(), passes=True
    ),
    BadInput("a label that is none", "ObjectRefused", ["a b"], _pod(metadata={"labels": {"team": "a b"}})),
    BadInput(
        "a toleration that is none",
        "ObjectRefused",
        ["operator"],
        _pod(tolerations=[{"key": "gpu", "operator": "Perhaps"}]),
    ),
    BadInput(
        "a variable from a ConfigMap that does not exist",
        "PodConfigInvalid",
        ["Create the configmap settings"],
        engine={"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]},
    ),
    BadInput(
        "a limit below the request",
        "ObjectRefused",
        ["limit"],
        {"podTemplate": {"resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "1Mi"}}}},
    ),
)

FOREIGN = (
    BadInput(
        "a foreign Service of the same name",
        "NameTaken",
        ["Service", "Delete or rename"],
        objects=[_object("v1", "Service", spec={"ports": [{"port": 1}], "selector": {"a": "b"}})],
        serves=True,
    ),
    BadInput(
        "a foreign ServiceAccount of the same name",
        "NameTaken",
        ["ServiceAccount"],
        objects=[_object("v1", "ServiceAccount", "NAME-engine")],
    ),
    BadInput(
        "a foreign NetworkPolicy of the same name",
        "NameTaken",
        ["NetworkPolicy"],
        objects=[_object("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {"matchLabels": {"a": "b"}}})],
    ),
)

FAILING: tuple[BadInput, ...] = (*MODELS, *IMAGES, *ARGUMENTS, *MEMORY, *RECORDED, *FIT, *PLACEMENT, *PODS, *FOREIGN)
