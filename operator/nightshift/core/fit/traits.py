"""What changed between vLLM versions in how much memory an engine takes.

One reviewed table; versions newer than it get its newest row, as everywhere in the core.
"""

from dataclasses import dataclass

from packaging.version import Version

GIB = 2**30


@dataclass(frozen=True)
class MemoryTraits:
    """How a version of vLLM shares out an accelerator's memory."""

    since: Version
    gpu_memory_utilization: float
    """Default share of the memory: 0.90, from 0.20.0 0.92 (vllm/config/cache.py)."""
    graphs_counted: bool
    """CUDA graphs are taken off before the KV cache is sized, from 0.21.0 (vllm/v1/worker/gpu_worker.py)."""
    batches_in_flight: int
    """Batches whose tokens a sliding window must hold, from 0.26.0 two by asynchronous scheduling
    (`VllmConfig.max_in_flight_tokens`; before it `max_num_batched_tokens` once)."""
    sampler_sorts: bool
    """The profiling run sorts all logits, before 0.17.0 (vllm/v1/sample/ops/topk_topp_triton.py came then)."""
    large_batches_from: int | None
    """Memory in bytes from which a batch has 16,384 tokens, from 0.28.0 (`EngineArgs.get_batch_defaults`)."""
    splits_scale_blocks: bool
    """fp8 experts may be split inside a block of scales, from 0.30.0 (quantization/fp8.py, `weight_scale_refine`)."""


TRAITS = (
    MemoryTraits(Version("0"), 0.90, False, 1, True, None, False),
    MemoryTraits(Version("0.17.0"), 0.90, False, 1, False, None, False),
    MemoryTraits(Version("0.20.0"), 0.92, False, 1, False, None, False),
    MemoryTraits(Version("0.21.0"), 0.92, True, 1, False, None, False),
    MemoryTraits(Version("0.26.0"), 0.92, True, 2, False, None, False),
    MemoryTraits(Version("0.28.0"), 0.92, True, 2, False, 160 * GIB, False),
    MemoryTraits(Version("0.30.0"), 0.92, True, 2, False, 160 * GIB, True),
)


def memory_traits(version: str) -> MemoryTraits:
    """The newest row that is not newer than the version."""
    wanted = Version(version)
    return [row for row in TRAITS if row.since <= wanted][-1]
