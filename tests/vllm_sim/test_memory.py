import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from vllm_sim.memory import GIB, Memory, OutOfMemoryError, container_limit, fill_container, kv_blocks

ROOMY = Memory(
    device=80 * GIB,
    free=80 * GIB,
    weights=18 * GIB,
    utilization=0.9,
    kv_bytes=None,
    bytes_per_token=131072,
    block=16,
)


def test_blocks_of_explicit_memory() -> None:
    memory = replace(ROOMY, kv_bytes=67108864, bytes_per_token=512, block=128)
    assert kv_blocks(memory, 1024) == 1024  # the worked example; real vLLM logs 131072 tokens for it


def test_blocks_of_what_is_left_on_the_device() -> None:
    assert kv_blocks(ROOMY, 8192) == int(80 * GIB * 0.9 - 18 * GIB) // (131072 * 16)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (replace(ROOMY, weights=80 * GIB), "No available memory for the cache blocks."),
        (replace(ROOMY, kv_bytes=131072 * 16), "No available memory for the cache blocks."),
        (replace(ROOMY, free=GIB), "is less than desired GPU memory utilization"),
        (replace(ROOMY, kv_bytes=GIB), "the estimated maximum model length is 8176"),
    ],
)
def test_refusals_are_vllms(memory: Memory, message: str) -> None:
    with pytest.raises(OutOfMemoryError, match=message):
        kv_blocks(memory, 8192)


def test_one_block_is_kept_back() -> None:
    exact = replace(ROOMY, kv_bytes=4 * 16 * 131072)
    assert kv_blocks(exact, 48) == 4
    with pytest.raises(OutOfMemoryError):
        kv_blocks(exact, 64)


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        pytest.param("memory.max", "268435456\n", 268435456, id="a limit"),
        pytest.param("memory.max", "max\n", None, id="no limit"),
        pytest.param("memory/memory.limit_in_bytes", "268435456\n", 268435456, id="a limit of cgroup v1"),
        pytest.param(None, None, None, id="a machine that does not tell"),
    ],
)
def test_the_container_s_limit_is_the_kernel_s(
    tmp_path: Path, name: str | None, text: str | None, limit: int | None
) -> None:
    if name is not None and text is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert container_limit(tmp_path) == limit


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        pytest.param(16 << 20, 64 << 20, id="a small limit is exceeded, and not by much"),
        pytest.param(2 * GIB, 1 << 20, id="with a large one others on the machine are spared"),
    ],
)
def test_the_container_is_filled_to_its_limit(limit: int, most: int) -> None:
    tracemalloc.start()
    fill_container(limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(limit, most) <= peak + (1 << 20)
    assert peak < most
