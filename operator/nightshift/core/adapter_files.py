"""Whether a LoRA adapter's files fit a base model: its configuration, and the shapes of its matrices.

Everything here is decided from headers, before an engine is asked to load anything: an engine may not survive
what it finds out in the middle of a load.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.api.fetch import FetchReason
from nightshift.core.canonical import canonical_json

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that --max-lora-rank takes. Source: vllm/config/lora.py, MaxLoRARanks, 0.26.0; the same in the help of
0.32.0. Versions before 0.12 lack 1, 320 and 512; a rank that needs those ends in EngineArgsRejected there."""

DEFAULT_RANK = 16
"""What --max-lora-rank is where no adapter asks for more, as in vLLM."""

_NAMED = 3
_A, _B = (".lora_A.weight", ".lora_B.weight")
_PREFIX = "base_model.model."
_PLAIN = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8"})
"""Types of safetensors in which one element is one weight; packed ones have other shapes."""

_TIED = frozenset({"lm_head", "embed_tokens"})
"""Modules whose weight a base may not store, because two modules share one."""


@dataclass(frozen=True)
class Misfit:
    """Why an adapter cannot be served by this base; the message names the adapter's fault and the remedy."""

    reason: FetchReason
    message: str


@dataclass(frozen=True)
class AdapterConfig:
    """What adapter_config.json says, as far as it decides something."""

    rank: int
    """The largest rank of any module."""
    base: str | None
    """Name or path of the model that it was trained on, as its trainer wrote it."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as a safetensors header describes it."""

    dtype: str
    shape: tuple[int, ...]


Tensors = Mapping[str, Tensor]


def bucket(rank: int) -> int | None:
    """The smallest --max-lora-rank that an adapter of this rank fits in; None where there is none.

    Worked example: rank 24 needs --max-lora-rank 32, rank 600 none.
    """
    return next((allowed for allowed in RANKS if allowed >= rank), None)


def adapter_config(raw: object) -> AdapterConfig | Misfit:
    """Read adapter_config.json in PEFT's form.

    Source of what vLLM refuses: vllm/lora/peft_helper.py, 0.26.0.
    """
    if not isinstance(raw, dict):
        return _unusable("adapter_config.json is no JSON object")
    if raw.get("peft_type", "LORA") != "LORA":
        return _unusable(f"it is of the type {_short(raw['peft_type'])}, and vLLM serves LORA only")
    ranks = [raw.get("r"), *_values(raw.get("rank_pattern"))]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in ranks):
        return _unusable(f"its rank r is {_short(raw.get('r'))}, which is no positive number")
    if raw.get("use_dora"):
        return _unusable("it uses DoRA, which vLLM does not serve")
    if raw.get("modules_to_save"):
        return _unusable("it replaces whole modules (modules_to_save), which vLLM does not serve")
    if raw.get("bias") not in (None, "none"):
        return _unusable(f"it trains biases (bias: {_short(raw['bias'])}), which vLLM does not serve")
    base = raw.get("base_model_name_or_path")
    return AdapterConfig(rank=max(ranks), base=base[:200] if isinstance(base, str) and base else None)


def _values(pattern: object) -> Iterable[Any]:
    return pattern.values() if isinstance(pattern, dict) else ()


def misfit(adapter: Tensors, config: AdapterConfig, base: Tensors) -> Misfit | None:
    """Compare an adapter's matrices with the base's weights; None where they fit, as far as both can be read.

    A weight W of shape (out, in) takes A of shape (rank, in) and B of shape (out, rank).

    Worked example: q_proj of shape (256, 256) takes A (8, 256) and B (256, 8). An A of shape (8, 320) was made
    for a model of hidden size 320: AdapterBaseMismatch.

    Args:
        adapter: Tensors of adapter_model.safetensors.
        config: What its configuration says.
        base: Tensors of all safetensors files of the base; empty where it has none, and nothing is known.
    """
    modules = {name.removesuffix(_A).removeprefix(_PREFIX): t for name, t in adapter.items() if name.endswith(_A)}
    if not modules:
        return _unusable("its file holds no matrices of a LoRA adapter")
    widest = max(tensor.shape[0] if tensor.shape else 0 for tensor in modules.values())
    if widest > config.rank:
        return _unusable(f"its matrices have rank {widest} and its configuration says {config.rank}")
    if not base:
        return None
    known = _Base(base)
    missing = [module for module in modules if not known.has(module)]
    if missing:
        named = ", ".join(sorted(missing)[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        return Misfit(
            FetchReason.ADAPTER_MODULES_MISMATCH,
            f"it changes modules that the base model does not have: {named}{more}. {_remedy(config)}",
        )
    for module, a in sorted(modules.items()):
        b = adapter.get(f"{_PREFIX}{module}{_B}")
        shapes = known.shapes(module)
        if b is None or len(a.shape) != 2 or len(b.shape) != 2 or not shapes:
            continue
        if (b.shape[0], a.shape[1]) not in shapes:
            return Misfit(
                FetchReason.ADAPTER_BASE_MISMATCH,
                f"it was made for another base: its {module} is for a weight of shape "
                f"{(b.shape[0], a.shape[1])}, the base model's has {shapes[0]}. {_remedy(config)}",
            )
    return None


class _Base:
    """A base's modules.

    Models with several towers are named otherwise in their files than in memory, where adapters take their names
    from; so where a module is not found by its name, those count that end in the same layer and name.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._by_tail: dict[str, list[Tensor]] = {}
        for name, tensor in tensors.items():
            self._by_tail.setdefault(_tail(name), []).append(tensor)
        self._modules = {name.rpartition(".")[0] for name in self._by_tail}

    def has(self, module: str) -> bool:
        """Whether there is such a module. Experts may be stored fused, and shared weights only once."""
        tail = _tail(module)
        return tail in self._modules or ".experts." in tail or tail.rpartition(".")[2] in _TIED

    def shapes(self, module: str) -> list[tuple[int, ...]]:
        """What shapes the module's weight may have; none where they are packed, or not known."""
        exact = self._tensors.get(f"{module}.weight")
        found = [exact] if exact is not None else self._by_tail.get(f"{_tail(module)}.weight", [])
        plain = all(tensor.dtype in _PLAIN and len(tensor.shape) == 2 for tensor in found)
        return [tensor.shape for tensor in found] if plain else []


def _tail(name: str) -> str:
    _, found, rest = name.rpartition("layers.")
    return f"layers.{rest}" if found else name


def _remedy(config: AdapterConfig) -> str:
    trained = f"It was trained on {config.base}; choose" if config.base else "Choose"
    return f"{trained} an adapter of spec.model.uri, or change the model."


def _unusable(why: str) -> Misfit:
    return Misfit(FetchReason.ADAPTER_UNUSABLE, f"{why}; choose a plain LoRA adapter in PEFT's form.")


def _short(value: object) -> str:
    return canonical_json(value)[:60]
