"""The metrics of one engine under the names of every vLLM version."""

import math

import pytest

from nightshift.core.engine_metrics import EngineMetrics, Sample, engine_metrics
from nightshift.core.facts import Unknown
from tests.support.fake_engines import metrics

RANK = {"engine": "0", "model_name": "tiny"}
OTHER_RANK = {"engine": "1", "model_name": "tiny"}


def exported(*more: Sample, without: str = "") -> list[Sample]:
    samples: list[Sample] = [
        ("vllm:num_requests_running", RANK, 2.0),
        ("vllm:num_requests_waiting", RANK, 1.0),
        ("vllm:prompt_tokens_total", RANK, 19.0),
        ("vllm:generation_tokens_total", RANK, 40.0),
    ]
    return [sample for sample in samples if sample[0] != f"vllm:{without}"] + list(more)


def read(*more: Sample) -> EngineMetrics:
    found = engine_metrics(exported(*more))
    assert isinstance(found, EngineMetrics)
    return found


def test_the_least_that_every_version_exports() -> None:
    assert read() == EngineMetrics(2, 1, 19, 40, iterations=0, preemptions=0, kv_cache_usage=None, awake=True)


@pytest.mark.parametrize(
    ("sample", "field", "expected"),
    [
        pytest.param(("vllm:kv_cache_usage_perc", RANK, 0.5), "kv_cache_usage", 0.5, id="0.9.2 and later"),
        pytest.param(("vllm:gpu_cache_usage_perc", {}, 0.25), "kv_cache_usage", 0.25, id="up to 0.9.1"),
        pytest.param(("vllm:iteration_tokens_total_count", RANK, 7.0), "iterations", 7, id="steps are counted"),
        pytest.param(("vllm:num_preemptions_total", RANK, 3.0), "preemptions", 3, id="preemptions are counted"),
        pytest.param(
            ("vllm:engine_sleep_state", {**RANK, "sleep_state": "awake"}, 0.0), "awake", False, id="put to sleep"
        ),
        pytest.param(
            ("vllm:engine_sleep_state", {**RANK, "sleep_state": "discard_all"}, 0.0), "awake", True, id="awake"
        ),
        pytest.param(
            ("vllm:cache_config_info", {"block_size": "16"}, 1.0), "cache_config", {"block_size": "16"}, id="cache size"
        ),
        pytest.param(("vllm:num_requests_running", OTHER_RANK, 3.0), "running", 5, id="ranks are added up"),
    ],
)
def test_what_only_some_versions_export(sample: Sample, field: str, expected: object) -> None:
    assert getattr(read(sample), field) == expected


def test_the_newer_name_of_the_cache_usage_counts_and_of_it_the_fullest_rank() -> None:
    old, new, fuller = (
        ("vllm:gpu_cache_usage_perc", RANK, 0.9),
        ("vllm:kv_cache_usage_perc", RANK, 0.1),
        ("vllm:kv_cache_usage_perc", OTHER_RANK, 0.4),
    )
    assert read(old, new, fuller).kv_cache_usage == 0.4


@pytest.mark.parametrize(
    "name", ["num_requests_running", "num_requests_waiting", "prompt_tokens_total", "generation_tokens_total"]
)
def test_a_missing_metric_is_unknown_and_not_zero(name: str) -> None:
    found = engine_metrics(exported(without=name))
    assert isinstance(found, Unknown)
    assert f"vllm:{name}" in found.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_unknown(value: float) -> None:
    assert isinstance(engine_metrics(exported(("vllm:num_preemptions_total", RANK, value))), Unknown)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({}, True, id="nothing changed"),
        pytest.param({"cache_config": {"a": "b"}, "awake": False}, True, id="what no step moves does not count"),
        pytest.param({"generation_tokens": 5001}, False, id="a token came"),
        pytest.param({"kv_cache_usage": 0.001}, False, id="a part of a long prompt was computed"),
        pytest.param({"waiting": 1}, False, id="a request was queued by the engine"),
        pytest.param({"preemptions": 1}, False, id="a request was preempted"),
        pytest.param({"generation_tokens": 0, "prompt_tokens": 0, "iterations": 0}, False, id="the engine restarted"),
    ],
)
def test_a_step_of_the_engine_changes_its_mark(change: dict[str, object], same: bool) -> None:
    assert (metrics(**change).mark == metrics().mark) is same


@pytest.mark.parametrize(
    ("change", "busy"), [({}, False), ({"running": 1}, True), ({"waiting": 1}, True)], ids=["idle", "runs", "queue"]
)
def test_whether_an_engine_is_busy(change: dict[str, object], busy: bool) -> None:
    assert metrics(**change).busy is busy
