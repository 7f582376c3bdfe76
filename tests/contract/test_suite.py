"""The suite itself: what it keeps of an answer, how it compares, and that its records are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e.contract import report
from e2e.contract.compare import Difference, Known, differences, unexplained
from e2e.contract.engine import Reply, Stream, take_line
from e2e.contract.flags import table
from e2e.contract.observe import flatten, reply, shape, stream
from e2e.contract.process import PROCESS_CASES
from e2e.contract.registry import CASES
from e2e.contract.results import Record, load, recorded, save


def test_shape_keeps_the_contract_and_names_the_rest() -> None:
    body = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 7,
        "system_fingerprint": "vllm-0.32.0-0123abcd",
        "usage": {"total_tokens": 3, "details": None},
        "rows": [1, 2, 0.5],
    }
    assert shape(body, version="0.32.0") == {
        "id": "chatcmpl-ID",
        "object": "chat.completion",
        "created": "int",
        "system_fingerprint": "vllm-VERSION-HASH",
        "usage": {"total_tokens": "int", "details": "null"},
        "rows": ["int", "float"],
    }


def test_a_fingerprint_of_another_version_shows() -> None:
    assert shape("vllm-0.31.0-0123abcd", version="0.32.0") == "vllm-0.31.0-HASH"


def test_messages_lose_their_numbers_only() -> None:
    found = shape({"error": {"message": "got 2.5 of 10 tokens", "type": "BadRequestError", "code": 400}})
    assert found == {"error": {"message": "got N of N tokens", "type": "BadRequestError", "code": 400}}


def test_a_reply_keeps_plain_texts() -> None:
    answer = Reply(200, {"content-type": "text/x", "Date": "now"}, b"Success: done")
    assert reply(answer) == {"status": 200, "headers": {"Content-Type": "text/x"}, "body": "Success: done"}


def test_a_stream_is_sorted_line_by_line() -> None:
    found = Stream(200, {})
    for line in ('data: {"id": "a", "x": 1}\n', "\n", 'data: {"id": "a", "x": 2}\n', ": ping\n", "data: [DONE]\n"):
        take_line(found, line)
    seen = stream(found)
    assert seen["events"] == [{"id": "str", "x": "int"}]
    assert (seen["ends_with_done"], seen["stray_lines"], seen["same_id"]) == (True, [": ping"], True)


def test_flatten() -> None:
    assert flatten({"a": [{"b": 1}, 2], "c": {}}) == {"a[0].b": 1, "a[1]": 2, "c": {}}


def _observed(value: Any) -> dict[str, Any]:
    return {"observed": value}


def test_differences_and_what_explains_them() -> None:
    expected = {"a": _observed({"x": 1, "y": 2}), "b": _observed(1), "c": {"failed": "no"}}
    got = {"a": _observed({"x": 1, "z": 3}), "b": {"failed": "KeyError"}, "c": {"failed": "no"}}
    found = differences(expected, got)
    assert found == [
        Difference("a", "y", 2, "(absent)"),
        Difference("a", "z", "(absent)", 3),
        Difference("b", "", "passes", "KeyError"),
    ]
    known = (Known("sim", "a", "y", "why"), Known("sim", "q", "*", "never"), Known("llm-d", "a", "*", "other"))
    rest, idle = unexplained(found, known, "sim", "0.32.0")
    assert [one.path for one in rest] == ["z", ""]
    assert idle == [known[1]]


def test_results_survive_the_disk_without_their_times(tmp_path: Path) -> None:
    record = Record("x", "sim", "0.32.0", {"a": {"observed": {"text": "é"}, "seconds": 1.5}})
    save(record, tmp_path / "x.json")
    assert load(tmp_path / "x.json").cases == {"a": {"observed": {"text": "é"}}}


HELP = """\
options:
  --disable-log-stats   Disable logging statistics.
  --enable-lora, --no-enable-lora
  --max-lora-rank {1,8,
                        16}
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
  --served-model-name SERVED_MODEL_NAME [SERVED_MODEL_NAME ...]
  --hf-token [HF_TOKEN]
  -h, --help            show this help message and exit
"""


def test_flag_table() -> None:
    assert table(HELP).splitlines() == [
        "--disable-log-stats switch",
        "--enable-lora,--no-enable-lora switch",
        "--hf-token optional",
        "--max-lora-rank value 1,8,16",
        "--served-model-name values",
        "--tensor-parallel-size,-tp value",
    ]


@pytest.mark.parametrize("name", ["vllm-0.31.0", "vllm-0.32.0"])
def test_the_record_of_real_vllm_is_whole_and_sound(name: str) -> None:
    record = recorded()[name]
    assert sorted(record.cases) == sorted([*CASES, *PROCESS_CASES])
    assert record.failed == []


def test_the_document_shows_the_records() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    shown = text.split(report.BEGIN)[1].split(report.END)[0].strip()
    assert shown == report.generated(list(recorded().values())), "run `python -m e2e.contract --write-docs`"
