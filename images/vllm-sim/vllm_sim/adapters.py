"""LoRA adapters: loading and unloading with vLLM's answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vllm_sim.errors import ApiError, internal, not_found
from vllm_sim.protocol import LoadAdapter


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter."""

    name: str
    path: str


class Adapters:
    """The adapters of one server; they live in memory and are lost with it, as in vLLM."""

    def __init__(self, *, enabled: bool, max_rank: int, any_path: bool) -> None:
        self.loaded: dict[str, Adapter] = {}
        self._enabled = enabled
        self._max_rank = max_rank
        self._any_path = any_path

    def load(self, request: LoadAdapter, base_names: list[str]) -> str:
        """Load an adapter; the text of the answer.

        Raises:
            ApiError: as vLLM refuses it.
        """
        name, path = request.lora_name, request.lora_path
        if not name or not path:
            raise ApiError(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in base_names:
            raise ApiError(400, "InvalidUserInput", f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self.loaded and not request.load_inplace:
            raise ApiError(
                400,
                "InvalidUserInput",
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True.",
            )
        if not self._enabled:
            raise internal("Call to add_lora method failed: LoRA is not enabled.")
        self._check_files(name, path)
        self.loaded[name] = Adapter(name, path)
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        """Forget an adapter; the text of the answer.

        Raises:
            ApiError: as vLLM refuses it.
        """
        if not name:
            raise ApiError(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self.loaded:
            raise not_found(f"The lora adapter '{name}' cannot be found.")
        del self.loaded[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _check_files(self, name: str, path: str) -> None:
        if self._any_path:
            return
        try:
            config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
            rank = int(config["r"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise not_found(f"Loading lora {name} failed: No adapter found for {path}") from error
        if rank > self._max_rank:
            raise internal(
                f"Call to add_lora method failed: LoRA rank {rank} is greater than max_lora_rank {self._max_rank}."
            )
