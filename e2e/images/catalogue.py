"""Which images there are, what goes into each, and how pods name it. Nothing here runs a program."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.reach import demand_prefix
from e2e.cluster.settings import DEFAULT_IMAGE_PREFIX, ClusterError, Settings, user_kubeconfig

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
MOVING_TAG = "dev"
TAG_LENGTH = 12
BASE_NAME = "docker.io/library/debian:bookworm-slim"
BASE_RECIPE = ("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm")
GIB = 1024**3


@dataclass(frozen=True)
class Image:
    """One image that is built here.

    Attributes:
        name: what `build` is asked for; a version behind a colon is the tag in the registry too.
        directory: the folder below `images/` with the Dockerfile.
        inputs: files and folders below `context` that the Dockerfile copies.
        context: where a user who builds by hand stands, below the root of the checkout.
        arguments: build arguments.
        models: the trained models are part of it, below `models/` of its context.
        peak_bytes: disk that the build takes at its peak, in buildah, registry and containerd together.
    """

    name: str
    directory: str
    inputs: tuple[str, ...]
    context: str = "."
    arguments: tuple[tuple[str, str], ...] = ()
    models: bool = False
    peak_bytes: int = 2 * GIB

    @property
    def repository(self) -> str:
        """The name in the registry, without prefix and tag."""
        return self.name.partition(":")[0]

    @property
    def version(self) -> str | None:
        """The tag of an image that carries somebody else's version."""
        return self.name.partition(":")[2] or None

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile below the root of the checkout."""
        return Path("images") / self.directory / "Dockerfile"


def _vllm(version: str) -> Image:
    locks = ("requirements-uv.txt", "requirements-torch.txt", f"requirements-{version}.txt")
    return Image(
        f"vllm-cpu:{version}",
        "vllm-cpu",
        locks,
        context="images/vllm-cpu",
        arguments=(("VLLM_VERSION", version),),
        peak_bytes=25 * GIB,
    )


def _simulator(version: str) -> Image:
    inputs = ("images/vllm-sim/requirements.txt", "images/vllm-sim/vllm_sim")
    return Image(f"vllm-sim:{version}", "vllm-sim", inputs, arguments=(("VLLM_VERSION", version),))


VLLM_VERSIONS = ("0.32.0", "0.31.0")
NEXT_OPERATOR_VERSION = "0.2.0.dev1"
"""What the operator of `operator-next` calls itself, to which stories upgrade."""

_OPERATOR = ("requirements/runtime.txt", "operator/nightshift")
_GATEWAY = (*_OPERATOR, "requirements/gateway.txt", "images/gateway/haproxy.sh", "images/gateway/keep.sh")

CATALOGUE = {
    built.name: built
    for built in (
        Image("operator", "operator", _OPERATOR),
        Image("operator-next", "operator", _OPERATOR, arguments=(("NIGHTSHIFT_VERSION", NEXT_OPERATOR_VERSION),)),
        Image("gateway", "gateway", _GATEWAY),
        *(_vllm(version) for version in VLLM_VERSIONS),
        *(_simulator(version) for version in VLLM_VERSIONS),
        Image("tiny-hub", "tiny-hub", ("requirements/runtime.txt", "e2e/__init__.py", "e2e/hub"), models=True),
    )
}
"""Every image by name."""


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what is in an image.

    Attributes:
        files: path in the context -> file.
        parent: checksum of the base.
    """

    files: dict[str, Path]
    dockerfile: Path
    parent: str
    arguments: tuple[tuple[str, str], ...] = field(default=())

    @property
    def checksum(self) -> str:
        """SHA-256 over names, contents, executable bits, build arguments and parent, as hexadecimal digits."""
        digest = hashlib.sha256()
        lines = [f"parent {self.parent}", f"Dockerfile {_digest(self.dockerfile)}"]
        lines += [f"argument {name}={value}" for name, value in sorted(self.arguments)]
        lines += [f"file {name} {_digest(path)} {_executable(path)}" for name, path in sorted(self.files.items())]
        digest.update("\n".join(lines).encode())
        return digest.hexdigest()


def base_checksum() -> str:
    """The checksum of the base: of how it is made, as the packages come from the distribution."""
    return hashlib.sha256(" ".join(BASE_RECIPE).encode()).hexdigest()


def inputs_of(built: Image, settings: Settings, root: Path = REPOSITORY_ROOT) -> Inputs:
    """Collect an image's inputs.

    Raises:
        ClusterError: an input is missing.
    """
    context = root / built.context
    files = dict(_files(context, built.inputs))
    if built.models:
        if not (settings.home / "models" / "golden.jsonl").exists():
            raise ClusterError(f"the models in {built.name} are not trained", "python -m e2e.model build")
        models = settings.home / "models"
        files |= {
            f"models/{name}": path
            for name, path in _files(models, sorted(p.name for p in models.iterdir() if p.is_dir()))
        }
    return Inputs(files, root / built.dockerfile, base_checksum(), built.arguments)


def _files(context: Path, names: tuple[str, ...] | list[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        path = context / name
        if not path.exists():
            raise ClusterError(f"{path} is missing, which an image is made of", "restore it: git status says more")
        inside = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
        for found in inside:
            if "__pycache__" not in found.parts and found.suffix != ".pyc":
                yield str(found.relative_to(context)), found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _executable(path: Path) -> str:
    return "x" if path.stat().st_mode & 0o100 else "-"


def prefix() -> str:
    """Where pods pull from: `NIGHTSHIFT_IMAGE_PREFIX`, or the local registry."""
    return (os.environ.get("NIGHTSHIFT_IMAGE_PREFIX") or DEFAULT_IMAGE_PREFIX).rstrip("/")


def tag(built: Image, checksum: str) -> str:
    """An image's tag: somebody else's version as it is, our own images by what they are made of."""
    return f"v{built.version}" if built.version else checksum[:TAG_LENGTH]


def image(name: str, settings: Settings | None = None) -> str:
    """The reference of an image, with its tag, for pods and charts.

    On the user's own cluster (`KUBECONFIG`) it is the one published there under `NIGHTSHIFT_IMAGE_PREFIX`, with the tag
    `NIGHTSHIFT_IMAGE_TAG` (default `dev`) for our own images.

    Raises:
        KeyError: no image has that name.
        ClusterError: the user's own cluster, and nothing says where its images are.
    """
    built = CATALOGUE[name]
    settings = settings or Settings.from_environment()
    if user_kubeconfig(settings):
        own_tag = os.environ.get("NIGHTSHIFT_IMAGE_TAG") or MOVING_TAG
        return f"{demand_prefix()}/{built.repository}:{f'v{built.version}' if built.version else own_tag}"
    return f"{prefix()}/{built.repository}:{tag(built, inputs_of(built, settings).checksum)}"
