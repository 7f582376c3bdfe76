"""What engines print when they cannot start, as they printed it, and the cause that is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.engine_failures import failure_cause
from nightshift.core.engine_log import EXCERPT_LIMIT, FailureKind, engine_failure, redact

TEXTS = Path(__file__).parent / "engine_texts"
"""One text a file; the first line says where it is from."""

EXPECTED: dict[str, tuple[FailureKind, str, list[str]]] = {
    "cudart-13.0-driver-insufficient": (
        FailureKind.DRIVER,
        "CudaDriverMismatch",
        ["CUDA driver version is insufficient", "Update the driver"],
    ),
    "cudart-13.0-no-kernel-image": (FailureKind.DRIVER, "CudaDriverMismatch", ["no kernel image"]),
    "nvidia-container-cli-requirement": (
        FailureKind.DRIVER,
        "CudaDriverMismatch",
        ["unsatisfied condition: cuda>=13.0"],
    ),
    "torch-2.13.0-cuda-out-of-memory": (
        FailureKind.GPU_MEMORY,
        "OutOfGpuMemory",
        ["asked for 448.00 MiB and 130.44 MiB of 22.06 GiB were free", "hardware.candidates[].count"],
    ),
    "torch-2.13.0-driver-too-old": (FailureKind.DRIVER, "CudaDriverMismatch", ["found version 12040"]),
    "torch-2.13.0-no-driver": (
        FailureKind.NO_GPU,
        "AcceleratorNotVisible",
        ["Found no NVIDIA driver", "device plugin"],
    ),
    "vllm-0.32.0-arch": (FailureKind.ARCHITECTURE, "ModelNotSupported", ["TotallyNewForCausalLM", "engine.version"]),
    "vllm-0.32.0-bad-value": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["argument --max-model-len: invalid human_readable_int_or_auto value: 'many'"],
    ),
    "vllm-0.32.0-context": (
        FailureKind.CONTEXT_TOO_LONG,
        "EngineArgsRejected",
        ["9999999 is more than the 2048 tokens", "at most 2048"],
    ),
    "vllm-0.32.0-noconfig": (FailureKind.MODEL_FILES, "ModelFilesMissing", ["'/models/noconfig'", "config.json"]),
    "vllm-0.32.0-source-architecture-gone": (FailureKind.ARCHITECTURE, "ModelNotSupported", ["is 0.10.2: set"]),
    "vllm-0.32.0-source-bfloat16": (FailureKind.DTYPE, "AcceleratorUnsuitable", ["--dtype=half"]),
    "vllm-0.32.0-source-capability": (FailureKind.QUANTIZATION, "QuantizationUnsupported", ["Minimum capability: 75"]),
    "vllm-0.32.0-source-heads": (
        FailureKind.HEADS,
        "AcceleratorCountUnsuitable",
        ["28 attention heads", "over 3 accelerators", "to one of 1, 2, 4, 7, 14"],
    ),
    "vllm-0.32.0-source-kv-too-small-gpu": (
        FailureKind.KV_TOO_SMALL,
        "DoesNotFit",
        ["131072 tokens", "16.0 GiB is needed and 4.31 GiB is there", "--max-model-len to at most 35280"],
    ),
    "vllm-0.32.0-source-no-device": (FailureKind.NO_GPU, "AcceleratorNotVisible", ["Failed to infer device type"]),
    "vllm-0.32.0-source-no-kv": (FailureKind.NO_KV_MEMORY, "DoesNotFit", ["No available memory for the cache blocks"]),
    "vllm-0.32.0-source-no-weights": (FailureKind.MODEL_FILES, "ModelFilesMissing", ["`/models/qwen`"]),
    "vllm-0.32.0-source-not-free": (
        FailureKind.GPU_NOT_FREE,
        "OutOfGpuMemory",
        ["11.2 of 79.11 GiB were free", "0.92 asks for 72.78 GiB"],
    ),
    "vllm-0.32.0-source-remote-code": (FailureKind.REMOTE_CODE, "ModelNeedsRemoteCode", ["--trust-remote-code"]),
    "vllm-0.32.0-source-sampler-memory": (FailureKind.GPU_MEMORY, "OutOfGpuMemory", ["--max-num-seqs"]),
    "vllm-0.32.0-source-too-few-gpus": (
        FailureKind.TOO_FEW_GPUS,
        "AcceleratorCountUnsuitable",
        ["over 4 accelerators, and the pod has 1"],
    ),
    "vllm-0.32.0-source-weights-missing": (
        FailureKind.MODEL_DAMAGED,
        "ModelCorrupt",
        ["model.layers.1.mlp.down_proj.weight"],
    ),
    "vllm-0.32.0-swap-space": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["--swap-space=4", "vLLM 0.18.0 removed --swap-space"],
    ),
    "vllm-0.32.0-type": (FailureKind.ARCHITECTURE, "ModelNotSupported", ["llamax"]),
    "vllm-0.32.0-unknown-flag": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["unrecognized arguments: --speed=ludicrous"],
    ),
    "vllm-0.32.0-ambiguous": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["--max=3 could match"]),
    "vllm-0.32.0-badjson": (FailureKind.MODEL_DAMAGED, "ModelCorrupt", ["Expecting"]),
    "vllm-0.32.0-batched": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["max_num_batched_tokens (16) is smaller than max_model_len (512)"],
    ),
    "vllm-0.32.0-chat-template": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["/no/such/file.jinja"]),
    "vllm-0.32.0-dtype": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["invalid choice: 'float7'"]),
    "vllm-0.32.0-expected": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["--seed: expected one argument"]),
    "vllm-0.32.0-kv-dtype": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["invalid choice: 'fp9'"]),
    "vllm-0.32.0-lora-rank": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["--max-lora-rank: invalid choice: 7"]),
    "vllm-0.32.0-notokenizer": (FailureKind.MODEL_FILES, "ModelFilesMissing", ["tokenizer"]),
    "vllm-0.32.0-port": (FailureKind.PORT, "PortTaken", ["podTemplate.sidecars"]),
    "vllm-0.32.0-quant-mismatch": (
        FailureKind.QUANTIZATION,
        "QuantizationUnsupported",
        ["(awq) does not match", "(gptq)"],
    ),
    "vllm-0.32.0-quant-unknown": (
        FailureKind.QUANTIZATION,
        "QuantizationUnsupported",
        ["Unknown quantization method: int3"],
    ),
    "vllm-0.32.0-reasoning": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["Reasoning parser 'nosuch' not found"]),
    "vllm-0.32.0-remote": (FailureKind.REMOTE_CODE, "ModelNeedsRemoteCode", ["--trust-remote-code"]),
    "vllm-0.32.0-seqs": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["max_num_batched_tokens: Input should be greater than or equal to 1"],
    ),
    "vllm-0.32.0-spec-json": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["Value {broken cannot be converted"]),
    "vllm-0.32.0-task": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["vLLM 0.13.0 removed --task", "--runner=pooling"],
    ),
    "vllm-0.32.0-tool-none": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["--enable-auto-tool-choice requires --tool-call-parser"],
    ),
    "vllm-0.32.0-tool-parser": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["invalid tool call parser: nosuch"]),
    "vllm-0.32.0-unicode": (FailureKind.ARGUMENTS, "EngineArgsRejected", ["invalid choice: '日本'"]),
    "vllm-0.32.0-util": (
        FailureKind.ARGUMENTS,
        "EngineArgsRejected",
        ["gpu_memory_utilization: Input should be less than or equal to 1"],
    ),
    "vllm-0.8-source-kv-too-small": (FailureKind.KV_TOO_SMALL, "DoesNotFit", ["to at most 35280"]),
}

_OWN_WORDS_AT_31 = {
    "badjson": ["Expecting property name enclosed in double quotes"],
    "noconfig": ["'/tmp/models/noconfig'", "config.json"],
}
EXPECTED |= {
    name.replace("0.32.0", "0.31.0"): (kind, reason, _OWN_WORDS_AT_31.get(name.removeprefix("vllm-0.32.0-"), says))
    for name, (kind, reason, says) in EXPECTED.items()
    if name.startswith("vllm-0.32.0-") and "-source-" not in name
}


def text_of(name: str) -> str:
    """A text without its header."""
    return (TEXTS / f"{name}.txt").read_text().split("\n", 1)[1]


def test_every_text_is_expected_and_says_where_it_is_from() -> None:
    assert sorted(path.stem for path in TEXTS.glob("*.txt")) == sorted(EXPECTED)
    assert [path.name for path in TEXTS.glob("*.txt") if not path.read_text().startswith("# ")] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_engine_said_is_named_with_its_numbers(name: str) -> None:
    kind, reason, says = EXPECTED[name]
    failure = engine_failure(text_of(name))
    assert failure is not None
    assert failure.kind is kind
    cause = failure_cause(failure, "0.31.0" if "-0.31.0-" in name else "0.32.0")
    assert cause is not None
    assert cause.reason == reason
    assert [part for part in says if part not in cause.message] == []


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "vllm-0.32.0-context"])
def test_the_decisive_line_is_found_in_the_tail_that_a_termination_message_keeps_or_nothing_is_claimed(
    name: str,
) -> None:
    kind = EXPECTED[name][0]
    found = engine_failure(text_of(name)[-2048:])
    assert found is None or found.kind in (kind, FailureKind.OTHER)


@pytest.mark.parametrize(
    ("text", "kind", "excerpt"),
    [
        pytest.param("", None, "", id="nothing"),
        pytest.param("INFO 11-24 04:00:00 [x.py:1] Starting", None, "", id="a start that says nothing wrong"),
        pytest.param(
            "(APIServer pid=1) WARNING 11-24 04:00:00 [system_utils.py:255] such as `OSError: [Errno 28] No space "
            "left on device`",
            None,
            "",
            id="a warning that speaks of an error",
        ),
        pytest.param(
            "Traceback (most recent call last):\n  File x\nZeroDivisionError: division by zero\n"
            "RuntimeError: Engine core initialization failed. See root cause above.",
            FailureKind.OTHER,
            "ZeroDivisionError: division by zero",
            id="an error that nobody knows, and what follows from it",
        ),
        pytest.param(
            "RuntimeError: Engine core initialization failed. See root cause above.",
            None,
            "",
            id="only what follows from an error",
        ),
        pytest.param(
            "KeyError: 'invalid tool call parser: nosuch (chose from { hermes,llama3_json })'",
            FailureKind.ARGUMENTS,
            "invalid tool call parser: nosuch (chose from { hermes,llama3_json })",
            id="a tool parser that does not exist",
        ),
        pytest.param(
            "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser",
            FailureKind.ARGUMENTS,
            "--enable-auto-tool-choice requires --tool-call-parser",
            id="a flag that needs another",
        ),
        pytest.param(
            "OSError: [Errno 98] Address already in use",
            FailureKind.PORT,
            "[Errno 98] Address already in use",
            id="port",
        ),
        pytest.param(
            "OSError: [Errno 28] No space left on device: '/cache/vllm'",
            FailureKind.DISK,
            "[Errno 28] No space left on device: '/cache/vllm'",
            id="a full disk",
        ),
        pytest.param(
            "PermissionError: [Errno 13] Permission denied: '/models/x'",
            FailureKind.PERMISSION,
            "PermissionError: [Errno 13] Permission denied: '/models/x'",
            id="a file that may not be read",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'ray'",
            FailureKind.IMAGE,
            "ModuleNotFoundError: No module named 'ray'",
            id="a library that the image lacks",
        ),
        pytest.param(
            "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
            FailureKind.MODEL_DAMAGED,
            "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
            id="weights whose header is damaged",
        ),
        pytest.param(
            '  File "/opt/vllm/x.py", line 7, in read\n    raise OSError(f"'
            "It looks like the config file at '{file}' is not a valid JSON file.\")\n"
            "OSError: It looks like the config file at '/models/x' is not a valid JSON file.",
            FailureKind.MODEL_DAMAGED,
            "It looks like the config file at '/models/x' is not a valid JSON file.",
            id="a line of the program that would print what it printed then",
        ),
        pytest.param(
            "error: unrecognized arguments: --hf-token=hf_abcdefgh12 --x",
            FailureKind.ARGUMENTS,
            "unrecognized arguments: --hf-token=[redacted] --x",
            id="an argument that carries a secret",
        ),
    ],
)
def test_single_lines(text: str, kind: FailureKind | None, excerpt: str) -> None:
    failure = engine_failure(text)
    assert (failure and failure.kind, failure.excerpt if failure else "") == (kind, excerpt)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        pytest.param(
            "Authorization: Bearer abc123 for hf_abcdefgh",
            "Authorization: [redacted] for [redacted]",
            id="the worked example",
        ),
        pytest.param("https://me:pass@host/x", "https://[redacted]@host/x", id="a password in an address"),
        pytest.param(
            "'api_key': 'abcdefg', 'seed': 1", "'api_key': '[redacted]', 'seed': 1", id="a key in a dictionary"
        ),
        pytest.param("AKIAABCDEFGHIJKLMNOP", "[redacted]", id="a cloud's key"),
        pytest.param("sk-abcdefghijkl", "[redacted]", id="an API key"),
        pytest.param("token: None, max_tokens=512", "token: None, max_tokens=512", id="no secret at all"),
    ],
)
def test_secrets_are_taken_out(text: str, clean: str) -> None:
    assert redact(text) == clean


@given(st.text(), st.from_regex(r"hf_[A-Za-z0-9]{8,40}", fullmatch=True), st.text())
def test_whatever_an_engine_writes_is_read_and_shows_no_token(before: str, token: str, after: str) -> None:
    failure = engine_failure(f"{before} {token} {after}\nValueError: {token} is bad")
    assert failure is not None
    assert len(failure.excerpt) <= EXCERPT_LIMIT
    assert token not in failure.excerpt
    assert not any(token in value for value in failure.numbers.values())
