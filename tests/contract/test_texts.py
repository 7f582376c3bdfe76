"""The recorder of what engines print when they cannot start, without a cluster."""

import json
from pathlib import Path

import pytest

from e2e.contract import failing_starts, texts
from e2e.contract.texts import CASES, Start
from nightshift.core.engine_log import engine_failure

VERSIONS = ("0.31.0", "0.32.0")
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_case_is_recorded_for_both_versions(version: str) -> None:
    recorded = {path.stem.removeprefix(f"vllm-{version}-") for path in texts.TEXTS.glob(f"vllm-{version}-*.txt")}
    assert {name for name in recorded if not name.startswith("source-")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_both_versions_are_recorded_with_the_same_kind_of_failure(case: str) -> None:
    found = [engine_failure(texts.path_of(version, case).read_text().split("\n", 1)[1]) for version in VERSIONS]
    assert {failure.kind if failure else None for failure in found} == {found[0].kind if found[0] else "none"}


def test_what_the_pod_prints_is_read_and_the_chatter_of_others_is_passed_over() -> None:
    text = "error: argument --seed: expected one argument\n"
    said = json.dumps({"case": "seed", "code": 2, "text": text})
    assert texts.starts_of(f"W1124 triton not found\n{said}\n") == [Start("seed", 2, text)]


@pytest.mark.parametrize(
    ("start", "alike"),
    [
        pytest.param(Start("expected", 2, "error: argument --seed: expected one argument"), True, id="the same kind"),
        pytest.param(Start("expected", 1, "OSError: [Errno 98] Address already in use"), False, id="another kind"),
        pytest.param(Start("expected", 0, ""), False, id="nothing at all"),
        pytest.param(Start("new", 2, "error: argument --seed: expected one argument"), False, id="never recorded"),
    ],
)
def test_a_start_of_another_kind_is_noticed(start: Start, alike: bool) -> None:
    assert texts.matches("0.32.0", start) is alike


def test_each_copy_of_the_model_has_one_thing_wrong(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tiny / name).write_text("{}")
    (tiny / "config.json").write_text(json.dumps(CONFIG))
    failing_starts.make_models(tiny, tmp_path / "made")
    made = {path.name: path for path in (tmp_path / "made").iterdir()}
    assert set(made) == {case.model for case in CASES.values()}
    changed = {
        name: {
            key
            for key, value in json.loads((made[name] / "config.json").read_text()).items()
            if CONFIG.get(key) != value
        }
        for name in ("arch", "type", "awq", "notokenizer", "tiny")
    }
    assert changed == {
        "arch": {"architectures"},
        "type": {"model_type"},
        "awq": {"quantization_config"},
        "notokenizer": set(),
        "tiny": set(),
    }
    assert not list(made["notokenizer"].glob("tokenizer*"))
    assert not list(made["noconfig"].iterdir())
    with pytest.raises(json.JSONDecodeError):
        json.loads((made["badjson"] / "config.json").read_text())
