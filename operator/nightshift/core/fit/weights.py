"""Bytes of a model's weights: from its files where they are known, from its shape otherwise."""

from dataclasses import dataclass
from math import ceil

from nightshift.api.model_facts import ModelFacts, QuantizationFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.parameters import Split, Weight, rank_weights
from nightshift.core.fit.shape import ModelShape

ONLINE_BITS: dict[str, tuple[int, str]] = {
    "fp8": (8, "float"),
    "fp8_per_tensor": (8, "float"),
    "fp8_per_channel": (8, "float"),
    "fp8_per_block": (8, "float"),
    "ptpc_fp8": (8, "float"),
    "mxfp8": (8, "float"),
    "int8_per_channel_weight_only": (8, "int"),
    "experts_int8": (8, "int"),
    "bitsandbytes": (4, "int"),
    "nvfp4_per_token": (4, "float"),
}
"""What vLLM can quantize to while it loads an unquantized checkpoint: bits per weight and their kind."""

_FILES_BEYOND = 1.1
"""A checkpoint of a language model alone that is larger by this factor than its configuration says was stored in
wider numbers, or holds what vLLM does not load: then the configuration counts."""
_BESIDE = 0.5
"""Parts beside a language model that take more than this share of it are no vision tower."""

_MXFP4_GROUP = 32
_NVFP4_GROUP = 16
_BITSANDBYTES_GROUP = 64
_BITSANDBYTES_NESTED = 256


@dataclass(frozen=True)
class Weights:
    """Bytes of weights."""

    total: int
    """Of the whole model, as an engine on one accelerator would hold it."""
    per_rank: int
    """On the fullest rank."""
    label: str
    """How the weights are held, for sentences: bf16, fp8, 4-bit awq."""
    source: str
    """files or configuration."""


def online(method: str) -> QuantizationFacts | None:
    """The quantization that vLLM itself would apply to an unquantized checkpoint."""
    if method not in ONLINE_BITS:
        return None
    bits, kind = ONLINE_BITS[method]
    experts_only = {"self_attn": 0} if method == "experts_int8" else {}
    return QuantizationFacts.model_validate(
        {"method": method, "weightBits": bits, "weightType": kind, "kept": experts_only}
    )


def weight_bytes(
    facts: ModelFacts, shape: ModelShape, split: Split, requested: str | None = None, dtype: str = "auto"
) -> Weights | Unknown:
    """Bytes of weights on one rank and in all.

    The total is that of the files where it is known, less layers that only drafting loads; the rank's share of it is
    the share that the shape gives. What the files hold beyond the language model (a vision tower) counts in full on
    every rank, because not every tower is split. Without files a multimodal model is unknown. Files far larger than
    the configuration says were stored in wider numbers (float32, loaded as bfloat16): they do not count.

    Args:
        facts: The model.
        shape: Its layers.
        split: The tensor-parallel group.
        requested: `--quantization`; applied while loading if the checkpoint is not quantized.
        dtype: `--dtype`.
    """
    stored = facts.quantization
    applied = stored or (online(requested) if requested else None)
    if requested and applied is None:
        return Unknown(f"what {requested} makes of an unquantized checkpoint has not been compared yet")
    plain = 4 if dtype in ("float32", "float") else 2
    whole = _sum(rank_weights(shape, Split()), applied, plain)
    rank = _sum(rank_weights(shape, split), applied, plain)
    if whole is None or rank is None:
        return Unknown(f"the size of weights quantized by {applied.method if applied else 'this method'} is not known")
    label = _label(facts, applied, dtype)
    files = facts.tensors.total_bytes
    if files is None:
        if facts.multimodal:
            return Unknown("only the files of a multimodal model tell the size of the parts beside its language model")
        return Weights(whole, rank, label, "configuration")
    loaded = files - min(files, draft_bytes(facts, shape, stored))
    as_stored = whole if applied is stored and plain == 2 else _sum(rank_weights(shape, Split()), stored, 2)
    assert as_stored is not None  # noqa: S101 - an online quantization is only applied to an unquantized checkpoint
    beside = max(0, loaded - as_stored) if facts.multimodal else 0
    if beside > _BESIDE * as_stored:
        return Unknown("the files are too large for the language model of the configuration and parts beside it")
    scale = (loaded - beside) / as_stored
    if scale > _FILES_BEYOND:
        return Weights(whole, rank, label, "configuration")
    return Weights(ceil(whole * scale) + beside, ceil(rank * scale) + beside, label, "files")


def draft_bytes(facts: ModelFacts, shape: ModelShape, stored: QuantizationFacts | None) -> int:
    """Bytes of layers that only speculative decoding loads.

    Known from the headers; with the index alone it is estimated as one layer with experts for each of
    num_nextn_predict_layers, an embedding, a head and a projection of twice the hidden size (DeepSeek-V3,
    arXiv:2412.19437 section 2.2).

    Example: DeepSeek-V3 has 1: 61 layers and their two ends take 673 GB in fp8, the index says 689 GB.
    """
    if facts.tensors.draft_bytes or not facts.num_nextn_predict_layers or facts.tensors.bytes_by_dtype:
        return facts.tensors.draft_bytes
    weights = rank_weights(shape, Split())
    per_layer = _sum([w for w in weights if w.layers > 1], stored, 2) or 0
    ends = _sum([w for w in weights if w.module in ("embed_tokens", "lm_head")], stored, 2) or 0
    projection = 2 * shape.hidden * shape.hidden * 2
    return facts.num_nextn_predict_layers * (per_layer // max(1, len(shape.layers)) + ends + projection)


def _label(facts: ModelFacts, applied: QuantizationFacts | None, dtype: str) -> str:
    if applied is None:
        named = dtype if dtype not in ("auto", "half", "float") else {"half": "float16", "float": "float32"}.get(dtype)
        held = named or ("float16" if facts.dtype == "float16" else "bfloat16")
        return {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(held, held)
    if applied.weight_type == "float" and applied.weight_bits == 8:
        return "fp8"
    if applied.method in ("compressed-tensors",) or applied.method.startswith("int8"):
        return f"int{applied.weight_bits}"
    return applied.method if applied.method == "mxfp4" else f"{applied.weight_bits}-bit {applied.method}"


def _sum(weights: list[Weight], scheme: QuantizationFacts | None, plain: int) -> int | None:
    total = 0
    for weight in weights:
        size = stored_bytes(weight, scheme, plain)
        if size is None:
            return None
        total += size
    return total


def stored_bytes(weight: Weight, scheme: QuantizationFacts | None, plain: int = 2) -> int | None:
    """Bytes of one kind of weight, in all layers of a rank; None when the scheme's format is not known.

    A quantized matrix of r rows and c columns takes r x c x bits / 8, and scales:
    fp8 and int8 per row 4 x r, per tensor 4, per block of a x b 4 x ceil(r / a) x ceil(c / b);
    AWQ, GPTQ and packed integers 2 bytes per group of g columns, and bits / 8 per group where zero points are kept
    (GPTQ also 4 bytes per column for its group index); MXFP4 1 byte per 32; NVFP4 1 byte per 16; bitsandbytes NF4
    4 bytes per 64, or nested 1 byte per 64 and 4 per 64 x 256 (bitsandbytes, `quantize_4bit`).
    Source: the `create_weights` of vllm/model_executor/layers/quantization/*, 0.32.0.

    Example: a 4,096 x 4,096 matrix in 4-bit AWQ with groups of 128 takes
    8,388,608 + 2 x 131,072 + 65,536 = 8,716,288 bytes, 4.16 bits per weight.
    """
    if not weight.linear or scheme is None:
        return weight.elements * plain
    if scheme.method == "experts_int8" and not weight.module.startswith("mlp.experts"):
        return weight.elements * plain
    if scheme.method == "mxfp4" and not weight.module.startswith("mlp.experts"):
        return weight.elements * plain
    each = _matrix_bytes(weight.rows, weight.columns, scheme)
    if each is None:
        return None
    kept = min(weight.layers, _kept_layers(weight, scheme))
    bare = weight.rows * weight.columns * plain
    return weight.copies * (each * (weight.layers - kept) + bare * kept)


def _kept_layers(weight: Weight, scheme: QuantizationFacts) -> int:
    kept = 0
    for module, layers in scheme.kept.items():
        if weight.module == module or weight.module.startswith(f"{module}.") or weight.module.endswith(f".{module}"):
            kept = max(kept, layers or weight.layers)
    return kept


def _matrix_bytes(rows: int, columns: int, scheme: QuantizationFacts) -> int | None:
    bits = scheme.weight_bits
    if bits is None:
        return None
    elements = rows * columns
    packed = ceil(elements * bits / 8)
    if scheme.method == "mxfp4":
        return packed + ceil(elements / _MXFP4_GROUP)
    if scheme.method == "bitsandbytes":
        blocks = ceil(elements / _BITSANDBYTES_GROUP)
        if bits != 4:
            return packed + 4 * rows
        nested = blocks + 4 * ceil(blocks / _BITSANDBYTES_NESTED)
        return packed + (nested if scheme.double_quantized else 4 * blocks)
    if scheme.method in ("modelopt_fp4", "nvfp4_per_token") or (bits == 4 and scheme.weight_type == "float"):
        return packed + ceil(elements / _NVFP4_GROUP)
    if scheme.block:
        return packed + 4 * ceil(rows / max(1, scheme.block[0])) * ceil(columns / max(1, scheme.block[1]))
    if scheme.group_size:
        groups = rows * ceil(columns / scheme.group_size)
        zeros = ceil(groups * bits / 8) if scheme.zero_points else 0
        return packed + 2 * groups + zeros + (4 * columns if scheme.method == "gptq" else 0)
    return packed + 4 * (rows if bits == 8 else 0)
