import json
from pathlib import Path

import pytest

from vllm_sim.faults import Errors, Faults, FaultsError, Roulette, parse
from vllm_sim.settings import SettingsError, load


def test_defaults_and_environment() -> None:
    found = load(
        {"VLLM_SIM_VERSION": "0.8.5", "VLLM_SIM_STEP_SECONDS": "0.5", "VLLM_SIM_LORA_ANY_PATH": "true", "X": "1"}
    )
    assert (str(found.release), found.latency.step, found.lora_any_path) == ("0.8.5", 0.5, True)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sim.json"
    path.write_text(json.dumps({"seed": 5, "load_seconds": 9, "faults": {"slow": 2}}))
    found = load({"VLLM_SIM_CONFIG": str(path), "VLLM_SIM_LOAD_SECONDS": "3"})
    assert (found.seed, found.load_seconds, parse(found.faults).slow) == (5, 3.0, 2.0)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VLLM_SIM_STEP_SECOND": "1"}, "unknown simulator settings: step_second"),
        ({"VLLM_SIM_SEED": "x"}, "seed: want int"),
        ({"VLLM_SIM_VERSION": "0.99.0"}, "vLLM 0.99.0 is not simulated"),
        ({"VLLM_SIM_VERSION": "new"}, "not a vLLM version"),
        ({"VLLM_SIM_JITTER": "2"}, "jitter must be"),
        ({"VLLM_SIM_LORA_ANY_PATH": "maybe"}, "lora_any_path"),
        ({"VLLM_SIM_CONFIG": "/no/such/file"}, "cannot read"),
    ],
)
def test_refusals_name_the_setting(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(environment)


def test_faults() -> None:
    assert parse('{"errors": {"share": 0.5, "status": 503}}') == Faults(errors=Errors(share=0.5, status=503))


@pytest.mark.parametrize("text", ["{", '{"hung": true}', '{"slow": 0}', '{"errors": {"share": 2}}', '{"oom": "yes"}'])
def test_faults_refusals(text: str) -> None:
    with pytest.raises(FaultsError):
        parse(text)


@pytest.mark.parametrize(("share", "hits"), [(0.25, 25), (0.1, 10), (1.0, 100), (0.0, 0), (0.3, 30)])
def test_a_share_is_spread_evenly(share: float, hits: int) -> None:
    roulette = Roulette()
    drawn = [roulette.hit(share) for _ in range(100)]
    assert sum(drawn) == hits
    if share == 0.25:
        assert drawn[:4] == [False, False, False, True]
