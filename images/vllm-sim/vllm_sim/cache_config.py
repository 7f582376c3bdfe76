"""What ``vllm:cache_config_info`` carries in its labels."""

from __future__ import annotations

import argparse

from vllm_sim.versions import Version

_DEFAULTS = {
    "_block_size_resolved": "True",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "auto",
    "num_cpu_blocks": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
}
"""Labels of 0.32 that no simulated setting decides, with their values on a plain engine."""

_OLD = frozenset({"is_attention_free", "num_cpu_blocks", "prefix_caching_hash_algo", "sliding_window"})
"""The ones among them that the oldest simulated releases have."""

_MANY_SINCE = Version(0, 31, 0)
_ALL_SINCE = Version(0, 32, 0)
_NOT_IN_031 = frozenset({"cache_hit_alignment_tokens", "hash_block_size"})


def cache_facts(
    version: Version, arguments: argparse.Namespace, block: int, blocks: int, max_model_len: int
) -> dict[str, object]:
    """The labels and their values.

    ``kv_cache_max_concurrency`` is blocks divided by the blocks of one request of full length.
    """
    facts: dict[str, object] = {
        "block_size": block,
        "cache_dtype": arguments.kv_cache_dtype or "auto",
        "enable_prefix_caching": bool(arguments.enable_prefix_caching),
        "engine": 0,
        "gpu_memory_utilization": arguments.gpu_memory_utilization or 0.92,
        "num_gpu_blocks": blocks,
        "num_gpu_blocks_override": arguments.num_gpu_blocks_override,
    }
    if version < _MANY_SINCE:
        return {**{name: value for name, value in _DEFAULTS.items() if name in _OLD}, **facts}
    defaults = _DEFAULTS
    if version < _ALL_SINCE:
        defaults = {name: value for name, value in _DEFAULTS.items() if name not in _NOT_IN_031}
        defaults["user_specified_mamba_block_size"] = "False"
    return {
        **defaults,
        **facts,
        "effective_attention_block_size": block,
        "kv_cache_max_concurrency": blocks / -(-max_model_len // block),
        "kv_cache_memory_bytes": arguments.kv_cache_memory_bytes,
        "kv_cache_size_tokens": blocks * block,
        "user_specified_block_size": arguments.block_size is not None,
    }
