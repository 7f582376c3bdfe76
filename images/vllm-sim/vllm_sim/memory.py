"""How many tokens the KV cache holds, and vLLM's refusals when it holds too few. All sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
_HINT = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."


CUDA_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a total capacity of 22.06 GiB of which 130.44 MiB is "
    "free. Including non-PyTorch memory, this process has 21.93 GiB memory in use. Of the allocated memory 21.70 GiB "
    "is allocated by PyTorch, and 7.13 MiB is reserved by PyTorch but unallocated."
)
"""As torch 2.13.0 words it (c10/cuda/CUDACachingAllocator.cpp)."""

_LARGEST_FILLED = GIB
_PIECE = 8 << 20


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


def container_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory that this container may use, by cgroup v2 or v1; None where none of its own is told."""
    for file in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        try:
            return int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None


def fill_container(limit: int | None = None) -> None:
    """Use up the container's memory, so that the kernel kills this process and the kubelet says so.

    Returns where there is no limit, or one so large that others on the machine would feel it.

    Args:
        limit: Of the container; None: as the kernel tells it.
    """
    most = container_limit() if limit is None else limit
    if most is None or most > _LARGEST_FILLED:
        return
    held: list[bytearray] = []
    while len(held) * _PIECE <= most:
        held.append(bytearray(b"x" * _PIECE))
