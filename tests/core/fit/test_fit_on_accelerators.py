"""Against what CUDA devices said and took (bench/accelerator_probe.py): the profiles, and the fit's estimates."""

import json
from typing import Any

import pytest
import yaml

from nightshift.core.engine_failures import failure_cause
from nightshift.core.engine_log import engine_failure
from nightshift.core.fit.overheads import Batch, batch, overheads
from nightshift.core.fit.parameters import Split
from nightshift.core.fit.settings import engine_settings
from nightshift.core.fit.traits import GIB, memory_traits
from nightshift.core.fit.verdict import Hardware, Memory, share_out
from tests.core.fit.fit_models import HERE, files_of, shape_of
from tools.repository import ROOT

DEVICES = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "accelerators").glob("*.json"))}
PROFILES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "charts/nightshift/values.yaml").read_text())[
    "accelerators"
]
VERSION = "0.32.0"
EAGER = engine_settings(("--enforce-eager",))
DRIVERS_DIFFER_GIB = 0.2
"""By how much the memory of one card differs between drivers."""

devices = pytest.mark.parametrize("name", DEVICES)


@devices
def test_a_profile_says_what_its_card_says(name: str) -> None:
    device, profile = DEVICES[name], PROFILES[name]
    assert 0 <= profile["memoryGiB"] - device["memory_bytes"] / GIB + 0.01 <= DRIVERS_DIFFER_GIB
    assert profile["computeCapability"] == device["compute_capability"]
    assert profile["nodeSelector"] == {"nvidia.com/gpu.product": device["device"].replace(" ", "-")}


@devices
def test_the_batch_is_the_one_that_was_measured(name: str) -> None:
    found = batch(EAGER, memory_traits(VERSION), DEVICES[name]["memory_bytes"], name, 131072)
    assert found == Batch(**DEVICES[name]["batch"])


@devices
def test_weights_on_the_card_are_those_of_the_files(name: str) -> None:
    hardware = Hardware(name, 1, PROFILES[name]["memoryGiB"], (9, 0))
    memory = share_out(files_of("llama-3.1-8b"), EAGER, VERSION, hardware)
    assert isinstance(memory, Memory)
    assert memory.budget.weights.per_rank == pytest.approx(DEVICES[name]["weights_bytes"], rel=0.005)


@devices
def test_overheads_are_between_the_least_and_the_likely(name: str) -> None:
    """The peaks of a forward pass and of a sampling step, and what libraries keep beside torch's memory."""
    device = DEVICES[name]
    found = overheads(shape_of("llama-3.1-8b"), Split(1), Batch(**device["batch"]), EAGER, memory_traits(VERSION))
    libraries = (device["context_and_libraries_mib"] - device["context_mib"]) * 2**20
    taken = max(device["forward_bytes"], device["sampling_bytes"]) + libraries
    assert found.low <= taken <= found.likely


@devices
def test_a_card_that_is_full_is_named_with_its_numbers(name: str) -> None:
    failure = engine_failure(DEVICES[name]["out_of_memory"])
    assert failure is not None
    cause = failure_cause(failure, VERSION)
    assert cause is not None
    assert cause.reason == "OutOfGpuMemory"
    assert f"{DEVICES[name]['memory_bytes'] / GIB:.2f} GiB" in cause.message
