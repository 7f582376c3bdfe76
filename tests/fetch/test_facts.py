"""What the containers read of a model: its configuration and sizes, from the Hub and from a claim."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from e2e.hub.running import RunningHub
from nightshift.api.fetch import TERMINATION_MESSAGE_LIMIT, Inspected, Resolved, parse_outcome, to_line
from nightshift.api.model_facts import ModelFacts
from nightshift.fetch import facts as reading
from tests.fetch.conftest import Fetch

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64}
PART = "model-0000{}-of-00002.safetensors"


def safetensors(*sizes: int) -> bytes:
    """A file with so many bfloat16 tensors of these sizes, zeroed."""
    header, start = {}, 0
    for number, size in enumerate(sizes):
        offsets = [start, start + size]
        header[f"model.layers.{number}.weight"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": offsets}
        start += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(start)


def index(total: Any, *files: str) -> str:
    return json.dumps(
        {"metadata": {"total_size": total}, "weight_map": {f"w{n}": name for n, name in enumerate(files)}}
    )


def written(model: Path, *, config: Any = CONFIG, **files: bytes | str | None) -> Path:
    """The directory of a model; a file that is None is removed."""
    model.mkdir(parents=True, exist_ok=True)
    for path in model.glob("*.safetensors"):
        path.unlink()
    for name, content in {
        "config.json": json.dumps(config),
        "model.safetensors": safetensors(1000, 200),
        **files,
    }.items():
        if content is None:
            (model / name).unlink(missing_ok=True)
        else:
            (model / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return model


SHARDS: dict[str, Any] = {
    "model.safetensors": None,
    PART.format(1): safetensors(1000),
    PART.format(2): safetensors(200),
}


@pytest.fixture
def model(root: Path) -> Path:
    return root / "acme" / "tiny"


def facts_of(fetch: Fetch) -> ModelFacts | None:
    return fetch.resolve().resolved.facts


def inspected(fetch: Fetch, path: Path) -> ModelFacts | None:
    ended = fetch("inspect", "--path", str(path))
    assert isinstance(ended.outcome, Inspected), ended
    assert ended.status == 0
    return ended.outcome.facts


def test_one_file_is_known_by_its_size_at_the_hub_and_by_its_header_on_a_claim(
    fetch: Fetch, hub: RunningHub, model: Path
) -> None:
    written(model)
    there, here = facts_of(fetch), inspected(fetch, model)
    assert there is not None
    assert here is not None
    assert (there.model_type, there.num_hidden_layers) == ("llama", 2)
    assert there.tensors.total_bytes == (model / "model.safetensors").stat().st_size
    assert (here.tensors.total_bytes, here.tensors.bytes_by_dtype) == (1200, {"BF16": 1200})


@pytest.mark.parametrize(
    ("stated", "total"),
    [
        pytest.param(1200, 1200, id="the index states the total"),
        pytest.param(None, len(SHARDS[PART.format(1)]) + len(SHARDS[PART.format(2)]), id="it does not"),
        pytest.param(10**6, len(SHARDS[PART.format(1)]) + len(SHARDS[PART.format(2)]), id="it states too much"),
    ],
)
def test_several_files_are_those_of_the_index(
    fetch: Fetch, hub: RunningHub, model: Path, stated: int | None, total: int
) -> None:
    files = {**SHARDS, "consolidated.safetensors": safetensors(9000)}
    written(model, **files, **{"model.safetensors.index.json": index(stated, PART.format(1), PART.format(2))})
    there, here = facts_of(fetch), inspected(fetch, model)
    assert there is not None
    assert here is not None
    assert there.tensors.total_bytes == total
    assert here.tensors.total_bytes == 1200, "not those that the index does not name"


@pytest.mark.parametrize(
    ("config", "files"),
    [
        pytest.param(CONFIG, {"config.json": None}, id="no configuration"),
        pytest.param([1, 2], {}, id="a configuration that is no object"),
        pytest.param(CONFIG, {"config.json": "{"}, id="a configuration that is cut off"),
        pytest.param(CONFIG, {"config.json": "[" * 100_000}, id="a configuration that is too deep"),
        pytest.param(CONFIG, {"config.json": " " * (reading.CONFIG_BYTES + 1)}, id="a configuration that is too large"),
        pytest.param(CONFIG, {"hf_quant_config.json": "{}"}, id="a quantization that stands elsewhere"),
    ],
)
def test_what_cannot_be_used_is_no_fact_and_refuses_nothing(
    fetch: Fetch, hub: RunningHub, model: Path, config: Any, files: dict[str, Any]
) -> None:
    written(model, config=config, **files)
    assert facts_of(fetch) is None
    assert inspected(fetch, model) is None


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"model.safetensors.index.json": "[]", **SHARDS}, id="an index that is no object"),
        pytest.param({"model.safetensors.index.json": '{"weight_map": {"w": 1}}', **SHARDS}, id="an odd index"),
        pytest.param({"model.safetensors.index.json": index("x", "absent.safetensors"), **SHARDS}, id="a missing file"),
        pytest.param(SHARDS, id="no index"),
    ],
)
def test_sizes_that_cannot_be_known_are_left_out(
    fetch: Fetch, hub: RunningHub, model: Path, files: dict[str, Any]
) -> None:
    written(model, **files)
    there, here = facts_of(fetch), inspected(fetch, model)
    assert there is not None
    assert there.tensors.total_bytes is None
    assert here == there


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8 + b"{}", struct.pack("<Q", 5) + b"{", struct.pack("<Q", 2) + b"[]"], ids=repr
)
def test_a_file_without_a_usable_header_counts_by_its_size(fetch: Fetch, tmp_path: Path, content: bytes) -> None:
    found = inspected(fetch, written(tmp_path / "model", **{"model.safetensors": content}))
    assert found is not None
    assert (found.tensors.total_bytes, found.tensors.bytes_by_dtype) == (len(content) or None, {})


def test_a_directory_that_is_not_there_is_no_fact(fetch: Fetch, tmp_path: Path) -> None:
    assert inspected(fetch, tmp_path / "absent") is None


def test_a_hub_that_does_not_hand_out_the_index_holds_nothing_up(fetch: Fetch, hub: RunningHub, model: Path) -> None:
    written(model, **SHARDS, **{"model.safetensors.index.json": index(1200, PART.format(1), PART.format(2))})
    hub.faults({"match": "*/model.safetensors.index.json", "status": 503})
    ended = fetch.resolve()
    assert ended.resolved.facts is None
    assert ended.resolved.files == 5


def test_a_slow_hub_is_not_waited_for(
    fetch: Fetch, hub: RunningHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(model)
    monkeypatch.setattr(reading, "READ_SECONDS", -1.0)
    assert fetch.resolve().resolved.facts is None


def test_compressed_tensors_of_an_older_spelling_are_read(fetch: Fetch, hub: RunningHub, model: Path) -> None:
    written(model, config={**CONFIG, "compression_config": {"quant_method": "compressed-tensors"}})
    found = facts_of(fetch)
    assert found is not None
    assert found.quantization is not None
    assert found.quantization.method == "compressed-tensors"


def test_facts_that_are_too_long_for_kubernetes_are_left_out() -> None:
    kept = {f"{number}-{'x' * 90}": 1 for number in range(32)}
    facts = ModelFacts.model_validate({"quantization": {"method": "fp8", "kept": kept}, "layerTypes": "F" * 1024})
    said = to_line(Resolved(sha="0" * 40, files=1, bytes=1, facts=facts))
    assert len(said.encode()) <= TERMINATION_MESSAGE_LIMIT
    assert parse_outcome(said) == Resolved(sha="0" * 40, files=1, bytes=1)


def test_facts_that_make_no_sense_leave_the_commit() -> None:
    line = '{"kind":"Resolved","sha":"' + "0" * 40 + '","files":1,"bytes":1,"facts":{"hiddenSize":"wide"}}'
    assert parse_outcome(line) == Resolved(sha="0" * 40, files=1, bytes=1)
