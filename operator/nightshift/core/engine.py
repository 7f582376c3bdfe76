"""From a spec to vLLM's command line and environment, by version.

One reviewed table decides what a version understands; versions newer than the table get its newest row.
Sources: vLLM's own command-line help, Dockerfiles and source of the versions named in each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from nightshift.api.adapters import MAX_ADAPTERS
from nightshift.api.names import ENGINE_PORT
from nightshift.api.revision import Resolved, RevisionSpec
from nightshift.api.spec import Task

MODELS_DIRECTORY = "/models"
CACHE_DIRECTORY = "/cache"

LORAS_IN_BATCH = 4
"""Adapters whose requests one step of the engine may mix (--max-loras). vLLM's default of 1 lets requests of different
adapters wait for each other; each more costs memory for one adapter of the largest rank."""

LORAS_IN_MEMORY = 2 * MAX_ADAPTERS
"""Adapters that an engine keeps at hand (--max-cpu-loras): each under its own name and under that of the shared
address, which are two for vLLM. What does not find room is read from the disk again when it is asked for."""


@dataclass(frozen=True)
class EngineTraits:
    """What vLLM understands from a version on."""

    since: Version
    positional_model: bool
    """`vllm serve MODEL` is the image's entry point (from 0.11.1); before it, `--model MODEL`."""
    shutdown_timeout: bool
    """`--shutdown-timeout` lets running requests end after SIGTERM (from 0.18.0)."""
    runner: bool
    """What the model is for is said by `--runner` and `--convert`; before 0.13.0, which took `--task` away, by that."""


TRAITS = (
    EngineTraits(Version("0"), positional_model=False, shutdown_timeout=False, runner=False),
    EngineTraits(Version("0.11.1"), positional_model=True, shutdown_timeout=False, runner=False),
    EngineTraits(Version("0.13.0"), positional_model=True, shutdown_timeout=False, runner=True),
    EngineTraits(Version("0.18.0"), positional_model=True, shutdown_timeout=True, runner=True),
)


_TASK: dict[Task, str] = {"Chat": "generate", "Completion": "generate", "Embedding": "embed", "Rerank": "score"}
"""vLLM's --task."""

_RUNNER: dict[Task, tuple[str, ...]] = {
    "Chat": ("--runner", "generate"),
    "Completion": ("--runner", "generate"),
    "Embedding": ("--runner", "pooling", "--convert", "embed"),
    "Rerank": ("--runner", "pooling"),
}
"""The same from 0.13.0 on. A model that ranks is left as its architecture says: one that only embeds ranks by that
(vllm/config/model.py `_get_default_convert_type`, entrypoints/pooling/scoring, 0.32.0)."""


def traits(version: str) -> EngineTraits:
    """What a vLLM version understands: the newest row that is not newer than it."""
    wanted = Version(version)
    return [row for row in TRAITS if row.since <= wanted][-1]


def arguments(
    spec: RevisionSpec, resolved: Resolved, served_names: Sequence[str], model_path: str, tensor_parallel: int
) -> list[str]:
    """vLLM's arguments: what Nightshift owns first, the user's own after them.

    Args:
        spec: What the user wrote.
        resolved: What it came to.
        served_names: What clients may call the model; the first one stands in answers and metrics.
        model_path: Where its files are.
        tensor_parallel: Accelerators that share it.
    """
    has = traits(resolved.engine_version)
    owned = [model_path] if has.positional_model else ["--model", model_path]
    owned += ["--served-model-name", *served_names, "--host", "0.0.0.0", "--port", str(ENGINE_PORT)]  # noqa: S104
    if tensor_parallel > 1:
        owned += ["--tensor-parallel-size", str(tensor_parallel)]
    if spec.model.quantization:
        owned += ["--quantization", spec.model.quantization]
    if spec.model.task is not None:
        owned += _RUNNER[spec.model.task] if has.runner else ("--task", _TASK[spec.model.task])
    if has.shutdown_timeout:
        owned += ["--shutdown-timeout", str(spec.drain_seconds)]
    if resolved.lora_rank is not None:
        owned += ["--enable-lora", "--max-lora-rank", str(resolved.lora_rank)]
        owned += ["--max-loras", str(LORAS_IN_BATCH), "--max-cpu-loras", str(LORAS_IN_MEMORY)]
    return owned + list(spec.engine.args)


def environment(resolved: Resolved) -> list[dict[str, str]]:
    """Variables of an engine: no telemetry, no Hub, writable caches, a user name for Python.

    Only engines that take adapters may be told to load them: the network lets nobody reach those but the operator and
    the scrapers.
    """
    lora = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "true"}] if resolved.lora_rank is not None else []
    return lora + [
        {"name": name, "value": value}
        for name, value in (
            ("DO_NOT_TRACK", "1"),
            ("HF_HUB_OFFLINE", "1"),
            ("HOME", f"{CACHE_DIRECTORY}/home"),
            ("TORCHINDUCTOR_CACHE_DIR", f"{CACHE_DIRECTORY}/torchinductor"),
            ("TRITON_CACHE_DIR", f"{CACHE_DIRECTORY}/triton"),
            ("USER", "nightshift"),
            ("VLLM_CACHE_ROOT", f"{CACHE_DIRECTORY}/vllm"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("XDG_CACHE_HOME", CACHE_DIRECTORY),
        )
    ]
