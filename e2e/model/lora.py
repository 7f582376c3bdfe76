"""LoRA by hand, written in PEFT's form: what vLLM loads as an adapter."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

RANK = 8
ALPHA = 16
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BASE_NAME = "nightshift/tiny"


class Adapted(torch.nn.Module):  # type: ignore[misc]  # torch is only in the image
    """A frozen linear layer plus B A x, scaled by alpha / rank (Hu et al. 2021, section 4.1)."""

    def __init__(self, frozen: torch.nn.Linear) -> None:
        super().__init__()
        self.frozen = frozen
        self.lora_a = torch.nn.Parameter(torch.randn(RANK, frozen.in_features) / frozen.in_features**0.5)
        self.lora_b = torch.nn.Parameter(torch.zeros(frozen.out_features, RANK))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The frozen layer's output with the adapter's added."""
        added: torch.Tensor = hidden @ self.lora_a.T @ self.lora_b.T
        return torch.as_tensor(self.frozen(hidden)) + ALPHA / RANK * added


def attach(model: LlamaForCausalLM) -> dict[str, Adapted]:
    """Freeze a model and put an adapter beside each projection; returns them by module name."""
    for weight in model.parameters():
        weight.requires_grad_(False)
    adapted = {}
    for name, module in list(model.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if leaf in TARGETS:
            adapted[name] = Adapted(module)
            setattr(model.get_submodule(parent), leaf, adapted[name])
    return adapted


def parameters(adapted: dict[str, Adapted]) -> list[torch.nn.Parameter]:
    """What training may change."""
    return [weight for module in adapted.values() for weight in (module.lora_a, module.lora_b)]


def save(adapted: dict[str, Adapted], folder: Path) -> None:
    """Write trained adapters."""
    tensors = {}
    for name, module in adapted.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = module.lora_a.detach().to(torch.bfloat16).contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = module.lora_b.detach().to(torch.bfloat16).contiguous()
    _write(tensors, RANK, folder)


def save_misfits(out: Path) -> None:
    """Write two adapters that an engine must refuse: made for a wider model, and of a rank above the default 16."""
    _write(_random_tensors(hidden=320, rank=RANK), RANK, out / "tiny-lora-wrong-shape")
    _write(_random_tensors(hidden=256, rank=64), 64, out / "tiny-lora-wrong-rank")


def _random_tensors(hidden: int, rank: int) -> dict[str, torch.Tensor]:
    tensors = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, dtype=torch.bfloat16) * 0.02
        tensors[f"{name}.lora_B.weight"] = torch.zeros(hidden, rank, dtype=torch.bfloat16)
    return tensors


def _write(tensors: dict[str, torch.Tensor], rank: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    save_file(tensors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE_NAME,
        "r": rank,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
