import pytest

from vllm_sim.latency import LatencyModel

MODEL = LatencyModel(step=0.010, per_sequence=0.0002, per_prefill_token=0.00005)


@pytest.mark.parametrize(
    ("decoding", "prefill", "seconds"),
    [
        (8, 512, 0.0372),  # the worked example of step_seconds
        (1, 0, 0.0102),
        (0, 100, 0.015),
        (0, 0, 0.0),
        (256, 0, 0.0612),
    ],
)
def test_step(decoding: int, prefill: int, seconds: float) -> None:
    assert MODEL.step_seconds(decoding=decoding, prefill_tokens=prefill) == pytest.approx(seconds)


def test_request_worked_example() -> None:
    assert MODEL.request_seconds(prompt_tokens=100, output_tokens=11) == pytest.approx(0.117)


def test_request_is_the_sum_of_its_steps() -> None:
    model = LatencyModel(step=0.01, per_sequence=0.001, per_prefill_token=0.0001, per_context_token=0.00001)
    steps = [model.step_seconds(decoding=0, prefill_tokens=50)]
    steps += [model.step_seconds(decoding=1, prefill_tokens=0, context_tokens=50 + i) for i in range(1, 20)]
    assert model.request_seconds(prompt_tokens=50, output_tokens=20) == pytest.approx(sum(steps))


def test_slow_is_a_factor() -> None:
    plain = MODEL.step_seconds(decoding=4, prefill_tokens=0)
    assert MODEL.step_seconds(decoding=4, prefill_tokens=0, slow=3.0) == pytest.approx(3 * plain)


def test_jitter_stays_within_its_share_and_repeats() -> None:
    model = LatencyModel(jitter=0.2, seed=3)
    plain = LatencyModel().step_seconds(decoding=1, prefill_tokens=0)
    times = [model.step_seconds(decoding=1, prefill_tokens=0, index=index) for index in range(500)]
    assert all(0.8 * plain <= time < 1.2 * plain for time in times)
    assert len(set(times)) > 400
    assert times == [model.step_seconds(decoding=1, prefill_tokens=0, index=index) for index in range(500)]


@pytest.mark.parametrize("wrong", [{"jitter": 1.0}, {"jitter": -0.1}, {"step": -1.0}, {"per_sequence": float("nan")}])
def test_refuses_impossible_coefficients(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        LatencyModel(**wrong)  # type: ignore[arg-type]
