"""Which files of a commit vLLM needs. Pure: a listing in, a listing out."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from nightshift.adapters.hub import HubFile, HubRefused
from nightshift.api.fetch import FetchReason

RESERVED_PREFIX = ".nightshift-"
"""Names in a model's directory that are ours."""

_SAFE = ".safetensors"
_PICKLED = (".bin", ".pt", ".pth")
"""Weights that vLLM loads when there are no safetensors; of several formats the first."""

_OTHER_RUNTIMES = re.compile(
    r"\.(ckpt|engine|ggml|gguf|h5|llamafile|mlmodel|msgpack|nemo|onnx|onnx_data|ort|ot|pb|tflite)"
)
_FOR_PEOPLE = re.compile(r"\.(gif|jpe?g|md|mp4|pdf|png|svg|webp)")
_OTHER_FOLDERS = re.compile(r"original|onnx|openvino|coreml|gguf|metal|runs|checkpoint-\d+")
_TRAINING_STATE = re.compile(r"(training_args|optimizer|scheduler|rng_state|trainer_state).*")
_SENTENCE_MODULE = re.compile(r"\d+_[A-Za-z]+")
"""Folders of sentence-transformers models, such as 2_Dense, each with weights of its own."""


def select(repository: str, files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """The files to fetch: one format of the weights, and all small files around them.

    Raises:
        HubRefused: ModelCorrupt when a path would lead out of the directory; ModelNotFound when the
            repository holds no weights that vLLM loads.
    """
    candidates = [file for file in files if _wanted(PurePosixPath(file.path))]
    for file in candidates:
        _check_path(repository, file.path)
    formats = {PurePosixPath(file.path).suffix for file in candidates}
    best = next((suffix for suffix in (_SAFE, *_PICKLED) if suffix in formats), None)
    if best is None:
        raise HubRefused(
            FetchReason.MODEL_NOT_FOUND,
            f"Repository {repository} holds no weights that vLLM loads (safetensors or PyTorch files); "
            "choose a repository with safetensors in spec.model.uri.",
        )
    with_safetensors = {PurePosixPath(file.path).parent for file in candidates if file.path.endswith(_SAFE)}
    return tuple(file for file in candidates if _kept(PurePosixPath(file.path), best, with_safetensors))


def _wanted(path: PurePosixPath) -> bool:
    if _OTHER_RUNTIMES.fullmatch(path.suffix) or _FOR_PEOPLE.fullmatch(path.suffix):
        return False
    if path.name in {".gitattributes", ".gitignore"}:
        return False
    if path.suffix in _PICKLED and _TRAINING_STATE.fullmatch(path.name):
        return False
    return not any(_OTHER_FOLDERS.fullmatch(part) for part in path.parts[:-1])


def _kept(path: PurePosixPath, best: str, with_safetensors: set[PurePosixPath]) -> bool:
    if path.suffix not in _PICKLED or path.suffix == best:
        return True
    is_module = len(path.parts) > 1 and _SENTENCE_MODULE.fullmatch(path.parts[0]) is not None
    return is_module and path.suffix == _PICKLED[0] and path.parent not in with_safetensors


def _check_path(repository: str, path: str) -> None:
    """The listing comes from outside: it must not name anything beside the directory."""
    parts = path.split("/")
    if (
        any(part in {"", ".", ".."} or part.startswith(RESERVED_PREFIX) for part in parts)
        or "\\" in path
        or not path.isprintable()
    ):
        raise HubRefused(
            FetchReason.MODEL_CORRUPT,
            f"Repository {repository} lists the file name {path[:80]!r}, which is not fetched; "
            "choose another spec.model.uri.",
        )
