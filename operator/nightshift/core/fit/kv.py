"""The KV cache: bytes per token, and how many tokens, requests and how long a context fit into some bytes.

vLLM gives every layer pages of `block_size` tokens and puts layers of one kind into groups that draw blocks from one
pool; a sliding window holds a bounded number of blocks per request. Sources: vllm/v1/kv_cache_interface.py and
vllm/v1/core/kv_cache_utils.py, 0.32.0; compared with them by the test's oracle.
"""

from collections import Counter
from dataclasses import dataclass

from nightshift.api.model_facts import ModelFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.shape import AttentionKind, ModelShape
from nightshift.core.fit.traits import MemoryTraits

DEFAULT_BLOCK_SIZE = 16
"""Tokens per block on an accelerator (CacheConfig.DEFAULT_BLOCK_SIZE)."""
LATENT_BLOCK_SIZE = 64
"""Tokens per block of the FlashMLA backends (vllm/v1/attention/backends/mla)."""

_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}
_PLAIN_FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc")
_CLOSE_COUNTS = 1.5
"""Kinds whose layer counts differ by less than this factor are padded to the larger (from vLLM 0.18; 1.25 before)."""


@dataclass(frozen=True)
class Capacity:
    """What a KV cache of some bytes per rank holds."""

    tokens: int
    """As vLLM logs it: `GPU KV cache size`, and reports it in cache_config_info.kv_cache_size_tokens."""
    concurrent_requests: float
    """Requests of the whole context at the same time: `Maximum concurrency`."""
    max_model_len: int
    longest_context: int
    """The longest context that one request could have, at most the model's."""


@dataclass(frozen=True)
class Group:
    """Layers of one kind that share a block table."""

    kind: AttentionKind
    layers: int


@dataclass(frozen=True)
class KvCache:
    """The KV cache of one rank."""

    bytes_per_token: int
    """Of all the rank's layers, as if every one kept every token."""
    layer_bytes: int
    """Per token and layer."""
    block_size: int
    groups: tuple[Group, ...]
    window: int
    in_flight: int
    """Tokens scheduled but not settled, which a sliding window holds besides."""

    @property
    def block_bytes(self) -> int:
        """Bytes that a block takes from the pool: those of the largest group."""
        return max(group.layers for group in self.groups) * self.layer_bytes * self.block_size

    def request_blocks(self, length: int) -> int:
        """Blocks that one request of this many tokens can hold at most, of all groups.

        Full attention ceil(length / block); a sliding window
        ceil(min(window - 1 + in flight, length) / block) + 1.

        Example: Gemma 2 9B, 8,192 tokens, blocks of 16, 16,384 in flight: 512 blocks full, 513 sliding.
        """
        held = min(self.window - 1 + self.in_flight, length)
        full = -(-length // self.block_size)
        sliding = -(-held // self.block_size) + 1
        return sum(full if group.kind == "full" else sliding for group in self.groups)

    def capacity(self, memory: int, max_model_len: int) -> Capacity:
        """What this many bytes on every rank hold.

        blocks = bytes // block bytes; requests = blocks / blocks of a request; tokens = requests x length. One block
        always stays empty, which only the longest context notices.

        Example: 2 layers x 2 key heads x 64 elements in bf16 are 1,024 bytes per token and 131,072 per block of 128;
        67,108,864 bytes are 512 blocks, 65,536 tokens.
        """
        blocks = max(0, memory) // self.block_bytes
        requests = blocks / self.request_blocks(max_model_len)
        return Capacity(
            tokens=int(requests * max_model_len),
            concurrent_requests=requests,
            max_model_len=max_model_len,
            longest_context=self.longest_context(memory, max_model_len),
        )

    def longest_context(self, memory: int, limit: int) -> int:
        """The longest context, up to the limit, that one request can have in this many bytes; 0: none."""
        usable = max(0, memory) // self.block_bytes - 1
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.request_blocks(middle) <= usable:
                low = middle
            else:
                high = middle - 1
        return low


def kv_cache_dtype(facts: ModelFacts, settings: EngineSettings) -> str:
    """The KV cache's element type: as asked, or fp8 where the checkpoint brings scales for it, or the model's.

    Source: `resolve_kv_cache_dtype_string` in vllm/utils/torch_utils.py and Attention in
    vllm/model_executor/layers/attention/attention.py, 0.32.0.
    """
    if settings.kv_cache_dtype != "auto":
        return settings.kv_cache_dtype
    if facts.quantization and facts.quantization.kv_cache_dtype:
        return facts.quantization.kv_cache_dtype
    return settings.dtype if settings.dtype in _BYTES else "bfloat16"


def layer_bytes_per_token(shape: ModelShape, tensor_parallel: int, dtype: str) -> int | Unknown:
    """Bytes that one layer keeps per token on one rank.

    Grouped heads: max(1, key heads / ranks) x 2 x head dimension x bytes; a rank never has less than one head, so
    that heads are repeated when there are fewer than ranks. Latent attention keeps one vector for all heads and
    repeats it on every rank: (latent rank + dimension with position) x bytes.

    Examples: Llama 3.1 70B, 8 key heads of 128 in bf16: 4,096 bytes on one rank, 512 on 8 and on 16.
    DeepSeek-V3, 512 + 64 elements: 1,152 bytes on any number of ranks, 576 in fp8.
    """
    size = 1 if dtype in _PLAIN_FP8 else _BYTES.get(dtype)
    if dtype == "fp8_ds_mla" and shape.latent:
        return Unknown("the packed fp8 KV cache of sparse attention has not been compared yet")
    if size is None:
        return Unknown(f"the size of a KV cache in {dtype} has not been compared yet")
    if shape.latent:
        return (shape.latent.rank + shape.latent.with_position) * size
    return max(1, -(-shape.kv_heads // tensor_parallel)) * 2 * shape.head_dim * size


def kv_cache(
    facts: ModelFacts,
    shape: ModelShape,
    settings: EngineSettings,
    traits: MemoryTraits,
    tensor_parallel: int,
    batched_tokens: int,
) -> KvCache | Unknown:
    """The KV cache of the fullest rank.

    Args:
        facts: The model.
        shape: Its layers.
        settings: The engine's arguments.
        traits: Of the vLLM version.
        tensor_parallel: Ranks that share the heads.
        batched_tokens: max_num_batched_tokens.
    """
    each = layer_bytes_per_token(shape, tensor_parallel, kv_cache_dtype(facts, settings))
    if isinstance(each, Unknown):
        return each
    kinds = Counter(shape.layers)
    stages = settings.pipeline_parallel
    if stages > 1 and len(kinds) > 1:
        return Unknown("how a pipeline shares out layers of several kinds has not been compared yet")
    if not settings.hybrid_kv_cache and len(kinds) > 1:
        kinds = Counter({"full": len(shape.layers)})
    layers = {kind: -(-count // stages) for kind, count in kinds.items()}
    default = LATENT_BLOCK_SIZE if shape.latent else DEFAULT_BLOCK_SIZE
    batches = traits.batches_in_flight if settings.asynchronous_scheduling else 1
    return KvCache(
        bytes_per_token=each * sum(layers.values()),
        layer_bytes=each,
        block_size=settings.block_size or default,
        groups=_groups(layers),
        window=shape.window,
        in_flight=(batches + stages - 1) * batched_tokens,
    )


def _groups(layers: dict[AttentionKind, int]) -> tuple[Group, ...]:
    """Equal groups: as many layers as the rarer kind has, the last one of a kind padded.

    Source: `_get_kv_cache_groups_uniform_page_size` in vllm/v1/core/kv_cache_utils.py, 0.32.0.

    Example: Gemma 3 27B, 10 full and 52 sliding layers: one group of 10 full layers and six of up to 10 sliding ones.
    """
    if len(layers) == 1:
        return tuple(Group(kind, count) for kind, count in layers.items())
    smallest, largest = min(layers.values()), max(layers.values())
    size = largest if largest < smallest * _CLOSE_COUNTS else smallest
    groups: list[Group] = []
    for kind, count in layers.items():
        parts = -(-count // size)
        groups += [Group(kind, len(range(part, count, parts))) for part in range(parts)]
    return tuple(groups)
