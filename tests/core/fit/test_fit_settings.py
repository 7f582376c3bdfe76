import pytest

from nightshift.core.fit.settings import AUTO, EngineSettings, engine_settings, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8192", 8192), ("1k", 1000), ("1K", 1024), ("25.6k", 25600), ("2M", 2**21), ("20g", 20 * 10**9), (" 4 ", 4),
     ("1.5K", None), ("1.5", None), ("", None), ("abc", None), ("-4", None),
     ("1e3", None), ("9" * 5000, None), ("٤", None)],
)  # fmt: skip
def test_sizes_are_read_as_vllm_reads_them(text: str, expected: int | None) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), EngineSettings()),
        (("--max-model-len=8192",), EngineSettings(max_model_len=8192)),
        (("--max-model-len", "8k"), EngineSettings(max_model_len=8000)),
        (("--max_model_len=8K",), EngineSettings(max_model_len=8192)),
        (("--max-model-len", "-1"), EngineSettings(max_model_len=AUTO)),
        (("--max-model-len=auto",), EngineSettings(max_model_len=AUTO)),
        (("--max-model-len=1", "--max-model-len=2"), EngineSettings(max_model_len=2)),
        (("--gpu-memory-utilization=0.8",), EngineSettings(gpu_memory_utilization=0.8)),
        (("--device-memory-utilization", "0.7"), EngineSettings(gpu_memory_utilization=0.7)),
        (("--kv-cache-memory-bytes", "20G"), EngineSettings(kv_cache_memory_bytes=20 * 2**30)),
        (("--kv-cache-dtype=fp8", "-q", "awq"), EngineSettings(kv_cache_dtype="fp8", quantization="awq")),
        (("--max-num-seqs=4", "--enforce-eager"), EngineSettings(max_num_seqs=4, enforce_eager=True)),
        (("--enforce-eager", "--max-num-seqs=4"), EngineSettings(max_num_seqs=4, enforce_eager=True)),
        (("--enforce-eager", "--no-enforce-eager"), EngineSettings()),
        (("--no-enforce-eager", "--enforce-eager"), EngineSettings(enforce_eager=True)),
        (("--no-async-scheduling",), EngineSettings(asynchronous_scheduling=False)),
        (("--disable-hybrid-kv-cache-manager",), EngineSettings(hybrid_kv_cache=False)),
        (("--max-num-batched-tokens=512", "-pp", "2"), EngineSettings(max_num_batched_tokens=512, pipeline_parallel=2)),
        (("--block-size=32", "--dtype=float32"), EngineSettings(block_size=32, dtype="float32")),
        (("-tp=4", "--enable-expert-parallel"), EngineSettings(tensor_parallel=4, expert_parallel=True)),
        (("--speculative-config.model=x",), EngineSettings(unmodelled=("--speculative-config",))),
        (("--hf-overrides", "{}"), EngineSettings(unmodelled=("--hf-overrides",))),
        (("--data-parallel-size=1", "--cpu-offload-gb", "0"), EngineSettings()),
        (("--max-model-l=512",), EngineSettings(unmodelled=("--max-model-l",))),
        (("--no-enable-prefix-caching", "--nosuchflag"), EngineSettings()),
        (("--offload_group_size=8",), EngineSettings(unmodelled=("--offload-group-size",))),
        (("-dp", "2"), EngineSettings(unmodelled=("--data-parallel-size",))),
        (("--max-model-len=abc",), EngineSettings(unreadable=("--max-model-len",))),
        (("--gpu-memory-utilization=1.2",), EngineSettings(unreadable=("--gpu-memory-utilization",))),
        (("--gpu-memory-utilization=high",), EngineSettings(unreadable=("--gpu-memory-utilization",))),
        (("--max-num-seqs=0",), EngineSettings(unreadable=("--max-num-seqs",))),
        (("stray", "--served-model-name", "x"), EngineSettings()),
    ],
)
def test_arguments_are_read_as_vllm_reads_them(arguments: tuple[str, ...], expected: EngineSettings) -> None:
    assert engine_settings(arguments) == expected
