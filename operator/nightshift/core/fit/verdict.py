"""Does a model fit on some accelerators: the verdict, with its numbers and one sentence."""

from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

from nightshift.api.model_facts import ModelFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.kv import Capacity, KvCache, kv_cache
from nightshift.core.fit.overheads import Overheads, batch, overheads
from nightshift.core.fit.parameters import VOCABULARY_PADDING, Split, parameter_count
from nightshift.core.fit.settings import AUTO, EngineSettings
from nightshift.core.fit.shape import ModelShape, model_shape
from nightshift.core.fit.traits import GIB, MemoryTraits, memory_traits
from nightshift.core.fit.weights import Weights, weight_bytes


@dataclass(frozen=True)
class Hardware:
    """The accelerators of one replica."""

    name: str
    count: int
    memory_gib: float | None
    """Of one, as its driver reports it."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability; None: unknown, or no CUDA."""


@dataclass(frozen=True)
class Budget:
    """Bytes per rank."""

    memory: int
    utilization: float
    weights: Weights
    overheads: Overheads
    kv_likely: int
    """Left for the KV cache with the likely overheads; may be below zero."""
    kv_most: int
    """Left with the least overheads."""


@dataclass(frozen=True)
class Fits:
    """At least one request of the whole context fits."""

    capacity: Capacity
    budget: Budget
    kv: KvCache
    message: str
    measured: bool = False
    """The capacity was read from a running engine."""


@dataclass(frozen=True)
class DoesNotFit:
    """It cannot start; the message is one sentence with the numbers and, where one was found, the remedy."""

    message: str
    budget: Budget | None = None
    longest_context: int = 0
    """What would fit if the context were shorter."""


Verdict: TypeAlias = Fits | DoesNotFit | Unknown


@dataclass(frozen=True)
class Memory:
    """How the memory of a replica would be shared out, whether or not that is enough."""

    shape: ModelShape
    budget: Budget
    kv: KvCache
    max_model_len: int
    """Asked for, or the model's."""


def assess(facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware) -> Verdict:
    """Judge one replica, without looking for remedies.

    What is left for KV on each accelerator must hold one request of the whole context
    (vllm/v1/core/kv_cache_utils.py `_check_enough_kv_cache_memory`). With --kv-cache-memory-bytes the KV cache is
    given, and everything together must fit the memory.

    Example: Llama 3.1 70B in bf16 on 2 x 80 GiB with vLLM 0.32: 73.6 GiB - 65.7 GiB of weights - at least 1.0 GiB of
    overheads leave 6.9 GiB on each, and a request of 131,072 tokens needs 20 GiB there: it does not fit.
    """
    memory = share_out(facts, settings, version, hardware)
    return _verdict(memory, settings, hardware) if isinstance(memory, Memory) else memory


def share_out(
    facts: ModelFacts, settings: EngineSettings, version: str, hardware: Hardware
) -> Memory | DoesNotFit | Unknown:
    """Weights, overheads and what is left for KV on the fullest accelerator.

    memory x utilization - weights - overheads (vllm/v1/worker/gpu_worker.py `determine_available_memory`, 0.32.0).

    Returns:
        The shares; DoesNotFit when the model cannot be split so or the context is too long for it; Unknown.
    """
    if settings.unreadable:
        return Unknown(f"vLLM does not take the value of {', '.join(settings.unreadable)}")
    if settings.unmodelled:
        return Unknown(f"the memory that {', '.join(settings.unmodelled)} takes has not been compared yet")
    shape = model_shape(facts)
    if isinstance(shape, Unknown):
        return shape
    traits = memory_traits(version)
    ranks = settings.tensor_parallel or max(1, hardware.count // settings.pipeline_parallel)
    problem = split_problem(facts, shape, settings, traits, ranks, hardware.count)
    if problem is not None:
        return DoesNotFit(problem)
    length = shape.max_positions if settings.max_model_len in (None, AUTO) else settings.max_model_len or 0
    if length > shape.max_positions:
        message = f"--max-model-len={length} is more than the model's {shape.max_positions:,} positions"
        return DoesNotFit(message, longest_context=shape.max_positions)
    if hardware.memory_gib is None:
        return Unknown(f"the profile of accelerator {hardware.name} does not say how much memory it has")
    memory = int(hardware.memory_gib * GIB)
    split = Split(ranks, settings.expert_parallel)
    weights = weight_bytes(facts, shape, split, settings.quantization, settings.dtype)
    if isinstance(weights, Unknown):
        return weights
    profiled = batch(settings, traits, memory, hardware.name, length)
    cache = kv_cache(facts, shape, settings, traits, ranks, profiled.tokens)
    if isinstance(cache, Unknown):
        return cache
    over = overheads(shape, split, profiled, settings, traits)
    return Memory(shape, _budget(shape, settings, traits, weights, over, memory), cache, length)


def split_problem(
    facts: ModelFacts, shape: ModelShape, settings: EngineSettings, traits: MemoryTraits, ranks: int, count: int
) -> str | None:
    """Why a model cannot be split so; None when it can.

    Sources, 0.32.0: heads must divide (vllm/config/model.py `verify_with_parallel_config`), key heads must divide or
    repeat evenly (the attention classes; gpt_oss.py does not repeat them), the padded vocabulary must divide
    (vocab_parallel_embedding.py), groups and blocks of scales must not be cut (quantization/*).

    Example: Qwen2.5 7B has 28 heads: 8 accelerators cannot share them, 4 can.
    """
    if ranks * settings.pipeline_parallel > count:
        return (
            f"tensor parallel {ranks} x pipeline parallel {settings.pipeline_parallel} needs "
            f"{ranks * settings.pipeline_parallel} accelerators, and the replica has {count}"
        )
    if not splits(shape, ranks):
        heads = f"{shape.heads} attention heads and {shape.kv_heads} key-value heads"
        return f"{heads} cannot be split over {ranks} accelerators"
    return _scales_problem(facts, shape, settings, traits, ranks)


def splits(shape: ModelShape, ranks: int) -> bool:
    """Whether heads and vocabulary divide."""
    if shape.heads % ranks or -(-shape.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING % ranks:
        return False
    if shape.latent or shape.kv_heads % ranks == 0:
        return True
    return shape.replicates_kv and ranks % shape.kv_heads == 0


def _scales_problem(
    facts: ModelFacts, shape: ModelShape, settings: EngineSettings, traits: MemoryTraits, ranks: int
) -> str | None:
    stored = facts.quantization
    unit = (stored.block[0] if stored.block else stored.group_size) if stored else None
    if not unit or unit == 0 or ranks == 1:
        return None
    sizes = {"the feed-forward layers": shape.intermediate if shape.dense_layers else 0}
    if shape.experts and not settings.expert_parallel and not (stored and stored.block and traits.splits_scale_blocks):
        sizes["the experts"] = shape.experts.intermediate
    for what, size in sizes.items():
        if size and (size % ranks or size // ranks % unit):
            return f"{what} of width {size:,} are quantized in groups of {unit}, which {ranks} accelerators would cut"
    return None


def _budget(
    shape: ModelShape, settings: EngineSettings, traits: MemoryTraits, weights: Weights, over: Overheads, memory: int
) -> Budget:
    """What is left on the fullest rank."""
    share = settings.gpu_memory_utilization or traits.gpu_memory_utilization
    stages = settings.pipeline_parallel
    if stages > 1:
        # The fullest stage has the most layers, and an embedding or the head.
        part = -(-len(shape.layers) // stages) / len(shape.layers)
        ends = 2 * shape.vocabulary * shape.hidden
        weights = Weights(weights.total, ceil(weights.per_rank * part) + ends, weights.label, weights.source)
    fixed = settings.kv_cache_memory_bytes
    if fixed is not None:
        return Budget(memory, 1.0, weights, over, fixed, fixed)
    limit = ceil(memory * share) - weights.per_rank
    return Budget(memory, share, weights, over, limit - over.likely, limit - over.low)


def _verdict(memory: Memory, settings: EngineSettings, hardware: Hardware) -> Verdict:
    shape, budget, cache, length = memory.shape, memory.budget, memory.kv, memory.max_model_len
    needed = 1 if settings.max_model_len == AUTO else length
    likely = cache.longest_context(budget.kv_likely, length)
    fixed = settings.kv_cache_memory_bytes
    if fixed is not None and budget.weights.per_rank + budget.overheads.low + fixed > budget.memory:
        room = budget.memory - budget.weights.per_rank - budget.overheads.low
        return DoesNotFit(
            f"{_needs(shape, budget)}; with --kv-cache-memory-bytes={fixed} that is more than {_place(hardware)}: "
            f"at most {gib(room)} are left for KV{_each(hardware)}",
            budget,
        )
    if cache.longest_context(budget.kv_most, length) < needed:
        return DoesNotFit(_refusal(shape, hardware, budget, cache, length), budget, likely)
    if likely < needed:
        return Unknown(_doubt(shape, hardware, budget, cache, length, likely))
    capacity = cache.capacity(budget.kv_likely, likely if needed != length else length)
    return Fits(capacity, budget, cache, _promise(shape, hardware, budget, capacity))


def _doubt(shape: ModelShape, hardware: Hardware, budget: Budget, cache: KvCache, length: int, likely: int) -> str:
    sure = f"; --max-model-len={likely} would fit" if likely else ""
    return (
        f"too close to call: {_needs(shape, budget)}, and on {_place(hardware, budget)} "
        f"{gib(max(0, budget.kv_likely))} to {gib(budget.kv_most)} are left for KV{_each(hardware)}, where one request "
        f"of {length:,} tokens needs {gib(cache.request_blocks(length) * cache.block_bytes)}{sure}"
    )


def _promise(shape: ModelShape, hardware: Hardware, budget: Budget, capacity: Capacity) -> str:
    return (
        f"{_needs(shape, budget)}; {_place(hardware, budget)} leaves about {gib(budget.kv_likely)} for KV"
        f"{_each(hardware)}: {capacity.tokens:,} tokens, {capacity.concurrent_requests:.1f} requests of "
        f"{capacity.max_model_len:,}"
    )


def _refusal(shape: ModelShape, hardware: Hardware, budget: Budget, cache: KvCache, length: int) -> str:
    if budget.kv_most <= 0:
        given = ceil(budget.memory * budget.utilization) * hardware.count
        return f"{_needs(shape, budget)}, {_place(hardware, budget)} gives {gib(given)}"
    request = cache.request_blocks(length) * cache.block_bytes
    return (
        f"{_needs(shape, budget)}, {_place(hardware, budget)} leaves {gib(budget.kv_most)} for KV{_each(hardware)}, "
        f"and one request of {length:,} tokens needs {gib(request)}"
    )


def _each(hardware: Hardware) -> str:
    return " on each" if hardware.count > 1 else ""


def _needs(shape: ModelShape, budget: Budget) -> str:
    return f"{parameters_text(shape)} in {budget.weights.label} needs {gib(budget.weights.total)} of weights"


def _place(hardware: Hardware, budget: Budget | None = None) -> str:
    where = f"{hardware.count} x {hardware.memory_gib:g} GiB"
    return f"{where} at {budget.utilization:g}" if budget and budget.utilization < 1 else where


def parameters_text(shape: ModelShape) -> str:
    """8B, 70B, 671B, 0.5B, 2M."""
    billions = parameter_count(shape) / 1e9
    if billions < 0.05:
        return f"{billions * 1000:.0f}M"
    return f"{billions:.0f}B" if billions >= 5 else f"{billions:.1f}B"


def gib(size: int) -> str:
    """Bytes in GiB, as vLLM's log writes them; never rounded away to nothing."""
    value = size / GIB
    if 0 < abs(value) < 0.01:
        return f"{value * 1024:.1f} MiB"
    return f"{value:.0f} GiB" if abs(value) >= 100 else f"{value:.1f} GiB" if abs(value) >= 0.1 else f"{value:.2f} GiB"
