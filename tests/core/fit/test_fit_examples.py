"""The worked examples of the docstrings, and the tiny model that really ran."""

import pytest

from nightshift.api.model_facts import QuantizationFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.kv import Group, KvCache, layer_bytes_per_token
from nightshift.core.fit.overheads import Batch, batch, overheads
from nightshift.core.fit.parameters import Split, Weight, parameter_count, rank_weights
from nightshift.core.fit.settings import EngineSettings
from nightshift.core.fit.traits import GIB, memory_traits
from nightshift.core.fit.verdict import splits
from nightshift.core.fit.weights import draft_bytes, stored_bytes, weight_bytes
from tests.core.fit.fit_models import A100, H100, H200, L4, facts_of, files_of, shape_of

TRAITS = memory_traits("0.32.0")


@pytest.mark.parametrize(
    ("name", "ranks", "dtype", "expected"),
    [
        ("llama-3.1-70b", 1, "bfloat16", 4096),
        ("llama-3.1-70b", 8, "bfloat16", 512),
        ("llama-3.1-70b", 16, "bfloat16", 512),
        ("llama-3.1-70b", 8, "fp8", 256),
        ("deepseek-v3", 1, "bfloat16", 1152),
        ("deepseek-v3", 8, "fp8_e4m3", 576),
    ],
)
def test_kv_bytes_of_a_layer(name: str, ranks: int, dtype: str, expected: int) -> None:
    assert layer_bytes_per_token(shape_of(name), ranks, dtype) == expected


def test_kv_of_an_unknown_format_is_unknown() -> None:
    assert isinstance(layer_bytes_per_token(shape_of("llama-3.1-8b"), 1, "turboquant_4bit_nc"), Unknown)


def test_the_tiny_model_has_the_kv_size_that_vllm_logged() -> None:
    """vLLM 0.32.0 on a processor, --kv-cache-memory-bytes=67108864 --max-model-len=512: `65,536 tokens, 128.00x`."""
    layer = layer_bytes_per_token(shape_of("tiny"), 1, "bfloat16")
    assert isinstance(layer, int)
    cache = KvCache(2 * layer, layer, 128, (Group("full", 2),), 0, 0)
    capacity = cache.capacity(67108864, 512)
    assert (cache.bytes_per_token, cache.block_bytes) == (1024, 131072)
    assert (capacity.tokens, capacity.concurrent_requests) == (65536, 128.0)


def test_blocks_of_a_request_of_gemma_2() -> None:
    cache = KvCache(0, 8192, 16, (Group("full", 21), Group("sliding", 21)), 4096, 16384)
    assert cache.request_blocks(8192) == 512 + 513


def test_parameters_and_ranks_of_llama_8b() -> None:
    shape = shape_of("llama-3.1-8b")
    assert parameter_count(shape) == 8_030_261_248
    keys = [weight for weight in rank_weights(shape, Split(16)) if weight.module == "self_attn.k_proj"]
    assert [weight.elements for weight in keys] == [128 * 4096 * 32]
    eighth = [weight for weight in rank_weights(shape, Split(8)) if weight.module == "self_attn.k_proj"]
    assert eighth == keys, "repeated beyond eight ranks"


def test_a_matrix_in_awq() -> None:
    scheme = QuantizationFacts(method="awq", weight_bits=4, weight_type="int", group_size=128, zero_points=True)
    size = stored_bytes(Weight("mlp.up_proj", 4096, 4096), scheme)
    assert size == 8_388_608 + 2 * 131_072 + 65_536
    assert size * 8 / 4096**2 == pytest.approx(4.16, abs=0.005)


MATRIX = Weight("mlp.experts.up_proj", 1024, 4096, layers=2, copies=3)
ELEMENTS = 1024 * 4096


@pytest.mark.parametrize(
    ("scheme", "each"),
    [
        ({"method": "gptq", "weight_bits": 8, "group_size": 128, "zero_points": True},
         ELEMENTS + ELEMENTS // 128 * 3 + 4 * 4096),
        ({"method": "gptq", "weight_bits": 4, "group_size": 128, "zero_points": True},
         ELEMENTS // 2 + ELEMENTS // 128 * 2 + ELEMENTS // 256 + 4 * 4096),
        ({"method": "fp8", "weight_bits": 8, "weight_type": "float", "block": (128, 128)}, ELEMENTS + 4 * 8 * 32),
        ({"method": "compressed-tensors", "weight_bits": 8, "weight_type": "int"}, ELEMENTS + 4 * 1024),
        ({"method": "mxfp4", "weight_bits": 4, "weight_type": "float"}, ELEMENTS * 17 // 32),
        ({"method": "modelopt_fp4", "weight_bits": 4, "weight_type": "float"}, ELEMENTS * 9 // 16),
        ({"method": "bitsandbytes", "weight_bits": 4}, ELEMENTS // 2 + 4 * ELEMENTS // 64),
        ({"method": "bitsandbytes", "weight_bits": 4, "double_quantized": True},
         ELEMENTS // 2 + ELEMENTS // 64 + 4 * ELEMENTS // 64 // 256),
        ({"method": "bitsandbytes", "weight_bits": 8}, ELEMENTS + 4 * 1024),
        ({"method": "experts_int8", "weight_bits": 8, "weight_type": "int"}, ELEMENTS + 4 * 1024),
        ({"method": "awq", "weight_bits": 4, "group_size": 128, "kept": {"mlp.experts": 0}}, 2 * ELEMENTS),
    ],
)  # fmt: skip
def test_bytes_of_a_quantized_matrix(scheme: dict[str, object], each: int) -> None:
    assert stored_bytes(MATRIX, QuantizationFacts.model_validate(scheme)) == 6 * each


def test_matrices_that_a_scheme_leaves_alone() -> None:
    attention = Weight("self_attn.q_proj", 64, 64)
    for method in ("mxfp4", "experts_int8"):
        scheme = QuantizationFacts(method=method, weight_bits=4)
        assert stored_bytes(attention, scheme) == 2 * 64 * 64
    awq = QuantizationFacts(method="awq", weight_bits=4, group_size=32)
    assert stored_bytes(Weight("embed_tokens", 64, 64, linear=False), awq) == 2 * 64 * 64
    some = QuantizationFacts(method="fp8", weight_bits=8, weight_type="float", kept={"mlp.down_proj": 1})
    down = Weight("mlp.down_proj", 64, 64, layers=3)
    assert stored_bytes(down, some) == 2 * (64 * 64 + 4 * 64) + 2 * 64 * 64


def test_a_scheme_of_unknown_width_is_unknown() -> None:
    facts = facts_of("llama-3.1-8b").model_copy(update={"quantization": QuantizationFacts(method="exl3")})
    found = weight_bytes(facts, shape_of("llama-3.1-8b"), Split())
    assert isinstance(found, Unknown)
    assert "exl3" in found.reason


@pytest.mark.parametrize(
    ("name", "requested", "dtype", "label"),
    [
        ("llama-3.1-8b", None, "auto", "bf16"),
        ("llama-3.1-8b", None, "half", "fp16"),
        ("llama-3.1-8b", None, "float32", "fp32"),
        ("llama-3.1-8b", "fp8", "auto", "fp8"),
        ("llama-3.1-8b", "bitsandbytes", "auto", "4-bit bitsandbytes"),
        ("llama-3.1-8b", "int8_per_channel_weight_only", "auto", "int8"),
        ("llama-3.1-70b-w8a8", None, "auto", "int8"),
        ("qwen2.5-72b-awq", None, "auto", "4-bit awq"),
        ("gpt-oss-20b", None, "auto", "mxfp4"),
        ("deepseek-v3", None, "auto", "fp8"),
    ],
)
def test_how_weights_are_held_is_named(name: str, requested: str | None, dtype: str, label: str) -> None:
    found = weight_bytes(facts_of(name), shape_of(name), Split(), requested, dtype)
    assert not isinstance(found, Unknown)
    assert found.label == label


def test_quantizing_while_loading_starts_from_the_files() -> None:
    facts, shape = files_of("llama-3.1-70b"), shape_of("llama-3.1-70b")
    halved = weight_bytes(facts, shape, Split(), "fp8")
    wide = weight_bytes(facts, shape, Split(), None, "float32")
    assert not isinstance(halved, Unknown)
    assert not isinstance(wide, Unknown)
    assert halved.total / GIB == pytest.approx(67.7, abs=0.1), "embedding and head stay at two bytes"
    assert wide.total == 2 * 141_107_412_992


def test_drafting_layers_of_deepseek_are_not_loaded() -> None:
    facts = files_of("deepseek-v3")
    shape = shape_of("deepseek-v3")
    assert facts.tensors.total_bytes == 688_586_727_753
    weights = weight_bytes(facts, shape, Split())
    assert not isinstance(weights, Unknown)
    assert weights.source == "files"
    assert weights.total == pytest.approx(673_150_612_784, rel=0.002), "vLLM's own count"
    assert draft_bytes(facts, shape, facts.quantization) > 10**10


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "gpt-oss-20b"])
def test_the_configuration_gives_the_size_of_the_published_files(name: str) -> None:
    counted = weight_bytes(facts_of(name), shape_of(name), Split())
    published = files_of(name).tensors.total_bytes
    assert not isinstance(counted, Unknown)
    assert counted.total == published


@pytest.mark.parametrize(
    ("hardware", "version", "expected"),
    [
        (L4, "0.32.0", Batch(2048, 256)),
        (A100, "0.32.0", Batch(2048, 256)),
        (H100, "0.32.0", Batch(8192, 1024)),
        (H200, "0.32.0", Batch(8192, 1024)),
    ],
)
def test_batches_by_accelerator(hardware: object, version: str, expected: Batch) -> None:
    name, memory = getattr(hardware, "name", ""), getattr(hardware, "memory_gib", 0)
    assert batch(EngineSettings(), memory_traits(version), int(memory * GIB), name, 131072) == expected


def test_batches_are_larger_on_the_largest_accelerators_from_0_28_on() -> None:
    large = 178 * GIB
    assert batch(EngineSettings(), memory_traits("0.27.1"), large, "b200", 131072) == Batch(8192, 1024)
    assert batch(EngineSettings(), memory_traits("0.28.0"), large, "b200", 131072) == Batch(16384, 1024)
    assert batch(EngineSettings(max_num_seqs=4), TRAITS, large, "b200", 512) == Batch(2048, 4)


def test_overheads_of_llama_8b_on_an_h100() -> None:
    found = overheads(shape_of("llama-3.1-8b"), Split(), Batch(8192, 1024), EngineSettings(), TRAITS)
    assert found.likely / GIB == pytest.approx(3.3, abs=0.05)
    eager = overheads(shape_of("llama-3.1-8b"), Split(), Batch(8192, 1024), EngineSettings(enforce_eager=True), TRAITS)
    assert found.likely - eager.likely == 600 * 2**20


def test_heads_of_qwen_7b_cannot_be_shared_by_eight() -> None:
    shape = shape_of("qwen2.5-7b")
    assert not splits(shape, 8)
    assert splits(shape, 4)


@pytest.mark.parametrize(
    ("version", "utilization", "batches", "graphs"),
    [("0.16.0", 0.90, 1, False), ("0.19.1", 0.90, 1, False), ("0.20.0", 0.92, 1, False), ("0.21.0", 0.92, 1, True),
     ("0.25.1", 0.92, 1, True), ("0.26.0", 0.92, 2, True), ("0.99.0", 0.92, 2, True)],
)  # fmt: skip
def test_traits_by_version(version: str, utilization: float, batches: int, graphs: bool) -> None:
    found = memory_traits(version)
    assert (found.gpu_memory_utilization, found.batches_in_flight, found.graphs_counted) == (
        utilization,
        batches,
        graphs,
    )
