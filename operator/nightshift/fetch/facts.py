"""The facts of a model, from its repository or its directory: configuration and sizes, no weights.

Facts are wanted, never needed: whatever is missing, odd, too large or too slow gives none, and nobody is refused
for it.
"""

import io
import json
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nightshift.adapters.hub import ContentDigest, Hub, HubFile, HubRefused, HubUnavailable
from nightshift.api.model_facts import (
    ModelFacts,
    TensorSummary,
    model_facts,
    summarize_index,
    summarize_tensors,
)
from nightshift.fetch.supervise import Meter

CONFIG_NAME = "config.json"
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"

CONFIG_BYTES = 2 * 2**20
INDEX_BYTES = 32 * 2**20
"""The index of DeepSeek-V3, with 92,000 tensors, has 9 MB."""

HEADER_BYTES = 16 * 2**20
_MOST_FILES = 1024

READ_SECONDS = 20.0
"""Time that reading a repository's facts may take in all; a revision is not held up for them."""

_QUANTIZED_ELSEWHERE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files beside config.json in which vLLM looks for a quantization; they are not read here.
Source: `get_quant_config` in vllm/model_executor/model_loader/weight_utils.py, 0.32.0."""

Read = Callable[[str, int], bytes | None]
"""Reads a file by name, if it is there and no longer than so many bytes."""


class _TooSlow(Exception):  # noqa: N818 - caught right here
    pass


def repository_facts(hub: Hub, repository: str, sha: str, files: Iterable[HubFile], meter: Meter) -> ModelFacts | None:
    """What a commit's files say of its model: config.json, the index of its weights, and the sizes of its files."""
    by_path = {file.path: file for file in files}
    ends = time.monotonic() + READ_SECONDS
    meter.touch()

    def counted(_: int) -> None:
        meter.touch()
        if time.monotonic() > ends:
            raise _TooSlow

    def read(path: str, limit: int) -> bytes | None:
        file = by_path.get(path)
        if file is None or file.size > limit:
            return None
        content = io.BytesIO()
        hub.read_into(repository, sha, file, content, ContentDigest(file), counted)
        return content.getvalue()

    try:
        return _facts({path: file.size for path, file in by_path.items()}, read)
    except (HubRefused, HubUnavailable, _TooSlow):
        return None


def directory_facts(directory: Path) -> ModelFacts | None:
    """What the files of a directory say of its model; the headers of the weights are read too."""
    try:
        sizes = {path.name: path.stat().st_size for path in directory.iterdir() if path.is_file()}
    except OSError:
        return None

    def read(name: str, limit: int) -> bytes | None:
        try:
            return (directory / name).read_bytes() if name in sizes and sizes[name] <= limit else None
        except OSError:
            return None

    def headers(names: Iterable[str], layers: int | None) -> TensorSummary | None:
        found = []
        for name in names:
            head = _header(directory / name)
            if head is None:
                return None
            found.append(head)
        return summarize_tensors(found, layers)

    return _facts(sizes, read, headers)


def _facts(
    sizes: Mapping[str, int],
    read: Read,
    headers: Callable[[Iterable[str], int | None], TensorSummary | None] | None = None,
) -> ModelFacts | None:
    config = _loaded(read(CONFIG_NAME, CONFIG_BYTES))
    if config is None:
        return None
    if not config.get("quantization_config"):
        if any(name in sizes for name in _QUANTIZED_ELSEWHERE):
            return None
        config["quantization_config"] = config.get("compression_config")
    facts = model_facts(config)
    names, stated = _weight_files(sizes, read)
    if headers is not None and names:
        summary = headers(names, facts.num_hidden_layers)
        if summary is not None:
            return facts.model_copy(update={"tensors": summary})
    together = sum(sizes[name] for name in names) if names else None
    totals = [total for total in (stated, together) if total]
    return facts.model_copy(update={"tensors": TensorSummary(total_bytes=min(totals, default=None))})


def _weight_files(sizes: Mapping[str, int], read: Read) -> tuple[list[str], int | None]:
    """The safetensors files that vLLM would load, and the total that their index states.

    A repository may hold the same weights in other files too: those that the index does not name are passed over.
    Source: `filter_duplicate_safetensors_files` in vllm/model_executor/model_loader/weight_utils.py, 0.32.0.
    """
    if INDEX_NAME not in sizes:
        return ([SINGLE_NAME] if SINGLE_NAME in sizes else []), None
    index = _loaded(read(INDEX_NAME, INDEX_BYTES))
    if index is None:
        return [], None
    mapped = index.get("weight_map")
    names = {name for name in mapped.values() if isinstance(name, str)} if isinstance(mapped, dict) else set()
    whole = names <= sizes.keys() and len(names) <= _MOST_FILES
    return (sorted(names) if whole else []), summarize_index(index).total_bytes


def _header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file: eight bytes of length, little-endian, then that much JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return _loaded(file.read(length)) if length <= HEADER_BYTES else None
    except (OSError, struct.error):
        return None


def _loaded(content: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(content) if content is not None else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
