"""buildah with a storage of its own: images, builds, pushes, and containers to run a program in."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.settings import ClusterError, Settings

from . import indexes

INPUTS_LABEL = "dev.nightshift.inputs"
TRUST_STORE = Path("/etc/ssl/certs")
LAST_LINES = 15
FIXED_TIME = 1_600_000_000
"""Modification time of all copied files, so that another checkout of the same files makes the same layers."""


@dataclass(frozen=True)
class StoredImage:
    """An image in buildah's storage: its content id, and the checksum of what it was made of."""

    id: str
    inputs: str


@dataclass(frozen=True)
class Storage:
    """buildah's storage of one home; nothing outside of it is read or written."""

    settings: Settings

    @property
    def home(self) -> Path:
        """The directory with everything of buildah."""
        return self.settings.home / "buildah"

    def run(self, arguments: list[str], log: Path | None = None) -> str:
        """Run buildah; its output goes to the log, or is returned.

        Raises:
            ClusterError: it failed; with the last lines of what it said.
        """
        for folder in ("tmp", "root", "run"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        if not shutil.which("buildah"):
            raise ClusterError("buildah is missing", "apt-get install buildah (on Debian; the local cluster does it)")
        if log:
            with log.open("ab") as output:
                done = subprocess.run(self.command(arguments), env=self.environment, stdout=output, stderr=output)
            said = b"\n".join(log.read_bytes().splitlines()[-LAST_LINES:])
        else:
            done = subprocess.run(self.command(arguments), env=self.environment, capture_output=True)
            said = done.stderr
        if done.returncode:
            where = f"its log is {log}" if log else "the lines above are its own"
            raise ClusterError(f"buildah {arguments[0]} failed:\n{said.decode(errors='replace')}", where)
        return "" if log else done.stdout.decode()

    def command(self, arguments: list[str]) -> list[str]:
        """The whole command line."""
        return ["buildah", f"--root={self.home / 'root'}", f"--runroot={self.home / 'run'}", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Overlay storage, and RUN steps by chroot: works as root in most containers and on bare machines."""
        return os.environ | {
            "STORAGE_DRIVER": "overlay",
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(self.home / "tmp"),
        }

    def find(self, name: str) -> StoredImage | None:
        """The image of that name."""
        for listed in json.loads(self.run(["images", "--json"]) or "[]"):
            if name in (listed.get("names") or []):
                described = json.loads(self.run(["inspect", "--type=image", listed["id"]]))
                labels = described["OCIv1"]["config"].get("Labels") or {}
                return StoredImage(listed["id"], labels.get(INPUTS_LABEL, ""))
        return None

    def build(self, name: str, context: Path, dockerfile: Path, checksum: str, extra: list[str], log: Path) -> None:
        """Build a Dockerfile as an image labelled with the checksum of its inputs."""
        with indexes.as_files(self.home / "tmp") as volumes:
            arguments = ["build", "--layers", "--network=host", "--pull-never", f"--tag={name}", f"--file={dockerfile}"]
            arguments += [f"--volume={TRUST_STORE}:{TRUST_STORE}:ro", f"--label={INPUTS_LABEL}={checksum}"]
            arguments += [f"--volume={volume}" for volume in volumes]
            self.run([*arguments, *extra, str(context)], log)

    def push(self, name: str, target: str, log: Path) -> None:
        """Push to a registry on plain HTTP. Uncompressed: on one machine gzip costs more than the disk does."""
        self.run(["push", "--tls-verify=false", "--disable-compression", name, f"docker://{target}"], log)

    def pull(self, source: str, log: Path) -> None:
        """Fetch an image that this storage lacks."""
        self.run(["pull", "--tls-verify=false", source], log)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for another build on this home: two at once would build the same layers twice."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class Program:
    """A program to run in an image, without a cluster.

    Attributes:
        volumes: host path -> path in the container; read-only unless it is in `writable`.
    """

    command: tuple[str, ...]
    volumes: dict[Path, str]
    writable: frozenset[Path] = frozenset()
    environment: tuple[tuple[str, str], ...] = ()

    def arguments(self, container: str) -> list[str]:
        """The arguments of `buildah run`."""
        options = [f"--env={name}={value}" for name, value in self.environment]
        for source, target in self.volumes.items():
            options.append(f"--volume={source}:{target}:{'rw' if source in self.writable else 'ro'}")
        return ["run", "--network=host", "--user=0:0", *options, container, "--", *self.command]


@contextmanager
def container(storage: Storage, name: str) -> Iterator[str]:
    """A container of a stored image for `Program.arguments`; removed at the end."""
    created = storage.run(["from", "--pull-never", name]).strip().splitlines()[-1]
    try:
        yield created
    finally:
        storage.run(["rm", created])


@contextmanager
def staged(files: dict[str, Path], folder: Path) -> Iterator[Path]:
    """A build context with exactly the given files."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="context-", dir=folder) as place:
        for name, path in files.items():
            target = Path(place) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            os.utime(target, (FIXED_TIME, FIXED_TIME))
        yield Path(place)
