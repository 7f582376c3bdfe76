"""Memory that is neither weights nor KV cache. These are estimates; vLLM measures the same when it starts.

Each part has a low value, which an engine can hardly undercut, and a likely one. A refusal rests on the low value
only, a promise on the likely one; between them nothing is claimed. How far off the likely value is for starts that
others have published stands in tests/core/fit/published.json.
"""

from dataclasses import dataclass

from nightshift.core.fit.parameters import Split
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.shape import ModelShape
from nightshift.core.fit.traits import GIB, MemoryTraits

MIB = 2**20
_RUNTIME = (100 * MIB, 500 * MIB)
_COMMUNICATION = (200 * MIB, 1500 * MIB)
_GRAPHS = (50 * MIB, 600 * MIB)
_LOGIT_BYTES_SORTED = 38
_LOGIT_BYTES = 18
_LOGIT_BYTES_LOW = 6
_MXFP4_PADDING = 256


@dataclass(frozen=True)
class Batch:
    """The batch that the profiling run assumes."""

    tokens: int
    requests: int


@dataclass(frozen=True)
class Overheads:
    """Bytes per rank."""

    low: int
    likely: int


def batch(settings: EngineSettings, traits: MemoryTraits, memory: int, accelerator: str, max_model_len: int) -> Batch:
    """max_num_batched_tokens and max_num_seqs, as given or as vLLM's API server chooses by the accelerator.

    From 160 GiB (vLLM 0.28) 16,384 tokens and 1,024 requests; from 70 GiB, A100 apart, 8,192 and 1,024; else 2,048
    and 256. Source: `EngineArgs.get_batch_defaults` in vllm/engine/arg_utils.py, 0.32.0.

    Args:
        settings: The engine's arguments.
        traits: Of the vLLM version.
        memory: Of one accelerator, in bytes.
        accelerator: Its name; only whether it is an A100 counts.
        max_model_len: Tokens per request.
    """
    if traits.large_batches_from is not None and memory >= traits.large_batches_from:
        tokens, requests = 16384, 1024
    elif memory >= 70 * GIB and "a100" not in accelerator.lower():
        tokens, requests = 8192, 1024
    else:
        tokens, requests = 2048, 256
    requests = settings.max_num_seqs or requests
    return Batch(settings.max_num_batched_tokens or min(tokens, requests * max_model_len), requests)


def overheads(
    shape: ModelShape, split: Split, batch_size: Batch, settings: EngineSettings, traits: MemoryTraits
) -> Overheads:
    """What the runtime, communication, activations, CUDA graphs and kernels take besides weights and KV cache.

    The peak of the profiling run is the larger of one forward pass and one sampling step:
    forward = tokens x 2 bytes x (4 x hidden + 3 x feed-forward width of the rank), the width of experts being
    experts per token x (width + hidden);
    sampling = requests x vocabulary x 18 bytes (logits in 2 and 4 bytes, probabilities, noise and a buffer), or 38
    where the logits are sorted (vLLM before 0.17).
    Kernels keep more than the files hold: MXFP4 experts are padded to widths of 256, and latent attention keeps its
    up-projections unpacked: layers x heads x (dimension without position + value) x rank x 2 bytes.

    Example: Llama 3.1 8B on an H100 with vLLM 0.32: sampling 1,024 x 128,256 x 18 = 2.2 GiB, forward 1.0 GiB, runtime
    0.5 GiB, graphs 0.6 GiB: likely 3.3 GiB.
    """
    width = _width(shape, split)
    vocabulary = batch_size.requests * shape.vocabulary
    forward = batch_size.tokens * 2 * (4 * shape.hidden + 3 * width)
    sampling = vocabulary * (_LOGIT_BYTES_SORTED if traits.sampler_sorts else _LOGIT_BYTES)
    least = max(batch_size.tokens * 2 * (2 * shape.hidden + width), vocabulary * _LOGIT_BYTES_LOW)
    communicates = split.tensor > 1 or settings.pipeline_parallel > 1
    graphs = traits.graphs_counted and not settings.enforce_eager
    parts = [_RUNTIME, *([_COMMUNICATION] if communicates else []), *([_GRAPHS] if graphs else [])]
    return Overheads(
        low=least + sum(low for low, _ in parts),
        likely=max(forward, sampling) + sum(likely for _, likely in parts) + _kernels(shape, split),
    )


def _width(shape: ModelShape, split: Split) -> int:
    """Elements per token that the widest feed-forward layer of a rank holds."""
    dense = split.part(shape.intermediate) if shape.dense_layers else 0
    if shape.experts is None:
        return dense
    each = shape.experts.intermediate if split.expert_parallel else split.part(shape.experts.intermediate)
    return max(dense, shape.experts.per_token * (each + shape.hidden // 3))


def _kernels(shape: ModelShape, split: Split) -> int:
    if shape.latent:
        latent = shape.latent
        per_head = (latent.without_position + latent.value) * latent.rank * 2
        return len(shape.layers) * split.part(shape.heads) * per_head
    if shape.model_type == "gpt_oss" and shape.experts:
        each = shape.experts.intermediate if split.expert_parallel else split.part(shape.experts.intermediate)
        more = -(-each // _MXFP4_PADDING) * _MXFP4_PADDING - each
        count = split.part(shape.experts.count) if split.expert_parallel else shape.experts.count
        return len(shape.layers) * count * 3 * more * shape.hidden * 17 // 32
    return 0
