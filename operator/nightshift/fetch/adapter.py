"""LoRA adapters: which files make one, what its configuration says, and the headers that tell whether it fits."""

import io
import json
import struct
from collections.abc import Iterable
from pathlib import Path

from nightshift.adapters.hub import ContentDigest, Hub, HubFile, HubRefused
from nightshift.api.fetch import AdapterResolved, Failed, FetchReason
from nightshift.core.adapter_files import AdapterConfig, Misfit, Tensor, adapter_config, misfit
from nightshift.fetch.supervise import Meter, retrying

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
"""The first that is there is loaded. Source: vllm/lora/lora_model.py, from_local_checkpoint, 0.26.0."""

LARGEST_BYTES = 8 * 2**30
"""An adapter of rank 512 of a model with 70 billion parameters has 6.6 GB; what is larger is no adapter, and
would fill the disk that the base model is served from."""

_CONFIG_BYTES = 2**20
_HEADER_BYTES = 100 * 2**20
"""Longest header that the safetensors library itself takes."""

_REASONS = {
    FetchReason.MODEL_NOT_FOUND: FetchReason.ADAPTER_NOT_FOUND,
    FetchReason.MODEL_REVISION_NOT_FOUND: FetchReason.ADAPTER_NOT_FOUND,
    FetchReason.MODEL_ACCESS_DENIED: FetchReason.ADAPTER_ACCESS_DENIED,
    FetchReason.MODEL_DOWNLOAD_STALLED: FetchReason.ADAPTER_DOWNLOAD_FAILED,
    FetchReason.MODEL_CACHE_FULL: FetchReason.ADAPTER_DOWNLOAD_FAILED,
    FetchReason.MODEL_CACHE_UNUSABLE: FetchReason.ADAPTER_DOWNLOAD_FAILED,
    FetchReason.MODEL_CORRUPT: FetchReason.ADAPTER_DOWNLOAD_FAILED,
}


_NO_ROOM = (
    "There is no room left for the adapter on the disk that holds the pod's adapters; remove adapters, or give the "
    "nodes more ephemeral storage."
)


def as_adapters(failed: Failed) -> Failed:
    """A failure in the words of adapters: what downloads speaks of models."""
    message = _NO_ROOM if failed.reason is FetchReason.MODEL_CACHE_FULL else failed.message
    return Failed(reason=_REASONS.get(failed.reason, failed.reason), message=message)


def select_adapter(repository: str, files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """The configuration and the weights, and nothing else of what the repository holds.

    Raises:
        HubRefused: AdapterUnusable when it is no adapter, or too large to be one.
    """
    by_path = {file.path: file for file in files}
    weights = next((by_path[name] for name in WEIGHTS_NAMES if name in by_path), None)
    if CONFIG_NAME not in by_path or weights is None:
        raise HubRefused(
            FetchReason.ADAPTER_UNUSABLE,
            f"Repository {repository} holds no LoRA adapter: it needs {CONFIG_NAME} and {WEIGHTS_NAMES[0]}; "
            "choose a repository that holds an adapter in PEFT's form.",
        )
    chosen = (by_path[CONFIG_NAME], weights)
    size = sum(file.size for file in chosen)
    if size > LARGEST_BYTES or by_path[CONFIG_NAME].size > _CONFIG_BYTES:
        raise HubRefused(
            FetchReason.ADAPTER_UNUSABLE,
            f"The adapter in {repository} has {size / 2**30:.1f} GiB; adapters of up to "
            f"{LARGEST_BYTES // 2**30} GiB are fetched.",
        )
    return chosen


def resolve_adapter(hub: Hub, repository: str, revision: str, meter: Meter) -> AdapterResolved | Failed:
    """The commit that the revision names now, and what the adapter's configuration says.

    Raises:
        HubRefused: There is no such adapter, or it may not be read.
        Cancelled: The supervisor gave up.
    """
    sha = retrying(meter, lambda: hub.resolve(repository, revision))
    files = select_adapter(repository, retrying(meter, lambda: hub.list_files(repository, sha)))
    retrying(meter, lambda: hub.check_access(repository, sha, files[1]))
    found = adapter_config(_loaded(retrying(meter, lambda: _read(hub, repository, sha, files[0]))))
    if isinstance(found, Misfit):
        return Failed(reason=found.reason, message=f"The adapter in {repository} cannot be served: {found.message}")
    size = sum(file.size for file in files)
    return AdapterResolved(sha=sha, bytes=size, rank=found.rank, base=found.base)


def _read(hub: Hub, repository: str, sha: str, file: HubFile) -> bytes:
    content = io.BytesIO()
    hub.read_into(repository, sha, file, content, ContentDigest(file), lambda _: None)
    return content.getvalue()


def _loaded(content: bytes) -> object:
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found


def check(directory: Path, base: Path) -> Misfit | None:
    """Compare a downloaded adapter with the base model beside it; None where it fits."""
    config = adapter_config(_loaded((directory / CONFIG_NAME).read_bytes()))
    if isinstance(config, Misfit):
        return config
    weights = directory / WEIGHTS_NAMES[0]
    if not weights.is_file():
        return None
    found = tensors(weights)
    if found is None:
        return Misfit(FetchReason.ADAPTER_UNUSABLE, f"{WEIGHTS_NAMES[0]} is no safetensors file; upload it again.")
    return misfit(found, AdapterConfig(config.rank, config.base), base_tensors(base))


def base_tensors(base: Path) -> dict[str, Tensor]:
    """Tensors of all safetensors files of a model; empty where one of them cannot be read, or there are none."""
    found: dict[str, Tensor] = {}
    for path in sorted(base.glob("*.safetensors")):
        held = tensors(path)
        if held is None:
            return {}
        found |= held
    return found


def tensors(path: Path) -> dict[str, Tensor] | None:
    """The header of a safetensors file; None when it has none.

    Eight bytes of length, little-endian, then that much JSON: name -> {dtype, shape, data_offsets}.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _HEADER_BYTES:
                return None
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in entries.items()}
    except (OSError, struct.error, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
