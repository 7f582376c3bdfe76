"""Corrections by what a running engine says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nightshift.core.facts import Unknown
from nightshift.core.fit.verdict import Fits

_LARGEST = 2**53


@dataclass(frozen=True)
class CacheConfigInfo:
    """Labels of vLLM's metric cache_config_info, as far as they can be read."""

    num_gpu_blocks: int | None = None
    block_size: int | None = None
    kv_cache_size_tokens: int | None = None
    """From vLLM 0.24 or so on; counts groups of layers as they are."""
    kv_cache_max_concurrency: float | None = None


def cache_config_info(labels: Mapping[str, str]) -> CacheConfigInfo:
    """Read the labels; one that is missing, `None` or not a number is left out.

    Source: `CacheConfig.metrics_info` in vllm/config/cache.py, 0.32.0.
    """
    concurrency = labels.get("kv_cache_max_concurrency", "")
    try:
        requests = float(concurrency)
    except ValueError:
        requests = 0.0
    return CacheConfigInfo(
        num_gpu_blocks=_count(labels.get("num_gpu_blocks")),
        block_size=_count(labels.get("block_size")),
        kv_cache_size_tokens=_count(labels.get("kv_cache_size_tokens")),
        kv_cache_max_concurrency=requests if 0 < requests < _LARGEST else None,
    )


def corrected(fits: Fits, info: CacheConfigInfo) -> Fits | Unknown:
    """The same verdict with the capacity that the engine measured.

    kv_cache_size_tokens counts where it is given; else blocks / blocks of a request x context, which equals
    num_gpu_blocks x block_size for models whose layers are all of one kind with full attention.

    Example: 512 blocks of 128 tokens and 2 layers of full attention: 65,536 tokens, 128 requests of 512.
    """
    capacity = fits.capacity
    length = capacity.max_model_len
    cache = replace(fits.kv, block_size=info.block_size) if info.block_size else fits.kv
    if info.num_gpu_blocks:
        measured = cache.capacity(info.num_gpu_blocks * cache.block_bytes, length)
        longest = measured.longest_context
    elif info.kv_cache_size_tokens:
        measured = None
        longest = min(length, info.kv_cache_size_tokens)
    else:
        return Unknown("the engine does not say how large its KV cache is")
    tokens = info.kv_cache_size_tokens or (measured.tokens if measured else 0)
    requests = info.kv_cache_max_concurrency or tokens / length
    return replace(
        fits,
        capacity=replace(capacity, tokens=tokens, concurrent_requests=requests, longest_context=longest),
        kv=cache,
        measured=True,
    )


def overheads_measured(fits: Fits, info: CacheConfigInfo) -> int | Unknown:
    """The overheads per rank, in bytes, that the measured number of blocks implies: what to expect of the next start.

    memory x utilization - weights - blocks x bytes of a block. Example: 80 GiB at 0.92 with 15 GiB of weights and
    55 GiB of blocks: 3.6 GiB.
    """
    if not info.num_gpu_blocks or not info.block_size:
        return Unknown("the engine does not say how many blocks its KV cache has")
    cache = replace(fits.kv, block_size=info.block_size)
    share = int(fits.budget.memory * fits.budget.utilization)
    return share - fits.budget.weights.per_rank - info.num_gpu_blocks * cache.block_bytes


def _count(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        return None
    return int(text) or None
