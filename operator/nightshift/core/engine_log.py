"""From what an engine wrote before it ended to one fact: what stopped it, with vLLM's own numbers.

vLLM says why it cannot start long before its last line: the engine process logs the error, the API server
then ends with `Engine core initialization failed. See root cause above.` So the whole end of the log is read,
and the line that decides is looked for. The texts are those of vLLM 0.31.0 and 0.32.0, torch 2.13.0 and the CUDA
runtime 13.0; tests/core/engine_texts holds them as they were printed, with their origin.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto

EXCERPT_LIMIT = 300
"""Characters of the decisive line that are kept."""


class FailureKind(StrEnum):
    """What stopped an engine."""

    ARGUMENTS = auto()
    """The command line, or a combination of flags."""
    CONTEXT_TOO_LONG = auto()
    """--max-model-len beyond what the model was made for."""
    KV_TOO_SMALL = auto()
    """One request of full length does not fit the KV cache."""
    NO_KV_MEMORY = auto()
    """Nothing is left for the KV cache."""
    GPU_NOT_FREE = auto()
    """Something else uses the accelerator's memory."""
    GPU_MEMORY = auto()
    """The accelerator's memory ran out."""
    DRIVER = auto()
    """The node's driver does not go with the image."""
    NO_GPU = auto()
    """The engine sees no accelerator."""
    TOO_FEW_GPUS = auto()
    """Fewer accelerators than the arguments ask for."""
    HEADS = auto()
    """The model's attention heads cannot be split so often."""
    ARCHITECTURE = auto()
    """This vLLM does not know the model's architecture."""
    REMOTE_CODE = auto()
    """The model brings code of its own."""
    QUANTIZATION = auto()
    """The quantization goes with neither model nor accelerator."""
    DTYPE = auto()
    """The accelerator does not compute in the model's number format."""
    MODEL_FILES = auto()
    """Files of the model are missing."""
    MODEL_DAMAGED = auto()
    """Files of the model cannot be read."""
    PORT = auto()
    """Another container of the pod has the port."""
    DISK = auto()
    """A volume is full."""
    PERMISSION = auto()
    """A file may not be read or written."""
    IMAGE = auto()
    """The image is not one of vLLM, or not a whole one."""
    OTHER = auto()
    """Something else; the excerpt says what."""


@dataclass(frozen=True)
class EngineFailure:
    """What stopped an engine, as it said itself."""

    kind: FailureKind
    excerpt: str
    """The decisive line, without secrets."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Figures and names of that line, as they were written."""


_PREFIX = re.compile(
    r"^(?:\(\w+(?: pid=\d+)?\)\s*)*(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d \d\d:\d\d:\d\d"
    r"(?:\.\d+)?\s+(?:\[[^\]]+\]\s?)?)?"
)
"""What vLLM puts before each line of its log: process, level, time, source."""

_CHATTER = re.compile(r"^(?:[IW]\d{4} \d\d:\d\d:|INFO:|WARNING:)")
"""Lines of torch and uvicorn that tell of no failure."""

_FRAME = re.compile(r'^\s*File ".+", line \d+')
"""A line of a stack trace, below which stands a line of the program: it may hold a message that it only would print."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_SECRETS = (
    re.compile(r"\bhf_[A-Za-z0-9_]{4,}"),
    re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"),
    re.compile(r"\b(?:sk|pk|ghp|gho|ghs|glpat|xox[abp])[-_][A-Za-z0-9_-]{8,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(
        r"(?i)(?<![a-z])((?:[\w-]*(?:api[_-]?keys?|token|passwords?|passwd|secrets?|credentials?))"
        r"[\"']?\s*[=:]\s*[\"']?)(?!none\b|null\b|true\b|false\b|\[redacted)[^\s\"',;)}\]]{4,}"
    ),
)


def redact(text: str) -> str:
    """The text without anything that looks like a token or password.

    Worked example: ``Authorization: Bearer abc123 for hf_abcdefgh`` gives ``Authorization: [redacted] for [redacted]``.
    """
    for pattern in _SECRETS:
        text = pattern.sub(lambda match: f"{match.group(1) if match.re.groups else ''}[redacted]", text)
    return text


_Rule = tuple[FailureKind, re.Pattern[str]]


def _rule(kind: FailureKind, pattern: str) -> _Rule:
    return kind, re.compile(pattern, re.IGNORECASE)


_RULES: tuple[_Rule, ...] = (
    # argparse, and vLLM's own checks of the command line (entrypoints/launchers/cli_args.py, 0.32.0).
    _rule(FailureKind.ARGUMENTS, r"error: (?P<said>(?:unrecognized arguments|ambiguous option): .+)"),
    _rule(FailureKind.ARGUMENTS, r"error: (?P<said>(?:argument |the following arguments ).+)"),
    _rule(FailureKind.ARGUMENTS, r"^(?P<said>unrecognized arguments: .+)"),
    _rule(FailureKind.ARGUMENTS, r"(?:TypeError|ValueError): Error: (?P<said>--.+)"),
    _rule(
        FailureKind.ARGUMENTS,
        r"KeyError: [\"'](?P<said>(?:invalid (?:tool call|reasoning) parser: |(?:Reasoning|Tool) parser ).+?)[\"']$",
    ),
    _rule(FailureKind.ARGUMENTS, r"VLLMValidationError: (?P<said>.+)"),
    # vllm/config/model.py and config/parallel.py, 0.32.0.
    _rule(
        FailureKind.CONTEXT_TOO_LONG,
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\((?P<key>\w+)=(?P<most>[0-9.]+)",
    ),
    _rule(
        FailureKind.HEADS,
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<count>\d+)\)",
    ),
    _rule(
        FailureKind.TOO_FEW_GPUS,
        r"World size \((?P<asked>\d+)\) is larger than the number of available GPUs \((?P<seen>\d+)\)",
    ),
    _rule(
        FailureKind.QUANTIZATION,
        r"Unknown quantization method: .+|Quantization method specified in the model config .+"
        r"|The quantization method \S+ is not supported .+|The quantization method \S+ is deprecated .+"
        r"|\S+ quantization is currently not supported .+|\S+ is not supported for quantization method .+",
    ),
    _rule(FailureKind.DTYPE, r"Bfloat16 is only supported on GPUs with compute capability of at least .+"),
    # vllm/v1/core/kv_cache_utils.py and v1/worker/utils.py, 0.32.0.
    _rule(
        FailureKind.KV_TOO_SMALL,
        r"model's max seq len \((?P<asked>\d+)\), \((?P<needed>[0-9.]+) GiB KV cache is needed, which is larger than "
        r"the available KV cache memory \((?P<available>[0-9.]+) GiB\)"
        r"(?:\. Based on the available memory, the estimated maximum model length is (?P<longest>\d+))?",
    ),
    _rule(
        FailureKind.KV_TOO_SMALL,
        r"model's max seq len \((?P<asked>\d+)\) is larger than the maximum number of tokens that can be stored in "
        r"KV cache \((?P<longest>\d+)\)",
    ),
    _rule(FailureKind.NO_KV_MEMORY, r"No available memory for the cache blocks"),
    _rule(
        FailureKind.GPU_NOT_FREE,
        r"Free memory on device (?P<device>\S+) \((?P<free>[0-9.]+)/(?P<total>[0-9.]+) GiB\) on startup is less than "
        r"(?:desired GPU memory utilization|the engine's budget).*?"
        r"\((?P<share>[0-9.]+), (?P<wanted>[0-9.]+) GiB\)",
    ),
    # c10/cuda/CUDACachingAllocator.cpp, torch 2.13.0; gpu_model_runner.py, vLLM 0.32.0.
    _rule(
        FailureKind.GPU_MEMORY,
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<asked>[0-9.]+ \wi?B)"
        r"(?:.*?total capacity of (?P<total>[0-9.]+ \wi?B) of which (?P<free>[0-9.]+ \wi?B) is free)?",
    ),
    _rule(FailureKind.GPU_MEMORY, r"Failed to load model - not enough GPU memory|(?:CUDA|HIP) out of memory"),
    _rule(FailureKind.GPU_MEMORY, r"(?:OutOfMemoryError|RuntimeError): .*(?:CUDA|HIP).*out of memory"),
    # c10/cuda/CUDAFunctions.cpp, torch 2.13.0; libcudart 13.0; libnvidia-container.
    _rule(FailureKind.DRIVER, r"The NVIDIA driver on your system is too old \(found version (?P<driver>\d+)\)"),
    _rule(
        FailureKind.DRIVER,
        r"CUDA driver version is insufficient for CUDA runtime version"
        r"|system has unsupported display driver / cuda driver combination"
        r"|forward compatibility was attempted on non supported HW"
        r"|the provided PTX was compiled with an unsupported toolchain"
        r"|no kernel image is available for execution on the device"
        r"|unsatisfied condition: cuda\s*[<>=]+\s*(?P<needed>[0-9.]+)",
    ),
    _rule(
        FailureKind.NO_GPU,
        r"Failed to infer device type|Found no NVIDIA driver on your system|No CUDA GPUs are available"
        r"|no CUDA-capable device is detected|CUDA driver initialization failed",
    ),
    # vllm/model_executor/models/registry.py and transformers_utils/config.py, 0.32.0; transformers.
    _rule(
        FailureKind.ARCHITECTURE,
        r"Model architectures? \[?'?(?P<name>\w+)[^\]]*?\]? (?:are not supported for now|failed to be inspected"
        r"|was supported in vLLM until v(?P<until>[0-9.]+)|is not supported in-tree)",
    ),
    _rule(
        FailureKind.ARCHITECTURE,
        r"has model type [`'\"]?(?P<name>[\w-]+)[`'\"]? but Transformers does not recognize this architecture",
    ),
    _rule(FailureKind.ARCHITECTURE, r"Cannot find model module\. '(?P<name>\w+)' is not a registered model"),
    _rule(FailureKind.ARCHITECTURE, r"No model architectures are specified"),
    _rule(
        FailureKind.REMOTE_CODE,
        r"Failed to load the (?:model )?\w+\. If the \w+ is a custom|contains custom code which must be executed"
        r"|requires you to execute the \w+ file",
    ),
    _rule(
        FailureKind.MODEL_DAMAGED,
        r"(?:SafetensorError|safetensors_rust\.SafetensorError): .+|Error while deserializing header: .+"
        r"|Following weights were not initialized from checkpoint: .+|UnpicklingError: .+"
        r"|It looks like the config file at '.+' is not a valid JSON file|JSONDecodeError: .+"
        r"|Attempted to load weight \(.+\) into parameter \(.+\)|size mismatch for \S+: .+",
    ),
    _rule(
        FailureKind.MODEL_FILES,
        r"Cannot find any (?:safetensors )?model weights with .+|Invalid repository ID or local directory specified.*"
        r"|\S+ does not appear to have (?:a|any) files? named .+|Can't load (?:tokenizer|the configuration) .+"
        r"|Error retrieving file list.+|Couldn't instantiate the backend tokenizer.+",
    ),
    _rule(FailureKind.PORT, r"\[Errno 98\].*|address already in use.*"),
    _rule(FailureKind.DISK, r".*No space left on device.*"),
    _rule(FailureKind.PERMISSION, r"PermissionError: .+|.*Read-only file system.*"),
    _rule(FailureKind.IMAGE, r"(?:ModuleNotFoundError|ImportError): .+|.*error while loading shared libraries: .+"),
    _rule(FailureKind.IMAGE, r"exec:? .*(?:executable file not found|no such file or directory|exec format error).*"),
    # pydantic's refusal of a configuration that none of the lines above explains.
    _rule(FailureKind.ARGUMENTS, r"^\s*(?:Value error|Assertion failed), (?P<said>.+?)(?: \[type=.*)?$"),
)
"""In order of precedence: what names the cause most exactly comes first."""

_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Timeout)\b.*")
_EXCEPTION_NAME = re.compile(r"^(?:[\w.]*(?:ValueError|RuntimeError|AcceleratorError|OSError): |Value error, )+")
_REFUSED = re.compile(r"ValidationError: \d+ validation errors? for \w+")
_INPUT = re.compile(r"\s*\[type=\w+, input_.*$")
"""What pydantic adds: the whole input."""
_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|Frontend process failed|initialization failed due to an exception"
    r"|See (?:stack trace|root cause)|EngineDeadError|Worker failed with error|cancelled"
)
"""Exceptions that only follow from the one that decides."""


def plain_lines(text: str) -> list[str]:
    """A log's lines without colours and vLLM's prefixes; those that tell of no failure are left out.

    Warnings, the arguments that vLLM repeats, and the program's own lines in a stack trace hold words such as
    ``OSError`` too.
    """
    found = []
    within_trace = False
    for raw in _ESCAPES.sub("", text).splitlines():
        prefix = _PREFIX.match(raw)
        line = raw[prefix.end() :].rstrip() if prefix else raw.rstrip()
        calm = prefix is not None and prefix["level"] in ("DEBUG", "INFO", "WARNING")
        program = within_trace and line.startswith("    ")
        within_trace = bool(_FRAME.match(line))
        if line.strip() and not (calm or program or _CHATTER.match(raw)):
            found.append(line)
    return found


def engine_failure(text: str) -> EngineFailure | None:
    """What stopped an engine, from the end of its log or its termination message.

    Args:
        text: Whatever is there; it may begin in the middle of a line and hold anything.

    Returns:
        The failure, or None where no line tells of one.
    """
    lines = plain_lines(text)
    for kind, pattern in _RULES:
        for line in lines:
            match = pattern.search(line)
            if match is not None:
                numbers = {key: redact(value) for key, value in match.groupdict().items() if value is not None}
                said = numbers.pop("said", None)
                return EngineFailure(kind, _cut(said or line, 0 if said else match.start()), numbers)
    refused = _refused_field(lines)
    if refused is not None:
        return EngineFailure(FailureKind.ARGUMENTS, refused)
    exceptions = [line.strip() for line in lines if _EXCEPTION.match(line.strip())]
    telling = [line for line in exceptions if not _CONSEQUENCE.search(line)]
    return EngineFailure(FailureKind.OTHER, _cut(telling[-1], 0)) if telling else None


def _refused_field(lines: list[str]) -> str | None:
    """Field and complaint of pydantic's refusal of a configuration: they stand on the two lines after its title."""
    for title, name, complaint in zip(lines, lines[1:], lines[2:], strict=False):
        if _REFUSED.search(title) and not name.startswith(" "):
            return _cut(f"{name.strip()}: {complaint.strip()}", 0)
    return None


def _cut(line: str, start: int) -> str:
    """From the decisive words on where much stands before them; without the name of the exception."""
    found = line[start:] if start > EXCERPT_LIMIT // 2 else line
    found = redact(_INPUT.sub("", _EXCEPTION_NAME.sub("", found.strip()))).rstrip(":")
    return found if len(found) <= EXCERPT_LIMIT else f"{found[: EXCERPT_LIMIT - 1]}…"
