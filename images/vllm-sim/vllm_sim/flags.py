"""vLLM's command line: every flag of `vllm serve`, the ones that matter here read, wrong ones refused like vLLM.

The flags come from the real help text of 0.32.0 (flags.txt, made by ``python -m e2e.contract --flags-table HELP``);
what other versions lack or still have is listed below. An unknown flag or a bad value ends the process with
code 2 after argparse's usage text, as vLLM does.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from vllm_sim.versions import SHUTDOWN_TIMEOUT, Version

_FLAGS_FILE = Path(__file__).with_name("flags.txt")

# First releases that have a flag, among the versions whose sources were read.
_SINCE = {
    "--shutdown-timeout": SHUTDOWN_TIMEOUT,
    "--fingerprint-mode": Version(0, 21, 0),
    "--fingerprint-value": Version(0, 21, 0),
    "--spec-method": Version(0, 22, 0),
    "--spec-model": Version(0, 22, 0),
    "--spec-tokens": Version(0, 22, 0),
    "--max-num-queued-reqs": Version(0, 29, 0),
    "--max-num-queued-tokens": Version(0, 29, 0),
    "--device-memory-utilization": Version(0, 31, 0),
    "--custom-histogram-buckets": Version(0, 32, 0),
    "--nnodes": Version(0, 11, 1),
    "--node-rank": Version(0, 11, 1),
    "--master-addr": Version(0, 11, 1),
    "--headless": Version(0, 9, 0),
}

# Flags that 0.32.0 no longer has: kind, and the first release without it.
_GONE = {
    "--device": ("value", Version(0, 10, 0)),
    "--enable-reasoning": ("switch", Version(0, 10, 0)),
    "--use-v2-block-manager": ("switch", Version(0, 10, 0)),
    "--num-scheduler-steps": ("value", Version(0, 10, 1)),
    "--preemption-mode": ("value", Version(0, 11, 0)),
    "--scheduler-delay-factor": ("value", Version(0, 11, 0)),
    "--max-seq-len-to-capture": ("value", Version(0, 11, 0)),
    "--rope-scaling": ("value", Version(0, 11, 1)),
    "--rope-theta": ("value", Version(0, 11, 1)),
    "--enable-lora-bias": ("switch", Version(0, 11, 1)),
    "--guided-decoding-backend": ("value", Version(0, 12, 0)),
    "--override-pooler-config": ("value", Version(0, 12, 0)),
    "--lora-extra-vocab-size": ("value", Version(0, 12, 0)),
    "--task": ("value", Version(0, 13, 0)),
    "--cuda-graph-sizes": ("values", Version(0, 13, 0)),
    "--disable-log-requests": ("switch", Version(0, 17, 0)),
    "--swap-space": ("value", Version(0, 18, 0)),
    "--disable-frontend-multiprocessing": ("switch", Version(0, 19, 0)),
    "--max-num-partial-prefills": ("value", Version(0, 27, 0)),
    "--calculate-kv-scales": ("switch", Version(0, 28, 0)),
}

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def human_readable_int(text: str) -> int:
    """Read ``1000``, ``1k`` (decimal), ``1K`` (binary) or ``25.6k``, as vLLM does."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if match is None:
        return int(text)
    number, suffix = match.groups()
    if suffix in _BINARY:
        try:
            return int(number) * _BINARY[suffix]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"Decimals are not allowed with binary suffixes like {suffix}. "
                f"Did you mean to use {number}{suffix.lower()} instead?"
            ) from None
    try:
        return int(Decimal(number) * _DECIMAL[suffix])
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"invalid number: {text!r}") from None


def human_readable_int_or_auto(text: str) -> int:
    """As `human_readable_int`; ``auto`` and ``-1`` are -1."""
    return -1 if text.strip().lower() in ("-1", "auto") else human_readable_int(text)


_TYPES: dict[str, Callable[[str], object]] = {
    "--port": int,
    "--max-model-len": human_readable_int_or_auto,
    "--max-num-seqs": human_readable_int,
    "--max-num-batched-tokens": human_readable_int,
    "--max-num-queued-reqs": int,
    "--max-num-queued-tokens": int,
    "--max-logprobs": int,
    "--block-size": int,
    "--gpu-memory-utilization": float,
    "--kv-cache-memory-bytes": human_readable_int,
    "--shutdown-timeout": int,
    "--max-loras": int,
    "--max-lora-rank": int,
    "--seed": int,
    "--num-gpu-blocks-override": int,
}

_DEFAULTS: dict[str, object] = {
    "port": 8000,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2048,
    "max_logprobs": 20,
    "shutdown_timeout": 0,
    "max_loras": 1,
    "max_lora_rank": 16,
    "enable_prefix_caching": True,
    "response_role": "assistant",
    "fingerprint_mode": "full",
}


def parse(arguments: Sequence[str], version: Version) -> argparse.Namespace:
    """Read vLLM's command line as a given version does; exits with code 2 like argparse when it is wrong."""
    parser = _parser(version)
    words = list(arguments[1:] if arguments[:1] == ["serve"] else arguments)
    namespace = parser.parse_args([_dashed(word) for word in words])
    namespace.model = namespace.model_tag or namespace.model or "Qwen/Qwen3-0.6B"
    return namespace


def _parser(version: Version) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vllm serve", usage="vllm serve [model_tag] [options]", add_help=True, allow_abbrev=False
    )
    parser.add_argument("model_tag", nargs="?", default=None)
    for line in _FLAGS_FILE.read_text(encoding="utf-8").splitlines():
        names, kind, *rest = line.split(" ", 2)
        options = [name for name in names.split(",") if _SINCE.get(name, version) <= version]
        if options:
            _add(parser, options, kind, rest[0].split(",") if rest else [])
    for name, (kind, gone) in _GONE.items():
        if version < gone:
            _add(parser, [name], kind, [])
    absent = {name.removeprefix("--").replace("-", "_"): None for name, since in _SINCE.items() if since > version}
    parser.set_defaults(**{**absent, **_DEFAULTS})
    return parser


def _add(parser: argparse.ArgumentParser, options: list[str], kind: str, choices: list[str]) -> None:
    if kind == "switch":
        if any(option.startswith("--no-") for option in options):
            names = [option for option in options if not option.startswith("--no-")]
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(*options, action="store_true", default=False)
        return
    read = next((_TYPES[option] for option in options if option in _TYPES), str)
    nargs = {"values": "+", "optional": "?"}.get(kind)
    allowed = [read(choice) for choice in choices] or None
    parser.add_argument(*options, type=read, nargs=nargs, choices=allowed, default=None)


def _dashed(word: str) -> str:
    """``--max_model_len=8`` as ``--max-model-len=8``; a JSON path such as ``--x.y`` keeps its flag only."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.partition(".")[0].replace("_", "-") + equals + value
