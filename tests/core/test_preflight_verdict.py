"""From what an image said to why a revision is not made, as far as that is sure."""

from typing import Any

import pytest

from nightshift.api.preflight import PreflightCheck, PreflightOutcome, PreflightResult
from nightshift.core.preflight_verdict import ESCAPE, redacted, refusal, summary
from tests.support.builders import revision

RESOLVED = revision().resolved
LONG_CONTEXT = (
    "ValueError: Value error, User-specified max_model_len (9999999) is greater than the derived max_model_len "
    "(max_position_embeddings=2048.0 or model_max_length=None in model's config.json)."
)


def outcome(check: str = "", said: str = "", result: str = "Refused", **facts: Any) -> PreflightOutcome:
    checks = (PreflightCheck(check=check, result=PreflightResult(result), said=said),) if check else ()
    return PreflightOutcome(checks=checks, **facts)


@pytest.mark.parametrize(
    ("found", "reason", "says"),
    [
        pytest.param(
            outcome("arguments", "unrecognized arguments: --swap-space=4"), "EngineArgsRejected",
            ["--swap-space=4. vLLM 0.18.0 removed --swap-space. Leave it out"], id="a flag that was removed",
        ),
        pytest.param(
            outcome("arguments", "unrecognized arguments: --max-model-length=4"), "EngineArgsRejected",
            ["Did you mean --max-model-len?"], id="a misspelled flag",
        ),
        pytest.param(
            outcome("arguments", "argument --max-model-len: invalid human_readable_int_or_auto value: 'abc'"),
            "EngineArgsRejected", ["invalid human_readable_int_or_auto value", "Correct engine.args"], id="a value",
        ),
        pytest.param(
            outcome("toolParser", "invalid tool call parser: nosuch (chose from hermes, mistral)"),
            "EngineArgsRejected", ["invalid tool call parser: nosuch", "hermes"], id="a tool parser that there is not",
        ),
        pytest.param(
            outcome("reasoningParser", "Reasoning parser 'nosuch' not found. There are: qwen3"), "EngineArgsRejected",
            ["Reasoning parser 'nosuch' not found"], id="a reasoning parser that there is not",
        ),
        pytest.param(
            outcome("architecture", "Model architectures ['NovelForCausalLM'] are not supported for now"),
            "ModelNotSupported", ["vLLM 0.32.0 does not support the model's architecture NovelForCausalLM"],
            id="an architecture nobody knows",
        ),
        pytest.param(
            outcome("architecture", "Model architecture MotifForCausalLM was supported in vLLM until v0.10.2"),
            "ModelNotSupported", ["The last version that did is 0.10.2"], id="an architecture that is gone",
        ),
        pytest.param(
            outcome("quantization", "Unknown quantization method: int3. Must be one of ['awq', 'fp8']."),
            "QuantizationUnsupported", ["Unknown quantization method: int3"], id="a quantization that there is not",
        ),
        pytest.param(
            outcome("configuration", LONG_CONTEXT), "EngineArgsRejected",
            ["--max-model-len 9999999 is more than the 2048 tokens"], id="a context longer than the model's",
        ),
        pytest.param(
            outcome("configuration", LONG_CONTEXT, platform="assumed"), "EngineArgsRejected", ["2048 tokens"],
            id="which holds without a device as well",
        ),
        pytest.param(
            outcome("givenTemplate", "TemplateSyntaxError: unexpected end"), "ChatTemplateBroken",
            ["The template of --chat-template cannot be read: TemplateSyntaxError", "remove the argument"],
            id="a given template that cannot be read",
        ),
        pytest.param(
            outcome("modelTemplate", "TemplateSyntaxError: unexpected end"), "ChatTemplateBroken",
            ["The model's chat template cannot be read", "give another one by --chat-template"],
            id="the model's template",
        ),
        pytest.param(
            outcome(vllm="0.31.0+cu129"), "EngineVersionMismatch",
            ["of version 0.32.0 holds vLLM 0.31.0.", "Set engine.version to what the image holds"],
            id="an image that holds another version than its tag says",
        ),
        pytest.param(
            outcome(cuda="13.0", driver="570.86.10"), "CudaDriverMismatch",
            ["CUDA 13.0 needs driver 580 or newer, and the node has 570.86.10", "Update the driver"],
            id="a node whose driver is too old",
        ),
    ],
)  # fmt: skip
def test_what_is_sure_keeps_a_revision_from_being_made(found: PreflightOutcome, reason: str, says: list[str]) -> None:
    cause = refusal(found, RESOLVED)
    assert cause is not None
    assert (cause.reason, cause.definite) == (reason, True)
    assert [words for words in says if words not in cause.message] == [], cause.message
    assert cause.message.endswith(ESCAPE)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(outcome("arguments", result="Passed"), id="what passed"),
        pytest.param(outcome("arguments", "The parser ended otherwise", "Unknown"), id="what could not be judged"),
        pytest.param(outcome(), id="nothing at all"),
        pytest.param(outcome("taste", "too salty"), id="a check of a newer program"),
        pytest.param(outcome("configuration", "RuntimeError: Failed to infer device type"), id="a lack of the place"),
        pytest.param(
            outcome(
                "configuration", "ValueError: Unknown quantization method: x. Must be one of []", platform="assumed"
            ),
            id="what another platform may take",
        ),
        pytest.param(outcome("architecture", "something else"), id="a sentence nobody knows"),
        pytest.param(outcome(vllm="0.32.0+cpu"), id="another build of the version"),
        pytest.param(outcome(vllm="0.32.1.dev7+g1234"), id="a development build"),
        pytest.param(outcome(vllm="0.1.dev1"), id="a build without a version"),
        pytest.param(outcome(vllm="latest"), id="what is no version"),
        pytest.param(outcome(cuda="13.0", driver="580.65.06"), id="a driver that is new enough"),
        pytest.param(outcome(cuda="12.9", driver="570.86.10"), id="an older CUDA on that driver"),
        pytest.param(outcome(cuda="13.0", driver="570.86.10", compat="yes"), id="libraries for older drivers"),
        pytest.param(outcome(cuda="13.0"), id="a driver that is not known"),
        pytest.param(outcome(driver="570.86.10"), id="an image without CUDA"),
        pytest.param(outcome(cuda="14.1", driver="580.65.06"), id="a CUDA nobody has reviewed"),
        pytest.param(outcome(cuda="thirteen", driver="x"), id="versions that cannot be read"),
    ],
)
def test_nothing_else_does(found: PreflightOutcome) -> None:
    assert refusal(found, RESOLVED) is None


def test_the_first_refusal_names_the_cause() -> None:
    both = (
        PreflightCheck(check="taste", result=PreflightResult.REFUSED, said="too salty"),
        PreflightCheck(check="quantization", result=PreflightResult.REFUSED, said="Unknown quantization method: x."),
        PreflightCheck(check="modelTemplate", result=PreflightResult.REFUSED, said="TemplateSyntaxError: x"),
    )
    cause = refusal(PreflightOutcome(checks=both), RESOLVED)
    assert cause is not None
    assert cause.reason == "QuantizationUnsupported"


@pytest.mark.parametrize(
    ("checks", "says"),
    [
        pytest.param(
            {"arguments": "Passed", "architecture": "Passed", "modelTemplate": "Unknown"},
            "The image's own vLLM 0.32.0 accepts: arguments, architecture. "
            "Not judged beforehand: model's chat template.",
            id="two that passed and one that was not judged",
        ),
        pytest.param(
            {"arguments": "Passed"}, "The image's own vLLM 0.32.0 accepts: arguments.", id="all of them passed"
        ),
        pytest.param({"image": "Unknown"}, "The image itself could not judge.", id="an image that holds no vLLM"),
        pytest.param({}, "The image itself could not judge.", id="nothing was asked"),
        pytest.param(
            {"arguments": "Passed", "taste": "Refused"},
            "The image's own vLLM 0.32.0 accepts: arguments. Not judged beforehand: taste.",
            id="a refusal by a check that is not known here",
        ),
    ],
)
def test_what_an_image_said_is_told_in_a_sentence(checks: dict[str, str], says: str) -> None:
    found = tuple(PreflightCheck(check=name, result=PreflightResult(result)) for name, result in checks.items())
    assert summary(PreflightOutcome(vllm="0.32.0", checks=found)) == says


def test_what_looks_like_a_secret_is_neither_told_nor_stored() -> None:
    found = outcome("arguments", "unrecognized arguments: --my-token=hf_abcdefgh")
    cause = refusal(found, RESOLVED)
    assert cause is not None
    assert "hf_abcdefgh" not in cause.message
    assert "hf_abcdefgh" not in redacted(found).model_dump_json()
