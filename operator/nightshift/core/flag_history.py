"""When vLLM's flags came and went, so that a refused argument is explained and not only repeated.

Reviewed by hand. Removals: the first release without the flag among the sources of 0.6.0 to 0.33.0; additions: the
release notes and sources of the versions named. The flags of today are those of `vllm serve --help=all`, 0.32.0.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from nightshift.api.spec import OWNED_FLAGS
from nightshift.core.engine_flags import FLAGS


@dataclass(frozen=True)
class Change:
    """What became of a flag."""

    version: str
    """The first release without it, or the first with it."""
    instead: str = ""
    """What to do, as a sentence."""


REMOVED: Mapping[str, Change] = {
    "--engine-use-ray": Change("0.7.3", "Use --distributed-executor-backend=ray."),
    "--worker-use-ray": Change("0.7.3", "Use --distributed-executor-backend=ray."),
    "--speculative-model": Change("0.8.5", "Use --speculative-config with a JSON object."),
    "--num-speculative-tokens": Change("0.8.5", "Use --speculative-config with a JSON object."),
    "--device": Change("0.10.0", "Leave it out: the image decides."),
    "--enable-reasoning": Change("0.10.0", "Use --reasoning-parser alone."),
    "--use-v2-block-manager": Change("0.10.0", "Leave it out: there is one block manager."),
    "--enable-prompt-adapter": Change("0.10.0", "Prompt adapters are gone; use a LoRA adapter."),
    "--max-prompt-adapters": Change("0.10.0", "Prompt adapters are gone; use a LoRA adapter."),
    "--qlora-adapter-name-or-path": Change("0.10.0", "Use a LoRA adapter."),
    "--num-scheduler-steps": Change("0.10.1", "Leave it out: the scheduler overlaps steps itself."),
    "--preemption-mode": Change("0.11.0", "Leave it out: preempted requests are computed again."),
    "--scheduler-delay-factor": Change("0.11.0", "Leave it out."),
    "--max-seq-len-to-capture": Change("0.11.0", "Use --max-cudagraph-capture-size."),
    "--rope-scaling": Change("0.11.1", 'Use --hf-overrides={"rope_parameters": {...}}.'),
    "--rope-theta": Change("0.11.1", 'Use --hf-overrides={"rope_parameters": {...}}.'),
    "--enable-lora-bias": Change("0.11.1", "Leave it out."),
    "--guided-decoding-backend": Change("0.12.0", 'Use --structured-outputs-config={"backend": "..."}.'),
    "--guided-decoding-disable-fallback": Change("0.12.0", "Use --structured-outputs-config with a JSON object."),
    "--override-pooler-config": Change("0.12.0", "Use --pooler-config with a JSON object."),
    "--lora-extra-vocab-size": Change("0.12.0", "Leave it out."),
    "--num-redundant-experts": Change("0.12.0", "Use --eplb-config with a JSON object."),
    "--task": Change("0.13.0", "Use --runner=pooling, and --convert=embed, classify or reward."),
    "--cuda-graph-sizes": Change("0.13.0", "Use --cudagraph-capture-sizes."),
    "--disable-mm-preprocessor-cache": Change("0.13.0", "Use --mm-processor-cache-gb=0."),
    "--disable-log-requests": Change("0.17.0", "Leave it out: requests are not logged unless asked for."),
    "--swap-space": Change("0.18.0", "Leave it out: preempted requests are computed again."),
    "--disable-frontend-multiprocessing": Change("0.19.0", "Leave it out."),
    "--max-num-partial-prefills": Change("0.27.0", "Leave it out."),
    "--calculate-kv-scales": Change("0.28.0", "Leave it out: scales come from the checkpoint."),
}

ADDED: Mapping[str, Change] = {
    "--headless": Change("0.9.0"),
    "--nnodes": Change("0.11.1"),
    "--node-rank": Change("0.11.1"),
    "--master-addr": Change("0.11.1"),
    "--fingerprint-mode": Change("0.21.0"),
    "--fingerprint-value": Change("0.21.0"),
    "--spec-method": Change("0.22.0", "Use --speculative-config with a JSON object before that."),
    "--spec-model": Change("0.22.0", "Use --speculative-config with a JSON object before that."),
    "--spec-tokens": Change("0.22.0", "Use --speculative-config with a JSON object before that."),
    "--max-num-queued-reqs": Change("0.29.0"),
    "--max-num-queued-tokens": Change("0.29.0"),
    "--device-memory-utilization": Change("0.31.0", "Use --gpu-memory-utilization before that."),
    "--custom-histogram-buckets": Change("0.32.0"),
    "--enable-hc-sp": Change("0.32.0"),
    "--enable-shm-tensor-arena": Change("0.32.0"),
    "--sleep-mode-offload-cudagraph": Change("0.32.0"),
}

_NAME = re.compile(r"(?<![\w-])--?[A-Za-z][\w.-]*")
_MAX_NOTES = 3


def flag_notes(said: str, version: str | None) -> list[str]:
    """What is known of the flags that vLLM does not take, as sentences with the remedy.

    Args:
        said: vLLM's refusal, such as ``unrecognized arguments: --swap-space=4``.
        version: The version that refused; without one, the newest known is assumed.

    Returns:
        At most three sentences; none where nothing is known.
    """
    if not said.startswith("unrecognized arguments"):
        return []
    flags = dict.fromkeys(_flag(name) for name in _NAME.findall(said.partition(":")[2]))
    notes = [note for flag in flags if (note := _note(flag, version)) is not None]
    return notes[:_MAX_NOTES]


def _flag(written: str) -> str:
    """The flag as help lists it: vLLM reads ``_`` as ``-`` and takes JSON paths behind a dot."""
    return written.partition(".")[0].replace("_", "-") if written.startswith("--") else written


def _note(flag: str, version: str | None) -> str | None:
    removed, added = REMOVED.get(flag), ADDED.get(flag)
    if removed is not None and not _older(version, removed.version):
        return f"vLLM {removed.version} removed {flag}. {removed.instead}"
    if added is not None and _older(version, added.version):
        return (
            f"{flag} exists from vLLM {added.version} on; raise engine.version, or remove it. {added.instead}".strip()
        )
    close = difflib.get_close_matches(flag, FLAGS, n=1, cutoff=0.75)
    if close and close[0] in OWNED_FLAGS:
        return f"{flag} looks like {close[0]}, which is none of engine.args: {OWNED_FLAGS[close[0]]}."
    if close and close[0] != flag:
        return f"Did you mean {close[0]}? Correct {flag} in engine.args."
    return None


def _older(version: str | None, than: str) -> bool:
    try:
        return version is not None and Version(version) < Version(than)
    except InvalidVersion:
        return False
