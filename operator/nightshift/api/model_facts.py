"""What is known of a model before it runs: its config.json and the sizes of its tensors, small and bounded.

Only what the fit of a model on accelerators needs is kept, under the names that config.json uses. Whoever has the
files (a fetch container) makes the facts; whoever decides reads them. Both directions distrust each other: a value of
a wrong type or an absurd size is dropped, as if the file did not have it, and texts are cut.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from nightshift.api.base import StoredModel

_LARGEST = 2**53
_LARGEST_FACTOR = 1e6
MAX_LAYERS = 1024
_MAX_KINDS = 32
_WORD = 96

Number = Annotated[int, Field(ge=0, le=_LARGEST)]
Word = Annotated[str, Field(max_length=_WORD)]

_NUMBERS = (
    "decoder_sparse_step",
    "first_k_dense_replace",
    "head_dim",
    "hidden_size",
    "index_topk",
    "intermediate_size",
    "kv_lora_rank",
    "max_position_embeddings",
    "max_window_layers",
    "moe_intermediate_size",
    "moe_layer_freq",
    "n_shared_experts",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_nextn_predict_layers",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "shared_expert_intermediate_size",
    "sliding_window",
    "sliding_window_pattern",
    "v_head_dim",
    "vocab_size",
)
_FLAGS = ("attention_bias", "tie_word_embeddings", "use_sliding_window")
_LAYER_LETTERS = {"full_attention": "F", "sliding_attention": "S", "chunked_attention": "C", "linear_attention": "L"}
_LAYER_NAME = re.compile(r"(?:^|\.)layers\.(\d+|\*)\.(.+)$")


class TensorSummary(StoredModel):
    """Sizes of a model's safetensors files, headers not counted."""

    bytes_by_dtype: dict[Word, Number] = Field(
        default_factory=dict, max_length=_MAX_KINDS, description="From the headers: bytes by safetensors dtype."
    )
    total_bytes: Number | None = Field(
        default=None, description="Of all tensors: the sum above, or metadata.total_size of the index."
    )
    draft_bytes: Number = Field(
        default=0, description="Part of the total in layers past num_hidden_layers, which only drafting loads."
    )


class QuantizationFacts(StoredModel):
    """How a checkpoint was quantized, from quantization_config of its config.json."""

    method: Word = Field(description="quant_method, in small letters.")
    weight_bits: Number | None = None
    weight_type: Literal["int", "float"] | None = None
    group_size: Number | None = Field(default=None, description="Weights per scale; none: one scale per row or tensor.")
    block: tuple[Number, Number] | None = Field(default=None, description="Rows and columns per scale.")
    zero_points: bool = False
    double_quantized: bool = Field(default=False, description="bitsandbytes: the scales are quantized too.")
    activation_bits: Number | None = None
    kv_cache_dtype: Word | None = Field(default=None, description="What the checkpoint asks of the KV cache.")
    kept: dict[Word, Number] = Field(
        default_factory=dict,
        max_length=_MAX_KINDS,
        description="Modules left as they were, by their path inside a layer: in how many layers. 0: in all of them.",
    )


class ModelFacts(StoredModel):
    """A model as its config.json and its tensors describe it; what is absent there is None here."""

    architecture: Word | None = None
    model_type: Word | None = Field(default=None, description="Of the language model, where there are other parts.")
    multimodal: bool = Field(default=False, description="There are parts beside the language model.")
    dtype: Word | None = None
    attention_bias: bool | None = None
    decoder_sparse_step: Number | None = None
    dense_layers: Number | None = Field(default=None, description="How many layers mlp_only_layers lists.")
    first_k_dense_replace: Number | None = None
    head_dim: Number | None = None
    hidden_size: Number | None = None
    index_topk: Number | None = None
    intermediate_size: Number | None = None
    kv_lora_rank: Number | None = None
    layer_types: str | None = Field(
        default=None,
        max_length=MAX_LAYERS,
        pattern="^[FSCL?]*$",
        description="A letter per layer: full, sliding, chunked or linear attention, or unknown.",
    )
    max_position_embeddings: Number | None = None
    max_window_layers: Number | None = None
    moe_intermediate_size: Number | None = None
    moe_layer_freq: Number | None = None
    n_shared_experts: Number | None = None
    num_attention_heads: Number | None = None
    num_experts: Number | None = Field(default=None, description="Also num_local_experts and n_routed_experts.")
    num_experts_per_tok: Number | None = None
    num_hidden_layers: Number | None = Field(default=None, le=MAX_LAYERS)
    num_key_value_heads: Number | None = None
    num_nextn_predict_layers: Number | None = None
    q_lora_rank: Number | None = None
    qk_nope_head_dim: Number | None = None
    qk_rope_head_dim: Number | None = None
    quantization: QuantizationFacts | None = None
    rope_factor: float | None = Field(default=None, gt=0, le=_LARGEST_FACTOR)
    rope_original_positions: Number | None = None
    rope_type: Word | None = None
    shared_expert_intermediate_size: Number | None = None
    sliding_window: Number | None = None
    sliding_window_pattern: Number | None = None
    tensors: TensorSummary = TensorSummary()
    tie_word_embeddings: bool | None = None
    use_sliding_window: bool | None = None
    v_head_dim: Number | None = None
    vocab_size: Number | None = None


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


OptionalFacts = Annotated[ModelFacts | None, WrapValidator(_or_none)]
"""Facts inside something else that must stay readable without them."""


def model_facts(config: Mapping[str, Any], tensors: TensorSummary | None = None) -> ModelFacts:
    """The facts of a model.

    Args:
        config: config.json as parsed; of a multimodal model its text_config counts, then the rest.
        tensors: Sizes, when the files or their index could be read.

    Returns:
        What could be used of it; never an error, whatever the file holds.
    """
    text = config.get("text_config") or config.get("llm_config")
    merged = {**config, **text} if isinstance(text, Mapping) else dict(config)
    architectures = config.get("architectures")
    layers = _number(merged.get("num_hidden_layers"))
    values: dict[str, Any] = {name: _number(merged.get(name)) for name in _NUMBERS}
    values |= {name: merged[name] if isinstance(merged.get(name), bool) else None for name in _FLAGS}
    values |= _rope(merged)
    values["architecture"] = _word(architectures[0]) if isinstance(architectures, list) and architectures else None
    values["model_type"] = _word(merged.get("model_type"))
    values["multimodal"] = any(isinstance(config.get(part), Mapping) for part in ("vision_config", "audio_config"))
    values["dtype"] = _word(merged.get("dtype")) or _word(merged.get("torch_dtype"))
    experts = (_number(merged.get(name)) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    values["num_experts"] = next((count for count in experts if count is not None), None)
    dense = merged.get("mlp_only_layers")
    values["dense_layers"] = len(dense) if isinstance(dense, list) and len(dense) <= MAX_LAYERS else None
    values["layer_types"] = _layer_types(merged.get("layer_types"))
    if layers is not None and layers > MAX_LAYERS:
        values["num_hidden_layers"] = None
    values["quantization"] = _quantization(config.get("quantization_config") or merged.get("quantization_config"))
    return ModelFacts(**values, tensors=tensors or TensorSummary())


def summarize_tensors(headers: Iterable[Mapping[str, Any]], layers: int | None = None) -> TensorSummary:
    """Add up the headers of a model's safetensors files.

    Args:
        headers: One parsed header per file: tensor names to dtype, shape and data_offsets (bytes).
        layers: num_hidden_layers; tensors of later layers count as draft_bytes too.

    Returns:
        Bytes by dtype, from the offsets.
    """
    sizes: dict[str, int] = {}
    draft = 0
    for header in headers:
        for name, tensor in header.items():
            size = _size(tensor) if name != "__metadata__" else None
            if size is None:
                continue
            dtype = _word(tensor.get("dtype")) or "?"
            dtype = dtype if dtype in sizes or len(sizes) < _MAX_KINDS - 1 else "?"
            sizes[dtype] = sizes.get(dtype, 0) + size
            layer = _LAYER_NAME.search(name)
            if layers is not None and layer and layer[1].isdigit() and int(layer[1]) >= layers:
                draft += size
    return TensorSummary(bytes_by_dtype=sizes, total_bytes=sum(sizes.values()) if sizes else None, draft_bytes=draft)


def summarize_index(index: Mapping[str, Any]) -> TensorSummary:
    """The total that model.safetensors.index.json states, when the headers were not read."""
    metadata = index.get("metadata")
    return TensorSummary(total_bytes=_number(metadata.get("total_size")) if isinstance(metadata, Mapping) else None)


def _size(tensor: Any) -> int | None:
    offsets = tensor.get("data_offsets") if isinstance(tensor, Mapping) else None
    if not isinstance(offsets, list) or len(offsets) != 2:
        return None
    start, end = _number(offsets[0]), _number(offsets[1])
    return end - start if start is not None and end is not None and end >= start else None


def _number(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def _word(value: Any) -> str | None:
    return value[:_WORD] if isinstance(value, str) and value else None


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, Mapping):
        return {}
    factor = scaling.get("factor")
    usable = float(factor) if isinstance(factor, int | float) and 0 < factor <= _LARGEST_FACTOR else None
    return {
        "rope_type": _word(scaling.get("rope_type")) or _word(scaling.get("type")),
        "rope_factor": usable,
        "rope_original_positions": _number(scaling.get("original_max_position_embeddings")),
    }


def _layer_types(types: Any) -> str | None:
    if not isinstance(types, list) or not 0 < len(types) <= MAX_LAYERS:
        return None
    return "".join(_LAYER_LETTERS.get(kind, "?") if isinstance(kind, str) else "?" for kind in types)


def _quantization(config: Any) -> QuantizationFacts | None:
    if not isinstance(config, Mapping):
        return None
    method = (_word(config.get("quant_method")) or "").lower()
    if not method:
        return None
    kept: list[Any] = next(
        (
            config[key]
            for key in ("modules_to_not_convert", "ignore", "llm_int8_skip_modules")
            if isinstance(config.get(key), list)
        ),
        [],
    )
    values: dict[str, Any] = {"method": method, "kept": _kept(kept)}
    if method == "compressed-tensors":
        values |= _compressed_tensors(config)
    elif method == "bitsandbytes":
        values |= {
            "weight_bits": 4 if config.get("load_in_4bit") is True else 8,
            "double_quantized": config.get("bnb_4bit_use_double_quant") is True,
        }
    else:
        values |= _plain_quantization(method, config)
    return QuantizationFacts(**values)


def _plain_quantization(method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    is_float8 = method in ("fp8", "fbgemm_fp8", "modelopt")
    block = config.get("weight_block_size")
    sizes = [_number(size) for size in block] if isinstance(block, list) else []
    bits = _number(config.get("bits")) or _number(config.get("w_bit"))
    return {
        "weight_bits": bits or (8 if is_float8 else 4 if method in ("mxfp4", "modelopt_fp4") else None),
        "weight_type": "float" if is_float8 or method in ("mxfp4", "modelopt_fp4") else "int",
        "group_size": _number(config.get("group_size")) or _number(config.get("q_group_size")),
        "block": tuple(sizes) if len(sizes) == 2 and None not in sizes else None,
        "zero_points": method in ("awq", "gptq"),
        "activation_bits": 8 if is_float8 else None,
        "kv_cache_dtype": "fp8" if str(config.get("kv_cache_quant_algo", "")).lower() == "fp8" else None,
    }


def _compressed_tensors(config: Mapping[str, Any]) -> dict[str, Any]:
    groups = config.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    inputs = first.get("input_activations") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return {}
    block = weights.get("block_structure")
    sizes = [_number(size) for size in block] if isinstance(block, list) else []
    kv_cache = config.get("kv_cache_scheme")
    return {
        "weight_bits": _number(weights.get("num_bits")),
        "weight_type": weights.get("type") if weights.get("type") in ("int", "float") else None,
        "group_size": _number(weights.get("group_size")),
        "block": tuple(sizes) if len(sizes) == 2 and None not in sizes else None,
        "zero_points": weights.get("symmetric") is False,
        "activation_bits": _number(inputs.get("num_bits")) if isinstance(inputs, Mapping) else None,
        "kv_cache_dtype": "fp8" if isinstance(kv_cache, Mapping) and kv_cache.get("num_bits") == 8 else None,
    }


def _kept(modules: list[Any]) -> dict[str, int]:
    """Count modules by their path inside a layer; one that stands for every layer counts as 0."""
    counts: dict[str, int] = {}
    for module in modules:
        name = _word(module)
        if name is None:
            continue
        found = _LAYER_NAME.search(name)
        kind = found[2] if found else name.removeprefix("re:").strip(".*$^\\")
        everywhere = found is None or found[1] == "*"
        if kind in counts or len(counts) < _MAX_KINDS:
            counts[kind] = 0 if everywhere or counts.get(kind) == 0 else counts.get(kind, 0) + 1
    return counts
