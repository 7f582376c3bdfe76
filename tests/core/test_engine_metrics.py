"""The metrics of one engine under the names of every vLLM version."""

import math

import pytest

from nightshift.core.analysis.evidence import Histogram
from nightshift.core.engine_metrics import EngineDetails, EngineMetrics, Sample, engine_metrics, histogram
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


FIRST, INTER, OLD = (
    f"vllm:{name}_seconds_bucket" for name in ("time_to_first_token", "inter_token_latency", "time_per_output_token")
)


def buckets(name: str, *pairs: tuple[str, float]) -> list[Sample]:
    return [(name, {"le": bound}, count) for bound, count in pairs]


def details(*more: Sample) -> EngineDetails:
    found = engine_metrics(exported(*more), detailed=True)
    assert isinstance(found, EngineMetrics)
    assert found.details is not None
    return found.details


def test_details_are_read_only_where_they_are_asked_for() -> None:
    more = buckets(FIRST, ("0.5", 1), ("+Inf", 2))
    assert read(*more).details is None
    assert read(*more) == read()
    assert details(*more).first_token == Histogram((0.5,), (1, 1))


@pytest.mark.parametrize(
    ("samples", "field", "expected"),
    [
        pytest.param([], "first_token", None, id="a version without a histogram"),
        pytest.param([], "inference_seconds", None, id="a version that does not count its time"),
        pytest.param(
            buckets(OLD, ("1.0", 3), ("+Inf", 3)),
            "inter_token",
            Histogram((1.0,), (3, 0)),
            id="times between, before 0.10.2",
        ),
        pytest.param(
            [*buckets(OLD, ("1.0", 9), ("+Inf", 9)), *buckets(INTER, ("1.0", 3), ("+Inf", 4))],
            "inter_token",
            Histogram((1.0,), (3, 1)),
            id="the newer name of two counts",
        ),
        pytest.param(
            [
                ("vllm:request_success_total", {**RANK, "finished_reason": "stop"}, 3.0),
                ("vllm:request_success_total", {**OTHER_RANK, "finished_reason": "stop"}, 4.0),
                ("vllm:request_success_total", {**RANK, "finished_reason": "length"}, 1.0),
            ],
            "finished",
            {"stop": 7, "length": 1},
            id="requests by their reason, ranks added up",
        ),
        pytest.param(
            [("vllm:request_inference_time_seconds_sum", RANK, 1.5)] * 2,
            "inference_seconds",
            3.0,
            id="time in the batch",
        ),
    ],
)
def test_details(samples: list[Sample], field: str, expected: object) -> None:
    assert getattr(details(*samples), field) == expected


def test_reasons_of_a_stranger_are_bounded() -> None:
    many = [("vllm:request_success_total", {"finished_reason": "x" * 99 + str(number)}, 1.0) for number in range(99)]
    more = [("vllm:request_success_total", {"finished_reason": f"{number}"}, 1.0) for number in range(99)]
    found = details(*many, *more).finished
    assert len(found) == 12
    assert all(len(reason) <= 32 for reason in found)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param([("0.5", 1), ("1.0", 3), ("+Inf", 4)], Histogram((0.5, 1.0), (1, 2, 1)), id="in order"),
        pytest.param([("+Inf", 4), ("1.0", 3), ("0.5", 1)], Histogram((0.5, 1.0), (1, 2, 1)), id="in any order"),
        pytest.param([("1", 3), ("+Inf", 4)] * 2, Histogram((1.0,), (6, 2)), id="of two ranks"),
        pytest.param([], None, id="none"),
        pytest.param([("0.5", 1), ("1.0", 3)], None, id="without an end"),
        pytest.param([("+Inf", 3)], None, id="without a bound"),
        pytest.param([("-Inf", 1), ("+Inf", 3)], None, id="with a bound below all"),
        pytest.param([("0.5", 3), ("+Inf", 2)], None, id="with less up to more"),
        pytest.param([("abc", 3), ("+Inf", 3)], None, id="with a bound that is no number"),
        pytest.param([*((str(bound), 1.0) for bound in range(99)), ("+Inf", 1)], None, id="with too many bounds"),
    ],
)
def test_a_histogram(pairs: list[tuple[str, float]], expected: Histogram | None) -> None:
    assert histogram(buckets(FIRST, *pairs)) == expected


def test_details_are_no_step_of_the_engine() -> None:
    assert metrics(details=EngineDetails(finished={"stop": 1})).mark == metrics().mark
