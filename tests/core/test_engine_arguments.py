import pytest

from nightshift.core.engine import TRAITS, arguments, environment, traits
from tests.support.builders import model_spec, revision, wanted_of

COMMON = ["--served-model-name", "chat", "ml/chat", "--host", "0.0.0.0", "--port", "8000"]
POSITIONAL, NAMED = ["/models/x"], ["--model", "/models/x"]
TIMEOUT = ["--shutdown-timeout", "600"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param("0.10.2", NAMED + COMMON, id="0.10.2 takes the model by a flag"),
        pytest.param("0.11.0", NAMED + COMMON, id="0.11.0 still does"),
        pytest.param("0.11.1", POSITIONAL + COMMON, id="0.11.1 takes it by position"),
        pytest.param("0.17.0", POSITIONAL + COMMON, id="0.17.0 knows no shutdown timeout"),
        pytest.param("0.18.0", POSITIONAL + COMMON + TIMEOUT, id="0.18.0 does"),
        pytest.param("0.32.0", POSITIONAL + COMMON + TIMEOUT, id="0.32.0 is as 0.18.0"),
        pytest.param("0.32.0.post1", POSITIONAL + COMMON + TIMEOUT, id="a post release is as its release"),
        pytest.param("0.99.0", POSITIONAL + COMMON + TIMEOUT, id="a version newer than the table gets its newest row"),
    ],
)
def test_arguments_depend_on_the_version(version: str, expected: list[str]) -> None:
    resolved = revision(engine_version=version).resolved
    assert arguments(wanted_of(model_spec()), resolved, ["chat", "ml/chat"], "/models/x", 1) == expected


def test_the_table_is_sorted_by_version() -> None:
    versions = [row.since for row in TRAITS]
    assert versions == sorted(versions)
    assert traits("0.0.1") is TRAITS[0]


def test_several_accelerators_mean_tensor_parallelism() -> None:
    found = arguments(wanted_of(model_spec()), revision().resolved, ["chat", "ml/chat"], "/models/x", 4)
    assert found[found.index("--tensor-parallel-size") + 1] == "4"


def test_a_quantization_is_an_argument_of_nightshifts() -> None:
    wanted = wanted_of({"model": {"uri": "pvc://models/llama", "quantization": "fp8"}})
    assert "--quantization" not in arguments(
        wanted_of(model_spec()), revision().resolved, ["chat", "ml/chat"], "/models/x", 1
    )
    found = arguments(wanted, revision().resolved, ["chat", "ml/chat"], "/models/x", 1)
    assert found[found.index("--quantization") + 1] == "fp8"


@pytest.mark.parametrize(
    ("version", "task", "expected"),
    [
        pytest.param("0.32.0", None, [], id="nothing asked: nothing said"),
        pytest.param("0.32.0", "Chat", ["--runner", "generate"], id="a chat model"),
        pytest.param("0.32.0", "Completion", ["--runner", "generate"], id="a model without a chat"),
        pytest.param("0.32.0", "Embedding", ["--runner", "pooling", "--convert", "embed"], id="one that embeds"),
        pytest.param("0.32.0", "Rerank", ["--runner", "pooling"], id="one that ranks"),
        pytest.param("0.13.0", "Embedding", ["--runner", "pooling", "--convert", "embed"], id="since 0.13.0"),
        pytest.param("0.12.0", "Chat", ["--task", "generate"], id="before 0.13.0 a chat model"),
        pytest.param("0.12.0", "Embedding", ["--task", "embed"], id="before 0.13.0 one that embeds"),
        pytest.param("0.12.0", "Rerank", ["--task", "score"], id="before 0.13.0 one that ranks"),
    ],
)
def test_what_the_model_is_for_is_said_as_the_version_wants_it(
    version: str, task: str | None, expected: list[str]
) -> None:
    resolved = revision(engine_version=version).resolved
    plain = arguments(wanted_of(model_spec()), resolved, ["chat"], "/models/x", 1)
    wanted = wanted_of({"model": {**model_spec()["model"], **({"task": task} if task else {})}})
    found = arguments(wanted, resolved, ["chat"], "/models/x", 1)
    where = plain.index("--shutdown-timeout") if "--shutdown-timeout" in plain else len(plain)
    assert found == [*plain[:where], *expected, *plain[where:]]


def test_the_users_arguments_come_last_and_stay_as_written() -> None:
    wanted = wanted_of(
        model_spec(engine={"args": ["--max-model-len=8192", "--seed", "1"]}, traffic={"drainSeconds": 30})
    )
    found = arguments(wanted, revision().resolved, ["chat", "ml/chat"], "/models/x", 1)
    assert found[-5:] == ["--shutdown-timeout", "30", "--max-model-len=8192", "--seed", "1"]


def test_engines_send_no_telemetry_and_ask_no_hub() -> None:
    values = {item["name"]: item["value"] for item in environment(revision().resolved)}
    assert (values["VLLM_NO_USAGE_STATS"], values["DO_NOT_TRACK"], values["HF_HUB_OFFLINE"]) == ("1", "1", "1")


def test_only_engines_of_a_revision_with_adapters_take_any_and_may_be_told_to() -> None:
    plain, wide = revision().resolved, revision(lora_rank=32).resolved
    without, with_ = (
        arguments(wanted_of(model_spec()), found, ["chat", "ml/chat"], "/models/x", 1) for found in (plain, wide)
    )
    assert not [flag for flag in without if "lora" in flag]
    assert with_[len(without) :] == [
        "--enable-lora",
        "--max-lora-rank",
        "32",
        "--max-loras",
        "4",
        "--max-cpu-loras",
        "32",
    ]
    allowed = {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "true"}
    assert allowed in environment(wide)
    assert allowed not in environment(plain)
