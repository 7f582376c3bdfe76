"""The engine arguments that decide how much memory vLLM takes, read as vLLM's own parser reads them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nightshift.core.engine_flags import FLAGS

AUTO = -1
"""--max-model-len auto: the longest that fits."""

_SHORT = {
    "-q": "--quantization",
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "--device-memory-utilization": "--gpu-memory-utilization",
}
_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"^(\d{1,15}(?:\.\d{1,9})?)([kKmMgGtT]?)$", re.ASCII)

UNMODELLED: dict[str, str] = {
    "--attention-config": "changes the attention backend",
    "--config": "brings in arguments unseen",
    "--config-format": "reads another configuration",
    "--cpu-offload-gb": "keeps part of the weights outside the accelerator",
    "--cpu-offload-params": "keeps part of the weights outside the accelerator",
    "--data-parallel-size": "shares experts and attention in another way",
    "--decode-context-parallel-size": "splits the KV cache by tokens",
    "--enable-lora": "adds adapters to the weights",
    "--hf-overrides": "changes the model's configuration",
    "--kv-cache-dtype-skip-layers": "gives layers different KV caches",
    "--language-model-only": "leaves out parts beside the language model",
    "--limit-mm-per-prompt": "may leave out parts beside the language model",
    "--mm-encoder-only": "leaves out the language model",
    "--num-gpu-blocks-override": "sets the number of blocks by hand",
    "--offload-backend": "keeps part of the weights outside the accelerator",
    "--offload-group-size": "keeps part of the weights outside the accelerator",
    "--offload-num-in-group": "keeps part of the weights outside the accelerator",
    "--offload-params": "keeps part of the weights outside the accelerator",
    "--prefill-context-parallel-size": "splits the KV cache by tokens",
    "--quantization-config": "quantizes parts of the model",
    "--rope-scaling": "changes the longest context",
    "--spec-method": "adds a draft model",
    "--spec-model": "adds a draft model",
    "--speculative-config": "adds a draft model",
    "--speculative-model": "adds a draft model",
}
"""Flags whose memory is not computed here, and what they do; with one of them the fit is unknown."""


@dataclass(frozen=True)
class EngineSettings:
    """What the arguments say; None where they are silent and the version's default counts."""

    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    quantization: str | None = None
    dtype: str = "auto"
    tensor_parallel: int | None = None
    pipeline_parallel: int = 1
    enforce_eager: bool = False
    expert_parallel: bool = False
    hybrid_kv_cache: bool = True
    asynchronous_scheduling: bool = True
    allow_deprecated_quantization: bool = False
    unmodelled: tuple[str, ...] = ()
    """Flags of the table above, and shortened ones that may stand for a flag that is read here."""
    unreadable: tuple[str, ...] = ()
    """Flags whose value vLLM's parser would refuse."""


def engine_settings(arguments: Sequence[str]) -> EngineSettings:
    """Read arguments: `--flag value`, `--flag=value`, underscores for dashes, short forms; the last one counts.

    Source: vllm/utils/argparse_utils.py and vllm/engine/arg_utils.py, 0.32.0.
    """
    values = _values(arguments)
    bad: list[str] = []

    def number(flag: str, smallest: int = 1) -> int | None:
        if flag not in values:
            return None
        parsed = parse_size(values[flag])
        if parsed is None or parsed < smallest:
            bad.append(flag)
            return None
        return parsed

    length = values.get("--max-model-len", "")
    automatic = length.lower() == "auto" or length == "-1"
    return EngineSettings(
        max_model_len=AUTO if automatic else number("--max-model-len"),
        gpu_memory_utilization=_share(values, bad),
        kv_cache_memory_bytes=number("--kv-cache-memory-bytes"),
        kv_cache_dtype=values.get("--kv-cache-dtype", "auto"),
        max_num_seqs=number("--max-num-seqs"),
        max_num_batched_tokens=number("--max-num-batched-tokens"),
        block_size=number("--block-size"),
        quantization=values.get("--quantization"),
        dtype=values.get("--dtype", "auto"),
        tensor_parallel=number("--tensor-parallel-size"),
        pipeline_parallel=number("--pipeline-parallel-size") or 1,
        enforce_eager=_switch(values, "enforce-eager"),
        expert_parallel=_switch(values, "enable-expert-parallel"),
        hybrid_kv_cache=not _switch(values, "disable-hybrid-kv-cache-manager"),
        asynchronous_scheduling=_switch(values, "async-scheduling", default=True),
        allow_deprecated_quantization=_switch(values, "allow-deprecated-quantization"),
        unmodelled=tuple(sorted(_families(values) & UNMODELLED.keys() | _shortened(values))),
        unreadable=tuple(bad),
    )


def flag_value(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag in arguments, as vLLM reads them; None where it is not among them."""
    return _values(arguments).get(flag)


def parse_size(text: str) -> int | None:
    """A number as vLLM writes them: 1k is 1,000, 1K is 1,024, 25.6k is 25,600; None when it is none.

    >>> parse_size("25.6k"), parse_size("8K"), parse_size("1.5K")
    (25600, 8192, None)
    """
    match = _SIZE.match(text.strip())
    if match is None:
        return None
    number, suffix = match.groups()
    if "." in number:
        return int(float(number) * _MULTIPLIERS[suffix]) if suffix.islower() else None
    return int(number) * _MULTIPLIERS.get(suffix, 1)


def _values(arguments: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        if not argument.startswith("-"):
            continue
        flag, given, value = argument.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        if not given and index < len(arguments) and (not arguments[index].startswith("-") or arguments[index] == "-1"):
            value = arguments[index]
            index += 1
        flag = _SHORT.get(flag, flag)
        values.pop(flag, None)  # the last one also takes the last place
        values[flag] = value
    return values


def _families(values: dict[str, str]) -> set[str]:
    """Flags that ask for something; one with a path such as --speculative-config.model under its own name."""
    silent = {("--cpu-offload-gb", "0")} | {(flag, "1") for flag in UNMODELLED if flag.endswith("-size")}
    return {flag.split(".")[0] for flag, value in values.items() if (flag, value) not in silent}


def _shortened(values: dict[str, str]) -> set[str]:
    """Beginnings of long flags, which argparse completes: what they say is not read here."""
    whole = {*FLAGS, *UNMODELLED, *_SHORT}
    return {
        flag
        for flag in (name.split(".")[0] for name in values)
        if flag.startswith("--") and flag not in whole and any(name.startswith(flag) for name in whole)
    }


def _switch(values: dict[str, str], name: str, default: bool = False) -> bool:
    state = default
    for flag, value in values.items():
        if flag == f"--{name}":
            state = value.lower() != "false"
        elif flag == f"--no-{name}":
            state = False
    return state


def _share(values: dict[str, str], bad: list[str]) -> float | None:
    text = values.get("--gpu-memory-utilization")
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if 0 < share <= 1:
        return share
    bad.append("--gpu-memory-utilization")
    return None
