"""From what stopped an engine to a named cause and the remedy."""

from collections.abc import Callable, Mapping

from nightshift.core.cause import Cause
from nightshift.core.engine_log import EngineFailure, FailureKind
from nightshift.core.flag_history import flag_notes

_Told = tuple[str, str, bool]
"""Reason, sentences, and whether a person must change something."""


def failure_cause(failure: EngineFailure, version: str | None) -> Cause | None:
    """Name what stopped an engine.

    Args:
        failure: What its log or its termination message said.
        version: The vLLM version that the revision runs, for the history of flags.

    Returns:
        The cause; None for a failure that has no name of its own.
    """
    tell = _SENTENCES.get(failure.kind)
    if tell is None:
        return None
    reason, message, definite = tell(failure, version)
    return Cause(reason, message, definite)


def _arguments(failure: EngineFailure, version: str | None) -> _Told:
    said = failure.excerpt.rstrip(".")
    notes = flag_notes(said, version)
    remedy = " ".join(notes) if notes else "Correct engine.args for this engine.version."
    return "EngineArgsRejected", f"vLLM refuses its arguments: {said}. {remedy}", True


def _context(failure: EngineFailure, version: str | None) -> _Told:
    asked, most = failure.numbers["asked"], failure.numbers["most"].removesuffix(".0")
    return (
        "EngineArgsRejected",
        f"vLLM refuses its arguments: --max-model-len {asked} is more than the {most} tokens that the model was made "
        f"for ({failure.numbers['key']} of its config.json). Set it to at most {most}, or leave it out.",
        True,
    )


def _kv_too_small(failure: EngineFailure, version: str | None) -> _Told:
    numbers = failure.numbers
    sizes = ""
    if "needed" in numbers:
        sizes = f": {numbers['needed']} GiB is needed and {numbers['available']} GiB is there"
    longest = numbers.get("longest")
    shorter = f"Set --max-model-len to at most {longest}" if longest else "Set a shorter --max-model-len"
    return (
        "DoesNotFit",
        f"One request of the full {numbers['asked']} tokens does not fit the memory that is left for the KV cache"
        f"{sizes}. {shorter}, raise --gpu-memory-utilization, or use more or larger accelerators.",
        True,
    )


def _no_kv_memory(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "DoesNotFit",
        "Weights and activations leave no memory for the KV cache (vLLM: No available memory for the cache blocks). "
        "Use more or larger accelerators, a quantized model, a lower --max-num-batched-tokens, or raise "
        "--gpu-memory-utilization.",
        True,
    )


def _not_free(failure: EngineFailure, version: str | None) -> _Told:
    numbers = failure.numbers
    return (
        "OutOfGpuMemory",
        f"Something else uses the accelerator: {numbers['free']} of {numbers['total']} GiB were free at the start, and "
        f"--gpu-memory-utilization {numbers['share']} asks for {numbers['wanted']} GiB. Find the other user of the "
        "node's accelerator (nvidia-smi on the node), or lower --gpu-memory-utilization.",
        False,
    )


def _gpu_memory(failure: EngineFailure, version: str | None) -> _Told:
    numbers = failure.numbers
    sizes = ""
    if "asked" in numbers:
        sizes = f" when it asked for {numbers['asked']}"
        if "total" in numbers:
            sizes += f" and {numbers['free']} of {numbers['total']} were free"
    return (
        "OutOfGpuMemory",
        f"The engine ran out of accelerator memory{sizes}. Use more accelerators (hardware.candidates[].count) or "
        "larger ones, a quantized model, or lower --max-num-seqs, --max-num-batched-tokens or "
        "--gpu-memory-utilization.",
        True,
    )


def _driver(failure: EngineFailure, version: str | None) -> _Told:
    image = f"The image of vLLM {version}" if version else "The engine's image"
    return (
        "CudaDriverMismatch",
        f"{image} does not go with the node's GPU driver: {failure.excerpt.rstrip('.')}. Update the driver on the "
        "node, choose nodes with a newer one, or an engine.version built for an older CUDA (vLLM 0.20 and newer "
        "are built for CUDA 13).",
        True,
    )


def _no_gpu(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "AcceleratorNotVisible",
        f"The engine finds no accelerator in its pod: {failure.excerpt.rstrip('.')}. Check that the accelerator "
        "profile asks for a device, that the node's device plugin and container runtime hand it over "
        "(podTemplate.runtimeClassName), and that engine.image is built for it.",
        True,
    )


def _too_few(failure: EngineFailure, version: str | None) -> _Told:
    numbers = failure.numbers
    return (
        "AcceleratorCountUnsuitable",
        f"The arguments spread the model over {numbers['asked']} accelerators, and the pod has {numbers['seen']}. "
        "Set hardware.candidates[].count to what is asked for, or remove --pipeline-parallel-size and the like.",
        True,
    )


def _heads(failure: EngineFailure, version: str | None) -> _Told:
    heads, count = int(failure.numbers["heads"]), failure.numbers["count"]
    fitting = ", ".join(str(number) for number in range(1, 17) if heads % number == 0)
    return (
        "AcceleratorCountUnsuitable",
        f"The model has {heads} attention heads, which cannot be shared out evenly over {count} accelerators. "
        f"Set hardware.candidates[].count to one of {fitting}.",
        True,
    )


def _architecture(failure: EngineFailure, version: str | None) -> _Told:
    name = failure.numbers.get("name")
    what = f"the model's architecture {name}" if name else "the model's architecture"
    until = failure.numbers.get("until")
    by = f"vLLM {version}" if version else "This vLLM"
    remedy = (
        f"The last version that did is {until}: set engine.version to it."
        if until
        else "Choose an engine.version that supports it (see vLLM's list of supported models), or another model.uri."
    )
    return "ModelNotSupported", f"{by} does not support {what}. {remedy}", True


def _remote_code(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "ModelNeedsRemoteCode",
        "The model brings code of its own, which vLLM does not run unasked. If you trust its publisher, add "
        "--trust-remote-code to engine.args and pin model.revision to a commit; otherwise choose another model.",
        True,
    )


def _quantization(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "QuantizationUnsupported",
        f"The quantization does not go with this model, accelerator or vLLM: {failure.excerpt.rstrip('.')}. Leave "
        "model.quantization out to use what the model's config names, or choose another model or accelerator.",
        True,
    )


def _dtype(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "AcceleratorUnsuitable",
        f"The accelerator does not compute in the model's number format: {failure.excerpt.rstrip('.')}. Add "
        "--dtype=half to engine.args, or choose a newer accelerator.",
        True,
    )


def _model_files(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "ModelFilesMissing",
        f"Files of the model are missing: {failure.excerpt.rstrip('.')}. Check that model.uri names a whole model "
        "(config.json, tokenizer and weights), and for pvc:// that the path leads to its directory.",
        True,
    )


def _damaged(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "ModelCorrupt",
        f"The model's files cannot be used: {failure.excerpt.rstrip('.')}. Put them on the claim again from their "
        "source, or choose another model.revision; files from the Hub were checked when they were downloaded.",
        True,
    )


def _port(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "PortTaken",
        "Port 8000 of the pod, where vLLM listens, is taken by another container. Move the one in "
        "podTemplate.sidecars to another port.",
        True,
    )


def _disk(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "DiskFull",
        f"The engine cannot write: {failure.excerpt.rstrip('.')}. Free space on the node or the claim, or ask for "
        "ephemeral-storage in podTemplate.resources.requests.",
        False,
    )


def _permission(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "FileAccessDenied",
        f"The engine may not use a file: {failure.excerpt.rstrip('.')}. It runs as user 65532 without rights of its "
        "own; make the files on the claim readable for that group, and write below /tmp only.",
        True,
    )


def _image(failure: EngineFailure, version: str | None) -> _Told:
    return (
        "ImageUnsuitable",
        f"The engine's image cannot run vLLM: {failure.excerpt.rstrip('.')}. Use an engine.image whose entry point is "
        "`vllm serve` and which holds the libraries that the arguments need, built for the node's processor.",
        True,
    )


_SENTENCES: Mapping[FailureKind, Callable[[EngineFailure, str | None], _Told]] = {
    FailureKind.ARGUMENTS: _arguments,
    FailureKind.CONTEXT_TOO_LONG: _context,
    FailureKind.KV_TOO_SMALL: _kv_too_small,
    FailureKind.NO_KV_MEMORY: _no_kv_memory,
    FailureKind.GPU_NOT_FREE: _not_free,
    FailureKind.GPU_MEMORY: _gpu_memory,
    FailureKind.DRIVER: _driver,
    FailureKind.NO_GPU: _no_gpu,
    FailureKind.TOO_FEW_GPUS: _too_few,
    FailureKind.HEADS: _heads,
    FailureKind.ARCHITECTURE: _architecture,
    FailureKind.REMOTE_CODE: _remote_code,
    FailureKind.QUANTIZATION: _quantization,
    FailureKind.DTYPE: _dtype,
    FailureKind.MODEL_FILES: _model_files,
    FailureKind.MODEL_DAMAGED: _damaged,
    FailureKind.PORT: _port,
    FailureKind.DISK: _disk,
    FailureKind.PERMISSION: _permission,
    FailureKind.IMAGE: _image,
}
