"""Quantizations against the checkpoint, the version and the accelerator; every remedy is put to the same check."""

import pytest

from nightshift.api.model_facts import ModelFacts, QuantizationFacts
from nightshift.core.facts import Unknown
from nightshift.core.fit.quantization import METHODS, Accepted, Check, Refused, check_quantization
from tests.core.fit.fit_models import facts_of

T4, A100, L4, H100, V100 = (7, 5), (8, 0), (8, 9), (9, 0), (7, 0)
PLAIN, AWQ, GPTQ, BNB = "llama-3.1-8b", "qwen2.5-72b-awq", "qwen2.5-7b-gptq-int4", "llama-3.1-8b-bnb-4bit"
ONLINE = ("fp8", "int8_per_channel_weight_only")
FP8, W8A8, FBGEMM, MXFP4 = "qwen3-8b-fp8", "llama-3.1-70b-w8a8", "llama-3.1-405b-fp8", "gpt-oss-120b"
Capability = tuple[int, int] | None


@pytest.mark.parametrize(
    ("requested", "model", "version", "capability", "method"),
    [
        (None, PLAIN, "0.32.0", H100, None),
        (None, PLAIN, "0.32.0", None, None),
        (None, AWQ, "0.32.0", A100, "awq"),
        (None, GPTQ, "0.32.0", V100, "gptq"),
        (None, BNB, "0.27.1", A100, "bitsandbytes"),
        (None, FP8, "0.32.0", T4, "fp8"),
        (None, W8A8, "0.32.0", T4, "compressed-tensors"),
        (None, MXFP4, "0.32.0", A100, "mxfp4"),
        ("fp8", PLAIN, "0.32.0", H100, "fp8"),
        ("fp8", PLAIN, "0.12.0", A100, "fp8"),
        ("bitsandbytes", PLAIN, "0.27.1", A100, "bitsandbytes"),
        ("fp8_per_channel", PLAIN, "0.24.0", L4, "fp8_per_channel"),
        ("awq_marlin", AWQ, "0.32.0", A100, "awq_marlin"),
        ("auto_gptq", GPTQ, "0.32.0", A100, "auto_gptq"),
        ("gpt_oss_mxfp4", MXFP4, "0.32.0", H100, "gpt_oss_mxfp4"),
    ],
)
def test_right_pairs_are_accepted(
    requested: str | None, model: str, version: str, capability: Capability, method: str | None
) -> None:
    assert check_quantization(requested, facts_of(model), version, capability) == Accepted(method)


@pytest.mark.parametrize(
    ("requested", "model", "version", "capability", "says", "works"),
    [
        ("awq", PLAIN, "0.32.0", H100, "awq needs a checkpoint quantized with it", ONLINE),
        ("awq", PLAIN, "0.12.0", A100, "fp8 or bitsandbytes would work here", ("fp8", "bitsandbytes")),
        ("compressed-tensors", PLAIN, "0.32.0", H100, "needs a checkpoint", ONLINE),
        ("fp8", AWQ, "0.32.0", H100, "already quantized with awq, and fp8 cannot be put on top; leave", ("",)),
        ("gptq", AWQ, "0.32.0", H100, "already quantized with awq", ("",)),
        ("bitsandbytes", FP8, "0.20.0", H100, "already quantized with fp8", ("",)),
        (None, BNB, "0.28.0", H100, "any more; use a version before 0.28 or a checkpoint in fp8", ()),
        ("awq", BNB, "0.32.0", H100, "use another checkpoint", ()),
        ("bitsandbytes", PLAIN, "0.32.0", H100, "or a version before 0.28", ONLINE),
        ("fp8_per_tensor", PLAIN, "0.19.0", H100, "know fp8_per_tensor yet, 0.20 does", ("fp8", "bitsandbytes")),
        ("fp8", PLAIN, "0.12.0", T4, "needs compute capability 8.0, and this accelerator has 7.5", ("bitsandbytes",)),
        ("fp8", PLAIN, "0.32.0", V100, "fp8 needs compute capability 7.5", ()),
        (None, AWQ, "0.32.0", V100, "awq needs compute capability 7.5", ()),
        (None, MXFP4, "0.32.0", T4, "compute capability 8.0, and this accelerator has 7.5; use a newer", ()),
        (None, MXFP4, "0.9.2", H100, "does not know mxfp4 yet, 0.10.1 does", ()),
        (None, FBGEMM, "0.32.0", H100, "add --allow-deprecated-quantization", ()),
    ],
)  # fmt: skip
def test_wrong_pairs_are_refused_with_what_would_work(
    requested: str | None, model: str, version: str, capability: Capability, says: str, works: tuple[str, ...]
) -> None:
    facts = facts_of(model)
    found = check_quantization(requested, facts, version, capability)
    assert isinstance(found, Refused), found
    assert says in found.message
    assert found.works == works
    for name in found.works:
        again = check_quantization(name or None, facts, version, capability)
        assert isinstance(again, Accepted), f"{name!r} was said to work: {again}"


def test_deprecated_methods_are_taken_when_they_are_allowed() -> None:
    found = check_quantization(None, facts_of(FBGEMM), "0.32.0", H100, allow_deprecated=True)
    assert found == Accepted("fbgemm_fp8")


@pytest.mark.parametrize(
    ("requested", "facts", "capability"),
    [
        ("some_new_method", facts_of(PLAIN), H100),
        (None, ModelFacts(quantization=QuantizationFacts(method="exl3")), H100),
        ("fp8", facts_of(PLAIN), None),
        (None, facts_of(AWQ), None),
    ],
)
def test_what_is_not_known_is_not_refused(requested: str | None, facts: ModelFacts, capability: Capability) -> None:
    assert isinstance(check_quantization(requested, facts, "0.32.0", capability), Unknown)


@pytest.mark.parametrize(
    ("scheme", "version", "needed"),
    [
        ({"weight_bits": 4, "weight_type": "int", "activation_bits": 8}, "0.32.0", (9, 0)),
        ({"weight_bits": 8, "weight_type": "float", "activation_bits": 8}, "0.13.0", (8, 0)),
        ({"weight_bits": 8, "weight_type": "float", "activation_bits": 8}, "0.14.0", (7, 5)),
        ({"weight_bits": 8, "weight_type": "int", "activation_bits": 8}, "0.13.0", (7, 5)),
        ({"weight_bits": 4, "weight_type": "int"}, "0.13.0", (8, 0)),
        ({}, "0.32.0", (7, 0)),
    ],
)
def test_compressed_tensors_needs_what_its_scheme_needs(
    scheme: dict[str, object], version: str, needed: tuple[int, int]
) -> None:
    facts = ModelFacts(quantization=QuantizationFacts.model_validate({"method": "compressed-tensors"} | scheme))

    def check(capability: tuple[int, int]) -> Check:
        return check_quantization(None, facts, version, capability)

    assert isinstance(check(needed), Accepted)
    assert isinstance(check((needed[0] - 1, 9)), Refused)


def test_the_methods_of_vllm_0_32_are_those_of_the_table() -> None:
    """QUANTIZATION_METHODS of 0.32.0, those that the table leaves to vLLM's own check apart."""
    vllm = {
        "auto_awq", "auto_gptq", "awq", "awq_marlin", "compressed-tensors", "deepseek_v4_fp8", "experts_int8",
        "fbgemm_fp8", "fp8", "fp8_per_block", "fp8_per_channel", "fp8_per_tensor", "fp_quant", "gpt_oss_mxfp4", "gptq",
        "gptq_marlin", "humming", "inc", "int8_per_channel_weight_only", "modelopt", "modelopt_fp4", "modelopt_mixed",
        "modelopt_mxfp8", "moe_wna16", "mxfp4", "mxfp8", "nvfp4_per_token", "online", "quark", "torchao",
    }  # fmt: skip
    gone = {name for name, method in METHODS.items() if method.until is not None}
    assert METHODS.keys() - gone <= vllm
    assert not gone & vllm
