from typing import Any

import pytest

from nightshift.api.fetch import FetchReason
from nightshift.core.adapter_files import AdapterConfig, Misfit, Tensor, adapter_config, bucket, misfit

CONFIG = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "acme/tiny", "bias": "none"}
QUERY = "model.layers.0.self_attn.q_proj"


def lora(module: str = QUERY, rank: int = 8, into: int = 256, out: int = 256) -> dict[str, Tensor]:
    name = f"base_model.model.{module}"
    return {
        f"{name}.lora_A.weight": Tensor("BF16", (rank, into)),
        f"{name}.lora_B.weight": Tensor("BF16", (out, rank)),
    }


def base(module: str = QUERY, shape: tuple[int, ...] = (256, 256), dtype: str = "BF16") -> dict[str, Tensor]:
    return {f"{module}.weight": Tensor(dtype, shape)}


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        pytest.param(1, 1, id="rank 1 needs 1"),
        pytest.param(4, 8, id="rank 4 needs 8"),
        pytest.param(8, 8, id="rank 8 needs 8"),
        pytest.param(24, 32, id="rank 24 needs 32"),
        pytest.param(320, 320, id="rank 320 needs 320"),
        pytest.param(512, 512, id="rank 512 is the highest"),
        pytest.param(600, None, id="rank 600 fits nothing"),
    ],
)
def test_the_rank_an_engine_must_be_started_with(rank: int, expected: int | None) -> None:
    assert bucket(rank) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(CONFIG, AdapterConfig(8, "acme/tiny"), id="PEFT's own form is read"),
        pytest.param({"r": 16}, AdapterConfig(16, None), id="rank alone is enough"),
        pytest.param({**CONFIG, "rank_pattern": {"q_proj": 64}}, AdapterConfig(64, "acme/tiny"), id="a pattern counts"),
        pytest.param({**CONFIG, "bias": None}, AdapterConfig(8, "acme/tiny"), id="no bias is no bias"),
    ],
)
def test_a_configuration_is_read(raw: Any, expected: AdapterConfig) -> None:
    assert adapter_config(raw) == expected


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param([], "no JSON object", id="a list is no configuration"),
        pytest.param({**CONFIG, "peft_type": "IA3"}, '"IA3"', id="another method is refused"),
        pytest.param({}, "rank r is null", id="a missing rank is refused"),
        pytest.param({**CONFIG, "r": "8"}, 'rank r is "8"', id="a rank in words is refused"),
        pytest.param({**CONFIG, "r": True}, "rank r is true", id="true is no rank"),
        pytest.param({**CONFIG, "r": 0}, "rank r is 0", id="rank 0 is refused"),
        pytest.param({**CONFIG, "use_dora": True}, "DoRA", id="DoRA is refused"),
        pytest.param({**CONFIG, "modules_to_save": ["lm_head"]}, "modules_to_save", id="whole modules are refused"),
        pytest.param({**CONFIG, "bias": "all"}, "biases", id="biases are refused"),
    ],
)
def test_a_configuration_that_vllm_does_not_serve_is_refused(raw: Any, said: str) -> None:
    found = adapter_config(raw)
    assert isinstance(found, Misfit)
    assert found.reason is FetchReason.ADAPTER_UNUSABLE
    assert said in found.message
    assert "choose a plain LoRA adapter" in found.message


TWO_TOWERS = {
    "vision_tower.encoder.layers.0.self_attn.q_proj.weight": Tensor("BF16", (64, 64)),
    "language_model.model.layers.0.self_attn.q_proj.weight": Tensor("BF16", (256, 256)),
}
OTHER_NAME = lora("model.language_model.layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    ("adapter", "weights"),
    [
        pytest.param(lora(), base(), id="the same shapes fit"),
        pytest.param(lora(out=64), base(shape=(64, 256)), id="fewer key heads fit"),
        pytest.param(lora(), {}, id="a base without safetensors is not known"),
        pytest.param(lora(into=320), {f"{QUERY}.qweight": Tensor("I32", (32, 256))}, id="packed weights tell no shape"),
        pytest.param(lora(into=320), base(dtype="U8"), id="packed bytes tell no shape"),
        pytest.param(
            lora("model.layers.0.mlp.experts.3.up_proj"), base(), id="experts may be stored fused under another name"
        ),
        pytest.param(lora("lm_head"), base(), id="a shared head may not be stored"),
        pytest.param(OTHER_NAME, TWO_TOWERS, id="another beginning of the name is the same layer"),
        pytest.param(
            {f"base_model.model.{QUERY}.lora_A.weight": Tensor("BF16", (8, 1))}, base(), id="half a pair tells no shape"
        ),
    ],
)
def test_an_adapter_fits_as_far_as_can_be_known(adapter: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    assert misfit(adapter, AdapterConfig(8, None), weights) is None


@pytest.mark.parametrize(
    ("adapter", "weights", "reason", "said"),
    [
        pytest.param(
            lora(into=320),
            base(),
            FetchReason.ADAPTER_BASE_MISMATCH,
            "for a weight of shape (256, 320), the base model's has (256, 256)",
            id="another hidden size is another base",
        ),
        pytest.param(
            lora("model.layers.0.self_attn.q_proj", into=8, out=8),
            TWO_TOWERS,
            FetchReason.ADAPTER_BASE_MISMATCH,
            "(8, 8)",
            id="a shape of neither tower is another base",
        ),
        pytest.param(
            lora("model.layers.9.self_attn.q_proj"),
            base(),
            FetchReason.ADAPTER_MODULES_MISMATCH,
            "model.layers.9.self_attn.q_proj. It was trained on acme/other; choose",
            id="a layer too many is another base",
        ),
        pytest.param(
            {key: value for n in range(5) for key, value in lora(f"model.layers.0.c_{n}").items()},
            base(),
            FetchReason.ADAPTER_MODULES_MISMATCH,
            "model.layers.0.c_2 and 2 more",
            id="many missing modules are counted",
        ),
        pytest.param(
            lora(rank=64),
            {},
            FetchReason.ADAPTER_UNUSABLE,
            "matrices have rank 64 and its configuration says 8",
            id="a rank that the configuration hides is found",
        ),
        pytest.param({}, base(), FetchReason.ADAPTER_UNUSABLE, "no matrices", id="a file without matrices is none"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    adapter: dict[str, Tensor], weights: dict[str, Tensor], reason: FetchReason, said: str
) -> None:
    found = misfit(adapter, AdapterConfig(8, "acme/other"), weights)
    assert found is not None
    assert found.reason is reason
    assert said in found.message
