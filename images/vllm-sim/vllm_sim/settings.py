"""What the simulator itself can be told: environment ``VLLM_SIM_*``, or one JSON file named by VLLM_SIM_CONFIG.

A field ``step_seconds`` is set by ``VLLM_SIM_STEP_SECONDS``; the environment wins over the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vllm_sim.latency import LatencyModel
from vllm_sim.memory import GIB
from vllm_sim.versions import NEWEST, OLDEST, Version, supported

PREFIX = "VLLM_SIM_"


class SettingsError(Exception):
    """A setting that is not known or cannot be read; the message names it."""


@dataclass(frozen=True)
class Settings:
    """The simulator's own settings; times in seconds, sizes in bytes.

    Attributes:
        version: the vLLM release to be.
        load_seconds: from process start to the first answer; the port refuses until then.
        step_seconds: fixed time of an engine step.
        step_seconds_per_sequence: time per decoding sequence in a step.
        prefill_seconds_per_token: time per prompt token.
        step_seconds_per_context_token: time per token of context that decoding sequences read.
        jitter: largest relative deviation of a step's time.
        seed: seed of jitter and of faults that hit a share of requests.
        answer_words: mean length of an answer to a question the model does not know.
        device_memory: memory of the simulated accelerator.
        free_memory: memory free on it at start; negative means all of it.
        weight_memory: what weights and activations take.
        kv_bytes_per_token: KV cache bytes per token (131072: Llama 3 8B in bfloat16).
        max_model_len: context length when --max-model-len is not given.
        lora_any_path: accept adapters whose path does not exist here.
        host: address to listen on when --host is not given.
        admin_port: port of the control endpoints; 0 for none.
        faults: JSON of the faults present from the start (see faults.py).
        failure: what to print on standard error before ending with code 1, such as a recorded text of vLLM.
        failure_seconds: from process start to that end.
    """

    version: str = "0.32.0"
    load_seconds: float = 1.0
    step_seconds: float = 0.010
    step_seconds_per_sequence: float = 0.0002
    prefill_seconds_per_token: float = 0.00005
    step_seconds_per_context_token: float = 0.0
    jitter: float = 0.0
    seed: int = 0
    answer_words: int = 40
    device_memory: int = 80 * GIB
    free_memory: int = -1
    weight_memory: int = 18 * GIB
    kv_bytes_per_token: int = 131072
    max_model_len: int = 8192
    lora_any_path: bool = False
    host: str = "0.0.0.0"
    admin_port: int = 0
    faults: str = "{}"
    failure: str = ""
    failure_seconds: float = 0.0

    @property
    def release(self) -> Version:
        """The simulated release."""
        return Version.parse(self.version)

    @property
    def latency(self) -> LatencyModel:
        """The latency model these settings describe."""
        return LatencyModel(
            step=self.step_seconds,
            per_sequence=self.step_seconds_per_sequence,
            per_prefill_token=self.prefill_seconds_per_token,
            per_context_token=self.step_seconds_per_context_token,
            jitter=self.jitter,
            seed=self.seed,
        )


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: an unknown name, an unreadable value, or a version outside the tables.
    """
    known: dict[str, type] = {entry.name: type(entry.default) for entry in fields(Settings)}
    values: dict[str, Any] = {}
    if path := environment.get(f"{PREFIX}CONFIG"):
        values.update(_from_file(Path(path)))
    for variable, raw in environment.items():
        if variable.startswith(PREFIX) and variable != f"{PREFIX}CONFIG":
            values[variable.removeprefix(PREFIX).lower()] = raw
    if unknown := sorted(set(values) - set(known)):
        raise SettingsError(f"unknown simulator settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        settings = Settings(**{name: _convert(name, value, known[name]) for name, value in values.items()})
        release, _ = settings.release, settings.latency
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if not supported(release):
        raise SettingsError(f"vLLM {release} is not simulated; {OLDEST} to {NEWEST} are")
    return settings


def _from_file(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: want a JSON object")
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}


def _convert(name: str, value: object, kind: type) -> Any:
    if kind is bool:
        text = str(value).lower()
        if text not in ("1", "true", "0", "false"):
            raise ValueError(f"{name}: want 1, true, 0 or false, got {value!r}")
        return text in ("1", "true")
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: want {kind.__name__}, got {value!r}") from None
