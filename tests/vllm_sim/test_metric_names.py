import pytest

from vllm_sim.metric_table import METRICS, finish_reasons, token_buckets
from vllm_sim.metrics import EngineMetrics
from vllm_sim.versions import NEWEST, OLDEST, Version


def _names(version: str) -> set[str]:
    return {metric.name for metric in METRICS if metric.present(Version.parse(version))}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("kv_cache_usage_perc", "0.9.2", None),
        ("gpu_cache_usage_perc", "0.8.0", "0.10.2"),
        ("prefix_cache_hits", "0.9.2", None),
        ("gpu_prefix_cache_hits", "0.8.0", "0.10.2"),
        ("inter_token_latency_seconds", "0.10.2", None),
        ("time_per_output_token_seconds", "0.8.0", "0.11.2"),
        ("request_time_per_output_token_seconds", "0.11.0", None),
        ("engine_sleep_state", "0.11.1", None),
        ("prompt_tokens_recomputed", "0.16.0", "0.19.1"),
        ("num_requests_waiting_by_reason", "0.20.0", None),
        ("request_num_preemptions", "0.30.0", None),
        ("admission_rejections", "0.32.0", None),
        ("num_requests_running", "0.8.0", None),
    ],
)
def test_names_come_and_go(name: str, first: str, last: str | None) -> None:
    begin = Version.parse(first)
    assert name in _names(first)
    if begin > OLDEST:
        before = (
            begin._replace(patch=begin.patch - 1) if begin.patch else begin._replace(minor=begin.minor - 1, patch=9)
        )
        assert name not in _names(str(before))
    assert (name in _names(str(NEWEST))) == (last is None)
    if last is not None:
        assert name in _names(last)


def test_finish_reasons() -> None:
    assert finish_reasons(Version(0, 11, 1)) == ("stop", "length", "abort")
    assert finish_reasons(Version(0, 32, 0)) == ("stop", "length", "abort", "error", "repetition")


def test_token_buckets_end_at_the_context() -> None:
    assert token_buckets(100) == (1, 2, 5, 10, 20, 50, 100)
    assert token_buckets(512)[-1] == 500


@pytest.mark.parametrize("version", ["0.8.0", "0.8.5", "0.10.2", "0.11.0", "0.20.0", "0.33.0"])
def test_every_version_exports_its_table(version: str) -> None:
    release = Version.parse(version)
    metrics = EngineMetrics(release, "m", 512)
    exported = {family.name for family in metrics.registry.collect() if family.name.startswith("vllm:")}
    assert exported == {f"vllm:{name}" for name in _names(version)}
    sample = next(iter(next(f for f in metrics.registry.collect() if f.name == "vllm:num_requests_running").samples))
    assert ("engine" in sample.labels) == (release >= Version(0, 8, 5))
