"""How many tokens the KV cache holds, and vLLM's refusals when it holds too few. Pure; all sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30
_HINT = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."


class OutOfMemoryError(Exception):
    """The engine cannot start; the message is vLLM's own."""


@dataclass(frozen=True)
class Memory:
    """What decides the size of the KV cache.

    Attributes:
        device: memory of the accelerator.
        free: memory of it that is free at start.
        weights: what weights and activations take.
        utilization: --gpu-memory-utilization, the share of `device` the engine may use.
        kv_bytes: --kv-cache-memory-bytes, which overrides the rest; None when not given.
        bytes_per_token: KV bytes of one token of context.
        block: tokens per KV block.
    """

    device: int
    free: int
    weights: int
    utilization: float
    kv_bytes: int | None
    bytes_per_token: int
    block: int


def kv_blocks(memory: Memory, max_model_len: int) -> int:
    """Blocks the KV cache gets.

    ``floor(available / (bytes_per_token * block))``, available being kv_bytes, or
    ``device*utilization - weights``; the engine refuses to start when less than one request of
    max_model_len fits in all but one of them (vLLM never hands out its null block).

    Example: 64 MiB, 512 bytes per token, blocks of 128 tokens: 67108864 / 65536 = 1024 blocks
    (131072 tokens), the figure real vLLM logs for that model.

    Raises:
        OutOfMemoryError: in vLLM's words.
    """
    if memory.kv_bytes is None:
        wanted = memory.device * memory.utilization
        if memory.free < wanted:
            raise OutOfMemoryError(
                f"Free memory on device cuda:0 ({memory.free / GIB:.2f}/{memory.device / GIB:.2f} GiB) on "
                f"startup is less than desired GPU memory utilization ({memory.utilization}, "
                f"{wanted / GIB:.2f} GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
                "processes."
            )
        available = int(wanted) - memory.weights
    else:
        available = memory.kv_bytes
    per_block = memory.bytes_per_token * memory.block
    usable = available - per_block
    if usable <= 0:
        raise OutOfMemoryError(
            "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine (this flag also controls CPU memory reservation on the CPU backend, "
            f"despite its name). {_HINT}"
        )
    blocks = available // per_block
    needed = -(-max_model_len // memory.block)
    if blocks - 1 < needed:
        longest = (blocks - 1) * memory.block
        estimate = (
            f"Based on the available memory, the estimated maximum model length is {longest}. " if longest else ""
        )
        raise OutOfMemoryError(
            f"To serve at least one request with the model's max seq len ({max_model_len}), "
            f"({needed * per_block / GIB:.2f} GiB KV cache is needed, which is larger than the available KV "
            f"cache memory ({usable / GIB:.2f} GiB). {estimate}Try increasing `gpu_memory_utilization` "
            "(which also controls CPU memory on the CPU backend) or decreasing `max_model_len` when "
            f"initializing the engine. {_HINT}"
        )
    return blocks
