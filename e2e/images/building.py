"""Build what changed, push what the registry lacks."""

import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.settings import ClusterError, Settings, user_kubeconfig
from e2e.cluster.steps import Steps

from . import catalogue, registry
from .catalogue import BASE_NAME, BASE_RECIPE, CATALOGUE, GIB, MOVING_TAG, Image, Inputs
from .storage import INPUTS_LABEL, Storage, staged

POLL_SECONDS = 2.0
BASE = "base"


def check_disk(needed: int, free: int, what: str) -> None:
    """Refuse before the disk is full.

    Raises:
        ClusterError: fewer bytes free than the build takes at its peak.
    """
    if free < needed:
        raise ClusterError(
            f"{what} takes {needed / GIB:.0f} GiB of disk at its peak, {free / GIB:.0f} GiB are free",
            "free some space, or let NIGHTSHIFT_HOME name a larger disk",
        )


@dataclass
class Builder:
    """Builds and pushes images of one home."""

    settings: Settings
    steps: Steps = field(default_factory=Steps)

    @property
    def storage(self) -> Storage:
        """Where buildah keeps its images."""
        return Storage(self.settings)

    def log(self, name: str) -> Path:
        """The log of a step."""
        path = self.settings.logs / f"image-{name.replace(':', '-')}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def build(self, names: Iterable[str], wait_seconds: float = 0.0) -> dict[str, str]:
        """Make images exist, in the registry if it answers (waiting that long for it); returns name -> reference.

        An image whose inputs did not change is neither built nor pushed again. On the user's own cluster nothing is.

        Raises:
            ClusterError: it cannot be done; says why and what to do.
        """
        names = list(names)
        if user_kubeconfig(self.settings):
            return {name: catalogue.image(name, self.settings) for name in names if name != BASE}
        self.settings.make_home()
        done: dict[str, str] = {}
        for name in names:
            if name == BASE:
                self.base()
            else:
                done[name] = self._one(CATALOGUE[name], wait_seconds)
        return done

    def base(self) -> None:
        """The distribution's base, under the name that the Dockerfiles have in FROM."""
        with self.steps.step("image base") as step, self.storage.locked():
            stored = self.storage.find(BASE_NAME)
            if stored and stored.inputs == catalogue.base_checksum():
                step.note = "present"
                return
            check_disk(2 * GIB, self._free(), "the base image")
            self._make_base()

    def local(self, name: str) -> str:
        """Make an image exist in buildah's storage, fetched or built; returns its name there."""
        built = CATALOGUE[name]
        inputs = catalogue.inputs_of(built, self.settings)
        reference = self._reference(built, inputs)
        if not self._stored(reference, inputs.checksum):
            if self._in_registry(reference, inputs.checksum):
                with self.steps.step(f"fetch {name}"), self.storage.locked():
                    self.storage.pull(f"docker://{reference}", self.log(f"pull-{name}"))
            else:
                self._build(built, inputs, reference)
        return reference

    def _one(self, built: Image, wait_seconds: float) -> str:
        inputs = catalogue.inputs_of(built, self.settings)
        reference = self._reference(built, inputs)
        if self._in_registry(reference, inputs.checksum):
            with self.steps.step(f"image {built.name}") as step:
                step.note = f"present as {reference}"
            self._move_tag(built, reference)
            return reference
        self._build(built, inputs, reference)
        self._push(built, inputs, reference, wait_seconds)
        return reference

    def _build(self, built: Image, inputs: Inputs, reference: str) -> None:
        if self._stored(reference, inputs.checksum):
            return
        check_disk(built.peak_bytes, self._free(), f"building {built.name}")
        self.base()
        name = f"build {built.name} (up to {built.peak_bytes // GIB} GiB of disk)"
        with self.steps.step(name) as step, self.storage.locked():
            if self._stored(reference, inputs.checksum):
                step.note = "another process built it meanwhile"
                return
            arguments = [f"--build-arg={name}={value}" for name, value in built.arguments]
            log = self.log(built.name)
            with staged(inputs.files, self.storage.home / "tmp") as context:
                self.storage.build(reference, context, inputs.dockerfile, inputs.checksum, arguments, log)

    def _push(self, built: Image, inputs: Inputs, reference: str, wait_seconds: float) -> None:
        with self.steps.step(f"push {built.name}") as step:
            host = registry.Reference.parse(reference).host
            if not self._registry_answers(host, wait_seconds):
                step.note = f"not pushed: no registry at {host} yet; the same command pushes later"
                return
            self.storage.push(reference, reference, self.log(built.name))
            pushed = registry.recorded_inputs(registry.Reference.parse(reference))
            if pushed != inputs.checksum:
                raise ClusterError(f"{reference} is not what was pushed", "another push went between: run it again")
            step.note = f"as {reference}"
        self._move_tag(built, reference)

    def _registry_answers(self, host: str, wait_seconds: float) -> bool:
        deadline = time.monotonic() + wait_seconds
        while not registry.answers(host):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _in_registry(self, reference: str, checksum: str) -> bool:
        parsed = registry.Reference.parse(reference)
        return registry.answers(parsed.host) and registry.recorded_inputs(parsed) == checksum

    def _move_tag(self, built: Image, reference: str) -> None:
        """The moving tag of our own images follows the newest build."""
        if not built.version:
            registry.move_tag(registry.Reference.parse(reference), MOVING_TAG)

    def _stored(self, reference: str, checksum: str) -> bool:
        stored = self.storage.find(reference)
        return stored is not None and stored.inputs == checksum

    def _reference(self, built: Image, inputs: Inputs) -> str:
        return f"{catalogue.prefix()}/{built.repository}:{catalogue.tag(built, inputs.checksum)}"

    def _free(self) -> int:
        self.settings.make_home()
        return shutil.disk_usage(self.settings.home).free

    def _make_base(self) -> None:
        """Bootstrap the distribution straight into a container's file system and commit that."""
        log = self.log(BASE)
        container = self.storage.run(["from", "scratch"]).strip()
        try:
            root = self.storage.run(["mount", container]).strip()
            self._debootstrap(Path(root), log)
            self.storage.run(["config", f"--label={INPUTS_LABEL}={catalogue.base_checksum()}", container])
            self.storage.run(["commit", container, BASE_NAME], log)
        finally:
            self.storage.run(["rm", container])

    def _debootstrap(self, root: Path, log: Path) -> None:
        run_logged([*BASE_RECIPE, str(root), *distribution_mirror()], log)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            for found in sorted((root / leftover).rglob("*")):
                if found.is_file():
                    found.unlink()


def distribution_mirror() -> list[str]:
    """Where this machine's apt gets the base's release from; nothing (debootstrap's default) where it does not."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    release = BASE_RECIPE[-1]
    found = [line.split()[0] for line in listed.splitlines() if line.split()[1:] == [release]]
    return found[:1]


def run_logged(command: list[str], log: Path) -> None:
    """Run a program with its output in a log.

    Raises:
        ClusterError: it is missing or failed.
    """
    if not shutil.which(command[0]):
        raise ClusterError(f"{command[0]} is missing", f"apt-get install {command[0]} (the local cluster does it)")
    with log.open("ab") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        last = b"\n".join(log.read_bytes().splitlines()[-15:]).decode(errors="replace")
        raise ClusterError(f"{command[0]} failed:\n{last}", f"its log is {log}")
