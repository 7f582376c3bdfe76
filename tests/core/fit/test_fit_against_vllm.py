"""The same numbers as vLLM's own code and transformers', for public models; oracle/kv_and_weights.py says how."""

import json
from typing import Any

import pytest

from nightshift.core.facts import Unknown
from nightshift.core.fit.kv import KvCache, kv_cache
from nightshift.core.fit.parameters import Split, parameter_count
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.traits import memory_traits
from nightshift.core.fit.verdict import splits
from nightshift.core.fit.weights import weight_bytes
from tests.core.fit.fit_models import HERE, NAMES, facts_of, fixture, shape_of

ORACLE: dict[str, Any] = json.loads((HERE / "oracle" / "vllm-0.32.0.json").read_text())


def cases(*keys: str, impossible: bool = False) -> pytest.MarkDecorator:
    """The oracle's cases that vLLM could make, or could not; those that have all of these keys."""
    chosen = [
        (name, case)
        for name in NAMES
        for case in ORACLE["models"][name]["cases"]
        if ("impossible" in case) is impossible and all(key in case for key in keys)
    ]
    names = [f"{name}-tp{case['tensor_parallel']}-{case['kv_cache_dtype']}" for name, case in chosen]
    return pytest.mark.parametrize(("name", "case"), chosen, ids=names)


def cache_of(name: str, case: dict[str, Any]) -> KvCache:
    settings = EngineSettings(kv_cache_dtype=case["kv_cache_dtype"], block_size=ORACLE["block_size"])
    traits = memory_traits(ORACLE["vllm"].split("+")[0])
    cache = kv_cache(
        facts_of(name), shape_of(name), settings, traits, case["tensor_parallel"], ORACLE["max_batched_tokens"]
    )
    assert not isinstance(cache, Unknown), cache.reason
    return cache


def test_every_fixture_was_measured_and_names_its_source() -> None:
    assert set(ORACLE["models"]) == set(NAMES)
    assert all(fixture(name)["source"] for name in NAMES)
    assert len(NAMES) >= 15


@cases()
def test_kv_bytes_per_token_equal_those_of_vllm(name: str, case: dict[str, Any]) -> None:
    assert cache_of(name, case).bytes_per_token == case["kv_bytes_per_token_all_layers"]


@cases()
def test_layers_are_grouped_as_vllm_groups_them(name: str, case: dict[str, Any]) -> None:
    cache = cache_of(name, case)
    assert sorted(group.layers for group in cache.groups) == sorted(case["groups"])
    sliding = sum(group.layers for group in cache.groups if group.kind == "sliding")
    assert sliding == case["layers"].get("SlidingWindowSpec", 0)
    if sliding:
        assert cache.in_flight == case["max_in_flight_tokens"]


@cases()
def test_capacity_equals_that_of_vllm(name: str, case: dict[str, Any]) -> None:
    cache = cache_of(name, case)
    length = case["max_model_len"]
    capacity = cache.capacity(ORACLE["available_kv_bytes"], length)
    assert ORACLE["available_kv_bytes"] // cache.block_bytes == case["num_blocks"]
    assert capacity.tokens == case["capacity_tokens"]
    assert capacity.concurrent_requests == pytest.approx(case["max_concurrency"], abs=1e-9)
    assert cache.request_blocks(length) * cache.block_bytes == case["bytes_per_request_at_max_model_len"]
    # vLLM's estimate leaves out the block that always stays empty; its check at start does not.
    assert cache.longest_context(ORACLE["scarce_kv_bytes"] + cache.block_bytes, length) == case["longest_context"]


@pytest.mark.parametrize("name", NAMES)
def test_context_length_is_the_one_vllm_derives(name: str) -> None:
    assert shape_of(name).max_positions == ORACLE["models"][name]["cases"][0]["max_model_len"]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_those_on_the_meta_device(name: str) -> None:
    counted, measured = parameter_count(shape_of(name)), ORACLE["models"][name]["transformers_parameters"]
    if facts_of(name).multimodal:
        assert counted == pytest.approx(measured, rel=0.02), "the vision tower is not counted"
    else:
        assert counted == measured


@cases("weight_bytes")
def test_weights_of_a_rank_are_those_of_vllm(name: str, case: dict[str, Any]) -> None:
    facts = facts_of(name).model_copy(update={"multimodal": False})  # the oracle built the language model
    weights = weight_bytes(facts, shape_of(name), Split(case["tensor_parallel"]))
    assert not isinstance(weights, Unknown)
    assert weights.per_rank == pytest.approx(case["weight_bytes"], rel=0.0025)


@cases(impossible=True)
def test_splits_that_vllm_cannot_make_are_known(name: str, case: dict[str, Any]) -> None:
    assert not splits(shape_of(name), case["tensor_parallel"])


@cases()
def test_splits_that_vllm_makes_are_allowed(name: str, case: dict[str, Any]) -> None:
    assert splits(shape_of(name), case["tensor_parallel"])
