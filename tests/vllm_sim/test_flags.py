import argparse

import pytest

from vllm_sim.flags import human_readable_int, parse
from vllm_sim.versions import NEWEST, OLDEST, Version, supported

V032 = Version(0, 32, 0)


USUAL = (
    "/models/tiny --served-model-name tiny --port 8000 --max-model-len 1k --max_num_seqs=16 -tp 2 "
    "--kv-cache-memory-bytes 64M --shutdown-timeout 20 --enable-lora --max-lora-rank 8 --enforce-eager "
    "--no-enable-prefix-caching --speculative-config.method ngram"
)


def test_the_usual_command_line() -> None:
    found = parse(USUAL.split(), V032)
    assert (found.model, found.served_model_name, found.max_model_len) == ("/models/tiny", ["tiny"], 1000)
    assert (found.max_num_seqs, found.tensor_parallel_size, found.kv_cache_memory_bytes) == (16, "2", 64 * 2**20)
    assert (found.shutdown_timeout, found.enable_lora, found.max_lora_rank) == (20, True, 8)
    assert (found.enforce_eager, found.enable_prefix_caching) == (True, False)


def test_model_as_an_option_and_with_the_subcommand() -> None:
    assert parse(["--model", "m"], Version(0, 10, 0)).model == "m"
    assert parse(["serve", "m", "--port", "1"], V032).model == "m"


@pytest.mark.parametrize(
    ("arguments", "version", "message"),
    [
        (["m", "--no-such-flag", "1"], V032, "unrecognized arguments: --no-such-flag 1"),
        (["m", "--max-model-len", "abc"], V032, "invalid human_readable_int_or_auto value: 'abc'"),
        (["m", "--max-lora-rank", "7"], V032, "invalid choice: 7"),
        (["m", "--shutdown-timeout", "5"], Version(0, 17, 0), "unrecognized arguments: --shutdown-timeout"),
        (["m", "--swap-space", "4"], Version(0, 18, 0), "unrecognized arguments: --swap-space"),
        (["m", "--max-num-queued-reqs", "4"], Version(0, 28, 0), "unrecognized arguments"),
    ],
)
def test_refusals_end_with_two(
    arguments: list[str], version: Version, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(arguments, version)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_flags_come_and_go_with_versions() -> None:
    assert parse(["m", "--swap-space", "4"], Version(0, 17, 0)).swap_space == "4"
    assert parse(["m", "--shutdown-timeout", "5"], Version(0, 18, 0)).shutdown_timeout == 5


@pytest.mark.parametrize(("text", "value"), [("1000", 1000), ("1k", 1000), ("1K", 1024), ("25.6k", 25600)])
def test_numbers_for_people(text: str, value: int) -> None:
    assert human_readable_int(text) == value


def test_binary_numbers_have_no_decimals() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"Did you mean to use 2\.5k"):
        human_readable_int("2.5K")


def test_versions() -> None:
    assert Version.parse("0.8.5.post1") == Version(0, 8, 5)
    assert supported(OLDEST)
    assert supported(NEWEST._replace(patch=4))
    assert not supported(Version(0, 34, 0))
    assert not supported(Version(0, 7, 3))
    with pytest.raises(ValueError, match="not a vLLM version"):
        Version.parse("latest")
