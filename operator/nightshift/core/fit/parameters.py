"""The weights of a model on one rank of a tensor-parallel group, from its shape."""

from collections.abc import Iterator
from dataclasses import dataclass

from nightshift.core.fit.shape import ModelShape

VOCABULARY_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this (vllm/model_executor/layers/vocab_parallel_embedding.py)."""


@dataclass(frozen=True)
class Weight:
    """A matrix (or, with one column, a vector) that occurs `copies` times in each of `layers` layers of a rank."""

    module: str
    """Its path inside a layer, as quantization configurations name it."""
    rows: int
    columns: int
    layers: int = 1
    copies: int = 1
    linear: bool = True
    """May be quantized: no embedding, norm, router or bias."""

    @property
    def elements(self) -> int:
        """Elements in all layers of the rank."""
        return self.rows * self.columns * self.layers * self.copies


@dataclass(frozen=True)
class Split:
    """How a model is divided; with expert_parallel every rank has whole experts, else a slice of each."""

    tensor: int = 1
    expert_parallel: bool = False

    def part(self, size: int) -> int:
        """A rank's share of a size that divides; rounded up where it does not, as the largest rank has it."""
        return -(-size // self.tensor)


def rank_weights(shape: ModelShape, split: Split) -> list[Weight]:
    """Every weight of one rank.

    Column- and row-parallel layers are shared out; norms, routers and the down-projections of latent attention are on
    every rank; key and value heads are repeated when there are fewer of them than ranks.
    Source: vllm/model_executor/layers/linear.py and the model classes, 0.32.0.

    Example: Llama 3.1 8B on one rank has 8,030,261,248 elements; on 16 ranks its 8 key heads of 128 are repeated, so
    that each rank holds 1,024 x 128 x 2 x 32 layers of them, as on 8 ranks.
    """
    return [*_ends(shape, split), *_attention(shape, split), *_feed_forward(shape, split), *_norms(shape)]


def parameter_count(shape: ModelShape) -> int:
    """Parameters of the whole model: the elements of one rank, without vLLM's padding of the vocabulary."""
    padding = _padded(shape.vocabulary) - shape.vocabulary
    ends = 1 if shape.tied else 2
    return sum(weight.elements for weight in rank_weights(shape, Split())) - ends * padding * shape.hidden


def _padded(vocabulary: int) -> int:
    return -(-vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


def _ends(shape: ModelShape, split: Split) -> Iterator[Weight]:
    rows = split.part(_padded(shape.vocabulary))
    yield Weight("embed_tokens", rows, shape.hidden, linear=False)
    if not shape.tied:
        yield Weight("lm_head", rows, shape.hidden, linear=False)


def _attention(shape: ModelShape, split: Split) -> Iterator[Weight]:
    layers = len(shape.layers)
    if shape.latent:
        yield from _latent_attention(shape, split, layers)
        return
    queries = split.part(shape.heads) * shape.head_dim
    keys = max(1, split.part(shape.kv_heads)) * shape.head_dim
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield Weight(f"self_attn.{name}", rows, shape.hidden, layers)
        if shape.query_bias:
            yield Weight(f"self_attn.{name}.bias", rows, 1, layers, linear=False)
    yield Weight("self_attn.o_proj", shape.hidden, queries, layers)
    if shape.output_bias:
        yield Weight("self_attn.o_proj.bias", shape.hidden, 1, layers, linear=False)
    if shape.query_norm:
        yield Weight("self_attn.qk_norm", 2 * shape.head_dim, 1, layers, linear=False)
    if shape.sinks:
        yield Weight("self_attn.sinks", split.part(shape.heads), 1, layers, linear=False)


def _latent_attention(shape: ModelShape, split: Split, layers: int) -> Iterator[Weight]:
    """DeepSeek's projections; the ones to the latent space are on every rank."""
    latent = shape.latent
    assert latent is not None  # noqa: S101 - narrowed by the only caller
    heads = split.part(shape.heads)
    query = heads * (latent.without_position + latent.with_position)
    if latent.query_rank:
        yield Weight("self_attn.q_a_proj", latent.query_rank, shape.hidden, layers)
        yield Weight("self_attn.q_a_layernorm", latent.query_rank, 1, layers, linear=False)
        yield Weight("self_attn.q_b_proj", query, latent.query_rank, layers)
    else:
        yield Weight("self_attn.q_proj", query, shape.hidden, layers)
    yield Weight("self_attn.kv_a_proj_with_mqa", latent.rank + latent.with_position, shape.hidden, layers)
    yield Weight("self_attn.kv_a_layernorm", latent.rank, 1, layers, linear=False)
    yield Weight("self_attn.kv_b_proj", heads * (latent.without_position + latent.value), latent.rank, layers)
    yield Weight("self_attn.o_proj", shape.hidden, heads * latent.value, layers)


def _feed_forward(shape: ModelShape, split: Split) -> Iterator[Weight]:
    yield from _gated("mlp", shape.hidden, split.part(shape.intermediate), shape.dense_layers)
    experts = shape.experts
    layers = len(shape.layers) - shape.dense_layers
    if experts is None or layers == 0:
        return
    yield Weight("mlp.gate", experts.count, shape.hidden, layers, linear=False)
    whole = split.expert_parallel
    count = split.part(experts.count) if whole else experts.count
    width = experts.intermediate if whole else split.part(experts.intermediate)
    yield from _gated("mlp.experts", shape.hidden, width, layers, count)
    if experts.biases:
        yield Weight("mlp.gate.bias", experts.count, 1, layers, linear=False)
        yield Weight("mlp.experts.bias", 2 * width + shape.hidden, 1, layers, count, linear=False)
    yield from _gated("mlp.shared_experts", shape.hidden, split.part(experts.shared_intermediate), layers)
    if experts.shared_gate:
        yield Weight("mlp.shared_expert_gate", 1, shape.hidden, layers, linear=False)


def _gated(module: str, hidden: int, width: int, layers: int, copies: int = 1) -> Iterator[Weight]:
    if width and layers:
        yield Weight(f"{module}.gate_proj", width, hidden, layers, copies)
        yield Weight(f"{module}.up_proj", width, hidden, layers, copies)
        yield Weight(f"{module}.down_proj", hidden, width, layers, copies)


def _norms(shape: ModelShape) -> Iterator[Weight]:
    yield Weight("layernorm", shape.norms * shape.hidden, 1, len(shape.layers), linear=False)
    yield Weight("norm", shape.hidden, 1, linear=False)
