import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightshift.api.fetch import TERMINATION_MESSAGE_LIMIT
from nightshift.api.model_facts import (
    ModelFacts,
    TensorSummary,
    model_facts,
    summarize_index,
    summarize_tensors,
)
from nightshift.core.facts import Unknown
from nightshift.core.fit.shape import model_shape
from tests.core.fit.fit_models import NAMES, facts_of, fixture


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_small_and_come_back_as_they_were(name: str) -> None:
    tensors = TensorSummary(bytes_by_dtype={"BF16": 2**40, "F8_E4M3": 2**40, "F32": 2**30}, total_bytes=2**42)
    facts = model_facts(fixture(name)["config"], tensors)
    text = json.dumps(facts.to_json())
    assert len(text) < TERMINATION_MESSAGE_LIMIT / 2
    assert ModelFacts.model_validate_json(text) == facts


def test_the_language_model_of_a_multimodal_config_counts() -> None:
    facts = facts_of("gemma-3-27b")
    assert (facts.multimodal, facts.hidden_size, facts.model_type) == (True, 5376, "gemma3_text")
    assert facts.architecture == "Gemma3ForConditionalGeneration"


def test_layer_types_are_a_letter_each() -> None:
    assert facts_of("gpt-oss-20b").layer_types == "SF" * 12
    assert model_facts({"layer_types": ["full_attention", 7, "new_attention"]}).layer_types == "F??"


def test_modules_that_stay_as_they_are_are_counted_by_kind() -> None:
    kept = facts_of("llama-3.1-405b-fp8").quantization
    assert kept is not None
    assert kept.kept["self_attn.q_proj"] == 126
    assert kept.kept["mlp.down_proj"] == 2
    assert kept.kept["lm_head"] == 0
    everywhere = facts_of("gpt-oss-120b").quantization
    assert everywhere is not None
    assert everywhere.kept["self_attn"] == 0
    regex = model_facts({"quantization_config": {"quant_method": "x", "ignore": ["re:.*mlp.gate$", "lm_head"]}})
    assert regex.quantization is not None
    assert set(regex.quantization.kept) == {"mlp.gate", "lm_head"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("awq", 4, 128, True)),
        ({"quant_method": "GPTQ", "bits": 8, "group_size": -1}, ("gptq", 8, None, True)),
        ({"quant_method": "fp8"}, ("fp8", 8, None, False)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("bitsandbytes", 4, None, False)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bitsandbytes", 8, None, False)),
        ({"quant_method": "compressed-tensors", "config_groups": None}, ("compressed-tensors", None, None, False)),
    ],
)
def test_quantization_of_a_checkpoint(config: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = model_facts({"quantization_config": config}).quantization
    assert found is not None
    assert (found.method, found.weight_bits, found.group_size, found.zero_points) == expected


def test_headers_are_added_up_by_dtype() -> None:
    def tensor(dtype: str, start: int, end: int) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [end - start], "data_offsets": [start, end]}

    headers = [
        {"__metadata__": {"format": "pt"}, "model.layers.0.a": tensor("BF16", 0, 10), "lm_head": tensor("F32", 10, 30)},
        {"model.layers.2.eh_proj": tensor("BF16", 0, 5), "broken": {"dtype": "BF16", "data_offsets": [9, 3]}},
    ]
    found = summarize_tensors(headers, layers=2)
    assert found == TensorSummary(bytes_by_dtype={"BF16": 15, "F32": 20}, total_bytes=35, draft_bytes=5)
    assert summarize_tensors([]).total_bytes is None


def test_many_kinds_of_tensors_stay_bounded() -> None:
    header = {f"t{i}": {"dtype": f"D{i}", "data_offsets": [0, 1]} for i in range(500)}
    found = summarize_tensors([header])
    assert len(found.bytes_by_dtype) <= 32
    assert found.total_bytes == 500


@pytest.mark.parametrize(
    ("index", "expected"),
    [({"metadata": {"total_size": 7}}, 7), ({"metadata": {"total_size": "7"}}, None), ({"metadata": []}, None),
     ({}, None), ({"metadata": {"total_size": 1.0}}, 1)],
)  # fmt: skip
def test_the_index_states_the_total(index: dict[str, Any], expected: int | None) -> None:
    assert summarize_index(index).total_bytes == expected


VALUES = st.sampled_from(
    [None, True, -1, 0, 3, 64, 2**70, 1.5, 4096.0, float("nan"), float("inf"), "", "yarn", "x" * 5000, [], [1, "a"],
     ["full_attention"] * 3, [128, 128], {}, {"factor": 1e300}, {"weights": {"num_bits": "4"}}, {"a": {"weights": 3}}]
)  # fmt: skip
KEYS = [*ModelFacts.model_fields, "architectures", "text_config", "vision_config", "rope_scaling",
        "quantization_config", "num_local_experts", "mlp_only_layers", "torch_dtype"]  # fmt: skip
QUANTIZATION_KEYS = ["quant_method", "bits", "group_size", "ignore", "modules_to_not_convert", "config_groups",
                     "weight_block_size", "kv_cache_scheme", "kv_cache_quant_algo", "load_in_4bit"]  # fmt: skip
METHODS = st.sampled_from(["awq", "fp8", "compressed-tensors", "bitsandbytes"])
ODD = st.dictionaries(st.sampled_from(QUANTIZATION_KEYS), VALUES | METHODS, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES | ODD, max_size=12),
    st.sampled_from(["llama", "gemma3", "gpt_oss", "x"]),
)
def test_no_config_can_break_the_facts_or_the_shape(config: dict[str, Any], model_type: str) -> None:
    facts = model_facts(config | {"model_type": model_type})
    assert ModelFacts.model_validate(facts.to_json()) == facts
    shape = model_shape(facts)
    assert isinstance(shape, Unknown) or len(shape.layers) == facts.num_hidden_layers
