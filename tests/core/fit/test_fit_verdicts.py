"""Verdicts, their sentences, and remedies that are judged by the same functions."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.api.model_facts import ModelFacts, TensorSummary, model_facts
from nightshift.core.facts import Unknown
from nightshift.core.fit.settings import EngineSettings, engine_settings
from nightshift.core.fit.suggest import fit, remedies
from nightshift.core.fit.traits import GIB
from nightshift.core.fit.verdict import DoesNotFit, Fits, Hardware, Verdict, assess, gib
from tests.core.fit.fit_models import A100, H100, H200, L4, facts_of, files_of, fixture

VERSION = "0.32.0"


def judge(model: str, hardware: Hardware, count: int = 1, *arguments: str, version: str = VERSION) -> Verdict:
    return fit(facts_of(model), engine_settings(arguments), version, replace(hardware, count=count))


@pytest.mark.parametrize(
    ("model", "hardware", "count", "arguments"),
    [
        ("llama-3.1-8b", H100, 1, ()),
        ("llama-3.1-8b", L4, 1, ("--max-model-len=8192",)),
        ("llama-3.1-70b", H100, 4, ()),
        ("llama-3.1-70b", H100, 2, ("--quantization=fp8",)),
        ("llama-3.1-70b", H100, 4, ("--pipeline-parallel-size=2",)),
        ("llama-3.1-405b-fp8", H100, 8, ("--max-model-len=16k", "--allow-deprecated-quantization")),
        ("deepseek-v3", H200, 8, ()),
        ("mixtral-8x7b", H100, 2, ()),
        ("gpt-oss-20b", L4, 1, ()),
        ("gemma-3-1b", L4, 1, ()),
        ("qwen3-235b-a22b-fp8", H100, 4, ()),
        ("qwen3-235b-a22b-fp8", H100, 8, ("--enable-expert-parallel",)),
        ("llama-3.1-8b", H100, 1, ("--kv-cache-memory-bytes=20G",)),
    ],
)
def test_what_is_known_to_run_fits(model: str, hardware: Hardware, count: int, arguments: tuple[str, ...]) -> None:
    found = judge(model, hardware, count, *arguments)
    assert isinstance(found, Fits), found
    assert found.capacity.concurrent_requests >= 1
    assert found.capacity.longest_context == found.capacity.max_model_len
    assert f"{found.capacity.tokens:,} tokens" in found.message
    assert not found.measured


@pytest.mark.parametrize(
    ("model", "hardware", "count", "arguments", "sentence"),
    [
        (
            "llama-3.1-70b", H100, 2, (),
            "71B in bf16 needs 131 GiB of weights, 2 x 79.2 GiB at 0.92 leaves 6.1 GiB for KV on each, and one request "
            "of 131,072 tokens needs 20.0 GiB; use fp8, 4 accelerators or --max-model-len=15360",
        ),
        (
            "llama-3.1-70b", A100, 1, (),
            "71B in bf16 needs 131 GiB of weights, 1 x 79.2 GiB at 0.92 gives 72.9 GiB; use 4 accelerators",
        ),
        (
            "llama-3.1-405b", H100, 8, (),
            "406B in bf16 needs 756 GiB of weights, 8 x 79.2 GiB at 0.92 gives 583 GiB; use fp8 or 16 accelerators",
        ),
        (
            "qwen2.5-7b", L4, 8, (),
            "28 attention heads and 4 key-value heads cannot be split over 8 accelerators; use 4 accelerators",
        ),
        (
            "gpt-oss-120b", H100, 16, (),
            "64 attention heads and 8 key-value heads cannot be split over 16 accelerators; use 8 accelerators",
        ),
        (
            "llama-3.1-8b", H100, 1, ("--max-model-len=200000",),
            "--max-model-len=200000 is more than the model's 131,072 positions; use --max-model-len=131072",
        ),
        (
            "llama-3.1-8b", L4, 1, ("--quantization=awq",),
            "awq needs a checkpoint quantized with it, and this model is not quantized; fp8 or "
            "int8_per_channel_weight_only would work here",
        ),
        (
            "llama-3.1-8b", L4, 1, ("--tensor-parallel-size=2",),
            "tensor parallel 2 x pipeline parallel 1 needs 2 accelerators, and the replica has 1; use 2 accelerators",
        ),
    ],
)  # fmt: skip
def test_refusals_say_the_numbers_and_the_remedy(
    model: str, hardware: Hardware, count: int, arguments: tuple[str, ...], sentence: str
) -> None:
    found = judge(model, hardware, count, *arguments)
    assert isinstance(found, DoesNotFit)
    assert found.message == sentence


def test_a_kv_cache_given_by_hand_must_fit_the_memory() -> None:
    found = judge("llama-3.1-8b", L4, 1, "--kv-cache-memory-bytes=16G", "--max-model-len=8192")
    assert isinstance(found, DoesNotFit)
    assert "with --kv-cache-memory-bytes=17179869184 that is more than 1 x 22 GiB: at most 6.7 GiB" in found.message
    assert found.message.endswith("use engine.args without --kv-cache-memory-bytes or 4 accelerators")
    small = judge("llama-3.1-8b", H100, 1, "--kv-cache-memory-bytes=1G")
    assert isinstance(small, DoesNotFit)
    assert "leaves 1.0 GiB for KV, and one request of 131,072 tokens needs 16.0 GiB" in small.message
    assert "use engine.args without --kv-cache-memory-bytes" in small.message


@pytest.mark.parametrize(
    ("model", "hardware", "count"),
    [("llama-3.1-70b", H100, 2), ("llama-3.1-405b", H100, 8), ("gemma-2-9b", L4, 1), ("mixtral-8x7b", H100, 1),
     ("llama-3.1-8b", L4, 1), ("qwen2.5-7b", L4, 8), ("qwen2.5-72b-awq", L4, 2), ("deepseek-v3", H100, 8)],
)  # fmt: skip
def test_every_remedy_fits_by_the_same_judgement(model: str, hardware: Hardware, count: int) -> None:
    place = replace(hardware, count=count)
    refusal = assess(facts_of(model), EngineSettings(), VERSION, place)
    assert isinstance(refusal, DoesNotFit)
    found = remedies(facts_of(model), EngineSettings(), VERSION, place, refusal)
    assert found
    for remedy in found:
        again = fit(facts_of(model), remedy.settings, VERSION, remedy.hardware)
        assert isinstance(again, Fits), f"{remedy.text}: {again}"


def test_two_remedies_together_when_one_is_not_enough() -> None:
    found = judge("llama-3.1-405b", L4, 16)
    assert isinstance(found, DoesNotFit)
    assert found.message.endswith("no shorter context, fp8 or count up to 16 was found to fit")
    both = judge("llama-3.1-405b", replace(H100, memory_gib=40.0), 8)
    assert isinstance(both, DoesNotFit)
    assert both.message.endswith("use fp8 with 16 accelerators")


@pytest.mark.parametrize(
    ("arguments", "version", "says"),
    [
        (("--speculative-config={}",), VERSION, "the memory that --speculative-config takes has not been compared yet"),
        (("--max-model-len=many",), VERSION, "vLLM does not take the value of --max-model-len"),
        (("--kv-cache-dtype=nvfp4",), VERSION, "a KV cache in nvfp4 has not been compared"),
        (("--quantization=torchao",), VERSION, "torchao"),
    ],
)
def test_what_is_not_modelled_is_unknown(arguments: tuple[str, ...], version: str, says: str) -> None:
    found = assess(facts_of("llama-3.1-8b"), engine_settings(arguments), version, H100)
    assert isinstance(found, Unknown)
    assert says in found.reason


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "mamba2"}, "model type mamba2 has not been compared yet"),
        ({}, "model type without a name"),
        ({"model_type": "llama"}, "config.json has no usable hidden_size, num_hidden_layers"),
        (fixture("deepseek-v3")["config"] | {"index_topk": 2048}, "sparse attention"),
        (fixture("qwen2.5-7b")["config"] | {"use_sliding_window": True}, "layers that slide from max_window_layers"),
        (fixture("phi-4")["config"] | {"sliding_window": 2047}, "sliding windows of phi3"),
        (fixture("gpt-oss-20b")["config"] | {"layer_types": ["new"] * 24}, "layer types that have not been compared"),
        (fixture("gemma-3-27b")["config"], "only the files of a multimodal model"),
    ],
)
def test_models_that_have_not_been_compared_are_unknown(config: dict[str, object], says: str) -> None:
    found = fit(model_facts(config), EngineSettings(), VERSION, H100)
    assert isinstance(found, Unknown)
    assert says in found.reason


def test_an_accelerator_of_unknown_memory_is_unknown() -> None:
    found = fit(facts_of("llama-3.1-8b"), EngineSettings(), VERSION, Hardware("cpu", 1, None))
    assert found == Unknown("the profile of accelerator cpu does not say how much memory it has")


def test_between_refusal_and_promise_nothing_is_claimed() -> None:
    found = judge("gpt-oss-120b", H100)
    assert isinstance(found, Unknown)
    assert found.reason.startswith("too close to call: 117B in mxfp4 needs 60.8 GiB")
    sure = int(found.reason.rpartition("--max-model-len=")[2].split()[0])
    assert isinstance(judge("gpt-oss-120b", H100, 1, f"--max-model-len={sure}"), Fits)
    assert not isinstance(judge("gpt-oss-120b", H100, 1, f"--max-model-len={sure + 16}"), Fits)


def test_the_files_of_a_multimodal_model_count_its_vision_tower_on_every_rank() -> None:
    config = fixture("gemma-3-27b")["config"]
    facts = model_facts(config, TensorSummary(total_bytes=54_864_813_280))
    one = fit(facts, EngineSettings(max_model_len=8192), VERSION, H100)
    four = fit(facts, EngineSettings(max_model_len=8192), VERSION, replace(H100, count=4))
    assert isinstance(one, Fits)
    assert isinstance(four, Fits)
    assert one.budget.weights.per_rank == pytest.approx(54_864_813_280, rel=1e-6)
    # github.com/vllm-project/vllm/issues/15676: "Model loading took 13.1665 GB" on each of four.
    assert four.budget.weights.per_rank / GIB == pytest.approx(13.1665, rel=0.02)


def test_an_automatic_length_takes_what_fits() -> None:
    found = judge("llama-3.1-8b", L4, 1, "--max-model-len=auto")
    assert isinstance(found, Fits)
    assert 16_000 < found.capacity.max_model_len < 131_072
    assert found.capacity.concurrent_requests == pytest.approx(1.0, abs=0.01)


def test_fp8_halves_weights_and_an_fp8_cache_doubles_tokens() -> None:
    plain = judge("llama-3.1-8b", H100)
    cached = judge("llama-3.1-8b", H100, 1, "--kv-cache-dtype=fp8")
    quantized = judge("llama-3.1-8b", H100, 1, "--quantization=fp8")
    assert isinstance(plain, Fits)
    assert isinstance(cached, Fits)
    assert isinstance(quantized, Fits)
    assert cached.capacity.tokens == pytest.approx(2 * plain.capacity.tokens, rel=0.001)
    assert quantized.budget.weights.total == pytest.approx(9_086_705_664, rel=0.001), "embeddings and head stay"


def test_a_checkpoint_with_scales_for_its_cache_gets_an_fp8_cache() -> None:
    with_scales = judge("llama-3-8b-fp8-kv", H100)
    without = judge("llama-3.1-8b-fp8", H100, 1, "--max-model-len=8192")
    assert isinstance(with_scales, Fits)
    assert isinstance(without, Fits)
    assert with_scales.kv.layer_bytes * 2 == without.kv.layer_bytes


def test_groups_of_scales_must_not_be_cut() -> None:
    config = fixture("qwen2.5-72b-awq")["config"] | {"intermediate_size": 29568}
    found = fit(model_facts(config), EngineSettings(), VERSION, replace(H100, count=2))
    assert isinstance(found, DoesNotFit)
    assert (
        "width 29,568 are quantized in groups of 128, which 2 accelerators would cut; use 1 accelerator"
        in found.message
    )
    before = judge("qwen3-235b-a22b-fp8", H100, 8, version="0.28.0")
    assert isinstance(before, DoesNotFit)
    assert before.message.endswith("use 4 accelerators or --enable-expert-parallel")
    assert isinstance(judge("qwen3-235b-a22b-fp8", H100, 8, version="0.30.0"), Fits)


def test_a_pipeline_shares_out_layers_and_not_those_of_several_kinds() -> None:
    whole, halves = judge("llama-3.1-8b", H100), judge("llama-3.1-8b", H100, 2, "-pp=2")
    assert isinstance(whole, Fits)
    assert isinstance(halves, Fits)
    assert halves.kv.bytes_per_token * 2 == whole.kv.bytes_per_token
    assert whole.budget.weights.total / 2 < halves.budget.weights.per_rank < whole.budget.weights.total
    assert isinstance(judge("gemma-2-9b", H100, 2, "-pp=2"), Unknown)


def test_without_the_hybrid_manager_every_layer_keeps_every_token() -> None:
    hybrid, plain = judge("gemma-2-9b", H100), judge("gemma-2-9b", H100, 1, "--disable-hybrid-kv-cache-manager")
    assert isinstance(hybrid, Fits)
    assert isinstance(plain, Fits)
    assert [group.layers for group in plain.kv.groups] == [42]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (131 * GIB, "131 GiB"),
        (6 * GIB + GIB // 10, "6.1 GiB"),
        (GIB // 50, "0.02 GiB"),
        (3 * 2**20, "3.0 MiB"),
        (0, "0.00 GiB"),
    ],
)
def test_sizes_are_written_as_in_the_engines_log(size: int, text: str) -> None:
    assert gib(size) == text


MODELS = st.sampled_from(
    ["llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "gemma-2-27b", "deepseek-v2-lite", "gpt-oss-20b"]
)
RANK = {DoesNotFit: 0, Unknown: 1, Fits: 2}


def rank(facts: ModelFacts, length: int, memory: float) -> int:
    return RANK[type(assess(facts, EngineSettings(max_model_len=length), VERSION, Hardware("x", 1, memory, (9, 0))))]


@settings(deadline=None)
@given(MODELS, st.integers(64, 8192), st.floats(8, 300), st.floats(0, 100), st.integers(0, 4096))
def test_more_memory_or_a_shorter_context_never_makes_it_worse(
    model: str, length: int, memory: float, more: float, shorter: int
) -> None:
    facts = facts_of(model)
    before = rank(facts, length, memory)
    # The batch grows at 70 and at 160 GiB, and with it the overheads: compared within one size of batch only.
    if [memory < size for size in (70, 160)] == [memory + more < size for size in (70, 160)]:
        assert rank(facts, length, memory + more) >= before
    assert rank(facts, max(1, length - shorter), memory) >= before


def test_published_files_and_configuration_agree() -> None:
    by_files = fit(files_of("llama-3.1-70b"), EngineSettings(), VERSION, replace(H100, count=4))
    by_config = judge("llama-3.1-70b", H100, 4)
    assert isinstance(by_files, Fits)
    assert isinstance(by_config, Fits)
    assert by_files.capacity == by_config.capacity
    assert (by_files.budget.weights.source, by_config.budget.weights.source) == ("files", "configuration")
