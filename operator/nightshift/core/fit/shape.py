"""From a model's facts to the shape of its layers, for the families whose vLLM code has been compared.

A family stands in the table only when the test's oracle has checked it against vLLM's own classes; of any other
model nothing is claimed. Keys that a config.json may leave out get the defaults of transformers 5.19 configurations.
"""

from dataclasses import dataclass, field
from typing import Literal

from nightshift.api.model_facts import ModelFacts
from nightshift.core.facts import Unknown

AttentionKind = Literal["full", "sliding"]


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434 section 2.1), in elements."""

    query_rank: int | None
    rank: int
    without_position: int
    with_position: int
    value: int


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in a layer, in elements."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    shared_gate: bool = False
    biases: bool = False


@dataclass(frozen=True)
class Family:
    """What a model type's code does that its config.json does not say."""

    defaults: dict[str, int] = field(default_factory=dict)
    query_bias: bool = False
    output_bias: bool = False
    query_norm: bool = False
    norms: int = 2
    sinks: bool = False
    tied: bool = False
    sliding: Literal["never", "all", "pattern", "asked"] = "never"
    pattern: int = 0
    """Every pattern-th layer attends fully, the others slide."""
    expert_biases: bool = False
    replicates_kv: bool = True


_GEMMA3 = Family(
    defaults={
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    query_norm=True,
    norms=4,
    tied=True,
    sliding="pattern",
    pattern=6,
)
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(sliding="all"),
    "mixtral": Family(sliding="all"),
    "phi3": Family(),
    "qwen2": Family(query_bias=True, sliding="asked"),
    "qwen2_moe": Family(query_bias=True, sliding="asked"),
    "qwen3": Family(query_norm=True, sliding="asked"),
    "qwen3_moe": Family(query_norm=True, sliding="asked"),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(),
    "gemma2": Family(
        defaults={"head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192, "sliding_window": 4096},
        norms=4,
        tied=True,
        sliding="pattern",
        pattern=2,
    ),
    "gemma3_text": _GEMMA3,
    "gemma3": _GEMMA3,
    "gpt_oss": Family(
        defaults={"head_dim": 64},
        query_bias=True,
        output_bias=True,
        sinks=True,
        sliding="pattern",
        pattern=2,
        expert_biases=True,
        replicates_kv=False,
    ),
}
"""By model_type. Sources: vllm/model_executor/models/*.py 0.32.0 of the same names."""

_UNSCALED_ROPE = ("su", "longrope", "llama3", "mrope", "default", "proportional")


@dataclass(frozen=True)
class ModelShape:
    """A language model, all sizes in elements."""

    model_type: str
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[AttentionKind, ...]
    window: int
    intermediate: int
    dense_layers: int
    """Layers whose feed-forward part is not a mixture of experts."""
    experts: Experts | None
    latent: Latent | None
    tied: bool
    query_bias: bool
    output_bias: bool
    query_norm: bool
    norms: int
    sinks: bool
    replicates_kv: bool
    max_positions: int


def model_shape(facts: ModelFacts) -> ModelShape | Unknown:
    """The shape, or why it is not known."""
    family = FAMILIES.get(facts.model_type or "")
    if family is None:
        return Unknown(f"the memory of model type {facts.model_type or 'without a name'} has not been compared yet")
    if facts.index_topk:
        return Unknown("sparse attention with an index of its own has not been compared yet")
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")
    values = {name: getattr(facts, name) or family.defaults.get(name) for name in (*needed, "intermediate_size")}
    missing = [name for name in needed if not values[name]]
    if missing:
        return Unknown(f"config.json has no usable {', '.join(missing)}")
    layers = _layers(facts, family)
    if isinstance(layers, Unknown):
        return layers
    heads = values["num_attention_heads"] or 1
    experts = _experts(facts, family)
    depth = len(layers)
    return ModelShape(
        model_type=facts.model_type or "",
        hidden=values["hidden_size"] or 0,
        vocabulary=values["vocab_size"] or 0,
        heads=heads,
        kv_heads=facts.num_key_value_heads or family.defaults.get("num_key_value_heads") or heads,
        head_dim=facts.head_dim or family.defaults.get("head_dim") or (values["hidden_size"] or 0) // heads,
        layers=layers,
        window=facts.sliding_window or family.defaults.get("sliding_window") or 0,
        intermediate=values["intermediate_size"] or 0,
        dense_layers=_dense_layers(facts, depth) if experts else depth,
        experts=experts,
        latent=_latent(facts),
        tied=family.tied if facts.tie_word_embeddings is None else facts.tie_word_embeddings,
        query_bias=family.query_bias or bool(facts.attention_bias),
        output_bias=family.output_bias or (facts.model_type == "llama" and bool(facts.attention_bias)),
        query_norm=family.query_norm,
        norms=family.norms,
        sinks=family.sinks,
        replicates_kv=family.replicates_kv,
        max_positions=_positions(facts, values["max_position_embeddings"] or 0),
    )


def _layers(facts: ModelFacts, family: Family) -> tuple[AttentionKind, ...] | Unknown:
    depth = facts.num_hidden_layers or 0
    window = facts.sliding_window or family.defaults.get("sliding_window")
    if family.sliding == "asked" and facts.use_sliding_window:
        return Unknown("layers that slide from max_window_layers on have not been compared yet")
    if facts.model_type == "phi3" and window and window < (facts.max_position_embeddings or 0):
        return Unknown("the sliding windows of phi3 have not been compared yet")
    if not window or family.sliding in ("never", "asked"):
        full = [True] * depth
    elif family.sliding == "all":
        full = [False] * depth
    elif facts.layer_types:
        if len(facts.layer_types) != depth or set(facts.layer_types) - {"F", "S"}:
            return Unknown("config.json lists layer types that have not been compared yet")
        full = [letter == "F" for letter in facts.layer_types]
    else:
        pattern = facts.sliding_window_pattern or family.pattern
        full = [(index + 1) % pattern == 0 for index in range(depth)]
    kinds: tuple[AttentionKind, AttentionKind] = ("sliding", "full")
    return tuple(kinds[attends] for attends in full)


def _experts(facts: ModelFacts, family: Family) -> Experts | None:
    if not facts.num_experts:
        return None
    each = facts.moe_intermediate_size or facts.intermediate_size or 0
    shared = facts.shared_expert_intermediate_size or (facts.n_shared_experts or 0) * each
    return Experts(
        count=facts.num_experts,
        per_token=facts.num_experts_per_tok or 1,
        intermediate=each,
        shared_intermediate=shared,
        shared_gate=bool(facts.shared_expert_intermediate_size),
        biases=family.expert_biases,
    )


def _dense_layers(facts: ModelFacts, depth: int) -> int:
    """Layers without experts: the first k (DeepSeek), or those that a step or a list leaves out (Qwen)."""
    if facts.first_k_dense_replace is not None:
        frequency = facts.moe_layer_freq or 1
        with_experts = [i for i in range(depth) if i >= facts.first_k_dense_replace and i % frequency == 0]
        return depth - len(with_experts)
    step = facts.decoder_sparse_step or 1
    return min(depth, depth - depth // step + (facts.dense_layers or 0))


def _latent(facts: ModelFacts) -> Latent | None:
    if not facts.kv_lora_rank:
        return None
    return Latent(
        query_rank=facts.q_lora_rank or None,
        rank=facts.kv_lora_rank,
        without_position=facts.qk_nope_head_dim or 0,
        with_position=facts.qk_rope_head_dim or 0,
        value=facts.v_head_dim or 0,
    )


def _positions(facts: ModelFacts, positions: int) -> int:
    """The model's longest context: max_position_embeddings, stretched by rope scaling where vLLM does so.

    Source: `_get_and_verify_max_len` in vllm/config/model.py, 0.32.0. Example: GPT-OSS, YaRN from 4,096 positions by
    the factor 32: 131,072 tokens.
    """
    if facts.rope_type is None or facts.rope_type in _UNSCALED_ROPE or "gemma3" in (facts.model_type or ""):
        return positions
    start = facts.rope_original_positions if facts.rope_type == "yarn" else None
    return int((start or positions) * (facts.rope_factor or 1.0))
