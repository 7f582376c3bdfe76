"""What one CUDA device says of itself and takes, for `core/fit` and the profiles of accelerators.

``python bench/accelerator_probe.py > FILE`` needs torch and transformers with a CUDA device, and nothing of Nightshift:
it runs where the card is. Its files lie in tests/core/fit/accelerators; tests compare profiles and fit with them.
"""

import json
import subprocess
import sys
import time

import torch
import transformers

GIB = 2**30
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
"""meta-llama/Llama-3.1-8B, config.json; the weights are random: memory does not depend on them."""
TOKENS, REQUESTS = 8192, 1024
"""The batch that vLLM's profiling run assumes on cards from 70 GiB."""


def driver_used_mib() -> int:
    """Memory in use as nvidia-smi says."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


def context() -> dict[str, int]:
    """What the context takes: runtime and driver, before anything is allocated, and after kernels of a library ran."""
    before = driver_used_mib()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    bare = driver_used_mib() - before
    square = torch.ones(1024, 1024, device="cuda", dtype=torch.bfloat16)
    torch.nn.functional.scaled_dot_product_attention(*(square.view(1, 8, 1024, 128),) * 3, is_causal=True)
    (square @ square).sum().item()
    reserved = torch.cuda.memory_reserved() // 2**20
    return {"context_mib": bare, "context_and_libraries_mib": driver_used_mib() - before - reserved}


def model() -> dict[str, int]:
    """Weights, and the peak of one forward pass over a full batch, above the weights."""
    config = transformers.LlamaConfig(**LLAMA_8B, dtype="bfloat16", use_cache=False)
    with torch.device("meta"):
        made = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    made = made.to_empty(device="cuda").eval()
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.02)
    weights = torch.cuda.memory_allocated()
    tokens = torch.randint(0, LLAMA_8B["vocab_size"], (1, TOKENS), device="cuda")
    with torch.no_grad():
        made.model(tokens)
        torch.cuda.reset_peak_memory_stats()
        made.model(tokens)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - weights
    del made
    torch.cuda.empty_cache()
    return {"weights_bytes": weights, "forward_bytes": peak}


def sampling() -> dict[str, int]:
    """The peak of one sampling step over a full batch: logits, their copy in 4 bytes, probabilities, noise, and a draw.

    The steps of vllm/v1/sample/sampler.py, 0.32.0, for random sampling without top-k and top-p.
    """
    torch.cuda.empty_cache()
    start = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    logits = torch.randn(REQUESTS, LLAMA_8B["vocab_size"], device="cuda", dtype=torch.bfloat16)
    wide = logits.to(torch.float32)
    wide.div_(0.7)
    probabilities = wide.softmax(dim=-1, dtype=torch.float32)
    noise = torch.empty_like(probabilities).exponential_()
    probabilities.div_(noise).argmax(dim=-1)
    torch.cuda.synchronize()
    return {"sampling_bytes": torch.cuda.max_memory_allocated() - start}


def filled() -> str:
    """What torch says when the card is full."""
    blocks = []
    try:
        while True:
            blocks.append(torch.empty(4 * GIB, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"
    finally:
        blocks.clear()
        torch.cuda.empty_cache()


def main() -> int:
    """Measure, and print one JSON object."""
    runtime = context()
    free, total = torch.cuda.mem_get_info()
    properties = torch.cuda.get_device_properties(0)
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    found = {
        "device": torch.cuda.get_device_name(0),
        "nvidia_smi": driver,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": total,
        "free_after_context_bytes": free,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "batch": {"tokens": TOKENS, "requests": REQUESTS},
        **runtime,
        **model(),
        **sampling(),
        "out_of_memory": filled(),
    }
    json.dump(found, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
