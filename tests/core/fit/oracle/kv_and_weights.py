"""What vLLM and transformers say about the models in ../configs, written as JSON to compare with.

Runs inside a vLLM image, without weights, accelerator or network: every model is built on torch's meta device.

- KV: the model classes of vLLM are built for one rank of a tensor-parallel group, and every attention layer is
  asked for its `get_kv_cache_spec`; `get_kv_cache_groups`, `get_kv_cache_config_from_groups` and
  `get_kv_cache_capacity` of `vllm/v1/core/kv_cache_utils.py` then say blocks, tokens and concurrency.
- Weights: parameters and bytes of the same vLLM model on that rank, and the parameter count of transformers'
  model of the same config without its quantization.

Usage, in a container of the vLLM image with this folder and an output folder mounted, about six minutes on one core:
    python oracle/kv_and_weights.py configs OUTPUT_FILE [NAME ...]
"""

import gc
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
import transformers
import vllm  # type: ignore[import-not-found]
from vllm.config import set_current_vllm_config  # type: ignore[import-not-found]
from vllm.distributed import parallel_state  # type: ignore[import-not-found]
from vllm.engine.arg_utils import EngineArgs  # type: ignore[import-not-found]
from vllm.model_executor.model_loader.utils import initialize_model  # type: ignore[import-not-found]
from vllm.utils.torch_utils import set_default_torch_dtype  # type: ignore[import-not-found]
from vllm.v1.core import kv_cache_utils  # type: ignore[import-not-found]

Config = dict[str, Any]

AVAILABLE = 20 * 2**30
"""Bytes of KV cache per rank in every row; any number large enough would do."""

SCARCE = 2**30
"""Bytes of KV cache per rank for the longest context."""

BLOCK_SIZE = 64
"""Tokens per block; one that every backend, the processor's too, takes as it is."""
MAX_BATCHED_TOKENS = 8192


@contextmanager
def rank_zero_of(size: int) -> Iterator[None]:
    """Rank 0 of a tensor-parallel group of this size, without processes."""
    names = ("_TP", "_PP", "_DP", "_EP", "_DCP", "_PCP", "_WORLD", "_EPLB")
    before = {name: getattr(parallel_state, name, None) for name in names}

    def group(world: int) -> SimpleNamespace:
        return SimpleNamespace(
            world_size=world,
            rank_in_group=0,
            rank=0,
            local_rank=0,
            ranks=list(range(world)),
            is_first_rank=True,
            is_last_rank=True,
            device_communicator=None,
            device_group=SimpleNamespace(size=lambda: world, rank=lambda: 0),
            cpu_group=None,
            unique_name="oracle",
        )

    for name in names:
        setattr(parallel_state, name, group(size if name in ("_TP", "_EP", "_WORLD") else 1))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(parallel_state, name, value)


def engine_config(directory: str, tensor_parallel: int, kv_cache_dtype: str) -> Any:
    """The engine's configuration, its platform checks apart: an accelerator's is meant, on this processor."""
    arguments = EngineArgs(
        model=directory,
        tokenizer=directory,
        skip_tokenizer_init=True,
        load_format="dummy",
        block_size=BLOCK_SIZE,
        kv_cache_dtype="auto",
        enforce_eager=True,
        enable_prefix_caching=True,
        max_num_batched_tokens=MAX_BATCHED_TOKENS,
        max_num_seqs=256,
        disable_hybrid_kv_cache_manager=False,
        allow_deprecated_quantization=True,
    )
    engine = arguments.create_engine_config()
    engine.parallel_config.tensor_parallel_size = tensor_parallel
    engine.parallel_config.world_size = tensor_parallel
    engine.cache_config.cache_dtype = kv_cache_dtype
    engine.cache_config.block_size = BLOCK_SIZE
    engine.cache_config.kv_cache_layout = "LBNHC"
    engine.scheduler_config.async_scheduling = True  # the default on an accelerator: two batches in flight
    return engine


def measure(engine: Any) -> dict[str, Any]:
    """Build the model and ask it."""
    engine.compilation_config.static_forward_context.clear()
    with set_current_vllm_config(engine), set_default_torch_dtype(engine.model_config.dtype), torch.device("meta"):
        model = initialize_model(vllm_config=engine)
    parameters = list(model.parameters()) + [b for n, b in model.named_buffers() if "cos_sin_cache" not in n]
    weight_bytes = sum(p.numel() * p.element_size() for p in parameters)
    specs = {}
    for name, layer in engine.compilation_config.static_forward_context.items():
        if hasattr(layer, "get_kv_cache_spec"):
            spec = layer.get_kv_cache_spec(engine)
            if spec is not None:
                specs[name] = spec
    kinds: dict[str, int] = {}
    for spec in specs.values():
        kinds[type(spec).__name__] = kinds.get(type(spec).__name__, 0) + 1
    groups = kv_cache_utils.get_kv_cache_groups(engine, dict(specs))
    config = kv_cache_utils.get_kv_cache_config_from_groups(engine, groups, AVAILABLE)
    tokens, concurrency = kv_cache_utils.get_kv_cache_capacity(engine, config)
    return {
        "max_in_flight_tokens": engine.max_in_flight_tokens,
        "max_model_len": engine.model_config.max_model_len,
        "kv_bytes_per_token_all_layers": sum(s.page_size_bytes // s.block_size for s in specs.values()),
        "layers": kinds,
        "groups": [len(g.layer_names) for g in groups],
        "num_blocks": config.num_blocks,
        "capacity_tokens": tokens,
        "max_concurrency": concurrency,
        "bytes_per_request_at_max_model_len": kv_cache_utils._max_memory_usage_bytes_from_groups(engine, groups),
        "longest_context": kv_cache_utils._estimate_max_model_len_from_groups(engine, groups, SCARCE),
        "weight_bytes": weight_bytes,
    }


def transformers_parameters(config: Config) -> int:
    """The parameters of transformers' model of this config, quantization left out."""
    plain = {k: v for k, v in config.items() if k != "quantization_config"}
    known = transformers.AutoConfig.for_model(**plain)
    auto = transformers.AutoModelForCausalLM
    if "vision_config" in plain:
        auto = transformers.AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(known)
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def splits(config: Config) -> list[int]:
    """Tensor-parallel sizes that vLLM accepts for the heads: one, two, and one beyond the key-value heads."""
    text = config | config.get("text_config", {})
    heads = text.get("num_attention_heads", 8)
    kv_heads = text.get("num_key_value_heads", 4)
    beyond = [
        size for size in (2 * kv_heads, 8, 4) if heads % size == 0 and (kv_heads % size == 0 or size % kv_heads == 0)
    ]
    return [1, *(size for size in (2, *beyond[:1]) if heads % size == 0)]


def text_only(config: Config) -> Config:
    """The language model of a multimodal config whose other parts this image cannot build; its KV is the same."""
    text = config["text_config"]
    found: Config = {"architectures": ["Gemma3ForCausalLM"], "torch_dtype": config["torch_dtype"]} | text
    return found


def measured(config: Config, tensor_parallel: int, kv_cache_dtype: str) -> dict[str, Any]:
    """One case."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(json.dumps(config))
        with rank_zero_of(tensor_parallel):
            found = measure(engine_config(directory, tensor_parallel, kv_cache_dtype))
    return found


def one(name: str, config: Config) -> dict[str, Any]:
    """Every case of a model: tensor parallel 1 and more, and an fp8 KV cache."""
    row: dict[str, Any] = {"transformers_parameters": transformers_parameters(config), "cases": []}
    if "text_config" in config:
        config = text_only(config)
        row["vllm_model"] = "text part only"
    cases = [(size, "auto") for size in splits(config)] + [(1, "fp8")]
    for tensor_parallel, kv_cache_dtype in cases:
        case: dict[str, Any] = {"tensor_parallel": tensor_parallel, "kv_cache_dtype": kv_cache_dtype}
        try:
            case |= measured(config, tensor_parallel, kv_cache_dtype)
        except Exception as error:
            # An accelerator's quantization that this build cannot make: the KV cache does not depend on it.
            case["refused"] = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            plain = {k: v for k, v in config.items() if k != "quantization_config"}
            try:
                case |= measured(plain, tensor_parallel, kv_cache_dtype)
                del case["weight_bytes"]
            except Exception as impossible:
                case["impossible"] = f"{type(impossible).__name__}: {impossible}"[:160]
        row["cases"].append(case)
        gc.collect()
        sys.stdout.write(f"{name} {json.dumps(case)}\n")
    return row


def main() -> None:
    """Measure every config that is asked for."""
    logging.disable(logging.WARNING)
    source, output, *names = sys.argv[1:]
    results: dict[str, Any] = {
        "vllm": vllm.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "available_kv_bytes": AVAILABLE,
        "scarce_kv_bytes": SCARCE,
        "block_size": BLOCK_SIZE,
        "max_batched_tokens": MAX_BATCHED_TOKENS,
        "models": {},
    }
    for path in sorted(Path(source).glob("*.json")):
        if not names or path.stem in names:
            results["models"][path.stem] = one(path.stem, json.loads(path.read_text())["config"])
            Path(output).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
